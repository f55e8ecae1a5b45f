//! Claiming an id, and committing when the store has room.

use std::time::Duration;

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, Guard, KeyRange, Record, ScanOptions};

use crate::snapshots::Inner;
use crate::{Result, SnapshotError, SnapshotId};

/// How often a store without room is asked again, and how often a lost race is run again.
const ATTEMPTS: u32 = 100;
/// The wait before asking again when even a sync has no room.
const PAUSE: Duration = Duration::from_millis(10);

/// A claimed id and what its marker holds.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) id: SnapshotId,
    pub(crate) marker: Bytes,
}

impl<S> Inner<S> {
    /// Takes the next id and leaves its marker.
    pub(crate) async fn claim(&self) -> Result<Claim> {
        let head = self.layout.head()?;
        let mut attempts = 0;
        loop {
            let stored = self.store.get(&head).await?;
            let known = stored.as_ref().and_then(|stored| {
                let payload = Record::decode(&head, stored).ok()?.into_payload();
                Some(u64::from_be_bytes(payload.as_ref().try_into().ok()?))
            });
            let next = match known {
                Some(next) => next,
                // Missing or damaged: everything it says can be counted again.
                None => self.highest_id().await?.map_or(1, |id| id.0.saturating_add(1)),
            };
            let id = SnapshotId(next);
            let key = self.layout.marker(id)?;
            let marker = Record::new(self.store.now().as_millis().to_be_bytes().to_vec());
            let marker = marker.encode(&key);
            let mut batch = Batch::new();
            batch.guard(head.clone(), Guard::of(stored));
            let after = next.saturating_add(1).to_be_bytes().to_vec();
            batch.put(head.clone(), Record::new(after).encode(&head));
            batch.guard(key.clone(), Guard::Absent).put(key, marker.clone());
            match self.commit(batch, Durability::Buffered).await {
                Ok(()) => return Ok(Claim { id, marker }),
                Err(e) if e.kind() == ErrorKind::Conflict && attempts < ATTEMPTS => attempts += 1,
                Err(e) => return Err(e),
            }
        }
    }

    async fn highest_id(&self) -> Result<Option<SnapshotId>> {
        let mut highest = None;
        let chunks = self.layout.chunks_from(SnapshotId(0));
        for range in [self.layout.markers(), self.layout.manifests(), chunks] {
            highest = highest.max(self.last_id(range).await?);
        }
        Ok(highest)
    }

    async fn last_id(&self, range: KeyRange) -> Result<Option<SnapshotId>> {
        let last = ScanOptions::new().reverse().keys_only().max_entries(1);
        let page = self.store.scan(range, last).await?;
        Ok(page.entries.first().and_then(|entry| self.layout.parse(&entry.key)).map(|(id, _)| id))
    }

    /// Commits, and waits for room where the store has none.
    pub(crate) async fn commit(&self, batch: Batch, durability: Durability) -> Result<()> {
        let mut attempts = 0;
        loop {
            match self.store.commit(batch.clone(), durability).await {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Unavailable && attempts < ATTEMPTS => {
                    attempts += 1;
                }
                Err(e) => return Err(SnapshotError::Store(e)),
            }
            // There is room again once what is pending has been written.
            if self.store.sync().await.is_err() {
                self.store.clock().sleep(PAUSE).await;
            }
        }
    }
}
