//! Alerts with an edge: raised once, and again only after they were over.

use std::time::Duration;

use crate::alert::AlertKind;
use crate::config::AlertThresholds;

/// What a breaker counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) consecutive_failures: u64,
    pub(crate) failure_rate: Option<f64>,
    /// Not closed for this long.
    pub(crate) down_for: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Alarms {
    enabled: bool,
    thresholds: AlertThresholds,
    /// In force.
    raised: Vec<AlertKind>,
}

impl Alarms {
    pub(crate) fn new(enabled: bool, thresholds: AlertThresholds) -> Self {
        Self { enabled, thresholds, raised: Vec::new() }
    }

    pub(crate) fn raised(&self) -> &[AlertKind] {
        &self.raised
    }

    /// The alert, if it is not in force already.
    pub(crate) fn raise(&mut self, kind: AlertKind) -> Option<AlertKind> {
        if !self.enabled || self.raised.iter().any(|raised| raised.as_str() == kind.as_str()) {
            return None;
        }
        self.raised.push(kind.clone());
        Some(kind)
    }

    pub(crate) fn over(&mut self, over: impl Fn(&AlertKind) -> bool) {
        self.raised.retain(|raised| !over(raised));
    }

    /// The circuit is closed.
    pub(crate) fn closed(&mut self) {
        self.over(AlertKind::ends_when_closed);
    }

    /// It was well for the relapse window.
    pub(crate) fn recovered(&mut self) {
        self.over(|raised| matches!(raised, AlertKind::Exhausted { .. }));
    }

    /// The thresholds.
    pub(crate) fn look(&mut self, seen: &Seen) -> Vec<AlertKind> {
        let mut new = Vec::new();
        let failures = seen.consecutive_failures;
        if failures >= self.thresholds.consecutive_failures {
            new.extend(self.raise(AlertKind::ConsecutiveFailures { failures }));
        } else {
            self.over(|raised| matches!(raised, AlertKind::ConsecutiveFailures { .. }));
        }
        let threshold = f64::from(self.thresholds.failure_rate);
        match seen.failure_rate {
            Some(rate) if rate >= threshold => {
                new.extend(self.raise(AlertKind::FailureRate { rate }));
            }
            Some(rate) if rate < threshold * 0.8 => {
                self.over(|raised| matches!(raised, AlertKind::FailureRate { .. }));
            }
            _ => {}
        }
        if let Some(down_for) = seen.down_for.filter(|d| *d >= self.thresholds.recovery_time) {
            new.extend(self.raise(AlertKind::RecoveryTime { down_for }));
        }
        new
    }
}
