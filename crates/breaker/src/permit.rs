//! The right to one call, and how its end is reported.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use resurge_store::{Batch, Store};

use crate::engine::Ticket;
use crate::machine::Admission;
use crate::outcome::{Classify, FailureKind, Outcome};
use crate::share::Share;
use crate::shared::Shared;
use crate::stage::StagedTransition;

/// A ticket with the breaker it is for; dropping it says that the call was given up.
pub(crate) struct Pass<H: Deref<Target = Shared>> {
    pub(crate) host: H,
    pub(crate) ticket: Ticket,
    /// Not yet reported.
    open: bool,
    /// Somebody works on it; a future that was never polled did not.
    pub(crate) begun: bool,
}

impl<H: Deref<Target = Shared>> Pass<H> {
    #[inline]
    pub(crate) fn new(host: H, ticket: Ticket) -> Self {
        Self { host, ticket, open: true, begun: true }
    }

    #[inline]
    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.open = false;
        self.host.settle(&self.ticket, outcome);
    }
}

impl<H: Deref<Target = Shared>> Drop for Pass<H> {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            self.host.dropped(&self.ticket, self.begun);
        }
    }
}

/// The right to one call. Report how it ended; a result that comes after the circuit moved on counts
/// in the totals and decides nothing.
///
/// Dropping it unreported means that the call was given up: a failure when the thread panics, else as
/// [`DropPolicy`](crate::DropPolicy) says, and a probe's place is free again.
///
/// ```
/// use resurge_breaker::{Breaker, FailureKind};
/// let breaker = Breaker::new("inventory");
/// let permit = breaker.acquire()?;
/// permit.failure(FailureKind::Timeout);
/// assert_eq!(breaker.metrics().total_failures, 1);
/// # Ok::<(), resurge_breaker::Rejected>(())
/// ```
#[must_use = "dropping it says that the call was given up"]
pub struct Permit(pub(crate) Pass<Share>);

impl Permit {
    /// The call worked.
    pub fn success(self) {
        self.0.settle(Outcome::Success);
    }

    /// The call failed.
    pub fn failure(self, kind: FailureKind) {
        self.0.settle(Outcome::Failure(kind));
    }

    /// The call says nothing about what is behind the breaker.
    pub fn ignore(self) {
        self.0.settle(Outcome::Ignore);
    }

    /// The call ended like this.
    pub fn settle(self, outcome: Outcome) {
        self.0.settle(outcome);
    }

    /// The call ended with this result.
    pub fn record<T, E>(self, result: &Result<T, E>, classify: &impl Classify<T, E>) {
        self.0.settle(classify.classify(result));
    }

    /// As [`settle`](Self::settle); a transition it causes is put into `batch`, so that it shares the
    /// commit of whatever the call changed.
    ///
    /// Memory moves at once. None: there is nothing to put there (no transition, no store, another
    /// store, or somebody else is persisting right now); the breaker persists by itself what there is.
    pub fn settle_into(
        self,
        outcome: Outcome,
        store: &Store,
        batch: &mut Batch,
    ) -> Option<StagedTransition> {
        let shared = Arc::clone(self.0.host.shared());
        // ORDER: the ticket first, so that the queue does not take what this call causes.
        let ticket = shared.take_persist_ticket(store);
        self.0.settle(outcome);
        ticket?.write(batch)
    }

    /// Whether the call is a probe of a half-open circuit.
    pub fn is_probe(&self) -> bool {
        self.0.ticket.admission() == Admission::Probe
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Permit");
        out.field("breaker", &self.0.host.name).field("ticket", &self.0.ticket);
        out.finish_non_exhaustive()
    }
}
