//! Handles registered once. Names are listed in `docs/metrics.md`.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub(crate) struct Metrics {
    pub(crate) started: Counter,
    pub(crate) succeeded: Counter,
    pub(crate) failed: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) blocked: Counter,
    pub(crate) resumed: Counter,
    pub(crate) recovered: Counter,
    pub(crate) attempts: Counter,
    pub(crate) retries: Counter,
    pub(crate) replayed: Counter,
    pub(crate) evicted: Counter,
    pub(crate) swept: Counter,
    pub(crate) stopped: Counter,
    pub(crate) resident: Gauge,
    pub(crate) seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: counter!("resurge_flow_started_total"),
            succeeded: counter!("resurge_flow_ended_total", "state" => "succeeded"),
            failed: counter!("resurge_flow_ended_total", "state" => "failed"),
            cancelled: counter!("resurge_flow_ended_total", "state" => "cancelled"),
            blocked: counter!("resurge_flow_blocked_total"),
            resumed: counter!("resurge_flow_resumed_total"),
            recovered: counter!("resurge_flow_recovered_total"),
            attempts: counter!("resurge_flow_attempts_total"),
            retries: counter!("resurge_flow_retries_total"),
            replayed: counter!("resurge_flow_replayed_total"),
            evicted: counter!("resurge_flow_evicted_total"),
            swept: counter!("resurge_flow_swept_total"),
            stopped: counter!("resurge_flow_stopped_total"),
            resident: gauge!("resurge_flow_resident"),
            seconds: histogram!("resurge_flow_run_seconds"),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}
