//! How a breaker is configured.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod check;
mod human;
mod rate;

pub use rate::Rate;

/// The configuration of a breaker. Every field has a default, so a file names only what differs.
///
/// ```
/// use resurge_breaker::BreakerConfig;
/// # use std::time::Duration;
/// let config: BreakerConfig = serde_json::from_str(
///     r#"{
///         "trip": [
///             { "consecutive_failures": { "failures": 5 } },
///             { "failure_rate": { "rate": 0.5, "window": { "time": { "length": "10s" } }, "min_calls": 20 } }
///         ],
///         "open": { "initial": "30s", "factor": 1.5, "max": "5m" },
///         "slow_after": "2s"
///     }"#,
/// )?;
/// assert_eq!(config.open.initial, Duration::from_secs(30));
/// config.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// When to open: any one of these rules, 1 to 16. Default: 5 failures in the last 100 calls, once
    /// there were 10.
    pub trip: Vec<Trip>,
    /// For how long to stay open.
    pub open: OpenConfig,
    /// How to find out whether to close again.
    pub half_open: HalfOpenConfig,
    /// A call is slow that took this long or longer. Default: none is. Costs two readings of the clock
    /// for each call.
    #[serde(with = "human::optional")]
    pub slow_after: Option<Duration>,
    /// [`run`](crate::Breaker::run) and the tower service give a call up after this long; that is a
    /// failure of kind timeout. Default: never. Costs an allocation and a timer for each call.
    #[serde(with = "human::optional")]
    pub call_timeout: Option<Duration>,
    /// What a call means that was begun and dropped before it ended.
    pub on_drop: DropPolicy,
    /// True (default): a call that is not admitted is rejected at once. False:
    /// [`run`](crate::Breaker::run) and the tower service wait until it is admitted.
    pub fast_fail: bool,
    /// How long they wait then, before the call is rejected after all. Default: 1 minute.
    #[serde(with = "human::duration")]
    pub wait_at_most: Duration,
    /// A repair that takes longer than this is given up by the breaker, which then lets probes
    /// through. Default: 5 minutes.
    #[serde(with = "human::duration")]
    pub repair_at_most: Duration,
    /// Measures every call, for the histogram of durations and an exact `last_success`; without it the
    /// clock is read for one success in 64. Default: false. Costs two readings of the clock for each call.
    pub timing: bool,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            trip: vec![Trip::FailureCount {
                failures: 5,
                window: Window::Calls(100),
                min_calls: 10,
            }],
            open: OpenConfig::default(),
            half_open: HalfOpenConfig::default(),
            slow_after: None,
            call_timeout: None,
            on_drop: DropPolicy::default(),
            fast_fail: true,
            wait_at_most: Duration::from_secs(60),
            repair_at_most: Duration::from_secs(300),
            timing: false,
        }
    }
}

impl BreakerConfig {
    /// The default, by the name of what it is for: 5 failures in the last 100 calls.
    pub fn standard() -> Self {
        Self::default()
    }

    /// Opens after 3 failures in a row, for 5 s; one successful probe closes. For what is called often
    /// and recovers quickly.
    pub fn fast() -> Self {
        Self {
            trip: vec![Trip::ConsecutiveFailures { failures: 3 }],
            open: OpenConfig { initial: Duration::from_secs(5), ..OpenConfig::default() },
            half_open: HalfOpenConfig {
                probes: 1,
                verdict: Verdict::AllOf { successes: 1 },
                ..HalfOpenConfig::default()
            },
            ..Self::default()
        }
    }

    /// Opens when half of the calls of the last minute failed, of at least 20. For what fails now and
    /// then anyway.
    pub fn tolerant() -> Self {
        Self {
            trip: vec![Trip::FailureRate {
                rate: Rate::HALF,
                window: Window::time(Duration::from_secs(60)),
                min_calls: 20,
            }],
            ..Self::default()
        }
    }
}

/// A reason to open.
///
/// Rules are looked at with every call that is recorded, also a successful one: it may be the one
/// that makes `min_calls` full. A `min_calls` above the size of a window of calls counts as that size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trip {
    /// So many failures without a success between them. Slow successes are successes; ignored calls
    /// neither add nor reset.
    ConsecutiveFailures {
        /// At least 1.
        failures: u32,
    },
    /// So many failures in the window.
    FailureCount {
        /// At least 1; at most the size of a window of calls.
        failures: u32,
        /// Which calls count.
        window: Window,
        /// Not before the window holds so many calls, at least 1.
        min_calls: u32,
    },
    /// Failures of at least this fraction of the window.
    FailureRate {
        /// Reached is enough.
        rate: Rate,
        /// Which calls count.
        window: Window,
        /// Not before the window holds so many calls, at least 1.
        min_calls: u32,
    },
    /// Slow calls, successful or not, of at least this fraction of the window. Needs `slow_after`.
    SlowRate {
        /// Reached is enough.
        rate: Rate,
        /// Which calls count.
        window: Window,
        /// Not before the window holds so many calls, at least 1.
        min_calls: u32,
    },
}

impl Trip {
    /// The window it looks at.
    pub(crate) fn window(&self) -> Option<Window> {
        match self {
            Self::ConsecutiveFailures { .. } => None,
            Self::FailureCount { window, .. }
            | Self::FailureRate { window, .. }
            | Self::SlowRate { window, .. } => Some(*window),
        }
    }
}

/// The calls a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[non_exhaustive]
pub enum Window {
    /// The last so many recorded calls, 1 to 1,000,000; 4 bytes each.
    Calls(u32),
    /// The calls recorded within the last `length`, which is cut into `slices` that expire one by one:
    /// a call counts for at least `length` less one slice and never for `length` or longer. One slice
    /// is a fixed interval: everything is forgotten at once. Costs a reading of the clock for each call.
    Time {
        /// 1 ms or more.
        #[serde(with = "human::duration")]
        length: Duration,
        /// 1 to 60; 10 by default.
        #[serde(default = "ten")]
        slices: u32,
    },
}

fn ten() -> u32 {
    10
}

impl Window {
    /// A sliding window of time in 10 slices.
    pub fn time(length: Duration) -> Self {
        Self::Time { length, slices: ten() }
    }

    /// A fixed interval, counted from when the circuit closed.
    pub fn interval(length: Duration) -> Self {
        Self::Time { length, slices: 1 }
    }
}

/// For how long a circuit stays open: the k-th time in a row `initial * factor^(k-1)`, at most `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenConfig {
    /// The first time. Default: 30 s.
    #[serde(with = "human::duration")]
    pub initial: Duration,
    /// How much longer each time it reopens without having closed; 1 or more. Default: 1.5.
    pub factor: f64,
    /// The longest. Default: 5 minutes.
    #[serde(with = "human::duration")]
    pub max: Duration,
    /// Takes off up to this fraction at random, 0 to 1, so that many processes do not probe at the
    /// same moment. Default: 0.
    pub jitter: f64,
    /// Default (none): closing forgets how often it opened. Otherwise it forgets one opening for each
    /// such period it stayed closed, so that a circuit that flaps waits longer and longer.
    #[serde(with = "human::optional")]
    pub decay: Option<Duration>,
}

impl Default for OpenConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(30),
            factor: 1.5,
            max: Duration::from_secs(300),
            jitter: 0.0,
            decay: None,
        }
    }
}

/// How a circuit finds out whether to close again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HalfOpenConfig {
    /// Calls admitted as probes, 1 to 1,000,000. A probe that was ignored, or dropped, makes room for
    /// another one. Default: 3.
    pub probes: u32,
    /// How many of them may be under way at once. Default: all.
    pub concurrent: Option<u32>,
    /// What their results mean. Default: all of 3.
    pub verdict: Verdict,
    /// When probes are under way and none came back for this long, they are given up. Default: 1 minute.
    #[serde(with = "human::optional")]
    pub max_wait: Option<Duration>,
    /// What happens then. Default: open.
    pub on_max_wait: OnMaxWait,
    /// True: a task moves the circuit to half-open when the open time is over, so that subscribers hear
    /// of it without a call. False (default): the next call does. Needs a tokio runtime.
    pub automatic: bool,
}

impl Default for HalfOpenConfig {
    fn default() -> Self {
        Self {
            probes: 3,
            concurrent: None,
            verdict: Verdict::AllOf { successes: 3 },
            max_wait: Some(Duration::from_secs(60)),
            on_max_wait: OnMaxWait::Open,
            automatic: false,
        }
    }
}

/// What the results of probes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// So many successes close the circuit, one failure opens it. With a rule on slow calls, it opens
    /// also when too many of them were slow.
    AllOf {
        /// 1 to `probes`.
        successes: u32,
    },
    /// When all probes came back: opens when failures or slow calls reach these fractions, closes
    /// otherwise.
    Rate {
        /// Of failures.
        failure: Rate,
        /// Of slow calls; needs `slow_after`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slow: Option<Rate>,
    },
}

/// What happens to a half-open circuit whose probes do not come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMaxWait {
    /// It opens again.
    #[default]
    Open,
    /// It closes.
    Close,
}

/// What a call means that was begun and dropped before it ended: an outer timeout, a client gone.
///
/// A panic is always a failure; a future that was never polled never counts. A dropped probe always
/// makes room for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropPolicy {
    /// A failure of kind timeout when it ran for `slow_after`, or else `call_timeout`, or longer;
    /// nothing when neither is set.
    #[default]
    Auto,
    /// Nothing.
    Ignore,
    /// A failure of kind timeout when it ran this long or longer.
    FailureAfter(#[serde(with = "human::duration")] Duration),
}

impl BreakerConfig {
    /// How long a call must have run to be a failure when it is dropped; none when it never is.
    pub fn drop_after(&self) -> Option<Duration> {
        match self.on_drop {
            DropPolicy::Auto => self.slow_after.or(self.call_timeout),
            DropPolicy::Ignore => None,
            DropPolicy::FailureAfter(after) => Some(after),
        }
    }
}
