//! What is measured; `docs/metrics.md` lists the names.

use metrics::{Counter, Histogram, counter, histogram};

/// Handles, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) events: Counter,
    pub(crate) replayed: Counter,
    pub(crate) fell_back: Counter,
    pub(crate) poisoned: Counter,
    pub(crate) snapshot_failures: Counter,
    pub(crate) recovery_seconds: Histogram,
    pub(crate) freeze_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            events: counter!("resurge_journal_events_total"),
            replayed: counter!("resurge_journal_replayed_total"),
            fell_back: counter!("resurge_journal_fell_back_total"),
            poisoned: counter!("resurge_journal_poisoned_total"),
            snapshot_failures: counter!("resurge_journal_snapshot_failures_total"),
            recovery_seconds: histogram!("resurge_journal_recovery_seconds"),
            freeze_seconds: histogram!("resurge_journal_freeze_seconds"),
        }
    }
}
