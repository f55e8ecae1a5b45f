//! A circuit breaker as a gate: while it is open, runs are parked.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use resurge_breaker::{Breaker, FailureKind, Outcome, Permit as BreakerPermit};
use resurge_store::{Batch, BoxFuture, CommitSeq, Store, Timestamp};

use super::{Admission, Attempt, Gate, Permit, Settled};
use crate::{Class, StepErrorKind};

/// An attempt that succeeds is a success. One that failed with a transient error, took too long or
/// panicked is a failure. A permanent error says that the request was wrong, not what it was sent to:
/// it is ignored, and so is a cancelled attempt.
///
/// The transition an attempt causes is committed with the step's record.
impl Gate for Breaker {
    fn name(&self) -> &str {
        Breaker::name(self)
    }

    fn admit(&self, now: Timestamp) -> Admission {
        match self.acquire() {
            Ok(permit) => Admission::Admitted(Box::new(Attempted(permit))),
            Err(rejected) => Admission::Refused {
                until: rejected.retry_after.map(|after| now.saturating_add(after)),
            },
        }
    }

    fn released(&self) -> BoxFuture<'static, ()> {
        let breaker = self.clone();
        Box::pin(async move { breaker.admissible().await })
    }
}

#[derive(Debug)]
struct Attempted(BreakerPermit);

impl Permit for Attempted {
    fn outcome(
        self: Box<Self>,
        outcome: Attempt<'_>,
        store: &Store,
        batch: &mut Batch,
    ) -> Option<Settled> {
        let staged = self.0.settle_into(meaning(outcome), store, batch)?;
        Some(Box::new(move |committed| {
            if committed {
                let commit = std::future::ready(Ok(CommitSeq::default()));
                // It is ready, so it needs no waker.
                let noted = pin!(staged.submitted(commit));
                drop(noted.poll(&mut Context::from_waker(Waker::noop())));
            }
        }))
    }
}

fn meaning(outcome: Attempt<'_>) -> Outcome {
    match outcome {
        Attempt::Succeeded => Outcome::Success,
        Attempt::Failed(error) => match (error.kind(), error.class()) {
            (StepErrorKind::Timeout, _) => Outcome::Failure(FailureKind::Timeout),
            (StepErrorKind::Panicked, _) => Outcome::Failure(FailureKind::Panic),
            (StepErrorKind::Failed, Class::Transient) => Outcome::Failure(FailureKind::Error),
            _ => Outcome::Ignore,
        },
    }
}
