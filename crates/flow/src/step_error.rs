//! What a step, and with it a flow, fails with.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Position;
use crate::payload::Payload;

/// What a flow and its steps return.
pub type FlowResult<T> = Result<T, StepError>;

/// Causes kept of an error, and bytes kept of each message.
const MAX_CAUSES: usize = 16;
const MAX_MESSAGE: usize = 4096;
/// Stands for a text that is sealed.
pub(crate) const SEALED_TEXT: &str = "<sealed>";

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// It may: the step's retry policy applies.
    #[serde(rename = "t")]
    Transient,
    /// It will not: no retry, whatever the policy.
    #[serde(rename = "p")]
    Permanent,
}

/// What went wrong, as far as the framework knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StepErrorKind {
    /// The user's own error.
    #[serde(rename = "failed")]
    Failed,
    /// An attempt took longer than allowed.
    #[serde(rename = "timeout")]
    Timeout,
    /// The body or the flow panicked.
    #[serde(rename = "panicked")]
    Panicked,
    /// The run was cancelled.
    #[serde(rename = "cancelled")]
    Cancelled,
    /// The run's deadline passed.
    #[serde(rename = "deadline")]
    DeadlineExceeded,
    /// A child run failed or was cancelled.
    #[serde(rename = "child")]
    Child,
    /// A value is larger than allowed.
    #[serde(rename = "too_large")]
    TooLarge,
    /// A value could not be encoded, or what was stored not be decoded as the type asked for.
    #[serde(rename = "codec")]
    Codec,
    /// A step inside a step's body, or outside of its run's task.
    #[serde(rename = "misplaced")]
    Misplaced,
    /// A name or another argument was refused.
    #[serde(rename = "invalid")]
    Invalid,
    /// A memoised result is in doubt or its store failed.
    #[serde(rename = "checkpoint")]
    Checkpoint,
    /// A value that is to be sealed cannot be, or one that is sealed cannot be opened; or it must not
    /// be stored at all.
    #[serde(rename = "sealed")]
    Sealed,
    /// A resource could not be made or recovered.
    #[serde(rename = "resource")]
    Resource,
    /// A callback failed.
    #[serde(rename = "callback")]
    Callback,
}

/// An error of a step. Any `std` error converts into it with `?`, as a transient one.
///
/// It keeps what survives a crash: messages of the error and its causes, the class, an optional code.
/// The original error can be downcast until the process ends, not after a replay: decide by
/// [`code`](Self::code) or [`kind`](Self::kind).
///
/// ```
/// use resurge_flow::{Class, StepError};
/// let declined = StepError::permanent("card declined").with_code("declined");
/// assert_eq!((declined.class(), declined.code()), (Class::Permanent, Some("declined")));
///
/// let from_io: StepError = std::io::Error::other("connection reset").into();
/// assert_eq!(from_io.class(), Class::Transient);
/// ```
pub struct StepError(Box<Inner>);

struct Inner {
    record: ErrorRecord,
    positions: Vec<Position>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What of an error is kept in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The message.
    #[serde(rename = "m")]
    pub message: String,
    /// The messages of its causes, outermost first.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Whether trying again may help.
    #[serde(rename = "c")]
    pub class: Class,
    /// What went wrong.
    #[serde(rename = "k")]
    pub kind: StepErrorKind,
    /// A code given by the user.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Message, causes and code, sealed: then they are not there in clear.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Payload>,
}

impl ErrorRecord {
    /// The innermost message.
    pub fn root_cause(&self) -> &str {
        self.causes.last().unwrap_or(&self.message)
    }
}

impl fmt::Display for ErrorRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl StepError {
    /// An error that trying again may help against.
    pub fn transient(message: impl fmt::Display) -> Self {
        Self::of(StepErrorKind::Failed, Class::Transient, message)
    }

    /// An error that no retry helps against.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self::of(StepErrorKind::Failed, Class::Permanent, message)
    }

    pub(crate) fn of(kind: StepErrorKind, class: Class, message: impl fmt::Display) -> Self {
        let message = clip(message.to_string());
        let record =
            ErrorRecord { message, causes: Vec::new(), class, kind, code: None, sealed: None };
        Self::from_record(record)
    }

    pub(crate) fn from_record(record: ErrorRecord) -> Self {
        Self(Box::new(Inner { record, positions: Vec::new(), source: None }))
    }

    /// Says that no retry helps.
    #[must_use]
    pub fn into_permanent(mut self) -> Self {
        self.0.record.class = Class::Permanent;
        self
    }

    /// Adds a code to decide by; it survives a crash, unlike the error's type.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.record.code = Some(clip(code.into()));
        self
    }

    /// Puts a message in front; the former message becomes the first cause.
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        let record = &mut self.0.record;
        let former = std::mem::replace(&mut record.message, clip(message.to_string()));
        record.causes.insert(0, former);
        record.causes.truncate(MAX_CAUSES);
        self
    }

    #[must_use]
    pub(crate) fn of_kind(mut self, kind: StepErrorKind) -> Self {
        self.0.record.kind = kind;
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, position: Position) -> Self {
        self.0.positions.push(position);
        self
    }

    #[must_use]
    pub(crate) fn at_all(mut self, positions: impl IntoIterator<Item = Position>) -> Self {
        self.0.positions.extend(positions);
        self
    }

    /// Whether trying again may help.
    pub fn class(&self) -> Class {
        self.0.record.class
    }

    /// What went wrong.
    pub fn kind(&self) -> StepErrorKind {
        self.0.record.kind
    }

    /// The code given by [`with_code`](Self::with_code).
    pub fn code(&self) -> Option<&str> {
        self.0.record.code.as_deref()
    }

    /// The innermost message: what really happened.
    pub fn root_cause(&self) -> &str {
        self.0.record.root_cause()
    }

    /// The failed steps it came from; where a resumed run starts again.
    pub fn positions(&self) -> &[Position] {
        &self.0.positions
    }

    /// What of it is kept in the journal.
    pub fn record(&self) -> &ErrorRecord {
        &self.0.record
    }

    /// The original error, if it is an `E` and was not read back from the journal.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.as_deref()?.downcast_ref()
    }

    /// A key is missing, wrong or not at hand: the run stops where it is until that is put right.
    pub(crate) fn is_about_keys(&self) -> bool {
        self.kind() == StepErrorKind::Sealed && self.class() == Class::Transient
    }

    /// The policy says never to store it.
    pub(crate) fn is_omitted(&self) -> bool {
        self.kind() == StepErrorKind::Sealed && self.class() == Class::Permanent
    }

    /// True when the run was cancelled or its deadline passed.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind(), StepErrorKind::Cancelled | StepErrorKind::DeadlineExceeded)
    }
}

fn clip(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

impl<E: StdError + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next.filter(|_| causes.len() < MAX_CAUSES) {
            causes.push(clip(cause.to_string()));
            next = cause.source();
        }
        let record = ErrorRecord {
            message: clip(error.to_string()),
            causes,
            class: Class::Transient,
            kind: StepErrorKind::Failed,
            code: None,
            sealed: None,
        };
        Self(Box::new(Inner { record, positions: Vec::new(), source: Some(Box::new(error)) }))
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [first, ..] = self.positions() {
            write!(f, "step {first:?}: ")?;
        }
        self.0.record.fmt(f)
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepError({self} [{:?}, {:?}])", self.kind(), self.class())
    }
}
