//! Snapshots while writers go on, and what the log no longer needs.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use resurge_snapshot::SnapshotInfo;
use resurge_store::{Batch, Clock, Durability};
use resurge_wal::Lsn;
use tokio::sync::Notify;

use crate::core::{Core, Live};
use crate::{JournalError, JournalOptions, Result, StateMachine};

const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Runs until the journal ended or the last handle is dropped.
pub(crate) fn start<M: StateMachine>(core: &Arc<Core<M>>) {
    let JournalOptions { snapshot_interval, snapshot_events, .. } = core.options;
    if snapshot_interval.is_none() && snapshot_events.is_none() {
        return;
    }
    let (clock, due) = (Arc::clone(&core.clock), Arc::clone(&core.due));
    let weak = Arc::downgrade(core);
    let task = tokio::spawn(async move {
        loop {
            let by_time = wait(&*clock, &due, snapshot_interval).await;
            // Held only while it works, so that dropping the last handle ends it.
            let Some(core) = weak.upgrade() else { return };
            if core.has_ended() {
                return;
            }
            // Being woken alone may be an echo of the last time.
            let failed = (by_time || core.is_due()) && core.snapshot().await.is_err();
            drop(core);
            if failed {
                // It is counted and traced; the next one may succeed.
                clock.sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    });
    *core.snapshotter.lock() = Some(task.abort_handle());
}

/// Whether the interval is over.
async fn wait(clock: &dyn Clock, due: &Notify, interval: Option<Duration>) -> bool {
    let due = due.notified();
    tokio::pin!(due);
    let Some(interval) = interval else {
        due.await;
        return false;
    };
    let mut sleep = clock.sleep(interval);
    poll_fn(|cx| match sleep.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => due.as_mut().poll(cx).map(|()| false),
    })
    .await
}

impl<M: StateMachine> Core<M> {
    /// Wakes the snapshotter when enough happened.
    pub(crate) fn note_due(&self, live: &Live<M>) {
        if self.enough(live) {
            self.due.notify_one();
        }
    }

    fn is_due(&self) -> bool {
        self.lock().is_ok_and(|live| self.enough(&live))
    }

    fn enough(&self, live: &Live<M>) -> bool {
        self.options.snapshot_events.is_some_and(|n| live.since_snapshot >= n)
    }

    /// Takes a snapshot if anything happened since the last one, which is returned otherwise.
    pub(crate) async fn snapshot(&self) -> Result<Option<SnapshotInfo>> {
        let mut last = self.last_snapshot.lock().await;
        let taken = self.take(last.as_ref()).await;
        match taken {
            Ok(Some(info)) => {
                *last = Some(info.clone());
                *self.shown_snapshot.lock() = Some(info);
            }
            Ok(None) => {}
            Err(error) => {
                if !matches!(error, JournalError::Closed { .. }) {
                    self.snapshot_failures.fetch_add(1, Ordering::Relaxed);
                    self.metrics.snapshot_failures.increment(1);
                    tracing::error!(journal = %self.name, %error, "snapshot failed");
                }
                return Err(error);
            }
        }
        Ok(last.clone())
    }

    async fn take(&self, last: Option<&SnapshotInfo>) -> Result<Option<SnapshotInfo>> {
        let started = self.clock.monotonic();
        let (frozen, covers, events) = {
            let mut live = self.lock_for_snapshot()?;
            let covers = live.last();
            if last.map_or(covers == Lsn::START, |last| last.position == covers.0) {
                return Ok(None);
            }
            (live.machine.freeze(), covers, std::mem::take(&mut live.since_snapshot))
        };
        self.metrics.freeze_seconds.record(self.clock.monotonic().saturating_since(started));
        let taken = self.store_snapshot(frozen, covers).await;
        if taken.is_err()
            && let Ok(mut live) = self.lock_for_snapshot()
        {
            live.since_snapshot += events;
        }
        let info = taken?;
        self.truncate().await;
        Ok(Some(info))
    }

    async fn store_snapshot(&self, frozen: M::Frozen, covers: Lsn) -> Result<SnapshotInfo> {
        let prepared = self.snapshots.prepare(frozen, covers.0).await?;
        // ORDER: the log before the manifest. The other way round a crash could leave a state that
        // holds events nobody logged.
        self.durable(covers).await?;
        let mut batch = Batch::new();
        prepared.stage(&mut batch);
        let store = self.wal.store();
        match store.commit(batch, Durability::Durable).await {
            // It is read back before anything older is given up.
            Ok(_) => Ok(prepared.finish().await?),
            Err(e) => Err(prepared.failed(e).await.into()),
        }
    }

    /// Removes what no snapshot that is kept needs. A failure costs room only, until the next time.
    async fn truncate(&self) {
        let oldest = match self.snapshots.list().await {
            // With a single snapshot its damage would leave no way back.
            Ok(listing) if listing.snapshots.len() < self.options.retain.min(2) => return,
            Ok(_) => self.snapshots.oldest_position().await,
            Err(e) => Err(e),
        };
        let truncated = match oldest {
            Ok(None) => return,
            Ok(Some(oldest)) => {
                self.wal.truncate_before(Lsn(oldest).next()).await.map_err(JournalError::Log)
            }
            Err(e) => Err(JournalError::Snapshot(e)),
        };
        if let Err(error) = truncated {
            tracing::warn!(journal = %self.name, %error, "the log was not truncated");
        }
    }
}
