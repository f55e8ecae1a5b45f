//! Removing: what interrupted calls left, and what retention no longer keeps.

use resurge_store::{Batch, Durability, ErrorKind, Guard, ScanOptions};

use crate::snapshots::{Inner, Turn};
use crate::{Result, SnapshotId};

/// The most manifests deleted by one commit.
const REMOVE_PAGE: usize = 500;

impl<S> Inner<S> {
    /// At open: markers mean interrupted takes, chunks without a manifest interrupted removals.
    pub(crate) async fn clean(&self) -> Result<()> {
        let mut found = Vec::new();
        let mut range = Some(self.layout.markers());
        while let Some(rest) = range {
            let page = self.store.scan(rest, ScanOptions::new().keys_only()).await?;
            found.extend(page.entries.iter().filter_map(|entry| self.layout.parse(&entry.key)));
            range = page.next;
        }
        for (id, _) in found {
            self.discard(id).await?;
        }
        // From one snapshot's first chunk to the next one's, not through all chunks.
        let mut from = SnapshotId(0);
        let first = ScanOptions::new().keys_only().max_entries(1);
        loop {
            let page = self.store.scan(self.layout.chunks_from(from), first.clone()).await?;
            let Some(entry) = page.entries.first() else { return Ok(()) };
            let Some((id, _)) = self.layout.parse(&entry.key) else { return Ok(()) };
            if !self.exists(id).await? {
                self.discard(id).await?;
            }
            let Some(next) = id.0.checked_add(1) else { return Ok(()) };
            from = SnapshotId(next);
        }
    }

    /// Removes what is left of a snapshot that was never finished, or whose manifest is deleted. A
    /// finished one stays.
    pub(crate) async fn discard(&self, id: SnapshotId) -> Result<()> {
        let key = self.layout.marker(id)?;
        // ORDER: the marker before the manifest. Finishing swaps one for the other in one commit and
        // an id is never used twice, so "no marker, then no manifest" stays true.
        while let Some(marker) = self.store.get(&key).await? {
            let mut batch = Batch::new();
            batch.guard(key.clone(), Guard::Exact(marker)).delete(key.clone());
            match self.commit(batch, Durability::Buffered).await {
                Ok(()) => {
                    tracing::info!(name = %self.name, %id, "unfinished snapshot removed");
                }
                // Finished meanwhile, or removed by another opener.
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        if !self.exists(id).await? {
            self.store.remove_range(self.layout.chunks(id)).await?;
        }
        Ok(())
    }

    pub(crate) async fn discard_leftovers(&self, turn: &mut Turn) -> Result<()> {
        while let Some(id) = turn.leftovers.last().copied() {
            self.discard(id).await?;
            turn.leftovers.pop();
        }
        Ok(())
    }

    /// Keeps the newest usable snapshots and removes everything older than the last of them.
    pub(crate) async fn remove_old(&self, turn: &mut Turn) -> Result<()> {
        let listing = self.list().await?;
        let mut kept = listing.snapshots.iter().filter({
            let damaged = self.damaged.lock().clone();
            move |info| !damaged.contains(&info.id)
        });
        let Some(oldest) = kept.nth(self.options.retain.saturating_sub(1)) else { return Ok(()) };
        let old = listing.snapshots.iter().filter(|info| info.order() < oldest.order());
        let unreadable = listing.damaged.iter().filter(|damaged| damaged.id < oldest.id);
        let old: Vec<_> =
            old.map(|info| info.id).chain(unreadable.map(|damaged| damaged.id)).collect();
        for page in old.chunks(REMOVE_PAGE) {
            let mut batch = Batch::new();
            for id in page {
                batch.delete(self.layout.manifest(*id)?);
            }
            // ORDER: the manifests before the chunks; a power loss takes back the later commit first.
            self.commit(batch, Durability::Buffered).await?;
            turn.leftovers.extend_from_slice(page);
            self.metrics.removed.increment(page.len() as u64);
        }
        self.discard_leftovers(turn).await?;
        self.damaged.lock().retain(|id| !old.contains(id));
        Ok(())
    }
}
