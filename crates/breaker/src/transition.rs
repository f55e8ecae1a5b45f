//! What a circuit did, and why.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resurge_store::Timestamp;
use serde::{Deserialize, Serialize};

use crate::outcome::FailureKind;
use crate::state::{Mode, State};

/// A moment, on both clocks. Read once for everything that happens at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// Monotonic, nanoseconds since the clock's origin.
    pub(crate) ns: u64,
    pub(crate) wall: Timestamp,
}

/// A circuit went from one state to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Transition {
    /// Counts what is worth persisting, up from 1 without gaps; goes on after a restart.
    pub number: u64,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// For how long, when it opened.
    pub open_for: Option<Duration>,
    /// How often in a row it opened before; 0 at first.
    pub attempt: u32,
    /// How the last of the failures that opened it came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
}

/// Why a circuit changed its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// So many failures in a row.
    ConsecutiveFailures {
        /// How many.
        failures: u64,
    },
    /// So many failures in the window.
    FailureCount {
        /// How many.
        failures: u64,
        /// Of so many calls.
        calls: u64,
    },
    /// Too large a part of the window failed.
    FailureRate {
        /// How many.
        failures: u64,
        /// Of so many calls.
        calls: u64,
    },
    /// Too large a part of the window was slow.
    SlowRate {
        /// How many.
        slow: u64,
        /// Of so many calls.
        calls: u64,
    },
    /// A result said for how long not to come back.
    OpenFor {
        /// How that call failed.
        kind: FailureKind,
    },
    /// Somebody asked for it, and gave this reason.
    Manual {
        /// What they said.
        why: Arc<str>,
    },
    /// The open time is over.
    Elapsed,
    /// The probes went well.
    ProbesPassed,
    /// Probes failed.
    ProbeFailed,
    /// Too many probes were slow.
    ProbesSlow,
    /// Probes did not come back.
    ProbesHung,
    /// A repair began.
    RepairStarted,
    /// A repair says that it worked; probes decide.
    Repaired,
    /// A repair failed, or was dropped.
    RepairFailed,
    /// A repair asked for nothing but time.
    Suspended,
    /// A repair took too long.
    RepairHung,
    /// The mode changed to one that watches only.
    Shadowed,
}

impl Reason {
    /// Whether calls that failed are why.
    pub(crate) fn is_of_failures(&self) -> bool {
        matches!(
            self,
            Self::ConsecutiveFailures { .. }
                | Self::FailureCount { .. }
                | Self::FailureRate { .. }
                | Self::OpenFor { .. }
                | Self::ProbeFailed
        )
    }

    /// A bounded name for it, as used in the labels of metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::FailureCount { .. } => "failure_count",
            Self::FailureRate { .. } => "failure_rate",
            Self::SlowRate { .. } => "slow_rate",
            Self::OpenFor { .. } => "open_for",
            Self::Manual { .. } => "manual",
            Self::Elapsed => "elapsed",
            Self::ProbesPassed => "probes_passed",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSlow => "probes_slow",
            Self::ProbesHung => "probes_hung",
            Self::RepairStarted => "repair_started",
            Self::Repaired => "repaired",
            Self::RepairFailed => "repair_failed",
            Self::Suspended => "suspended",
            Self::RepairHung => "repair_hung",
            Self::Shadowed => "shadowed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} failures in a row"),
            Self::FailureCount { failures, calls } | Self::FailureRate { failures, calls } => {
                write!(f, "{failures} of {calls} calls failed")
            }
            Self::SlowRate { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::OpenFor { kind } => write!(f, "asked to stay away ({kind})"),
            Self::Manual { why } => f.write_str(why),
            Self::Elapsed => f.write_str("the open time is over"),
            Self::ProbesPassed => f.write_str("the probes went well"),
            Self::ProbeFailed => f.write_str("probes failed"),
            Self::ProbesSlow => f.write_str("probes were slow"),
            Self::ProbesHung => f.write_str("probes did not come back"),
            Self::RepairStarted => f.write_str("a repair began"),
            Self::Repaired => f.write_str("a repair says it worked"),
            Self::RepairFailed => f.write_str("a repair failed"),
            Self::Suspended => f.write_str("a repair suspends calls"),
            Self::RepairHung => f.write_str("a repair took too long"),
            Self::Shadowed => f.write_str("now in shadow mode"),
        }
    }
}

/// What the machine says happened, in order; told to others outside its lock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Transition(Transition),
    Mode {
        number: u64,
        from: Mode,
        to: Mode,
    },
    /// It would have tripped, but is in shadow mode.
    WouldTrip(Reason),
    /// The time it stays open was changed.
    Rearmed {
        number: u64,
        open_for: Duration,
    },
    /// A closed circuit was reset: it does not know any more how often it opened.
    Forgotten {
        number: u64,
    },
}

impl Change {
    /// The number to persist, if there is something to persist.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Transition(transition) => Some(transition.number),
            Self::Mode { number, .. }
            | Self::Rearmed { number, .. }
            | Self::Forgotten { number } => Some(*number),
            Self::WouldTrip(_) => None,
        }
    }
}
