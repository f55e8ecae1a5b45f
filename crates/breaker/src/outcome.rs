//! What a call's end means to the breaker.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a call failed.
///
/// Serialised as `timeout`, `error`, `resource_limit`, `panic`, `health_check`, `initialization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// It took too long, or was given up.
    Timeout,
    /// It returned an error.
    Error,
    /// Something ran out: memory, connections, quota.
    ResourceLimit,
    /// It panicked.
    Panic,
    /// A health check failed.
    HealthCheck,
    /// It could not be started.
    Initialization,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Timeout,
        Self::Error,
        Self::ResourceLimit,
        Self::Panic,
        Self::HealthCheck,
        Self::Initialization,
    ];

    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// As it is serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::ResourceLimit => "resource_limit",
            Self::Panic => "panic",
            Self::HealthCheck => "health_check",
            Self::Initialization => "initialization",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call's end means to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It worked. It still counts as slow when it took as long as `slow_after`.
    Success,
    /// It failed.
    Failure(FailureKind),
    /// It failed and says for how long not to come back (`Retry-After`): the circuit opens at once,
    /// for that long, uncapped.
    OpenFor(FailureKind, Duration),
    /// It says nothing about what is behind the breaker (a bad request): as if it had not happened.
    Ignore,
}

/// Decides what a result means. Every `Fn(&Result<T, E>) -> Outcome` is one.
///
/// ```
/// use resurge_breaker::{Classify, FailureKind, Outcome};
/// let by_status = |result: &Result<u16, String>| match result {
///     Ok(status) if *status >= 500 => Outcome::Failure(FailureKind::Error),
///     Ok(_) => Outcome::Success,
///     Err(e) if e == "not found" => Outcome::Ignore,
///     Err(_) => Outcome::Failure(FailureKind::Error),
/// };
/// assert_eq!(by_status.classify(&Ok(503)), Outcome::Failure(FailureKind::Error));
/// ```
pub trait Classify<T, E> {
    /// What `result` means.
    fn classify(&self, result: &Result<T, E>) -> Outcome;
}

impl<T, E, F: Fn(&Result<T, E>) -> Outcome> Classify<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        self(result)
    }
}

/// `Ok` is a success, `Err` a failure of kind [`FailureKind::Error`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<T, E> Classify<T, E> for ByResult {
    #[inline]
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure(FailureKind::Error),
        }
    }
}
