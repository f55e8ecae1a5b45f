//! Puts one breaker around services.

use tower_layer::Layer;

use super::refused::{AsError, AsResponse, Refused};
use super::service::BreakerService;
use crate::breaker::Breaker;
use crate::outcome::ByResult;

/// Puts a breaker around services. All services made by a layer, and by every layer made with the same
/// breaker, share its one circuit; layering again for each request is fine.
///
/// ```
/// use resurge_breaker::{Breaker, BreakerLayer, FailureKind, Outcome, Refused};
/// use std::convert::Infallible;
/// // A service that answers with a status and cannot fail, as axum's: say what a failure is, and
/// // what to answer instead of calling.
/// let layer = BreakerLayer::new(Breaker::new("upstream"))
///     .classify(|result: &Result<u16, Infallible>| match result {
///         Ok(500..) => Outcome::Failure(FailureKind::Error),
///         _ => Outcome::Success,
///     })
///     .on_refused(|why: Refused| match why {
///         Refused::TimedOut(_) => 504,
///         _ => 503,
///     });
/// # drop(layer);
/// ```
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = ByResult, R = AsError> {
    breaker: Breaker,
    classify: C,
    refused: R,
}

impl BreakerLayer {
    /// An `Err` is a failure; refusals are errors.
    pub fn new(breaker: Breaker) -> Self {
        Self { breaker, classify: ByResult, refused: AsError }
    }
}

impl<C, R> BreakerLayer<C, R> {
    /// With this to say what a result means.
    pub fn classify<D>(self, classify: D) -> BreakerLayer<D, R> {
        BreakerLayer { breaker: self.breaker, classify, refused: self.refused }
    }

    /// With this to answer what the breaker refuses; the error type stays the inner service's.
    pub fn on_refused<F, T>(self, answer: F) -> BreakerLayer<C, AsResponse<F>>
    where
        F: Fn(Refused) -> T,
    {
        BreakerLayer { breaker: self.breaker, classify: self.classify, refused: AsResponse(answer) }
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for BreakerLayer<C, R> {
    type Service = BreakerService<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let (classify, refused) = (self.classify.clone(), self.refused.clone());
        BreakerService::new(inner, self.breaker.clone(), classify, refused)
    }
}
