//! Metric handles, registered once per open log.

use metrics::{Counter, Histogram};

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) appends: Counter,
    pub(crate) pages: Counter,
    pub(crate) page_records: Histogram,
    pub(crate) resubmitted: Counter,
    pub(crate) fenced: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) salvaged: Counter,
    pub(crate) replayed: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            appends: metrics::counter!("resurge_wal_appends_total"),
            pages: metrics::counter!("resurge_wal_pages_total"),
            page_records: metrics::histogram!("resurge_wal_page_records"),
            resubmitted: metrics::counter!("resurge_wal_resubmitted_total"),
            fenced: metrics::counter!("resurge_wal_fenced_total"),
            corrupt: metrics::counter!("resurge_wal_corrupt_total"),
            salvaged: metrics::counter!("resurge_wal_salvaged_total"),
            replayed: metrics::counter!("resurge_wal_replayed_total"),
        }
    }
}
