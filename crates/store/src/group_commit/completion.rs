//! How a whole group is told its outcome: one shared object, one waker each, no channel per commit.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::{CommitSeq, ErrorKind, Result, StoreError};

pub(super) type Outcome = Result<CommitSeq>;

/// The outcome of every commit of one group, once known.
#[derive(Debug, Default)]
pub(super) struct Completion {
    outcomes: OnceLock<Vec<Outcome>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Completion {
    fn complete(&self, outcomes: Vec<Outcome>) {
        // INVARIANT: whoever holds the one delivery completes once.
        let _ = self.outcomes.set(outcomes);
        // ORDER: outcomes before the list is taken; `poll` looks again under the lock, so nobody joins
        // a list that nobody will wake.
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn outcome(&self, index: usize) -> Option<Outcome> {
        let outcomes = self.outcomes.get()?;
        // INVARIANT: a group is completed with an outcome for each of its commits.
        let lost = || Err(StoreError::new(ErrorKind::Indeterminate, "outcome missing"));
        Some(outcomes.get(index).cloned().unwrap_or_else(lost))
    }
}

/// The duty to complete a group. Dropped without, as when a thread panics, it says so to everyone.
#[derive(Debug)]
pub(super) struct Delivery {
    completion: Arc<Completion>,
    len: usize,
    delivered: bool,
}

impl Delivery {
    /// For the `len` commits that wait on `completion`.
    pub(super) fn new(completion: Arc<Completion>, len: usize) -> Self {
        Self { completion, len, delivered: false }
    }

    pub(super) fn outcomes(mut self, outcomes: Vec<Outcome>) {
        self.delivered = true;
        self.completion.complete(outcomes);
    }

    pub(super) fn fail(mut self, error: &StoreError) {
        self.delivered = true;
        self.completion.complete(vec![Err(error.clone()); self.len]);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.delivered {
            let message = "the store stopped while this commit was in flight";
            let error = StoreError::new(ErrorKind::Indeterminate, message);
            self.completion.complete(vec![Err(error); self.len]);
        }
    }
}

/// Resolves with the outcome of one commit of a group. Dropping it undoes nothing.
#[derive(Debug)]
pub(super) struct Outcomes {
    completion: Arc<Completion>,
    index: usize,
    slot: Option<usize>,
}

impl Outcomes {
    pub(super) fn new(completion: Arc<Completion>, index: usize) -> Self {
        Self { completion, index, slot: None }
    }
}

impl Future for Outcomes {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        // Without the lock first: a whole group comes to ask at once.
        if let Some(outcome) = this.completion.outcome(this.index) {
            return Poll::Ready(outcome);
        }
        let mut wakers = this.completion.wakers.lock();
        if let Some(outcome) = this.completion.outcome(this.index) {
            return Poll::Ready(outcome);
        }
        if let Some(waker) = this.slot.and_then(|slot| wakers.get_mut(slot)) {
            waker.clone_from(cx.waker());
        } else {
            this.slot = Some(wakers.len());
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
