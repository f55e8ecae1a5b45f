//! The one error of the contract: opaque, cheap to clone, prescriptive by its kind.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::Key;

/// What every call of this crate returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What the caller should do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A guard did not hold; nothing was written. Re-read and decide again.
    /// [`StoreError::key`] names the key. What it conflicts with is durable.
    Conflict,
    /// The request itself is wrong (too large, malformed, not decodable by the caller's type). Fix
    /// the caller; a retry fails the same way.
    Invalid,
    /// Nothing was written and nothing is broken: retry later, unchanged.
    Unavailable,
    /// The commit may or may not be on disk. Re-open, re-read and decide again; never assume either.
    Indeterminate,
    /// Stored bytes failed their check. The message names the place.
    Corrupt,
    /// The disk has no room for this commit; nothing was written. Reads go on.
    Full,
    /// The store was closed, or it was poisoned by an earlier failure and must be reopened.
    Closed,
}

impl ErrorKind {
    /// True when it is certain that the failed call wrote nothing.
    ///
    /// ```
    /// use resurge_store::ErrorKind;
    /// assert!(ErrorKind::Conflict.nothing_written());
    /// assert!(!ErrorKind::Indeterminate.nothing_written());
    /// ```
    pub fn nothing_written(self) -> bool {
        !matches!(self, Self::Indeterminate)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Indeterminate => "indeterminate",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A storage failure. Match on [`kind`](StoreError::kind); the text is for people.
///
/// Cloning shares the error: one failed group is reported to every commit in it.
#[derive(Clone)]
pub struct StoreError(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    key: Option<Key>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error of this kind with a message that names the thing and the limit.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), key: None, source: None }))
    }

    /// The same, keeping the cause.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = Some(source.into());
        Self(Arc::new(Inner { kind, message: message.into(), key: None, source }))
    }

    /// A guard on `key` did not hold.
    pub fn conflict(key: Key, message: impl Into<String>) -> Self {
        let inner = Inner {
            kind: ErrorKind::Conflict,
            message: message.into(),
            key: Some(key),
            source: None,
        };
        Self(Arc::new(inner))
    }

    /// The value stored under `key` failed its check.
    pub fn corrupt(key: Key, message: impl Into<String>) -> Self {
        let inner = Inner {
            kind: ErrorKind::Corrupt,
            message: message.into(),
            key: Some(key),
            source: None,
        };
        Self(Arc::new(inner))
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::Closed`].
    pub fn closed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Closed, message)
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key it is about, where there is one.
    pub fn key(&self) -> Option<&Key> {
        self.0.key.as_ref()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        match &self.0.key {
            Some(key) => write!(f, " (key {key})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("StoreError");
        out.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(key) = &self.0.key {
            out.field("key", key);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}
