//! What is refused: nothing is clamped silently.

use std::time::Duration;

use super::{Delay, HealthConfig, ResourceConfig, StrategySettings, SupervisorConfig};
use crate::error::SupervisorError;

type Checked = Result<(), SupervisorError>;

const MOST: u32 = 1_000;

fn unless(holds: bool, field: &'static str, message: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(SupervisorError::Config { field, message }) }
}

fn some(duration: Duration, field: &'static str) -> Checked {
    unless(!duration.is_zero(), field, "must be longer than nothing")
}

impl SupervisorConfig {
    /// Refuses what makes no sense, naming the field. Opening a manager calls it.
    ///
    /// # Errors
    /// [`SupervisorError::Config`]; [`SupervisorError::Breaker`] for that of a breaker.
    pub fn check(&self) -> Checked {
        let few = |n: u32| (1..=MOST).contains(&n);
        unless(few(self.max_attempts), "max_attempts", "must be 1 to 1,000")?;
        unless(few(self.intensity.repairs), "intensity.repairs", "must be 1 to 1,000")?;
        some(self.intensity.period, "intensity.period")?;
        self.retry.check("retry")?;
        some(self.attempt_timeout, "attempt_timeout")?;
        some(self.relapse_window, "relapse_window")?;
        unless(self.concurrency > 0, "concurrency", "must be 1 or more")?;
        unless(self.health_concurrency > 0, "health_concurrency", "must be 1 or more")?;
        self.health.check()?;
        unless(self.alerts.consecutive_failures > 0, "alerts.consecutive_failures", "is 0")?;
        some(self.alerts.recovery_time, "alerts.recovery_time")?;
        unless(self.audit_keep >= 100, "audit_keep", "must be 100 or more")?;
        self.strategies.values().try_for_each(StrategySettings::check)?;
        self.check_repair(&self.breaker)?;
        self.resources.values().try_for_each(|resource| self.check_resource(resource))
    }

    pub(crate) fn check_resource(&self, resource: &ResourceConfig) -> Checked {
        resource.strategies.values().try_for_each(StrategySettings::check)?;
        resource.health.as_ref().map_or(Ok(()), HealthConfig::check)?;
        resource.breaker.as_ref().map_or(Ok(()), |breaker| self.check_repair(breaker))
    }

    fn check_repair(&self, breaker: &resurge_breaker::BreakerConfig) -> Checked {
        breaker.check().map_err(|e| SupervisorError::Breaker(e.into()))?;
        let message = "must be shorter than the breaker's `repair_at_most`";
        unless(self.attempt_timeout < breaker.repair_at_most, "attempt_timeout", message)
    }
}

impl Delay {
    fn check(&self, field: &'static str) -> Checked {
        some(self.initial, field)?;
        unless(self.factor.is_finite() && self.factor >= 1.0, field, "factor must be 1 or more")?;
        unless(self.max >= self.initial, field, "max is shorter than initial")
    }
}

impl StrategySettings {
    fn check(&self) -> Checked {
        self.suspend.check("strategies.suspend")
    }
}

impl HealthConfig {
    fn check(&self) -> Checked {
        some(self.interval, "health.interval")?;
        some(self.timeout, "health.timeout")?;
        unless((0.0..=1.0).contains(&self.jitter), "health.jitter", "must be 0 to 1")?;
        unless(self.max_failures > 0, "health.max_failures", "must be 1 or more")?;
        unless(self.successes > 0, "health.successes", "must be 1 or more")
    }
}
