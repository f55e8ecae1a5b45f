//! The handle: opening, snapshots by hand, closing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_snapshot::SnapshotInfo;
use resurge_store::Store;

use crate::core::Core;
use crate::{JournalError, JournalOptions, JournalStats, RecoveryReport, Result, StateMachine};
use crate::{recover, snapshotter};

/// A state machine that survives crashes. Clones share it.
///
/// One handle at a time may write: opening the same name again, in this or another process, takes it
/// over, and the calls of the earlier one fail. See the [crate's documentation](crate).
pub struct Journaled<M: StateMachine> {
    pub(crate) core: Arc<Core<M>>,
}

impl<M: StateMachine> Journaled<M> {
    /// Opens the journal called `name` (1 to 192 bytes, no NUL), making it when there is none, and
    /// brings back its state: that of the newest whole snapshot and every event after it. Must be
    /// called inside a tokio runtime.
    ///
    /// A journal that never had an event begins with `M::default()`.
    ///
    /// ```
    /// # use resurge_journal::PlainMachine;
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Balance(i64);
    /// # impl PlainMachine for Balance {
    /// #     type Event = i64;
    /// #     fn apply(&mut self, change: &i64) { self.0 += change; }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), resurge_journal::JournalError> {
    /// use resurge_journal::{JournalOptions, Journaled};
    /// use resurge_store::Store;
    /// let store = Store::memory();
    /// let (balance, report) =
    ///     Journaled::<Balance>::open(&store, "balance", JournalOptions::default()).await?;
    /// assert!(report.created);
    /// # drop(balance);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Unrecoverable` when snapshots and log do not add up to a state; `Snapshot` when the newest
    /// whole snapshot has a newer schema or cannot be migrated or decoded; `Log` when the log is
    /// damaged; `Invalid`. Nothing is served then, and nothing is changed but who may write.
    pub async fn open(
        store: &Store,
        name: &str,
        options: JournalOptions,
    ) -> Result<(Self, RecoveryReport)>
    where
        M: Default,
    {
        Self::open_with(store, name, M::default, options).await
    }

    /// As [`open`](Self::open) with another beginning. `initial` is called as long as there is no
    /// snapshot, and must return the same state each time: the log holds what came after it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        store: &Store,
        name: &str,
        initial: impl FnOnce() -> M + Send,
        options: JournalOptions,
    ) -> Result<(Self, RecoveryReport)> {
        let (core, report) = recover::open(store, name, initial, options).await?;
        snapshotter::start(&core);
        Ok((Self { core }, report))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Takes a snapshot now, durable on return, and removes what is no longer needed of the log.
    /// Writers go on meanwhile. When nothing happened since the last one, that one is returned; `None`
    /// when nothing ever did.
    ///
    /// # Errors
    /// `Snapshot` when it was not taken or does not read back: the journal goes on without. `Log` when
    /// what it holds will never be durable. `Closed`.
    pub async fn snapshot_now(&self) -> Result<Option<SnapshotInfo>> {
        drop(self.core.lock()?);
        self.core.snapshot().await
    }

    /// Its numbers.
    ///
    /// # Errors
    /// `Closed`.
    pub fn stats(&self) -> Result<JournalStats> {
        let core = &self.core;
        let (last_lsn, events_since_snapshot) = {
            let live = core.lock()?;
            (live.last(), live.since_snapshot)
        };
        Ok(JournalStats {
            last_lsn,
            durable_lsn: core.wal.durable_lsn(),
            first_lsn: core.wal.first_lsn(),
            events_since_snapshot,
            last_snapshot: core.shown_snapshot.lock().clone(),
            snapshot_failures: core.snapshot_failures.load(Ordering::Relaxed),
        })
    }

    /// Takes no more calls, waits for those that were taken, and leaves a last snapshot, so that the
    /// next open has nothing to replay. Idempotent; a dropped call can be made again.
    ///
    /// Not needed for safety: a handle that is dropped loses nothing that was acknowledged.
    ///
    /// # Errors
    /// The failure that poisoned it before. That of the last snapshot: it is closed all the same,
    /// and the next open replays.
    pub async fn close(&self) -> Result<()> {
        let core = &self.core;
        core.begin_close()?;
        let snapshot = match core.snapshot().await {
            Err(JournalError::Closed { cause: None, .. }) => Ok(()),
            other => other.map(drop),
        };
        let log = core.wal.close().await.map_err(JournalError::Log);
        core.finish_close();
        snapshot.and(log)
    }
}

impl<M: StateMachine> Drop for Core<M> {
    fn drop(&mut self) {
        if let Some(task) = self.snapshotter.get_mut().take() {
            task.abort();
        }
    }
}

impl<M: StateMachine> Clone for Journaled<M> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<M: StateMachine> fmt::Debug for Journaled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journaled")
            .field("name", &self.core.name)
            .field("options", &self.core.options)
            .finish_non_exhaustive()
    }
}
