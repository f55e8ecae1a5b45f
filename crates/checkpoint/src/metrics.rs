//! What is measured; `docs/metrics.md` lists the names.

use metrics::{Counter, Histogram, counter, histogram};

/// Handles, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) hits: Counter,
    pub(crate) shared_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) started: Counter,
    pub(crate) retries: Counter,
    pub(crate) taken_over: Counter,
    pub(crate) refused: Counter,
    pub(crate) unprotected: Counter,
    pub(crate) stored: Counter,
    pub(crate) failed: Counter,
    pub(crate) not_stored: Counter,
    pub(crate) removed: Counter,
    pub(crate) run_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            hits: counter!("resurge_checkpoint_hits_total"),
            shared_hits: counter!("resurge_checkpoint_shared_hits_total"),
            misses: counter!("resurge_checkpoint_misses_total"),
            started: counter!("resurge_checkpoint_started_total"),
            retries: counter!("resurge_checkpoint_retries_total"),
            taken_over: counter!("resurge_checkpoint_taken_over_total"),
            refused: counter!("resurge_checkpoint_refused_total"),
            unprotected: counter!("resurge_checkpoint_unprotected_total"),
            stored: counter!("resurge_checkpoint_stored_total"),
            failed: counter!("resurge_checkpoint_failed_total"),
            not_stored: counter!("resurge_checkpoint_not_stored_total"),
            removed: counter!("resurge_checkpoint_removed_total"),
            run_seconds: histogram!("resurge_checkpoint_run_seconds"),
        }
    }
}
