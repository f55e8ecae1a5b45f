//! The one thread that orders commits: guards, log, sync.

use std::sync::Arc;
use std::time::Duration;

use super::completion::Delivery;
use super::gather::Gather;
use super::pending::{Admission, Pending, Refusal};
use super::publisher::{Publication, Publisher};
use super::queue::{Gathering, Work};
use super::shared::{Next, PoisonOnPanic, Shared};
use crate::{CommitSeq, Engine, ErrorKind, Group, Monotonic, Result, StoreError};

#[derive(Debug)]
pub(super) struct Committer<E: Engine> {
    shared: Arc<Shared<E>>,
    publisher: Publisher<E>,
    pending: Pending,
    gather: Gather,
    last: CommitSeq,
    /// Since when something is logged that no sync covers.
    unsynced_since: Option<Monotonic>,
}

impl<E: Engine> Committer<E> {
    pub(super) fn new(shared: Arc<Shared<E>>) -> Self {
        Self {
            publisher: Publisher::new(Arc::clone(&shared)),
            last: shared.engine.last_seq(),
            pending: Pending::default(),
            gather: Gather::default(),
            unsynced_since: None,
            shared,
        }
    }

    pub(super) fn run(mut self) {
        let _guard = PoisonOnPanic(Arc::clone(&self.shared));
        self.shared.register_own_thread();
        loop {
            match self.shared.next(self.flush_in(), &mut self.gather) {
                Next::Commit(gathering) => self.commit(gathering),
                Next::Flush => {
                    if let Err(e) = self.sync() {
                        self.shared.poison(&e);
                    }
                }
                Next::Stop => break,
            }
        }
        // ORDER: all published before the engine closes. The last sync came with the queue's end.
        self.publisher.finish();
        if self.shared.poison_cause().is_none() {
            let closed = self.shared.engine.close().map(|()| self.last);
            self.shared.finish_close(closed);
        }
    }

    fn commit(&mut self, gathering: Gathering) {
        let Gathering { work, bytes, completion } = gathering;
        let delivery = Delivery::new(completion, work.len());
        let forgotten = self.pending.forget_published(self.shared.published());

        let mut wants_sync = work.iter().any(Work::wants_sync);
        let mut admission = Admission::default();
        let mut refusals: Vec<Option<Refusal>> = Vec::with_capacity(work.len());
        let mut is_commit = Vec::with_capacity(work.len());
        for work in work {
            let (refused, commits) = match work {
                Work::Sync => (None, false),
                Work::Commit(batch, _) => {
                    let engine = &self.shared.engine;
                    (admission.admit(batch, &mut self.pending, engine).err(), true)
                }
            };
            refusals.push(refused);
            is_commit.push(commits);
        }
        let conflicts = refusals.iter().flatten().count();
        // A conflict, too, is told only when what it conflicts with is durable.
        wants_sync |= conflicts > 0 || self.flush_in() == Some(Duration::ZERO);

        let group = (!admission.batches.is_empty())
            .then(|| Group { first: CommitSeq(self.last.0 + 1), batches: admission.batches });
        let logged = match &group {
            None => Ok(()),
            Some(group) => self.log(group),
        };
        let not_written = match logged {
            Ok(()) => None,
            Err(e) if leaves_engine_whole(&e) => Some(e),
            Err(e) if e.kind() == ErrorKind::Closed => return self.end(delivery, bytes, &e),
            Err(e) => return self.fail(delivery, bytes, e),
        };
        let group = group.filter(|_| not_written.is_none()).map(Arc::new);
        if let Some(group) = &group {
            // ORDER: pending before the next admission; guards see every earlier commit.
            self.pending.logged(Arc::clone(group));
        }
        if wants_sync
            && self.unsynced_since.is_some()
            && let Err(e) = self.sync()
        {
            return self.fail(delivery, bytes, e);
        }

        let mut seq = group.as_ref().map_or(self.last.0, |g| g.first.0);
        let outcomes = refusals.into_iter().zip(is_commit).map(|(refused, commits)| {
            match (refused, &not_written) {
                (_, _) if !commits => Ok(self.last),
                (Some(r), Some(e)) if r.within_group => Err(e.clone()),
                (Some(refused), _) => Err(refused.error),
                (None, Some(e)) => Err(e.clone()),
                (None, None) => {
                    seq += 1;
                    Ok(CommitSeq(seq - 1))
                }
            }
        });
        let outcomes: Vec<_> = outcomes.collect();
        let told = outcomes.len();
        let metrics = &self.shared.metrics;
        metrics.conflicts.increment(conflicts as u64);
        if let Some(group) = &group {
            metrics.commits.increment(group.batches.len() as u64);
            #[expect(clippy::cast_precision_loss, reason = "a histogram takes floats")]
            metrics.group_commits.record(group.batches.len() as f64);
        }
        let waiting = self.shared.waiting();
        self.gather.completed(told, waiting);
        // Handing over costs a thread switch: worth it only when the next group is not waited for.
        let hand_over = waiting > 0 && self.gather.rounds() == 0;
        let publication = Publication { group, outcomes, delivery, bytes, forgotten };
        self.publisher.publish(publication, hand_over);
    }

    fn log(&mut self, group: &Group) -> Result<()> {
        self.shared.engine.log(group)?;
        self.last = group.last();
        if self.unsynced_since.is_none() {
            self.unsynced_since = Some(self.shared.options.clock.monotonic());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let clock = &self.shared.options.clock;
        let start = clock.monotonic();
        self.shared.engine.sync()?;
        let took = clock.monotonic().saturating_since(start);
        self.shared.metrics.sync_seconds.record(took.as_secs_f64());
        self.unsynced_since = None;
        Ok(())
    }

    /// When buffered commits must be synced, from now.
    fn flush_in(&self) -> Option<Duration> {
        let since = self.unsynced_since?;
        let waited = self.shared.options.clock.monotonic().saturating_since(since);
        Some(self.shared.options.buffered_sync_interval.saturating_sub(waited))
    }

    /// The log is in an unknown state: nothing may follow.
    fn fail(&mut self, delivery: Delivery, bytes: usize, cause: StoreError) {
        let error = StoreError::with_source(
            ErrorKind::Indeterminate,
            format!("the log failed, the outcome is unknown until the store is reopened: {cause}"),
            cause,
        );
        self.end(delivery, bytes, &error);
    }

    /// Tells this group, and everybody after it.
    fn end(&mut self, delivery: Delivery, bytes: usize, error: &StoreError) {
        // ORDER: refuse first, so that whoever is told cannot commit on top.
        self.shared.poison(error);
        self.shared.resolved(bytes);
        delivery.fail(error);
    }
}

fn leaves_engine_whole(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::Full | ErrorKind::Unavailable | ErrorKind::Invalid)
}
