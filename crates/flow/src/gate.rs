//! What stands before a step: it lets an attempt begin, or parks the run until it does.

use std::fmt::Debug;
use std::sync::Arc;

use resurge_store::{Batch, BoxFuture, Store, Timestamp};

use crate::StepError;

#[cfg(feature = "breaker")]
mod breaker;

/// Guards something outside, such as a remote service. A circuit breaker is one.
///
/// A step goes [`through`](crate::Step::through) it: before every attempt the gate is asked. When it
/// refuses, the run is parked durably and no attempt is spent; parked runs are released oldest
/// first, one at a time until one got through, then the others.
pub trait Gate: Debug + Send + Sync + 'static {
    /// Its name; runs parked behind it are listed under it. At most 200 bytes.
    fn name(&self) -> &str;

    /// Whether an attempt may begin now; `now` is wall time by the store's clock.
    fn admit(&self, now: Timestamp) -> Admission;

    /// Resolves when [`admit`](Self::admit) is worth asking again. Cancel safe.
    fn released(&self) -> BoxFuture<'static, ()>;
}

/// A gate's answer.
#[derive(Debug)]
pub enum Admission {
    /// Begin. What the attempt came to is told to the permit.
    Admitted(Box<dyn Permit>),
    /// Do not begin.
    Refused {
        /// When the gate may open, if it knows.
        until: Option<Timestamp>,
    },
}

/// The right to one attempt. Dropped without an outcome, the attempt was abandoned.
pub trait Permit: Debug + Send + Sync + 'static {
    /// The attempt ended. What the gate changes durably goes into `batch`, which is committed with
    /// the step's record; the returned settlement is told whether it was.
    ///
    /// `store` is where the batch will be committed.
    fn outcome(
        self: Box<Self>,
        outcome: Attempt<'_>,
        store: &Store,
        batch: &mut Batch,
    ) -> Option<Settled>;
}

/// Told whether what was staged is committed.
pub type Settled = Box<dyn FnOnce(bool) + Send>;

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Attempt<'a> {
    /// It returned `Ok`.
    Succeeded,
    /// It returned an error, took too long or panicked: see [`StepError::kind`].
    Failed(&'a StepError),
}

/// Anything a step can go [`through`](crate::Step::through).
pub trait IntoGate {
    /// The gate.
    fn gate(&self) -> Arc<dyn Gate>;
}

impl<G: Gate + Clone> IntoGate for G {
    fn gate(&self) -> Arc<dyn Gate> {
        Arc::new(self.clone())
    }
}

impl IntoGate for Arc<dyn Gate> {
    fn gate(&self) -> Arc<dyn Gate> {
        Arc::clone(self)
    }
}
