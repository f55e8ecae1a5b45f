//! One document about what is supervised.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use resurge_breaker::{Mode, State};
use resurge_store::Timestamp;
use serde::{Serialize, Serializer};

use crate::alert::AlertKind;
use crate::audit::AttemptOutcome;
use crate::health::HealthReport;

/// A duration, shown like `50ms`: in whole milliseconds; what is shorter in whole microseconds, or nanoseconds.
///
/// ```
/// use std::time::Duration;
/// use resurge_supervisor::ShownDuration;
/// let shown = |nanos| ShownDuration(Duration::from_nanos(nanos)).to_string();
/// assert_eq!(shown(50_203_005), "50ms");
/// assert_eq!(shown(61_234_567_890), "1m 1s 234ms");
/// assert_eq!(shown(203_005), "203us");
/// assert_eq!(shown(5), "5ns");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShownDuration(pub Duration);

impl fmt::Display for ShownDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.subsec_nanos();
        let unit = match self.0 {
            at_least if at_least >= Duration::from_millis(1) => 1_000_000,
            at_least if at_least >= Duration::from_micros(1) => 1_000,
            _ => 1,
        };
        // Less than the whole: a remainder of it.
        let shown = self.0.saturating_sub(Duration::from_nanos((nanos % unit).into()));
        humantime::format_duration(shown).fmt(f)
    }
}

impl Serialize for ShownDuration {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A moment, shown like `2024-01-01T12:00:00Z`, and with milliseconds where there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownTime(pub Timestamp);

impl fmt::Display for ShownTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNIX_EPOCH.checked_add(Duration::from_millis(self.0.as_millis())) {
            // What is beyond the year 9999 has no such form.
            Some(time) if self.0.as_millis() < 253_402_300_800_000 => {
                if self.0.as_millis().is_multiple_of(1_000) {
                    humantime::format_rfc3339_seconds(time).fmt(f)
                } else {
                    humantime::format_rfc3339_millis(time).fmt(f)
                }
            }
            _ => self.0.fmt(f),
        }
    }
}

impl Serialize for ShownTime {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// What is supervised, and how it is. Serialises to the status page.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RecoveryStatus {
    /// Whether it was started.
    pub running: bool,
    /// Whether it repairs by itself.
    pub auto_recovery: bool,
    /// Whether it checks health.
    pub health_checking: bool,
    /// The resources, by name.
    pub plugins: BTreeMap<Arc<str>, ResourceStatus>,
}

/// One resource.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ResourceStatus {
    /// Its circuit.
    pub circuit_breaker: CircuitStatus,
    /// Its health.
    pub health_check: HealthStatus,
    /// Its repairs.
    pub recovery: RepairReport,
}

/// The circuit of a resource; [`Breaker::metrics`](resurge_breaker::Breaker::metrics) has more.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CircuitStatus {
    /// What calls meet.
    pub state: State,
    /// Calls that were admitted and ended.
    pub total_requests: u64,
    /// Failures among them.
    pub total_failures: u64,
    /// As a fraction.
    pub failure_rate: f64,
    /// What people decided about it.
    pub mode: Mode,
    /// When to try again, if calls are rejected and it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<ShownTime>,
}

/// The health of a resource.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct HealthStatus {
    /// When the last check ended.
    pub last_check: Option<ShownTime>,
    /// What it found.
    pub last_result: Option<HealthReport>,
    /// Checks that failed since the last good one.
    pub consecutive_fails: u32,
}

/// The repairs of a resource.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// The strategy at work.
    pub repairing: Option<Arc<str>>,
    /// Attempts since it was well.
    pub attempts: u32,
    /// No more attempts are made.
    pub exhausted: bool,
    /// The last attempt that ended.
    pub last_strategy: Option<Arc<str>>,
    /// How it ended.
    pub last_outcome: Option<AttemptOutcome>,
    /// Failures that came during the attempt under way, or the last one.
    pub coalesced_failures: u64,
    /// Alerts in force.
    pub alerts: Vec<AlertKind>,
}
