//! What went wrong with a resource.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use resurge_breaker::FailureKind;
use resurge_store::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest text kept in the audit trail, in bytes.
const LONGEST: usize = 4 << 10;
/// Longest name of something, in bytes.
const NAME: usize = 256;
/// Most entries of the context kept in the audit trail.
const MOST: usize = 32;

/// How bad a failure is: free text, of which three are known to the built-in strategies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Severity(Cow<'static, str>);

impl Severity {
    /// It cannot go on like this.
    pub const CRITICAL: Self = Self(Cow::Borrowed("critical"));
    /// Something is wrong; the default.
    pub const WARNING: Self = Self(Cow::Borrowed("warning"));
    /// Worth knowing.
    pub const INFO: Self = Self(Cow::Borrowed("info"));

    /// One of your own, for strategies of your own.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }

    /// As it is serialised.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong with a resource; decides which strategies come into question.
///
/// ```
/// use resurge_supervisor::{Failure, Severity};
/// use resurge_breaker::FailureKind;
/// let failure = Failure::new(FailureKind::Timeout, "no answer in 30s")
///     .severity(Severity::CRITICAL)
///     .context("operation", "data_processing");
/// assert!(failure.recoverable);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure.
    #[serde(rename = "type")]
    pub kind: FailureKind,
    /// When; none until it is recorded, which puts in the present.
    pub timestamp: Option<Timestamp>,
    /// What happened, for people.
    pub message: String,
    /// Where, of a panic: see [`capture_panic_stacks`](crate::capture_panic_stacks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// Whether a repair can help. Otherwise only degradation is tried.
    pub recoverable: bool,
    /// How bad.
    pub severity: Severity,
}

impl Failure {
    /// A recoverable failure of severity warning.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            timestamp: None,
            message: message.into(),
            stack: None,
            context: BTreeMap::new(),
            recoverable: true,
            severity: Severity::WARNING,
        }
    }

    /// No repair can help.
    #[must_use]
    pub fn unrecoverable(mut self) -> Self {
        self.recoverable = false;
        self
    }

    /// As bad as this.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// With the stack of a panic.
    #[must_use]
    pub fn stack(mut self, stack: impl Into<String>) -> Self {
        self.stack = Some(stack.into());
        self
    }

    /// With one more entry in the context.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    /// At this moment, unless it says when; and not longer than a record of the trail should be.
    pub(crate) fn noted(mut self, now: Timestamp) -> Self {
        self.timestamp.get_or_insert(now);
        cut(&mut self.message);
        self.stack.as_mut().map(cut);
        while self.context.len() > MOST {
            self.context.pop_last();
        }
        let context = std::mem::take(&mut self.context).into_iter();
        let short = |(mut name, mut value)| {
            cut_to(NAME, &mut name);
            cut(&mut value);
            (name, value)
        };
        self.context = context.map(short).collect();
        if self.severity.0.len() > NAME {
            cut_to(NAME, self.severity.0.to_mut());
        }
        self
    }
}

pub(crate) fn cut(text: &mut String) {
    cut_to(LONGEST, text);
}

fn cut_to(longest: usize, text: &mut String) {
    if text.len() > longest {
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}
