//! What is measured; `docs/metrics.md` lists the names.

use metrics::{Counter, Histogram, counter, histogram};

/// Handles, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) taken: Counter,
    pub(crate) failed: Counter,
    pub(crate) damaged: Counter,
    pub(crate) removed: Counter,
    pub(crate) bytes: Histogram,
    pub(crate) take_seconds: Histogram,
    pub(crate) load_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            taken: counter!("resurge_snapshot_taken_total"),
            failed: counter!("resurge_snapshot_failed_total"),
            damaged: counter!("resurge_snapshot_damaged_total"),
            removed: counter!("resurge_snapshot_removed_total"),
            bytes: histogram!("resurge_snapshot_bytes"),
            take_seconds: histogram!("resurge_snapshot_take_seconds"),
            load_seconds: histogram!("resurge_snapshot_load_seconds"),
        }
    }
}
