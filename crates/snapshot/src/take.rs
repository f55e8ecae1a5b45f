//! Taking a snapshot: chunks first, the manifest last.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, Guard, Monotonic, Record, StoreError};
use serde::Serialize;
use tokio::sync::{OwnedMutexGuard, mpsc};

use crate::begin::Claim;
use crate::chunks::{self, ChunkWriter, Written};
use crate::snapshots::{Inner, Turn};
use crate::{Result, SnapshotError, SnapshotInfo, Snapshots};

/// Chunks are committed in batches of about this many bytes.
const BATCH_BYTES: usize = 1 << 20;

impl<S: Serialize + Send + 'static> Snapshots<S> {
    /// Stores `state` as it was at `position`. On return it is durable, was read back and verified, and
    /// older ones are removed.
    ///
    /// It is serialised on a blocking thread, a few chunks ahead of the store, so beside the state
    /// itself only those chunks are in memory. A dropped call leaves no snapshot, or a whole one; the
    /// next call or open removes the pieces.
    ///
    /// # Errors
    /// `OutOfOrder` when a newer state is stored already; `Encode` when it does not serialise within
    /// [`max_bytes`](crate::SnapshotOptions::max_bytes); `Superseded` when the name was opened again
    /// meanwhile; `Damaged` when it does not read back, and nothing older was removed; those of the
    /// store. `Indeterminate` may have stored it.
    pub async fn take(&self, state: S, position: u64) -> Result<SnapshotInfo> {
        let prepared = self.prepare(state, position).await?;
        let mut batch = Batch::new();
        prepared.stage(&mut batch);
        match self.inner.commit(batch, Durability::Durable).await {
            Ok(()) => prepared.finish().await,
            Err(SnapshotError::Store(e)) => Err(prepared.failed(e).await),
            Err(e) => Err(e),
        }
    }

    /// Stores the chunks only. The snapshot exists once a batch that
    /// [`Prepared::stage`] wrote to is durable, so it can share a commit with other changes.
    ///
    /// Other calls that write wait until the result is finished or dropped.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub async fn prepare(&self, state: S, position: u64) -> Result<Prepared<S>> {
        let prepared = self.inner.prepare(state, position).await;
        prepared.inspect_err(|_| self.inner.metrics.failed.increment(1))
    }
}

/// A snapshot whose chunks are stored and whose manifest is not. Dropped, it is given up, unless the
/// staged manifest was committed.
pub struct Prepared<S> {
    inner: Arc<Inner<S>>,
    info: SnapshotInfo,
    claim: Claim,
    turn: OwnedMutexGuard<Turn>,
    started: Monotonic,
    manifest: StagedKeys,
}

struct StagedKeys {
    marker: resurge_store::Key,
    manifest: resurge_store::Key,
}

impl<S> Prepared<S> {
    /// What it will be.
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// Puts the manifest into `batch`. Commit it `Durable`, then call [`finish`](Self::finish), or
    /// [`failed`](Self::failed).
    pub fn stage(&self, batch: &mut Batch) {
        let StagedKeys { marker, manifest } = &self.manifest;
        batch.guard(marker.clone(), Guard::Exact(self.claim.marker.clone()));
        batch.delete(marker.clone());
        let record = Record::new(self.info.encode()).encode(manifest);
        batch.put(manifest.clone(), record);
    }

    /// The commit succeeded: reads the snapshot back, then removes those beyond what is to be kept.
    /// That removing fails does not make the snapshot fail: what is left over is removed by the next.
    ///
    /// # Errors
    /// `Damaged` when it does not read back as it was written; those of the store when that could not
    /// be found out. Nothing older is removed then.
    pub async fn finish(mut self) -> Result<SnapshotInfo> {
        let Self { inner, info, turn, started, .. } = &mut self;
        turn.leftovers.retain(|id| *id != info.id);
        if let Err(error) = inner.verify(info).await {
            inner.metrics.failed.increment(1);
            return Err(error);
        }
        let took = inner.store.clock().monotonic().saturating_since(*started);
        inner.metrics.taken.increment(1);
        inner.metrics.take_seconds.record(took);
        // Lossy above 2^52 bytes, which the limit keeps far away.
        #[expect(clippy::cast_precision_loss, reason = "a histogram holds floats")]
        inner.metrics.bytes.record(info.bytes as f64);
        tracing::info!(
            name = %inner.name, id = %info.id, position = info.position, bytes = info.bytes,
            items = info.items, duration = ?took, "snapshot taken"
        );
        if let Err(error) = inner.remove_old(turn).await {
            tracing::warn!(name = %inner.name, %error, "old snapshots were not removed");
        }
        Ok(self.info)
    }

    /// The commit failed with `error`: removes the chunks and says what that means for the snapshot.
    pub async fn failed(mut self, error: StoreError) -> SnapshotError {
        self.inner.metrics.failed.increment(1);
        // After `Indeterminate` the manifest may be there; that is looked up, now or at open.
        if let Err(error) = self.inner.discard_leftovers(&mut self.turn).await {
            tracing::warn!(name = %self.inner.name, %error, "chunks are left for the next open");
        }
        superseded(self.info.id, &self.manifest.marker, SnapshotError::Store(error))
    }
}

/// A conflict on the marker means that somebody else removed it.
fn superseded(
    id: crate::SnapshotId,
    marker: &resurge_store::Key,
    error: SnapshotError,
) -> SnapshotError {
    match &error {
        SnapshotError::Store(e)
            if e.kind() == ErrorKind::Conflict && e.key().is_none_or(|key| key == marker) =>
        {
            SnapshotError::Superseded { id }
        }
        _ => error,
    }
}

impl<S: Serialize + Send + 'static> Inner<S> {
    async fn prepare(self: &Arc<Self>, state: S, position: u64) -> Result<Prepared<S>> {
        let started = self.store.clock().monotonic();
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        self.discard_leftovers(&mut turn).await?;
        if let Some(newest) = self.usable().await?.first().map(|info| info.position)
            && position < newest
        {
            return Err(SnapshotError::OutOfOrder { position, newest });
        }
        let created_at = self.store.now();
        let claim = self.claim().await?;
        let id = claim.id;
        turn.leftovers.push(id);
        let (items, written) = match self.write(state, &claim).await {
            Ok(written) => written,
            Err(error) => {
                if let Err(error) = self.discard_leftovers(&mut turn).await {
                    tracing::warn!(name = %self.name, %error, "chunks are left for the next open");
                }
                return Err(superseded(id, &self.layout.marker(id)?, error));
            }
        };
        let info = SnapshotInfo {
            id,
            position,
            created_at,
            schema_version: self.options.schema_version,
            codec: self.options.codec,
            bytes: written.bytes,
            chunks: written.chunks,
            items,
            digest: written.digest,
        };
        let manifest =
            StagedKeys { marker: self.layout.marker(id)?, manifest: self.layout.manifest(id)? };
        Ok(Prepared { inner: Arc::clone(self), info, claim, turn, started, manifest })
    }

    async fn write(&self, state: S, claim: &Claim) -> Result<(Option<u64>, Written)> {
        let (to, from) = chunks::channel();
        let (codec, count) = (self.options.codec, self.options.items);
        let mut writer = ChunkWriter::new(to, self.options.chunk_bytes, self.options.max_bytes);
        let encoding = tokio::task::spawn_blocking(move || {
            let items = count.map(|count| count(&state));
            codec.write_to(&state, &mut writer).map_err(|e| e.to_string())?;
            Ok((items, writer.finish().map_err(|e| e.to_string())?))
        });
        // Dropping the channel ends the encoder, so it is waited for in every case.
        let stored = self.store_chunks(claim, from).await;
        let written = encoding.await.unwrap_or_else(|e| Err(e.to_string()));
        stored?;
        written.map_err(SnapshotError::Encode)
    }

    async fn store_chunks(&self, claim: &Claim, mut from: mpsc::Receiver<Bytes>) -> Result<()> {
        let mut batch = Batch::new();
        let mut index = 0;
        loop {
            let chunk = from.recv().await;
            if let Some(chunk) = &chunk {
                let key = self.layout.chunk(claim.id, index)?;
                let record = Record::new(chunk.clone()).encode(&key);
                batch.put(key, record);
                // The encoder counts, too, and stops at the last number.
                index = index.saturating_add(1);
            }
            if batch.size() >= BATCH_BYTES || (chunk.is_none() && !batch.is_empty()) {
                let marker = self.layout.marker(claim.id)?;
                batch.guard(marker, Guard::Exact(claim.marker.clone()));
                self.commit(std::mem::take(&mut batch), Durability::Buffered).await?;
            }
            if chunk.is_none() {
                return Ok(());
            }
        }
    }
}

impl<S> fmt::Debug for Prepared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("info", &self.info).finish_non_exhaustive()
    }
}
