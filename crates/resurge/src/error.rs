//! The facade's error: what failed, with the crate's own error inside.

use resurge_store::StoreError;

/// What every call of the facade returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call on [`Resurge`](crate::Resurge) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log could not be opened or closed.
    #[cfg(feature = "wal")]
    #[error(transparent)]
    Wal(#[from] resurge_wal::WalError),
    /// Snapshots could not be opened.
    #[cfg(feature = "snapshot")]
    #[error(transparent)]
    Snapshot(#[from] resurge_snapshot::SnapshotError),
    /// A journal could not be opened, or its final snapshot could not be taken.
    #[cfg(feature = "journal")]
    #[error(transparent)]
    Journal(#[from] resurge_journal::JournalError),
    /// Checkpoints could not be opened.
    #[cfg(feature = "checkpoint")]
    #[error(transparent)]
    Checkpoint(#[from] resurge_checkpoint::CheckpointError),
    /// Sessions could not be set up or closed.
    #[cfg(feature = "session-token")]
    #[error(transparent)]
    Session(#[from] resurge_session_token::SessionError),
    /// A breaker could not be made.
    #[cfg(feature = "breaker")]
    #[error(transparent)]
    Breaker(#[from] resurge_breaker::BuildError),
    /// The supervisor could not be opened or started.
    #[cfg(feature = "supervisor")]
    #[error(transparent)]
    Supervisor(#[from] resurge_supervisor::SupervisorError),
    /// Flows could not be opened, registered or started.
    #[cfg(feature = "flow")]
    #[error(transparent)]
    Flow(#[from] resurge_flow::FlowError),
    /// The name is open already; a second handle would fence the first. Clone the first instead.
    #[error("{kind} `{name}` is open already; clone the handle that is")]
    AlreadyOpen {
        /// `wal`, `snapshots`, `journal`, `checkpoints` and so on.
        kind: &'static str,
        /// The name it was opened under.
        name: String,
    },
    /// The app is shutting down or has shut down.
    #[error("the app is shut down")]
    ShutDown,
}
