//! What can go wrong, and what the caller should do about it.

use resurge_store::{ErrorKind, StoreError};

use crate::SnapshotId;

/// What every call of this crate returns.
pub type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// A failure of this crate. [`kind`](Self::kind) tells what to do, in the words of the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name or an option is out of range.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The state refused to be serialised, or is over the limit.
    #[error("the state was not serialised: {0}")]
    Encode(String),
    /// There is no such snapshot.
    #[error("there is no snapshot {id}")]
    NotFound {
        /// What was asked for.
        id: SnapshotId,
    },
    /// The snapshot asked for is damaged.
    #[error("snapshot {id} is damaged: {what}")]
    Damaged {
        /// Which.
        id: SnapshotId,
        /// What is wrong with it.
        what: String,
    },
    /// The newest snapshot was written by newer code. Refused: an older snapshot would silently undo
    /// what that code did.
    #[error("snapshot {id} has schema version {found}; this build reads up to {supported}")]
    NewerSchema {
        /// Which.
        id: SnapshotId,
        /// Its version.
        found: u32,
        /// The version of this build.
        supported: u32,
    },
    /// The snapshot has an older schema version and the migration is missing or failed.
    #[error("snapshot {id} cannot be migrated from schema version {from}: {what}")]
    Migration {
        /// Which.
        id: SnapshotId,
        /// Its version.
        from: u32,
        /// Why.
        what: String,
    },
    /// The snapshot is intact, and its bytes are no such state: the type changed and its schema
    /// version did not.
    #[error("snapshot {id} is intact and does not decode as this type: {what}")]
    Decode {
        /// Which.
        id: SnapshotId,
        /// What the decoder says.
        what: String,
    },
    /// The state is older than the newest snapshot.
    #[error("position {position} is before that of the newest snapshot, {newest}")]
    OutOfOrder {
        /// What was asked for.
        position: u64,
        /// The newest one's.
        newest: u64,
    },
    /// Somebody opened the same name while this snapshot was being taken, and removed it.
    #[error("snapshot {id} was removed while it was taken: its name was opened again")]
    Superseded {
        /// Which.
        id: SnapshotId,
    },
}

impl SnapshotError {
    /// What to do about it: that of the store's error, or `Invalid` (fix the caller), `Corrupt`
    /// (stored bytes are damaged), `Conflict` (somebody else was there first).
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(e) => e.kind(),
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Superseded { .. } => ErrorKind::Conflict,
            Self::Invalid(_)
            | Self::Encode(_)
            | Self::NotFound { .. }
            | Self::NewerSchema { .. }
            | Self::Migration { .. }
            | Self::Decode { .. }
            | Self::OutOfOrder { .. } => ErrorKind::Invalid,
        }
    }
}
