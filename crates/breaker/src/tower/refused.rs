//! What a service answers when the breaker does not let a request through.

use std::time::Duration;

use crate::error::{BreakerError, Rejected, TimedOut};

/// Why there is no answer of the inner service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The request was not let through.
    Rejected(Rejected),
    /// The request was given up after `call_timeout`.
    TimedOut(TimedOut),
}

impl Refused {
    /// When to try again at the earliest, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejected) => rejected.retry_after,
            Self::TimedOut(_) => None,
        }
    }
}

/// Turns a refusal into what the service returns.
pub trait OnRefused<T, E> {
    /// The service's error type.
    type Error;

    /// What is returned for it.
    fn refused(&self, why: Refused) -> Result<T, Self::Error>;

    /// An error of the inner service.
    fn inner(&self, error: E) -> Self::Error;
}

/// A refusal is an error: [`BreakerError`] around the inner service's.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsError;

impl<T, E> OnRefused<T, E> for AsError {
    type Error = BreakerError<E>;

    fn refused(&self, why: Refused) -> Result<T, BreakerError<E>> {
        Err(match why {
            Refused::Rejected(rejected) => BreakerError::Rejected(rejected),
            Refused::TimedOut(timed_out) => BreakerError::TimedOut(timed_out),
        })
    }

    fn inner(&self, error: E) -> BreakerError<E> {
        BreakerError::Inner(error)
    }
}

/// A refusal is a response, and the error type stays the inner service's: for services that must not
/// fail, with error type [`Infallible`](std::convert::Infallible).
#[derive(Clone, Copy, Debug)]
pub struct AsResponse<F>(pub(super) F);

impl<T, E, F: Fn(Refused) -> T> OnRefused<T, E> for AsResponse<F> {
    type Error = E;

    fn refused(&self, why: Refused) -> Result<T, E> {
        Ok((self.0)(why))
    }

    fn inner(&self, error: E) -> E {
        error
    }
}
