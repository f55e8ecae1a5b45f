//! What can go wrong, by class, and the one thing a client may be told. No text holds a token, a subject, a
//! key or a state.

use std::time::Duration;

use resurge_seal::SealError;
use resurge_store::{ErrorKind, StoreError};

/// What every call of this crate returns.
pub type Result<T, E = SessionError> = std::result::Result<T, E>;

/// Why there is no session, or why it was not changed. For the server: clients get [`public`](Self::public).
///
/// Classes up to [`InvalidSignature`](Self::InvalidSignature) say nothing about a session, because nothing in
/// the token was believed; the later ones are about an authentic token.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Not a token of ours: foreign, cut, padded, too long.
    #[error("malformed token")]
    Malformed,
    /// A version or kind of token that this manager does not take.
    #[error("a token of a version or kind that is not taken here")]
    UnsupportedVersion,
    /// Its key is not in the ring.
    #[error("the token's key is not in the ring")]
    UnknownKey,
    /// Its key was revoked or destroyed.
    #[error("the token's key is revoked")]
    KeyRevoked,
    /// It was not made with our keys, or was changed.
    #[error("the token is not authentic")]
    InvalidSignature,
    /// Authentic, and made for another purpose.
    #[error("the token is for another purpose")]
    WrongPurpose,
    /// Authentic, and bound to another client, or not bound as it must be.
    #[error("the token is bound to another client")]
    WrongBinding,
    /// It was issued in the future: somebody's clock is wrong.
    #[error("the token is not valid yet; check the clocks")]
    NotYetValid,
    /// Its time, or the session's, is over.
    #[error("the session expired {since:?} ago")]
    Expired {
        /// How long ago.
        since: Duration,
    },
    /// The token, its family or its subject was revoked.
    #[error("the session was revoked")]
    Revoked,
    /// It was used before, and its time to be used again is over. Somebody may have stolen it.
    #[error("the token was used before")]
    Replayed,
    /// Authentic, and there is no such session: never saved, deleted, cleaned up or evicted.
    #[error("no such session")]
    NotFound,
    /// What is stored was written for another version of the state, and nothing leads from it to ours.
    #[error("the state has schema {found}, and {want} is wanted")]
    SchemaMismatch {
        /// The version stored.
        found: u32,
        /// The version this manager wants.
        want: u32,
    },
    /// What is stored does not open or decode.
    #[error("the stored session is corrupt: {0}")]
    Corrupt(&'static str),
    /// The state is too large; what was saved before stays.
    #[error("the state takes {len} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size, in bytes.
        len: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// So many sessions are live already, and the policy is to reject.
    #[error("the limit of {limit} sessions is reached")]
    Capacity {
        /// The limit.
        limit: u64,
    },
    /// Somebody else recovered or saved the session in between: recover it, or save over `current`.
    #[error("the session was changed by somebody else; its version is {current}")]
    Conflict {
        /// The version stored.
        current: u64,
    },
    /// The manager is closed.
    #[error("the sessions are closed")]
    Closed,
    /// The store failed, or a key is not at hand now; see its [kind](StoreError::kind).
    #[error("the sessions' store failed ({})", .0.kind())]
    Store(#[source] StoreError),
    /// The state refused to be serialised.
    #[error("the state does not serialise")]
    Encode,
    /// What this manager's storage cannot do.
    #[error("storage of your own cannot {0}")]
    Unsupported(&'static str),
    /// A setting that cannot be.
    #[error("{0}")]
    Config(String),
}

impl SessionError {
    /// All that may be told to a client: the same for every token that leads nowhere.
    pub fn public(&self) -> PublicError {
        match self {
            Self::TooLarge { .. }
            | Self::Capacity { .. }
            | Self::Conflict { .. }
            | Self::Closed
            | Self::Store(_)
            // Authentic, and good for a server whose clock is not behind.
            | Self::NotYetValid
            | Self::Encode
            | Self::Unsupported(_)
            | Self::Config(_) => PublicError::TryAgainLater,
            _ => PublicError::RecoveryUnavailable,
        }
    }

    /// A short name of the class, for logs and metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownKey => "unknown_key",
            Self::KeyRevoked => "key_revoked",
            Self::InvalidSignature => "invalid_signature",
            Self::WrongPurpose => "wrong_purpose",
            Self::WrongBinding => "wrong_binding",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::Revoked => "revoked",
            Self::Replayed => "replayed",
            Self::NotFound => "not_found",
            Self::SchemaMismatch { .. } => "schema_mismatch",
            Self::Corrupt(_) => "corrupt",
            Self::TooLarge { .. } => "too_large",
            Self::Capacity { .. } => "capacity",
            Self::Conflict { .. } => "conflict",
            Self::Closed => "closed",
            Self::Store(_) => "store",
            Self::Encode => "encode",
            Self::Unsupported(_) => "unsupported",
            Self::Config(_) => "config",
        }
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(e) => e.kind() == ErrorKind::Unavailable,
            Self::NotYetValid => true,
            _ => false,
        }
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self::Config(what.into())
    }

    /// A key that could not be had, while a token was looked at or made.
    pub(crate) fn of_key(error: SealError) -> Self {
        match error {
            SealError::UnknownKey { .. } | SealError::NoKey { .. } => Self::UnknownKey,
            SealError::KeyRevoked { .. } | SealError::KeyDestroyed { .. } => Self::KeyRevoked,
            SealError::BodyNotAuthentic { .. } => Self::InvalidSignature,
            SealError::Store(e) => Self::Store(e),
            // ORDER: the text of the cause is not taken along; it may name places.
            other => Self::Store(StoreError::new(other.kind(), "a key cannot be used")),
        }
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            ErrorKind::Closed => Self::Closed,
            _ => Self::Store(error),
        }
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PublicError {
    /// The token leads nowhere. Why, is not said; begin afresh.
    #[error("recovery unavailable")]
    RecoveryUnavailable,
    /// The server could not; the token may still be good.
    #[error("try again later")]
    TryAgainLater,
}
