//! Metric handles, registered once per ring and per sealer.

use metrics::Counter;

use crate::SealError;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) sealed: Counter,
    pub(crate) opened: Counter,
    pub(crate) accepted: Counter,
    pub(crate) resealed: Counter,
    pub(crate) unwrapped: Counter,
    pub(crate) unwrap_failures: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            sealed: metrics::counter!("resurge_seal_sealed_total"),
            opened: metrics::counter!("resurge_seal_opened_total"),
            accepted: metrics::counter!("resurge_seal_plaintext_accepted_total"),
            resealed: metrics::counter!("resurge_seal_resealed_total"),
            unwrapped: metrics::counter!("resurge_seal_unwrapped_total"),
            unwrap_failures: metrics::counter!("resurge_seal_unwrap_failures_total"),
        }
    }
}

/// Counts a refusal. Not a handle: refusals are rare, and their reason is a label.
pub(crate) fn refused(e: &SealError) {
    metrics::counter!("resurge_seal_refused_total", "reason" => e.reason()).increment(1);
}
