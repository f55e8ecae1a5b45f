//! Who is told what happens: an observer of yours, counters, and the log.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::StoreError;

use crate::CheckpointKey;
use crate::metrics::Metrics;

/// Is told what happens, on the task it happens on: be quick, and do not call back.
///
/// ```
/// use resurge_checkpoint::{CheckpointEvent, CheckpointObserver, CheckpointOptions};
/// struct Print;
/// impl CheckpointObserver for Print {
///     fn observe(&self, event: &CheckpointEvent<'_>) {
///         println!("{event:?}");
///     }
/// }
/// let options = CheckpointOptions::new().observer(Print);
/// # let _ = options;
/// ```
pub trait CheckpointObserver: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &CheckpointEvent<'_>);
}

impl<F: Fn(&CheckpointEvent<'_>) + Send + Sync + 'static> CheckpointObserver for F {
    fn observe(&self, event: &CheckpointEvent<'_>) {
        self(event);
    }
}

/// What happened. Each call gives one `Hit`, or one `Miss` and what follows from it, or an error; each
/// `Started` is followed by one `Ended`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum CheckpointEvent<'a> {
    /// A call got a result without running the step.
    Hit {
        /// Of what.
        key: &'a CheckpointKey,
        /// It waited for a run of another caller; otherwise the result was stored.
        shared: bool,
    },
    /// A call found no result and is about to claim the step.
    Miss {
        /// Of what.
        key: &'a CheckpointKey,
        /// Why.
        why: Miss,
    },
    /// The step begins.
    Started {
        /// What.
        key: &'a CheckpointKey,
        /// Why.
        why: Miss,
    },
    /// A step in doubt was not run.
    Refused {
        /// What.
        key: &'a CheckpointKey,
        /// Who began it.
        owner: u64,
    },
    /// The store failed and the step runs all the same, or its result is not stored.
    Unprotected {
        /// What.
        key: &'a CheckpointKey,
        /// What the store said.
        error: &'a StoreError,
    },
    /// The step is over.
    Ended {
        /// What.
        key: &'a CheckpointKey,
        /// How.
        outcome: Outcome,
        /// How long it took, with storing its result.
        took: Duration,
    },
}

/// Why a result was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Miss {
    /// There was nothing.
    Absent,
    /// There was one, and its time is over.
    Expired,
    /// This call waited for another caller's run, which failed or was dropped.
    Retry,
    /// Somebody began the step and is gone: it may have run before.
    InDoubt,
    /// The store failed, and the policy says to run the step all the same.
    Unprotected,
}

/// How a run of a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It succeeded and its result is stored.
    Stored,
    /// It failed, or was given up: its claim is released.
    Failed,
    /// Its future was dropped, or it panicked.
    Dropped,
    /// It succeeded and its result is not stored: the store failed, the result does not fit, or the
    /// attempt was removed meanwhile.
    NotStored,
    /// It succeeded after another run of it, whose result counts.
    Superseded,
}

/// What happened since a handle was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointStats {
    /// Calls that got a result without running the step.
    pub hits: u64,
    /// Those of them that waited for another caller's run.
    pub shared_hits: u64,
    /// Calls that found no result and went on to claim the step.
    pub misses: u64,
    /// Steps begun.
    pub started: u64,
    /// Those of them that came after a failed or dropped run they had waited for.
    pub retries: u64,
    /// Those of them that were in doubt.
    pub taken_over: u64,
    /// Those of them that ran although the store failed.
    pub unprotected: u64,
    /// Runs whose result was stored.
    pub stored: u64,
    /// Runs that failed or were given up.
    pub failed: u64,
    /// Runs that were dropped or panicked.
    pub dropped: u64,
    /// Runs that succeeded and are not stored.
    pub not_stored: u64,
    /// Runs whose result came second.
    pub superseded: u64,
    /// Calls that were refused because the step is in doubt.
    pub refused: u64,
}

/// Counts, and tells the observer.
pub(crate) struct Observed {
    observer: Option<Arc<dyn CheckpointObserver>>,
    stats: Mutex<CheckpointStats>,
    pub(crate) metrics: Metrics,
}

impl Observed {
    pub(crate) fn new(observer: Option<Arc<dyn CheckpointObserver>>) -> Self {
        Self { observer, stats: Mutex::default(), metrics: Metrics::new() }
    }

    pub(crate) fn stats(&self) -> CheckpointStats {
        *self.stats.lock()
    }

    pub(crate) fn tell(&self, event: &CheckpointEvent<'_>) {
        self.count(event);
        log(event);
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }

    fn count(&self, event: &CheckpointEvent<'_>) {
        let mut stats = self.stats.lock();
        let metrics = &self.metrics;
        let add = |n: &mut u64, counter: &metrics::Counter| {
            *n += 1;
            counter.increment(1);
        };
        match event {
            CheckpointEvent::Hit { shared, .. } => {
                add(&mut stats.hits, &metrics.hits);
                if *shared {
                    add(&mut stats.shared_hits, &metrics.shared_hits);
                }
            }
            CheckpointEvent::Miss { .. } => add(&mut stats.misses, &metrics.misses),
            CheckpointEvent::Started { why, .. } => {
                add(&mut stats.started, &metrics.started);
                match why {
                    Miss::Retry => add(&mut stats.retries, &metrics.retries),
                    Miss::InDoubt => add(&mut stats.taken_over, &metrics.taken_over),
                    Miss::Unprotected => add(&mut stats.unprotected, &metrics.unprotected),
                    Miss::Absent | Miss::Expired => {}
                }
            }
            CheckpointEvent::Refused { .. } => add(&mut stats.refused, &metrics.refused),
            CheckpointEvent::Unprotected { .. } => {}
            CheckpointEvent::Ended { outcome, took, .. } => {
                metrics.run_seconds.record(*took);
                match outcome {
                    Outcome::Stored => add(&mut stats.stored, &metrics.stored),
                    Outcome::Failed => add(&mut stats.failed, &metrics.failed),
                    Outcome::Dropped => add(&mut stats.dropped, &metrics.failed),
                    Outcome::NotStored => add(&mut stats.not_stored, &metrics.not_stored),
                    Outcome::Superseded => stats.superseded += 1,
                }
            }
        }
    }
}

fn log(event: &CheckpointEvent<'_>) {
    match event {
        CheckpointEvent::Started { key, why: Miss::InDoubt } => {
            tracing::warn!(%key, "in doubt: somebody began this step and is gone; it runs again");
        }
        CheckpointEvent::Refused { key, owner } => {
            tracing::error!(%key, owner, "in doubt: this step was begun and is not run again");
        }
        CheckpointEvent::Unprotected { key, error } => {
            tracing::warn!(%key, %error, "runs unprotected: the store failed");
        }
        CheckpointEvent::Ended { key, outcome: Outcome::NotStored, .. } => {
            tracing::warn!(%key, "the step ran and its result is not stored");
        }
        event => tracing::trace!(?event),
    }
}
