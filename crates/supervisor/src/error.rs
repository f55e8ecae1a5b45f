//! What can go wrong, and what the caller should do about it.

use resurge_breaker::{BuildError, Rejected, TimedOut};
use resurge_wal::WalError;

/// A call on a [`RecoveryManager`](crate::RecoveryManager) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// The configuration makes no sense. Fix it; nothing was changed.
    #[error("configuration of the supervisor: {field}: {message}")]
    Config {
        /// The field, as in the configuration.
        field: &'static str,
        /// What is wrong with it.
        message: &'static str,
    },
    /// The configuration names a strategy nobody registered.
    #[error("there is no strategy `{0}`; correct the name, or register it before the start")]
    UnknownStrategy(String),
    /// A strategy of this name exists.
    #[error("there is a strategy `{0}` already")]
    StrategyExists(String),
    /// Nobody registered a resource of this name.
    #[error("there is no resource `{0}`; register it first")]
    UnknownResource(String),
    /// A resource of this name is registered. Unregister it first.
    #[error("there is a resource `{0}` already")]
    ResourceExists(String),
    /// Start was called twice.
    #[error("the recovery manager is already running")]
    AlreadyRunning,
    /// A breaker could not be made.
    #[error(transparent)]
    Breaker(#[from] BuildError),
    /// The audit trail failed.
    #[error("the audit trail: {0}")]
    Journal(#[from] WalError),
}

/// A call through [`RecoveryManager::execute`](crate::RecoveryManager::execute) failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError<E> {
    /// Nobody registered a resource of this name. The call did not run.
    #[error("there is no resource `{0}`; register it first")]
    UnknownResource(String),
    /// What [`on_unknown`](crate::ManagerBuilder::on_unknown) made of the name could not be registered.
    /// The call did not run.
    #[error("resource `{name}` could not be registered: {why}")]
    Unregistered {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// The circuit did not admit it. It did not run.
    #[error(transparent)]
    Rejected(Rejected),
    /// It ran and was given up.
    #[error(transparent)]
    TimedOut(TimedOut),
    /// It ran and returned this.
    #[error("{0}")]
    Inner(E),
}

impl<E> ExecuteError<E> {
    /// Whether the circuit did not admit the call.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }
}
