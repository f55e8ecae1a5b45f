//! What is refused: nothing is clamped silently.

use std::time::Duration;

use super::{BreakerConfig, DropPolicy, HalfOpenConfig, OpenConfig, Trip, Verdict, Window};
use crate::error::ConfigError;

const MAX_RULES: usize = 16;
const MAX_WINDOW: u32 = 1_000_000;
const MAX_SLICES: u32 = 60;

type Checked = Result<(), ConfigError>;

fn unless(holds: bool, field: &'static str, text: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(ConfigError::new(field, text())) }
}

fn some_time(duration: Duration, field: &'static str) -> Checked {
    unless(!duration.is_zero(), field, || "must be longer than nothing".to_owned())
}

impl BreakerConfig {
    /// Refuses what makes no sense, naming the field. Building and reconfiguring call it.
    pub fn check(&self) -> Result<(), ConfigError> {
        unless((1..=MAX_RULES).contains(&self.trip.len()), "trip", || {
            format!("{} rules; 1 to {MAX_RULES} are allowed", self.trip.len())
        })?;
        for (i, rule) in self.trip.iter().enumerate() {
            self.check_rule(rule)?;
            let same = |other: &Trip| {
                std::mem::discriminant(other) == std::mem::discriminant(rule)
                    && other.window() == rule.window()
            };
            unless(!self.trip.iter().skip(i + 1).any(same), "trip", || {
                format!("two rules of the same kind on the same window: {rule:?}")
            })?;
        }
        self.open.check()?;
        self.half_open.check()?;
        if let Verdict::Rate { slow: Some(_), .. } = self.half_open.verdict {
            self.needs_slow("half_open.verdict")?;
        }
        for (duration, field) in
            [(self.slow_after, "slow_after"), (self.call_timeout, "call_timeout")]
        {
            duration.map_or(Ok(()), |duration| some_time(duration, field))?;
        }
        some_time(self.wait_at_most, "wait_at_most")?;
        some_time(self.repair_at_most, "repair_at_most")?;
        match self.on_drop {
            DropPolicy::FailureAfter(after) => some_time(after, "on_drop"),
            DropPolicy::Auto | DropPolicy::Ignore => Ok(()),
        }
    }

    fn check_rule(&self, rule: &Trip) -> Checked {
        let at_least_one = |n: u32, what: &str| {
            unless(n > 0, "trip", || format!("`{what}` is 0; at least 1 is needed"))
        };
        match rule {
            Trip::ConsecutiveFailures { failures } => at_least_one(*failures, "failures"),
            Trip::FailureCount { failures, window, min_calls } => {
                at_least_one(*failures, "failures")?;
                at_least_one(*min_calls, "min_calls")?;
                if let Window::Calls(calls) = window {
                    unless(failures <= calls, "trip", || {
                        format!("{failures} failures never fit into a window of {calls} calls")
                    })?;
                }
                window.check()
            }
            Trip::FailureRate { window, min_calls, .. } => {
                at_least_one(*min_calls, "min_calls")?;
                window.check()
            }
            Trip::SlowRate { window, min_calls, .. } => {
                at_least_one(*min_calls, "min_calls")?;
                self.needs_slow("trip")?;
                window.check()
            }
        }
    }

    fn needs_slow(&self, field: &'static str) -> Checked {
        unless(self.slow_after.is_some(), field, || {
            "a rate of slow calls needs `slow_after`".to_owned()
        })
    }
}

impl Window {
    fn check(self) -> Checked {
        match self {
            Self::Calls(calls) => unless((1..=MAX_WINDOW).contains(&calls), "window", || {
                format!("{calls} calls; 1 to {MAX_WINDOW} are allowed")
            }),
            Self::Time { length, slices } => {
                unless(length >= Duration::from_millis(1), "window", || {
                    format!("{length:?} is too short; 1 ms is the least")
                })?;
                unless(u64::try_from(length.as_nanos()).is_ok(), "window", || {
                    format!("{length:?} is too long")
                })?;
                unless((1..=MAX_SLICES).contains(&slices), "window", || {
                    format!("{slices} slices; 1 to {MAX_SLICES} are allowed")
                })
            }
        }
    }
}

impl OpenConfig {
    fn check(&self) -> Checked {
        some_time(self.initial, "open.initial")?;
        let Self { factor, jitter, .. } = self;
        unless(factor.is_finite() && *factor >= 1.0, "open.factor", || {
            format!("{factor} is not 1 or more")
        })?;
        unless(self.max >= self.initial, "open.max", || {
            let human = humantime::format_duration;
            format!("{} is less than `initial`, {}", human(self.max), human(self.initial))
        })?;
        unless((0.0..=1.0).contains(jitter), "open.jitter", || format!("{jitter} is not 0 to 1"))?;
        self.decay.map_or(Ok(()), |decay| some_time(decay, "open.decay"))
    }
}

impl HalfOpenConfig {
    fn check(&self) -> Checked {
        let probes = self.probes;
        unless((1..=MAX_WINDOW).contains(&probes), "half_open.probes", || {
            format!("{probes}; 1 to {MAX_WINDOW} are allowed")
        })?;
        let concurrent = self.concurrent.unwrap_or(probes);
        unless((1..=probes).contains(&concurrent), "half_open.concurrent", || {
            format!("{concurrent}; 1 to `probes` ({probes}) are allowed")
        })?;
        if let Verdict::AllOf { successes } = self.verdict {
            unless((1..=probes).contains(&successes), "half_open.verdict", || {
                format!(
                    "all_of: {successes} successes; 1 to `probes` ({probes}) are allowed (default: 3 of 3)"
                )
            })?;
        }
        self.max_wait.map_or(Ok(()), |wait| some_time(wait, "half_open.max_wait"))
    }
}
