//! What callers, the committer and the publisher share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use parking_lot::{Condvar, Mutex};

use super::GroupOptions;
use super::completion::{Completion, Delivery, Outcomes};
use super::gather::{self, Gather};
use super::queue::{Gathering, Phase, Queue, Work};
use crate::watch::WatchRegistry;
use crate::{CommitSeq, Engine, ErrorKind, Result, StoreError};

#[derive(Debug)]
pub(super) struct Shared<E> {
    pub(super) engine: E,
    pub(super) options: GroupOptions,
    pub(super) watches: WatchRegistry,
    pub(super) metrics: Metrics,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Bytes submitted and not yet resolved.
    pending_bytes: AtomicUsize,
    published: AtomicU64,
    refusing: AtomicBool,
    publish_failed: AtomicBool,
    closed: Arc<Completion>,
    closed_delivery: Mutex<Option<Delivery>>,
    own_threads: Mutex<Vec<ThreadId>>,
}

/// Handles, registered once.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) commits: Counter,
    pub(super) conflicts: Counter,
    pub(super) group_commits: Histogram,
    pub(super) sync_seconds: Histogram,
    pub(super) pending_bytes: Gauge,
    pub(super) poisoned: Counter,
}

impl Metrics {
    fn new(backend: &'static str) -> Self {
        Self {
            commits: metrics::counter!("resurge_store_commits_total", "backend" => backend),
            conflicts: metrics::counter!("resurge_store_conflicts_total", "backend" => backend),
            group_commits: metrics::histogram!("resurge_store_group_commits", "backend" => backend),
            sync_seconds: metrics::histogram!("resurge_store_sync_seconds", "backend" => backend),
            pending_bytes: metrics::gauge!("resurge_store_pending_bytes", "backend" => backend),
            poisoned: metrics::counter!("resurge_store_poisoned_total", "backend" => backend),
        }
    }
}

/// What the committer does next.
#[derive(Debug)]
pub(super) enum Next {
    Commit(Gathering),
    /// Buffered commits have waited long enough.
    Flush,
    Stop,
}

impl<E: Engine> Shared<E> {
    pub(super) fn new(engine: E, options: GroupOptions) -> Self {
        let closed = Arc::new(Completion::default());
        Self {
            metrics: Metrics::new(engine.info().backend),
            published: AtomicU64::new(engine.last_seq().0),
            engine,
            options,
            watches: WatchRegistry::new(),
            queue: Mutex::new(Queue::new()),
            arrived: Condvar::new(),
            pending_bytes: AtomicUsize::new(0),
            refusing: AtomicBool::new(false),
            publish_failed: AtomicBool::new(false),
            closed_delivery: Mutex::new(Some(Delivery::new(Arc::clone(&closed), 1))),
            closed,
            own_threads: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn submit(&self, work: Work) -> Result<Outcomes> {
        let size = work.size();
        let mut queue = self.queue.lock();
        refuse(&queue.phase)?;
        let pending = self.pending_bytes.load(Ordering::Relaxed);
        let limit = self.options.max_pending_bytes;
        if pending > 0 && pending + size > limit {
            return Err(StoreError::new(
                ErrorKind::Unavailable,
                format!(
                    "{pending} bytes are already pending; with {size} more the limit of {limit} is passed"
                ),
            ));
        }
        self.pending_bytes.fetch_add(size, Ordering::Relaxed);
        let outcome = queue.push(work, self.options.max_group_bytes);
        if queue.wakes() {
            drop(queue);
            self.arrived.notify_one();
        }
        Ok(outcome)
    }

    /// Waits for work, at most `flush_in` when buffered commits wait for a sync.
    pub(super) fn next(&self, flush_in: Option<Duration>, gather: &mut Gather) -> Next {
        let mut queue = self.queue.lock();
        let mut rounds = gather.rounds();
        while rounds > 0 && matches!(queue.phase, Phase::Open) && queue.waiting() < gather.target()
        {
            let before = queue.waiting();
            queue.awaited = Some(gather.target());
            let timed_out = self.arrived.wait_for(&mut queue, gather::ROUND).timed_out();
            queue.awaited = None;
            rounds = if timed_out && queue.waiting() == before { 0 } else { rounds - 1 };
        }
        gather.gathered(queue.waiting());
        loop {
            if matches!(queue.phase, Phase::Poisoned(_)) {
                return Next::Stop;
            }
            if let Some(group) = queue.groups.pop_front() {
                return Next::Commit(group);
            }
            if matches!(queue.phase, Phase::Closing | Phase::Closed) {
                return Next::Stop;
            }
            queue.awaited = Some(1);
            match flush_in {
                None => self.arrived.wait(&mut queue),
                Some(wait) => {
                    let timed_out = self.arrived.wait_for(&mut queue, wait).timed_out();
                    if timed_out && queue.groups.is_empty() {
                        queue.awaited = None;
                        return Next::Flush;
                    }
                }
            }
            queue.awaited = None;
        }
    }

    /// How many calls will be in the next group, so far.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().waiting()
    }

    pub(super) fn resolved(&self, bytes: usize) {
        let before = self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        // Lossy above 2^52 bytes, which the limit keeps far away.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.metrics.pending_bytes.set(before.saturating_sub(bytes) as f64);
    }

    pub(super) fn published(&self) -> CommitSeq {
        CommitSeq(self.published.load(Ordering::Acquire))
    }

    pub(super) fn set_published(&self, seq: CommitSeq) {
        self.published.store(seq.0, Ordering::Release);
    }

    /// Whether a group is missing from what readers see: nothing may be published on top.
    pub(super) fn publish_failed(&self) -> bool {
        self.publish_failed.load(Ordering::Acquire)
    }

    pub(super) fn set_publish_failed(&self) {
        self.publish_failed.store(true, Ordering::Release);
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.refusing.load(Ordering::Acquire) {
            refuse(&self.queue.lock().phase)
        } else {
            Ok(())
        }
    }

    pub(super) fn poison_cause(&self) -> Option<StoreError> {
        match &self.queue.lock().phase {
            Phase::Poisoned(cause) => Some(cause.clone()),
            _ => None,
        }
    }

    /// Refuses everything from now on. What is queued was never started: nothing of it is written.
    pub(super) fn poison(&self, cause: &StoreError) {
        let groups = {
            let mut queue = self.queue.lock();
            if !matches!(queue.phase, Phase::Open | Phase::Closing) {
                return;
            }
            queue.phase = Phase::Poisoned(cause.clone());
            self.refusing.store(true, Ordering::Release);
            std::mem::take(&mut queue.groups)
        };
        tracing::error!(error = %cause, "store poisoned; it must be reopened");
        self.metrics.poisoned.increment(1);
        self.arrived.notify_one();
        let refused = poisoned(cause);
        for group in groups {
            Delivery::new(group.completion, group.work.len()).fail(&refused);
        }
        self.watches.close();
        self.deliver_closed(Err(refused));
    }

    /// Starts closing, once, and waits with everybody else who does.
    pub(super) fn begin_close(&self) -> Outcomes {
        let mut queue = self.queue.lock();
        if matches!(queue.phase, Phase::Open) {
            queue.push(Work::Sync, self.options.max_group_bytes);
            queue.phase = Phase::Closing;
            queue.awaited = None;
            self.arrived.notify_one();
        }
        Outcomes::new(Arc::clone(&self.closed), 0)
    }

    /// The committer has drained, synced and closed the engine.
    pub(super) fn finish_close(&self, result: Result<CommitSeq>) {
        {
            let mut queue = self.queue.lock();
            if matches!(queue.phase, Phase::Closing) {
                queue.phase = Phase::Closed;
            }
            self.refusing.store(true, Ordering::Release);
        }
        self.watches.close();
        self.deliver_closed(result);
    }

    fn deliver_closed(&self, result: Result<CommitSeq>) {
        let delivery = self.closed_delivery.lock().take();
        if let Some(delivery) = delivery {
            delivery.outcomes(vec![result]);
        }
    }

    pub(super) fn register_own_thread(&self) {
        self.own_threads.lock().push(thread::current().id());
    }

    pub(super) fn is_own_thread(&self) -> bool {
        self.own_threads.lock().contains(&thread::current().id())
    }
}

fn poisoned(cause: &StoreError) -> StoreError {
    StoreError::with_source(
        ErrorKind::Closed,
        format!("the store was poisoned and must be reopened: {cause}"),
        cause.clone(),
    )
}

fn refuse(phase: &Phase) -> Result<()> {
    match phase {
        Phase::Open => Ok(()),
        Phase::Poisoned(cause) => Err(poisoned(cause)),
        Phase::Closing | Phase::Closed => Err(StoreError::closed("the store is closed")),
    }
}

/// Poisons the store when the thread that holds it ends by a panic.
#[derive(Debug)]
pub(super) struct PoisonOnPanic<E: Engine>(pub(super) Arc<Shared<E>>);

impl<E: Engine> Drop for PoisonOnPanic<E> {
    fn drop(&mut self) {
        if thread::panicking() {
            let message = "a storage thread panicked";
            self.0.poison(&StoreError::new(ErrorKind::Indeterminate, message));
        }
    }
}
