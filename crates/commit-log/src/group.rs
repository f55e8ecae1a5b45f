//! What the callers of one group share: its outcome, and who waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::{LogError, Result};

/// One per group, not one per record: a record costs a reference and a place in the list.
#[derive(Debug)]
pub(crate) struct Group {
    /// The first sequence of the group.
    outcome: OnceLock<Result<u64>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Group {
    pub(crate) fn new(expected: usize) -> Arc<Self> {
        let wakers = Mutex::new(Vec::with_capacity(expected));
        Arc::new(Self { outcome: OnceLock::new(), wakers })
    }

    /// Publishes the outcome (only the first one counts) and wakes everybody.
    pub(crate) fn complete(&self, outcome: Result<u64>) {
        if self.outcome.set(outcome).is_err() {
            return;
        }
        // ORDER: the outcome is set before the list is taken, and `poll` looks again under the
        // lock: nobody joins a list that nobody will wake.
        let wakers = std::mem::take(&mut *self.wakers.lock());
        for waker in wakers {
            // A waker is foreign code; one that panics must not take the others along.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// `slot` is the caller's place in the list, once it has one.
    fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<Result<u64>> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let waker = cx.waker().clone();
        let mut wakers = self.wakers.lock();
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let replaced = if let Some(place) = slot.and_then(|n| wakers.get_mut(n)) {
            Some(std::mem::replace(place, waker))
        } else {
            *slot = Some(wakers.len());
            wakers.push(waker);
            None
        };
        // Dropping a waker may run foreign code: not under the lock.
        drop(wakers);
        drop(replaced);
        Poll::Pending
    }
}

/// Resolves with the sequence of the entry when it is durable. From
/// [`CommitLog::append`](crate::CommitLog::append).
///
/// The entry was submitted when `append` was called. Dropping this undoes nothing. After an error
/// other than `Io` and `Closed` nothing was written; after those two the entry may be found at
/// the next open.
#[derive(Debug)]
#[must_use = "the entry is not durable before this resolves"]
pub struct Append(State);

#[derive(Debug)]
enum State {
    Refused(LogError),
    Waiting { group: Arc<Group>, index: u64, slot: Option<usize> },
}

impl Append {
    pub(crate) fn refused(error: LogError) -> Self {
        Self(State::Refused(error))
    }

    pub(crate) fn waiting(group: Arc<Group>, index: u64) -> Self {
        Self(State::Waiting { group, index, slot: None })
    }
}

impl Future for Append {
    type Output = Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.clone())),
            State::Waiting { group, index, slot } => {
                group.poll(slot, cx).map_ok(|first_seq| first_seq + *index)
            }
        }
    }
}

/// Resolves when the log is closed. From [`CommitLog::close`](crate::CommitLog::close).
#[derive(Debug)]
#[must_use = "the log is not closed before this resolves"]
pub struct Close {
    pub(crate) closed: Arc<Group>,
    pub(crate) slot: Option<usize>,
}

impl Future for Close {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.closed.poll(&mut this.slot, cx).map_ok(|_| ())
    }
}
