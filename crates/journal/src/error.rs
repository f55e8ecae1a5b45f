//! What can go wrong, and what the caller should do about it.

use std::sync::Arc;

use resurge_snapshot::SnapshotError;
use resurge_store::{ErrorKind, StoreError};
use resurge_wal::{Lsn, WalError};

/// What every call of this crate returns.
pub type Result<T, E = JournalError> = std::result::Result<T, E>;

/// A failure of a journal. [`kind`](Self::kind) tells what to do, in the words of the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The log failed. By its [`kind`](WalError::kind): after `Indeterminate` nobody knows whether the
    /// event is durable before the journal is opened again; after `Conflict` it is not. `Invalid`
    /// means that this event cannot be stored, and nothing happened.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A snapshot was not taken, not loaded or not understood.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The batch that shared its commit with staged events failed.
    #[error("the commit of staged events failed: {0}")]
    Staged(#[source] StoreError),
    /// There is no way from any whole snapshot to the end of the log. Nothing was changed.
    #[error(
        "journal `{journal}` cannot be recovered: {what}{}",
        skipped(.damaged)
    )]
    Unrecoverable {
        /// The journal.
        journal: Arc<str>,
        /// What is missing.
        what: String,
        /// The snapshots that are damaged, each with what is wrong.
        damaged: Vec<resurge_snapshot::Damaged>,
    },
    /// The journal was closed, or an earlier failure poisoned it: its state is gone from memory and
    /// comes back by opening it again. This call did nothing.
    #[error("journal `{journal}` is closed{}", because(.cause.as_deref()))]
    Closed {
        /// The journal.
        journal: Arc<str>,
        /// The failure that poisoned it, if it was not [`Journaled::close`](crate::Journaled::close).
        cause: Option<Arc<JournalError>>,
    },
    /// `apply` panicked, so half of an event may be applied in memory. The event is in the log.
    #[error("applying an event after record {after} panicked")]
    Panicked {
        /// The last event that was applied whole.
        after: Lsn,
    },
    /// An option is out of range.
    #[error("invalid: {0}")]
    Invalid(String),
}

fn because(cause: Option<&JournalError>) -> String {
    cause.map_or_else(String::new, |cause| format!(": {cause}"))
}

fn skipped(damaged: &[resurge_snapshot::Damaged]) -> String {
    let one = |d: &resurge_snapshot::Damaged| format!("; snapshot {} is damaged: {}", d.id, d.what);
    damaged.iter().map(one).collect::<Vec<_>>().concat()
}

impl JournalError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(e) => e.kind(),
            Self::Snapshot(e) => e.kind(),
            Self::Staged(e) => e.kind(),
            Self::Unrecoverable { .. } => ErrorKind::Corrupt,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Panicked { .. } => ErrorKind::Indeterminate,
            Self::Invalid(_) => ErrorKind::Invalid,
        }
    }
}
