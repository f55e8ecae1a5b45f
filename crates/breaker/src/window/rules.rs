//! When to open: thresholds on what the windows count.

use super::Counts;
use crate::config::{Rate, Trip, Window};
use crate::sync::{AtomicU64, Ordering};
use crate::transition::Reason;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Consecutive,
    Count,
    FailureRate,
    SlowRate,
}

/// A rule; thresholds can change while it is in use, kind and window cannot.
#[derive(Debug)]
pub(super) struct Rule {
    kind: Kind,
    window: Option<Window>,
    /// Of its window among those of the same sort.
    place: usize,
    /// Failures, or parts per million.
    threshold: AtomicU64,
    min_calls: AtomicU64,
}

impl Rule {
    pub(super) fn new(trip: &Trip, place: usize) -> Self {
        let kind = match trip {
            Trip::ConsecutiveFailures { .. } => Kind::Consecutive,
            Trip::FailureCount { .. } => Kind::Count,
            Trip::FailureRate { .. } => Kind::FailureRate,
            Trip::SlowRate { .. } => Kind::SlowRate,
        };
        let (threshold, min_calls) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        let rule = Self { kind, window: trip.window(), place, threshold, min_calls };
        rule.set(trip);
        rule
    }

    pub(super) fn set(&self, trip: &Trip) {
        let (threshold, min_calls) = match trip {
            Trip::ConsecutiveFailures { failures } => (*failures, 0),
            Trip::FailureCount { failures, min_calls, .. } => (*failures, *min_calls),
            Trip::FailureRate { rate, min_calls, .. } | Trip::SlowRate { rate, min_calls, .. } => {
                (rate.ppm(), *min_calls)
            }
        };
        let min_calls = match trip.window() {
            // More than the window holds would never be there.
            Some(Window::Calls(size)) => min_calls.min(size),
            _ => min_calls,
        };
        self.threshold.store(u64::from(threshold), Ordering::Relaxed);
        self.min_calls.store(u64::from(min_calls), Ordering::Relaxed);
    }

    pub(super) fn window(&self) -> Option<Window> {
        self.window
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn min_calls(&self) -> u64 {
        self.min_calls.load(Ordering::Relaxed)
    }

    /// Until how many calls a success can make the rule hold, when it is on a window of calls.
    pub(super) fn warm_until(&self) -> u64 {
        if matches!(self.window, Some(Window::Calls(_))) { self.min_calls() } else { 0 }
    }

    pub(super) fn is_on_slices(&self, place: usize) -> bool {
        matches!(self.window, Some(Window::Time { .. })) && self.place == place
    }

    pub(super) fn holds(&self, streak: u64, counts: Counts) -> Option<Reason> {
        let Counts { calls, failures, slow } = counts;
        let threshold = self.threshold.load(Ordering::Relaxed);
        if let Kind::Consecutive = self.kind {
            let reason = Reason::ConsecutiveFailures { failures: streak };
            return (streak >= threshold).then_some(reason);
        }
        if calls < self.min_calls() {
            return None;
        }
        let rate = Rate::from_ppm(u32::try_from(threshold).unwrap_or(u32::MAX));
        match self.kind {
            Kind::Consecutive => None,
            Kind::Count => {
                (failures >= threshold).then_some(Reason::FailureCount { failures, calls })
            }
            Kind::FailureRate => {
                rate.reached(failures, calls).then_some(Reason::FailureRate { failures, calls })
            }
            Kind::SlowRate => rate.reached(slow, calls).then_some(Reason::SlowRate { slow, calls }),
        }
    }
}
