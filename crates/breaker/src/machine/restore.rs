//! What is kept of a circuit across restarts, and how it comes back.

use std::time::Duration;

use resurge_store::Timestamp;
use serde::{Deserialize, Serialize};

use super::Machine;
use crate::state::{Mode, State};
use crate::transition::{At, Reason};

/// What is kept of a circuit across restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerRecord {
    /// The breaker's name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Its mode.
    pub mode: Mode,
    /// The number of the change that led here.
    pub number: u64,
    /// When it opened last.
    pub opened_at: Timestamp,
    /// For how long.
    pub open_for: Duration,
    /// How often in a row it opened before.
    pub attempt: u32,
    /// What `attempt` will be when it opens again.
    pub next_attempt: u32,
    /// Why it opened last.
    pub reason: Option<Reason>,
    /// Calls that ended, up to then.
    pub total_requests: u64,
    /// Failures among them.
    pub total_failures: u64,
    /// The last failure.
    pub last_failure: Option<Timestamp>,
}

/// How a breaker was found at open.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Restored {
    /// The state that was stored.
    pub state: State,
    /// The mode that was stored, and is in force again.
    pub mode: Mode,
    /// How much of the open time was left; none when it was closed.
    pub remaining: Option<Duration>,
    /// A repair was under way when the process ended.
    pub repair_interrupted: bool,
}

impl Machine {
    /// The state part of a record; the caller fills in totals.
    pub(crate) fn record(&self, name: &str) -> BreakerRecord {
        BreakerRecord {
            name: name.to_owned(),
            state: self.state,
            mode: self.mode,
            number: self.number,
            opened_at: self.open.opened_at(),
            open_for: self.open.length(),
            attempt: self.open.attempt(),
            next_attempt: self.open.next(),
            reason: self.reason.clone(),
            total_requests: 0,
            total_failures: 0,
            last_failure: None,
        }
    }

    /// Whether a fresh circuit would be the same: nothing needs to be kept.
    pub(crate) fn is_fresh(&self, now: At) -> bool {
        let forgotten = self.open.decayed(&self.config.open, now) == 0;
        self.state == State::Closed && self.mode == Mode::Active && forgotten
    }

    /// Takes a record over, in a machine that was just made. Never makes an open circuit closed, and
    /// emits nothing.
    pub(crate) fn restore(&mut self, record: &BreakerRecord, now: At) -> Restored {
        self.mode = record.mode;
        self.number = record.number;
        self.reason.clone_from(&record.reason);
        let mut restored = Restored {
            state: record.state,
            mode: record.mode,
            remaining: None,
            repair_interrupted: record.state == State::Repairing,
        };
        if record.state == State::Closed {
            self.open.restore_closed(record.next_attempt, now);
            return restored;
        }
        // A clock that was set back must not make it longer than it was meant to be.
        let over = now.wall.saturating_since(record.opened_at);
        let remaining = match record.state {
            State::HalfOpen => Duration::ZERO,
            _ => record.open_for.saturating_sub(over),
        };
        restored.remaining = Some(remaining);
        let attempts = (record.attempt, record.next_attempt);
        self.open.restore(record.opened_at, record.open_for, remaining, attempts, now);
        self.state = State::Open;
        self.up_since = None;
        let down_ns = now.ns.saturating_sub(super::nanos(over));
        self.down_since = Some(At { ns: down_ns, wall: record.opened_at });
        self.since = At { ns: down_ns, wall: record.opened_at };
        restored
    }
}
