//! What can go wrong, and what the caller should do about it.

use std::sync::Arc;
use std::time::Duration;

use resurge_store::StoreError;

use crate::state::{Mode, State};

/// A configuration that makes no sense. Fix it; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration of the breaker: {field}: {message}")]
pub struct ConfigError {
    field: &'static str,
    message: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }

    /// The field it is about, as in the configuration.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

/// A breaker could not be built.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is stored under the breaker's name cannot be used: damaged, or written by a newer
    /// version. [`OnUnreadable::Closed`](crate::OnUnreadable::Closed) begins anew instead.
    #[error("the stored state of breaker `{name}` is unusable: {source}")]
    Unreadable {
        /// The breaker.
        name: Arc<str>,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The store failed.
    #[error("cannot load the state of the breaker: {0}")]
    Store(#[from] StoreError),
    /// A registry has as many breakers as it may, and all of them are in use.
    #[error("the registry `{registry}` is full: {capacity} breakers, none of them idle")]
    RegistryFull {
        /// The registry.
        registry: Arc<str>,
        /// Its capacity.
        capacity: usize,
    },
}

/// A call was not admitted. It did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit breaker `{name}` rejects calls (state: {state}, mode: {mode})")]
#[non_exhaustive]
pub struct Rejected {
    /// The breaker.
    pub name: Arc<str>,
    /// Its state.
    pub state: State,
    /// Its mode.
    pub mode: Mode,
    /// When to try again at the earliest. None when nobody knows: forced open, or waiting for probes.
    pub retry_after: Option<Duration>,
}

/// A call was given up because it took longer than `call_timeout`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call through circuit breaker `{name}` took longer than {after:?}")]
#[non_exhaustive]
pub struct TimedOut {
    /// The breaker.
    pub name: Arc<str>,
    /// The limit.
    pub after: Duration,
}

/// How a call through a breaker failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    /// It was not admitted and did not run.
    #[error(transparent)]
    Rejected(Rejected),
    /// It ran and was given up.
    #[error(transparent)]
    TimedOut(TimedOut),
    /// It ran and returned this.
    #[error("{0}")]
    Inner(E),
}

impl<E> BreakerError<E> {
    /// Whether the call did not run.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// When to try again at the earliest, if it was rejected and that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejected) => rejected.retry_after,
            Self::TimedOut(_) | Self::Inner(_) => None,
        }
    }

    /// The call's own error, if it is one.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Inner(e) => Some(e),
            Self::Rejected(_) | Self::TimedOut(_) => None,
        }
    }
}

impl<E> From<Rejected> for BreakerError<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// A circuit cannot go from one state to the other. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a circuit that is {from} cannot become {to}")]
#[non_exhaustive]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: State,
    /// The state asked for.
    pub to: State,
}
