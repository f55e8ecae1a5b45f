//! What can go wrong with sealed values and their keys. No text ever holds a value or a key.

use std::fmt;
use std::sync::Arc;

use resurge_store::{ErrorKind, StoreError};

use crate::{KeyId, Place};

/// What every call of this crate returns.
pub type Result<T, E = SealError> = std::result::Result<T, E>;

/// A failure to seal, to open, or to manage keys. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The policy calls it sensitive, and it is stored in clear: somebody replaced it, or it was
    /// written before the policy was. [`accept_plaintext`](crate::SensitivePolicy::accept_plaintext)
    /// lets a migration read it.
    #[error("{at} is stored in clear, and the policy says it is sensitive")]
    ExpectedSealed {
        /// The value.
        at: Place,
    },
    /// There is no ring, or the ring has no active key to seal with. Nothing was written.
    #[error("no key for {at}{}", sealed_with(.key.as_ref()))]
    NoKey {
        /// The value.
        at: Place,
        /// The key it is sealed with, when it is sealed already.
        key: Option<KeyId>,
    },
    /// The key, or the passphrase, is not the one this ring was made with.
    #[error("wrong key: what was given as key {key} is not key {key} of ring `{ring}`")]
    WrongKey {
        /// The ring.
        ring: Arc<str>,
        /// The key.
        key: KeyId,
    },
    /// The ring has no such key, or its bytes were not supplied.
    #[error("{}key {key} is not at hand; ring `{ring}` has {known}", of(.at.as_ref()))]
    UnknownKey {
        /// What is sealed with it.
        at: Option<Place>,
        /// The key.
        key: KeyId,
        /// The ring.
        ring: Arc<str>,
        /// The keys it has, for people.
        known: Arc<str>,
    },
    /// The key was destroyed; what is sealed with it is gone.
    #[error("{}key {key} was destroyed: {reason}", of(.at.as_ref()))]
    KeyDestroyed {
        /// What is sealed with it.
        at: Option<Place>,
        /// The key.
        key: KeyId,
        /// The reason given when it was destroyed.
        reason: Arc<str>,
    },
    /// The key was revoked: it opens nothing until the revocation is taken back.
    #[error("{}key {key} is revoked: {reason}", of(.at.as_ref()))]
    KeyRevoked {
        /// What is sealed with it.
        at: Option<Place>,
        /// The key.
        key: KeyId,
        /// The reason given when it was revoked.
        reason: Arc<str>,
    },
    /// The key cannot be unwrapped now, or has to be unwrapped again. Await
    /// [`KeyRing::ready`](crate::KeyRing::ready) and retry.
    #[error("{}key {key} is unavailable: {why}", of(.at.as_ref()))]
    KeyUnavailable {
        /// What is sealed with it.
        at: Option<Place>,
        /// The key.
        key: KeyId,
        /// What the key service said.
        why: Arc<str>,
    },
    /// It does not open: it was altered, it was sealed in another place, or with another key of the
    /// same id. Which of them cannot be told.
    #[error("{at} does not open with key {key}: altered, moved from another place, or another key")]
    NotAuthentic {
        /// The value.
        at: Place,
        /// The key it names.
        key: KeyId,
    },
    /// A [body](crate::KeyRing::open_body) does not open with this key and what it should be bound to.
    #[error(
        "a message does not open with key {key}: altered, bound to something else, or another key"
    )]
    BodyNotAuthentic {
        /// The key that was tried.
        key: KeyId,
    },
    /// It is no stored value at all.
    #[error("{at} is malformed: {what}")]
    Malformed {
        /// The value.
        at: Place,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The policy says never to persist it.
    #[error("{at} must never be persisted")]
    Omitted {
        /// The value.
        at: Place,
    },
    /// The value did not encode or decode.
    #[error("{at}: {source}")]
    Codec {
        /// The value.
        at: Place,
        /// What the codec said, without the value.
        source: StoreError,
    },
    /// The key cannot be destroyed: something is sealed with it, or may be.
    #[error("key {key} cannot be destroyed: {why}")]
    InUse {
        /// The key.
        key: KeyId,
        /// What is in the way.
        why: Arc<str>,
    },
    /// What the store holds about the ring cannot be read.
    #[error("the metadata of ring `{ring}` are damaged: {what}")]
    Ring {
        /// The ring.
        ring: Arc<str>,
        /// What is wrong with them.
        what: &'static str,
    },
    /// The request itself is wrong; the text says how.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SealError {
    /// What to do about it, in the store's terms.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ExpectedSealed { .. }
            | Self::NotAuthentic { .. }
            | Self::BodyNotAuthentic { .. }
            | Self::Malformed { .. }
            | Self::Ring { .. } => ErrorKind::Corrupt,
            Self::KeyUnavailable { .. } => ErrorKind::Unavailable,
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Codec { source, .. } | Self::Store(source) => source.kind(),
            Self::NoKey { .. }
            | Self::WrongKey { .. }
            | Self::UnknownKey { .. }
            | Self::KeyDestroyed { .. }
            | Self::KeyRevoked { .. }
            | Self::Omitted { .. }
            | Self::Invalid(_) => ErrorKind::Invalid,
        }
    }

    /// The value it is about, where there is one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::ExpectedSealed { at }
            | Self::NoKey { at, .. }
            | Self::NotAuthentic { at, .. }
            | Self::Malformed { at, .. }
            | Self::Omitted { at }
            | Self::Codec { at, .. } => Some(at),
            Self::UnknownKey { at, .. }
            | Self::KeyDestroyed { at, .. }
            | Self::KeyRevoked { at, .. }
            | Self::KeyUnavailable { at, .. } => at.as_ref(),
            Self::WrongKey { .. }
            | Self::BodyNotAuthentic { .. }
            | Self::InUse { .. }
            | Self::Ring { .. }
            | Self::Invalid(_)
            | Self::Store(_) => None,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into().into())
    }

    /// A bounded name for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ExpectedSealed { .. } => "expected_sealed",
            Self::NoKey { .. } => "no_key",
            Self::WrongKey { .. } => "wrong_key",
            Self::UnknownKey { .. } => "unknown_key",
            Self::KeyDestroyed { .. } => "key_destroyed",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::KeyUnavailable { .. } => "key_unavailable",
            Self::NotAuthentic { .. } | Self::BodyNotAuthentic { .. } => "not_authentic",
            Self::Malformed { .. } => "malformed",
            Self::Omitted { .. } => "omitted",
            Self::Codec { .. } => "codec",
            Self::InUse { .. } | Self::Ring { .. } | Self::Invalid(_) | Self::Store(_) => "other",
        }
    }
}

fn sealed_with(key: Option<&KeyId>) -> String {
    key.map_or_else(String::new, |key| format!(", which is sealed with key {key}"))
}

fn of(at: Option<&Place>) -> impl fmt::Display {
    at.map_or_else(String::new, |at| format!("{at}: "))
}
