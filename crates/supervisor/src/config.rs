//! How resources are supervised.

use std::collections::BTreeMap;
use std::time::Duration;

use resurge_breaker::{BreakerConfig, FailureKind, Rate};
use serde::{Deserialize, Serialize};

mod check;
mod human;

/// The configuration of a supervisor. Every field has a default, so a file names only what differs.
///
/// ```
/// use resurge_supervisor::SupervisorConfig;
/// let config: SupervisorConfig = serde_json::from_str(
///     r#"{
///         "max_attempts": 4,
///         "health": { "interval": "10s", "timeout": "2s" },
///         "strategies": { "restart": { "pause": "5s" } },
///         "resources": { "mailer": { "strategy": "reload" } }
///     }"#,
/// )?;
/// config.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisorConfig {
    /// Repairs by itself what fails. Default: true. Otherwise it watches, checks and tells.
    pub auto_recovery: bool,
    /// When a repair begins. Default: when the circuit opens.
    pub repair_on: RepairOn,
    /// Attempts until the resource is given up; 1 to 1,000. Default: 3. Counted until its circuit was
    /// closed for `relapse_window`.
    pub max_attempts: u32,
    /// How many attempts may begin in a period, whatever happens between them.
    pub intensity: Intensity,
    /// How long to wait between an attempt that failed and the next.
    pub retry: Delay,
    /// The longest an attempt may take. Default: 30 s.
    #[serde(with = "human")]
    pub attempt_timeout: Duration,
    /// A circuit that opens again before it was closed this long was not repaired: the next strategy is
    /// tried. Default: 1 minute.
    #[serde(with = "human")]
    pub relapse_window: Duration,
    /// How many resources may be repaired at once. Default: 4.
    pub concurrency: usize,
    /// Tried first for every resource that names no other, if it can recover the failure. Default: none,
    /// the one of highest priority.
    pub default_strategy: Option<String>,
    /// Settings of strategies, by name.
    pub strategies: BTreeMap<String, StrategySettings>,
    /// What is different for single resources, by name.
    pub resources: BTreeMap<String, ResourceConfig>,
    /// The breakers of resources that name no other.
    pub breaker: BreakerConfig,
    /// Whether health is checked. Default: true.
    pub health_checking: bool,
    /// How health is checked.
    pub health: HealthConfig,
    /// How many checks may be under way at once. Default: 5.
    pub health_concurrency: usize,
    /// Whether anybody is alerted. Default: true.
    pub alerting: bool,
    /// When.
    pub alerts: AlertThresholds,
    /// How many records of the audit trail are kept, 100 or more. Default: 10,000.
    pub audit_keep: u64,
}

impl Default for SupervisorConfig {
    fn default() -> Self {
        Self {
            auto_recovery: true,
            repair_on: RepairOn::default(),
            max_attempts: 3,
            intensity: Intensity::default(),
            retry: Delay::default(),
            attempt_timeout: Duration::from_secs(30),
            relapse_window: Duration::from_secs(60),
            concurrency: 4,
            default_strategy: None,
            strategies: BTreeMap::new(),
            resources: BTreeMap::new(),
            breaker: BreakerConfig::default(),
            health_checking: true,
            health: HealthConfig::default(),
            health_concurrency: 5,
            alerting: true,
            alerts: AlertThresholds::default(),
            audit_keep: 10_000,
        }
    }
}

/// When a repair begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairOn {
    /// When the circuit opens.
    #[default]
    Open,
    /// With any failure that is recorded, also while the circuit is closed.
    Failure,
}

/// How many attempts may begin in a period. An attempt that began exactly one period ago counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intensity {
    /// Attempts, 1 to 1,000. Default: 10.
    pub repairs: u32,
    /// In this time. Default: 10 minutes.
    #[serde(with = "human")]
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { repairs: 10, period: Duration::from_secs(600) }
    }
}

/// A time that grows: the k-th is `initial * factor^(k-1)`, at most `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delay {
    /// The first. Default: 1 s.
    #[serde(with = "human")]
    pub initial: Duration,
    /// How much longer each next one is; 1 or more. Default: 1.5.
    pub factor: f64,
    /// The longest. Default: 5 minutes.
    #[serde(with = "human")]
    pub max: Duration,
}

impl Default for Delay {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), factor: 1.5, max: Duration::from_secs(300) }
    }
}

impl Delay {
    /// The k-th, counted from 1.
    pub(crate) fn of(&self, k: u32) -> Duration {
        let power = i32::try_from(k.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.factor.powi(power);
        Duration::try_from_secs_f64(seconds).map_or(self.max, |delay| delay.min(self.max))
    }
}

/// Settings of one strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StrategySettings {
    /// False: it is never used. Default: true.
    pub enabled: bool,
    /// Instead of its own; the highest is tried first.
    pub priority: Option<i32>,
    /// Kinds of failures a built-in strategy handles beyond its own, when they are recoverable.
    pub also: Vec<FailureKind>,
    /// Restart: how long to wait between shutdown and load. Default: 1 s.
    #[serde(with = "human")]
    pub pause: Duration,
    /// Backoff: for how long calls are suspended.
    pub suspend: Delay,
    /// For strategies of your own.
    pub options: BTreeMap<String, String>,
}

impl Default for StrategySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            priority: None,
            also: Vec::new(),
            pause: Duration::from_secs(1),
            suspend: Delay::default(),
            options: BTreeMap::new(),
        }
    }
}

/// What is different for one resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceConfig {
    /// Tried first if it can recover the failure.
    pub strategy: Option<String>,
    /// Settings of strategies for this resource alone, by name.
    pub strategies: BTreeMap<String, StrategySettings>,
    /// Its breaker.
    pub breaker: Option<BreakerConfig>,
    /// How its health is checked.
    pub health: Option<HealthConfig>,
}

/// How health is checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// From the end of a check to the next one. Default: 30 s.
    #[serde(with = "human")]
    pub interval: Duration,
    /// Before the first check. Default: none.
    #[serde(with = "human")]
    pub initial_delay: Duration,
    /// Takes off up to this fraction of the interval at random, 0 to 1. Default: 0.1.
    pub jitter: f64,
    /// The longest a check may take. Default: 10 s.
    #[serde(with = "human")]
    pub timeout: Duration,
    /// So many failed checks in a row open the circuit. Default: 3.
    pub max_failures: u32,
    /// So many good checks in a row make it healthy again. Default: 1.
    pub successes: u32,
    /// What happens to an open circuit then. Default: probes.
    pub on_healthy: OnHealthy,
    /// Shown in reports. Default: `basic`.
    pub check_type: String,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            initial_delay: Duration::ZERO,
            jitter: 0.1,
            timeout: Duration::from_secs(10),
            max_failures: 3,
            successes: 1,
            on_healthy: OnHealthy::default(),
            check_type: "basic".to_owned(),
        }
    }
}

/// What happens to an open circuit when its resource is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHealthy {
    /// Nothing: the open time decides.
    Nothing,
    /// Probes are let through.
    #[default]
    HalfOpen,
    /// It closes. Only for checks as deep as a call.
    Close,
}

/// When somebody is alerted. Each alert is raised once, and again only after it was over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertThresholds {
    /// So many failures in a row. Default: 3.
    pub consecutive_failures: u64,
    /// This fraction of the calls the breaker's rule sees. Default: 0.5. Over below four fifths of it.
    pub failure_rate: Rate,
    /// Not closed for this long. Default: 5 minutes.
    #[serde(with = "human")]
    pub recovery_time: Duration,
}

impl Default for AlertThresholds {
    fn default() -> Self {
        Self {
            consecutive_failures: 3,
            failure_rate: Rate::HALF,
            recovery_time: Duration::from_secs(300),
        }
    }
}
