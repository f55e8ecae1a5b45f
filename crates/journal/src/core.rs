//! The state and who may touch it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use resurge_snapshot::{SnapshotInfo, Snapshots};
use resurge_store::Clock;
use resurge_wal::{Lsn, Wal, WalError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::metrics::Metrics;
use crate::{JournalError, JournalOptions, Result, StateMachine};

/// What the handles share.
pub(crate) struct Core<M: StateMachine> {
    pub(crate) name: Arc<str>,
    pub(crate) wal: Wal<M::Event>,
    pub(crate) snapshots: Snapshots<M::Frozen>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: JournalOptions,
    pub(crate) metrics: Metrics,
    /// Held for a few instructions, and for `freeze`; never across an await.
    phase: Mutex<Phase<M>>,
    /// A snapshot is due, or nothing is any more.
    pub(crate) due: Arc<Notify>,
    /// One snapshot at a time; holds the last one.
    pub(crate) last_snapshot: tokio::sync::Mutex<Option<SnapshotInfo>>,
    /// The same for who only looks.
    pub(crate) shown_snapshot: Mutex<Option<SnapshotInfo>>,
    pub(crate) snapshot_failures: AtomicU64,
    pub(crate) snapshotter: Mutex<Option<AbortHandle>>,
}

enum Phase<M> {
    Open(Live<M>),
    /// Closing: no more calls, but a last snapshot.
    Closing(Live<M>),
    Ended(Option<Arc<JournalError>>),
}

/// The state while it can be used.
pub(crate) struct Live<M> {
    pub(crate) machine: M,
    /// The number of the next event. All before it are applied.
    pub(crate) next: Lsn,
    /// Events since the last snapshot.
    pub(crate) since_snapshot: u64,
    /// Set while an event is being applied: still set when the lock is taken next, `apply` panicked.
    applying: bool,
}

impl<M> Live<M> {
    pub(crate) fn new(machine: M, next: Lsn, since_snapshot: u64) -> Self {
        Self { machine, next, since_snapshot, applying: false }
    }

    /// The last event that is applied.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.next.0.saturating_sub(1))
    }
}

impl<M: StateMachine> Live<M> {
    pub(crate) fn apply(&mut self, events: &[M::Event]) {
        self.applying = true;
        for event in events {
            self.machine.apply(event);
            self.next = self.next.next();
        }
        self.since_snapshot += events.len() as u64;
        self.applying = false;
    }
}

pub(crate) type Locked<'a, M> = MappedMutexGuard<'a, Live<M>>;

impl<M: StateMachine> Core<M> {
    #[expect(clippy::too_many_arguments, reason = "called once, with what was just opened")]
    pub(crate) fn new(
        name: Arc<str>,
        wal: Wal<M::Event>,
        snapshots: Snapshots<M::Frozen>,
        clock: Arc<dyn Clock>,
        options: JournalOptions,
        metrics: Metrics,
        live: Live<M>,
        last_snapshot: Option<SnapshotInfo>,
    ) -> Self {
        Self {
            name,
            wal,
            snapshots,
            clock,
            options,
            metrics,
            phase: Mutex::new(Phase::Open(live)),
            due: Arc::default(),
            shown_snapshot: Mutex::new(last_snapshot.clone()),
            last_snapshot: tokio::sync::Mutex::new(last_snapshot),
            snapshot_failures: AtomicU64::new(0),
            snapshotter: Mutex::new(None),
        }
    }

    fn closed(&self, cause: Option<Arc<JournalError>>) -> JournalError {
        JournalError::Closed { journal: Arc::clone(&self.name), cause }
    }

    /// The state, for a call.
    pub(crate) fn lock(&self) -> Result<Locked<'_, M>> {
        let mut phase = self.phase.lock();
        self.end_after_panic(&mut phase);
        MutexGuard::try_map(phase, |phase| match phase {
            Phase::Open(live) => Some(live),
            Phase::Closing(_) | Phase::Ended(_) => None,
        })
        .map_err(|phase| match &*phase {
            Phase::Ended(cause) => self.closed(cause.clone()),
            Phase::Open(_) | Phase::Closing(_) => self.closed(None),
        })
    }

    /// The state, for a snapshot: also while closing.
    pub(crate) fn lock_for_snapshot(&self) -> Result<Locked<'_, M>> {
        let mut phase = self.phase.lock();
        self.end_after_panic(&mut phase);
        MutexGuard::try_map(phase, |phase| match phase {
            Phase::Open(live) | Phase::Closing(live) => Some(live),
            Phase::Ended(_) => None,
        })
        .map_err(|phase| match &*phase {
            Phase::Ended(cause) => self.closed(cause.clone()),
            Phase::Open(_) | Phase::Closing(_) => self.closed(None),
        })
    }

    fn end_after_panic(&self, phase: &mut Phase<M>) {
        if let Phase::Open(live) = phase
            && live.applying
        {
            let cause = JournalError::Panicked { after: live.last() };
            self.end(phase, cause);
        }
    }

    /// Discards the state: it may hold what is not in the log. Told at once are all who call later;
    /// who waits for the log is told by the log.
    pub(crate) fn poison(&self, cause: JournalError) {
        let mut phase = self.phase.lock();
        self.end(&mut phase, cause);
    }

    /// As [`poison`](Self::poison), for who holds the lock.
    pub(crate) fn poison_locked(&self, live: Locked<'_, M>, cause: JournalError) {
        drop(live);
        self.poison(cause);
    }

    fn end(&self, phase: &mut Phase<M>, cause: JournalError) {
        if matches!(phase, Phase::Ended(_)) {
            return;
        }
        tracing::error!(journal = %self.name, %cause, "journal poisoned; it must be opened again");
        self.metrics.poisoned.increment(1);
        *phase = Phase::Ended(Some(Arc::new(cause)));
        self.due.notify_waiters();
    }

    /// From now on calls are refused. `false` when it had ended.
    pub(crate) fn begin_close(&self) -> Result<()> {
        let mut phase = self.phase.lock();
        self.end_after_panic(&mut phase);
        *phase = match std::mem::replace(&mut *phase, Phase::Ended(None)) {
            Phase::Open(live) | Phase::Closing(live) => Phase::Closing(live),
            ended @ Phase::Ended(_) => ended,
        };
        match &*phase {
            Phase::Ended(Some(cause)) => Err(self.closed(Some(Arc::clone(cause)))),
            _ => Ok(()),
        }
    }

    /// The state is no longer needed.
    pub(crate) fn finish_close(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Closing(_)) {
            *phase = Phase::Ended(None);
        }
        self.due.notify_waiters();
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Ended(_))
    }

    /// Waits until everything up to `through` is durable; poisons when it never will be.
    pub(crate) async fn durable(&self, through: Lsn) -> Result<()> {
        if self.wal.durable_lsn() >= through {
            return Ok(());
        }
        self.wal.wait_durable(through).await.map_err(|e| self.failed(e))
    }

    /// An error of the log about what it had taken.
    pub(crate) fn failed(&self, error: WalError) -> JournalError {
        let error = JournalError::Log(error);
        self.poison(error.clone());
        error
    }
}
