//! How checkpoints behave: for all steps of a handle, and for one step.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resurge_store::{Codec, Durability};

use crate::{CheckpointError, CheckpointObserver, Result, Scope};

/// What to do with a step that somebody began, and died before its result was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InDoubt {
    /// Run it again: for steps without effects outside, or whose effects are idempotent.
    RunAgain,
    /// Refuse with [`CheckpointError::InDoubt`]: somebody must find out whether it happened.
    Fail,
}

/// What to do when the store fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StoreFailure {
    /// The step does not run and the call fails. When the result cannot be stored, the call fails too.
    #[default]
    FailClosed,
    /// The step runs, unprotected: the result is returned and not stored. An event, a metric and a
    /// log line say so.
    FailOpen,
}

/// How one step is treated. The default suits a step that may run again.
///
/// ```
/// use resurge_checkpoint::{InDoubt, Scope, StepPolicy};
/// let plain = StepPolicy::new();
/// assert_eq!(plain.in_doubt_for(&Scope::Global), InDoubt::RunAgain);
/// let charge = StepPolicy::new().side_effects();
/// assert_eq!(charge.in_doubt_for(&Scope::Global), InDoubt::Fail);
/// assert_eq!(charge.in_doubt_for(&Scope::Workflow("order-1".into())), InDoubt::RunAgain);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepPolicy {
    side_effects: bool,
    in_doubt: Option<InDoubt>,
    store_failure: StoreFailure,
    durability: Durability,
}

impl Default for StepPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl StepPolicy {
    /// No side effects declared, fail-closed, results durable.
    pub const fn new() -> Self {
        Self {
            side_effects: false,
            in_doubt: None,
            store_failure: StoreFailure::FailClosed,
            durability: Durability::Durable,
        }
    }

    /// The step does something outside of the store. In [`Scope::Global`] it is then not run again
    /// when in doubt, unless [`in_doubt`](Self::in_doubt) says otherwise.
    #[must_use]
    pub const fn side_effects(mut self) -> Self {
        self.side_effects = true;
        self
    }

    /// What to do in doubt, whatever the scope.
    #[must_use]
    pub const fn in_doubt(mut self, in_doubt: InDoubt) -> Self {
        self.in_doubt = Some(in_doubt);
        self
    }

    /// What to do when the store fails.
    #[must_use]
    pub const fn on_store_failure(mut self, failure: StoreFailure) -> Self {
        self.store_failure = failure;
        self
    }

    /// How results are stored. `Buffered` for what is cheap to do again: it saves the sync, and a
    /// power loss within the next second may take the result. Results of steps that are not run
    /// again in doubt are always `Durable`.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What happens in doubt in this scope: what was said; otherwise `Fail` for side effects in
    /// [`Scope::Global`], and `RunAgain`.
    pub fn in_doubt_for(self, scope: &Scope) -> InDoubt {
        match (self.in_doubt, scope) {
            (Some(said), _) => said,
            (None, Scope::Global) if self.side_effects => InDoubt::Fail,
            (None, _) => InDoubt::RunAgain,
        }
    }

    pub(crate) fn fails_open(self) -> bool {
        self.store_failure == StoreFailure::FailOpen
    }

    pub(crate) fn result_durability(self, scope: &Scope) -> Durability {
        match self.in_doubt_for(scope) {
            InDoubt::Fail => Durability::Durable,
            InDoubt::RunAgain => self.durability,
        }
    }
}

/// How a handle behaves. The defaults are those of [`new`](Self::new).
#[derive(Clone)]
pub struct CheckpointOptions {
    pub(crate) policy: StepPolicy,
    pub(crate) codec: Codec,
    pub(crate) lease: Duration,
    pub(crate) observer: Option<Arc<dyn CheckpointObserver>>,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckpointOptions {
    /// Default policy, CBOR, a lease of 30 seconds, nobody told.
    pub fn new() -> Self {
        Self {
            policy: StepPolicy::new(),
            codec: Codec::Cbor,
            lease: Duration::from_secs(30),
            observer: None,
        }
    }

    /// The policy of steps that come without one.
    #[must_use]
    pub fn policy(mut self, policy: StepPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How new results are serialised. Old ones are read as they were written.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// How long a claim holds without being renewed, where several processes share the store; it is
    /// renewed three times as often. At least 10 milliseconds, and far more than clocks differ.
    ///
    /// On a store of one process it decides nothing: there, who is gone is known at once.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Who is told what happens.
    #[must_use]
    pub fn observer(mut self, observer: impl CheckpointObserver) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.lease < Duration::from_millis(10) {
            let what = format!("the lease is {:?}; at least 10ms are needed", self.lease);
            return Err(CheckpointError::Invalid(what));
        }
        Ok(())
    }
}

impl fmt::Debug for CheckpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointOptions")
            .field("policy", &self.policy)
            .field("codec", &self.codec)
            .field("lease", &self.lease)
            .field("observed", &self.observer.is_some())
            .finish()
    }
}
