//! The first failure in the background, kept until every caller has been told.

use std::sync::OnceLock;

use resurge_store::{ErrorKind, Result, StoreError};

/// Set once; from then on nothing is written.
#[derive(Debug, Default)]
pub(crate) struct Failure(OnceLock<StoreError>);

impl Failure {
    /// Keeps the first one.
    pub(crate) fn set(&self, doing: &str, cause: &StoreError) {
        let message = format!("{doing} failed, the store must be reopened: {cause}");
        let error = StoreError::with_source(ErrorKind::Closed, message, cause.clone());
        if self.0.set(error).is_ok() {
            tracing::error!(error = %cause, doing, "a failure ends the store");
            metrics::counter!("resurge_sled_failures_total").increment(1);
        }
    }

    /// `Closed` once something failed.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(crate) fn get(&self) -> Option<&StoreError> {
        self.0.get()
    }
}
