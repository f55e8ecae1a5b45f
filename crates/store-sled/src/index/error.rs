//! Why an index failed, by what follows from it.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use resurge_store::{ErrorKind, StoreError};

/// What kind of failure it was. None but `Misuse` is worth a second try on the same handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IndexErrorKind {
    /// What it holds does not make sense: a rebuild cures it.
    Corrupt,
    /// The operating system failed it.
    Io,
    /// The disk has no room.
    Full,
    /// The code behind it panicked; its state is unknown.
    Panicked,
    /// It was closed, or an earlier failure ended it.
    Closed,
    /// It did not finish in the time given.
    TimedOut,
    /// The caller broke a rule of the trait; nothing was changed.
    Misuse,
}

/// A failure of an [`Index`](super::Index). Cheap to clone.
#[derive(Clone)]
pub struct IndexError {
    kind: IndexErrorKind,
    message: Arc<str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl IndexError {
    /// An error of this kind.
    pub fn new(kind: IndexErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into().into(), source: None }
    }

    /// The same, keeping the cause.
    pub fn with_source(
        kind: IndexErrorKind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self { kind, message: message.into().into(), source: Some(Arc::new(source)) }
    }

    /// The code behind an index panicked in `call`.
    pub fn panicked(call: &str, payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::new(IndexErrorKind::Panicked, format!("panic in {call}: {text}"))
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> IndexErrorKind {
        self.kind
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index: {}", self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("IndexError");
        out.field("kind", &self.kind).field("message", &self.message);
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for IndexError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}

/// `Corrupt` stays `Corrupt`; everything else means that the store must be reopened: `Closed`.
impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        let kind = match error.kind {
            IndexErrorKind::Corrupt => ErrorKind::Corrupt,
            _ => ErrorKind::Closed,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}
