//! Putting a transition into somebody else's commit: stage, commit, submitted.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use resurge_store::{Batch, CommitSeq, Result as StoreResult, Store};

use crate::event::BreakerEvent;
use crate::shared::Shared;

/// The right to hand the newest state to the store; while somebody has it, the queue waits.
pub(crate) struct PersistTicket {
    shared: Arc<Shared>,
}

impl Shared {
    /// The persist ticket, if it is free and `store` is the breaker's own.
    pub(crate) fn take_persist_ticket(self: &Arc<Self>, store: &Store) -> Option<PersistTicket> {
        let persist = self.persist.as_ref()?;
        if !Arc::ptr_eq(store.backend(), persist.store.backend()) {
            return None;
        }
        let mut queue = persist.queue.lock();
        if queue.ticket {
            return None;
        }
        queue.ticket = true;
        Some(PersistTicket { shared: Arc::clone(self) })
    }
}

impl PersistTicket {
    /// Puts what is not yet persisted into `batch`.
    pub(crate) fn write(self, batch: &mut Batch) -> Option<StagedTransition> {
        let persist = self.shared.persist.as_ref()?;
        let submitted = persist.queue.lock().submitted;
        if self.shared.engine.read(crate::machine::Machine::number) <= submitted {
            return None;
        }
        let number = self.shared.write_newest(persist, batch);
        Some(StagedTransition { ticket: self, number })
    }
}

impl Drop for PersistTicket {
    fn drop(&mut self) {
        if let Some(persist) = &self.shared.persist {
            persist.release_ticket();
        }
        self.shared.persist_later();
    }
}

/// A circuit's newest state that is in a batch which was not yet committed.
///
/// Call [`submitted`](Self::submitted) right after `store.commit` was *called*. Dropping it before
/// that leaves persisting to the breaker's own queue.
#[must_use = "dropping it leaves persisting to the breaker"]
pub struct StagedTransition {
    ticket: PersistTicket,
    number: u64,
}

impl StagedTransition {
    /// The number of the newest change in it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Says that the batch was handed to the store. `commit` is what `store.commit` returned, or what
    /// another `submitted` made of it; await what this returns in its place.
    ///
    /// If the commit fails, or what this returns is dropped before it resolved, the breaker's queue
    /// writes the newest state again.
    pub fn submitted<C>(self, commit: C) -> TransitionCommit<C>
    where
        C: Future<Output = StoreResult<CommitSeq>>,
    {
        let shared = Arc::clone(&self.ticket.shared);
        if let Some(persist) = &shared.persist {
            let mut queue = persist.queue.lock();
            queue.submitted = queue.submitted.max(self.number);
        }
        let watch = Watch { shared, number: self.number, told: false };
        TransitionCommit { commit, watch }
    }
}

impl fmt::Debug for StagedTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("StagedTransition");
        out.field("breaker", &self.ticket.shared.name).field("number", &self.number);
        out.finish_non_exhaustive()
    }
}

/// Learns how a commit ended; not learning it means that it may have failed.
struct Watch {
    shared: Arc<Shared>,
    number: u64,
    told: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        if let Some(persist) = &self.shared.persist {
            persist.lost();
        }
        self.shared.persist_later();
    }
}

pin_project! {
    /// Resolves with the batch's outcome once the breaker has taken note of it.
    ///
    /// # Errors
    /// The store's own, unchanged.
    #[must_use = "the batch is committed only when this resolved with `Ok`"]
    pub struct TransitionCommit<C> {
        #[pin]
        commit: C,
        watch: Watch,
    }
}

impl<C: Future<Output = StoreResult<CommitSeq>>> Future for TransitionCommit<C> {
    type Output = StoreResult<CommitSeq>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = std::task::ready!(this.commit.poll(cx));
        let watch = this.watch;
        if let (Ok(_), Some(persist)) = (&outcome, &watch.shared.persist) {
            watch.told = true;
            persist.reached(watch.number);
            watch.shared.emit(BreakerEvent::Persisted { number: watch.number });
        }
        Poll::Ready(outcome)
    }
}

impl<C> fmt::Debug for TransitionCommit<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TransitionCommit");
        out.field("breaker", &self.watch.shared.name).field("number", &self.watch.number);
        out.finish_non_exhaustive()
    }
}
