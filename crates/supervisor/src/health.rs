//! Health: what checks found, and when that means something.

use std::collections::BTreeMap;
use std::time::Duration;

use resurge_store::Timestamp;

use crate::config::HealthConfig;
use crate::status::{ShownDuration, ShownTime};

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// The verdict.
    pub healthy: bool,
    /// When it ended.
    pub timestamp: ShownTime,
    /// How long it took.
    pub duration: ShownDuration,
    /// Why, for people.
    pub message: String,
    /// More about it.
    pub details: BTreeMap<String, String>,
    /// As configured.
    pub check_type: String,
}

/// What a check's result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Undecided,
    /// Enough good ones in a row.
    Healthy,
    /// Enough bad ones in a row.
    Unhealthy,
}

#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) consecutive_fails: u32,
    consecutive_successes: u32,
    pub(crate) last: Option<HealthReport>,
}

impl Health {
    pub(crate) fn record(&mut self, report: HealthReport, config: &HealthConfig) -> Verdict {
        let healthy = report.healthy;
        self.last = Some(report);
        if healthy {
            self.consecutive_fails = 0;
            self.consecutive_successes = self.consecutive_successes.saturating_add(1);
            let enough = self.consecutive_successes >= config.successes;
            return if enough { Verdict::Healthy } else { Verdict::Undecided };
        }
        self.consecutive_successes = 0;
        self.consecutive_fails = self.consecutive_fails.saturating_add(1);
        let enough = self.consecutive_fails >= config.max_failures;
        if enough { Verdict::Unhealthy } else { Verdict::Undecided }
    }
}

pub(crate) fn report(
    found: crate::repairable::Health,
    at: Timestamp,
    took: Duration,
    config: &HealthConfig,
) -> HealthReport {
    HealthReport {
        healthy: found.healthy,
        timestamp: ShownTime(at),
        duration: ShownDuration(took),
        message: found.message,
        details: found.details,
        check_type: config.check_type.clone(),
    }
}
