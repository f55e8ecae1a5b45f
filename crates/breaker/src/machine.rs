//! The circuit itself: a pure machine. Time is an argument, nothing here waits, reads a clock or calls out.
//!
//! It decides everything but what closed circuits count; that is lock-free, and in [`crate::window`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config::BreakerConfig;
use crate::error::IllegalTransition;
use crate::outcome::FailureKind;
use crate::state::{Mode, State};
use crate::transition::{At, Change, Reason, Transition};

mod admit;
mod open_time;
mod probes;
mod restore;

pub(crate) use admit::{Admission, Refusal};
pub(crate) use probes::{ProbeEnd, Probes};
pub use restore::{BreakerRecord, Restored};

use open_time::OpenTime;

/// Everything about a circuit that changes with a transition.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) config: Arc<BreakerConfig>,
    state: State,
    mode: Mode,
    /// Changes with every transition and mode: tells stale permits.
    generation: u32,
    /// The closed period the windows count; changes whenever they begin anew.
    cycle: u16,
    /// Counts what is worth persisting.
    number: u64,
    open: OpenTime,
    probes: Probes,
    /// Repairing: when the breaker gives the repair up.
    repair_until_ns: u64,
    /// Why it opened last.
    reason: Option<Reason>,
    since: At,
    /// Not closed since; none while closed.
    down_since: Option<At>,
    /// Closed since; none while it is not.
    up_since: Option<At>,
    /// Nanoseconds it was not closed, up to `down_since`.
    down_ns: u64,
    state_changes: u64,
    /// How the last call that failed did.
    pub(crate) last_failure: Option<FailureKind>,
    /// In shadow mode: it has said that it would have tripped.
    pub(crate) said: bool,
    /// Not yet told to others.
    pub(crate) outbox: VecDeque<Change>,
}

/// What `metrics()` shows of it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) since: At,
    pub(crate) up_since: Option<At>,
    pub(crate) down_since: Option<At>,
    pub(crate) down_ns: u64,
    pub(crate) state_changes: u64,
    pub(crate) attempt: u32,
    pub(crate) probes: Probes,
    pub(crate) reason: Option<Reason>,
}

impl Machine {
    pub(crate) fn new(config: Arc<BreakerConfig>, seed: u64, now: At) -> Self {
        Self {
            config,
            state: State::Closed,
            mode: Mode::Active,
            generation: 1,
            cycle: 1,
            number: 0,
            open: OpenTime::new(seed),
            probes: Probes::default(),
            repair_until_ns: 0,
            reason: None,
            since: now,
            down_since: None,
            up_since: Some(now),
            down_ns: 0,
            state_changes: 0,
            last_failure: None,
            said: false,
            outbox: VecDeque::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn cycle(&self) -> u16 {
        self.cycle
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// When the state may change by itself: the end of the open time, of the wait for probes, of the
    /// repair.
    pub(crate) fn until_ns(&self) -> u64 {
        match self.state {
            State::Closed => u64::MAX,
            State::Open => self.open.until_ns(),
            State::HalfOpen => self.probes.hung_at_ns(&self.config.half_open),
            State::Repairing => self.repair_until_ns,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state == State::HalfOpen && self.probes.is_full(&self.config.half_open)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            since: self.since,
            up_since: self.up_since,
            down_since: self.down_since,
            down_ns: self.down_ns,
            state_changes: self.state_changes,
            attempt: self.open.attempt(),
            probes: self.probes,
            reason: self.reason.clone(),
        }
    }

    /// A rule held, or a result asked for it, in this generation: opens.
    pub(crate) fn trip_by(
        &mut self,
        generation: u32,
        reason: Reason,
        open_for: Option<Duration>,
        now: At,
    ) {
        if self.generation != generation || self.state != State::Closed {
            return;
        }
        match self.mode {
            Mode::Active => self.become_open(reason, open_for, now),
            Mode::Shadow if !self.said => {
                self.said = true;
                self.outbox.push_back(Change::WouldTrip(reason));
            }
            Mode::Shadow | Mode::ForcedOpen | Mode::Disabled => {}
        }
    }

    /// Somebody opens it. Without a time an open circuit stays as it is; with one it stays open that
    /// long from now on.
    pub(crate) fn trip(&mut self, why: &str, open_for: Option<Duration>, now: At) {
        if self.mode == Mode::Shadow {
            let reason = Reason::Manual { why: why.into() };
            return self.trip_by(self.generation, reason, open_for, now);
        }
        // What calls would meet: an open circuit whose time is over is half-open.
        self.elapse(now);
        match (self.state, open_for) {
            (State::Open, None) => {}
            (State::Open, Some(open_for)) => {
                self.open.rearm(open_for, now);
                self.number += 1;
                self.outbox.push_back(Change::Rearmed { number: self.number, open_for });
            }
            _ => self.become_open(Reason::Manual { why: why.into() }, open_for, now),
        }
    }

    /// Somebody closes it and forgets what was counted.
    pub(crate) fn reset(&mut self, why: &str, now: At) {
        if self.state == State::Closed && self.open.next() > 0 {
            // What it forgets is kept in the store.
            self.number += 1;
            self.outbox.push_back(Change::Forgotten { number: self.number });
        }
        self.open.forget();
        self.said = false;
        if self.state == State::Closed {
            // What is under way belongs to what is forgotten.
            self.next_generation();
            self.begin_cycle();
        } else {
            self.become_closed(Reason::Manual { why: why.into() }, now);
        }
    }

    /// Somebody lets probes through now.
    pub(crate) fn half_open(&mut self, why: &str, now: At) -> Result<(), IllegalTransition> {
        match self.state {
            State::HalfOpen => {}
            State::Open | State::Repairing => {
                self.become_half_open(Reason::Manual { why: why.into() }, now);
            }
            State::Closed => {
                return Err(IllegalTransition { from: State::Closed, to: State::HalfOpen });
            }
        }
        Ok(())
    }

    pub(crate) fn set_mode(&mut self, mode: Mode, now: At) {
        let from = self.mode;
        if from == mode {
            return;
        }
        self.mode = mode;
        self.number += 1;
        self.said = false;
        // What is under way began under another mode; half-open begins with fresh probes.
        self.next_generation();
        self.probes = Probes::default();
        self.outbox.push_back(Change::Mode { number: self.number, from, to: mode });
        if mode == Mode::Shadow && self.state != State::Closed {
            self.become_closed(Reason::Shadowed, now);
        }
    }

    /// Begins a repair and returns its generation; none while another one runs, or where everything is
    /// admitted.
    pub(crate) fn begin_repair(&mut self, now: At) -> Option<u32> {
        if self.state == State::Repairing || self.mode == Mode::Shadow {
            return None;
        }
        if self.state == State::Closed {
            // A repair that is given up leaves the circuit open.
            self.open.begin(&self.config.open, None, now);
        }
        self.move_to(State::Repairing, Reason::RepairStarted, now);
        self.repair_until_ns = now.ns.saturating_add(nanos(self.config.repair_at_most));
        Some(self.generation)
    }

    /// Ends the repair of this generation; false when it was over already.
    pub(crate) fn end_repair(&mut self, generation: u32, end: RepairEnd, now: At) -> bool {
        if self.state != State::Repairing || self.generation != generation {
            return false;
        }
        match end {
            RepairEnd::Probe => self.become_half_open(Reason::Repaired, now),
            RepairEnd::Close => {
                self.open.forget();
                self.become_closed(Reason::Repaired, now);
            }
            RepairEnd::Failed(None) => self.become_open(Reason::RepairFailed, None, now),
            RepairEnd::Failed(open_for) => self.become_open(Reason::Suspended, open_for, now),
        }
        true
    }

    /// Does what time alone demands, but for the end of the open time: that needs a call, or
    /// [`elapse`](Self::elapse).
    pub(crate) fn tick(&mut self, now: At) {
        match self.state {
            State::HalfOpen if now.ns >= self.until_ns() => self.give_probes_up(now),
            State::Repairing if now.ns >= self.repair_until_ns => {
                self.open.end(now);
                self.move_to(State::Open, Reason::RepairHung, now);
                self.reason = Some(Reason::RepairHung);
            }
            _ => {}
        }
    }

    /// Half-open if the open time is over.
    pub(crate) fn elapse(&mut self, now: At) {
        self.tick(now);
        if self.state == State::Open && now.ns >= self.open.until_ns() {
            self.become_half_open(Reason::Elapsed, now);
        }
    }

    fn become_open(&mut self, reason: Reason, open_for: Option<Duration>, now: At) {
        self.open.begin(&self.config.open, open_for, now);
        self.reason = Some(reason.clone());
        self.move_to(State::Open, reason, now);
    }

    fn become_half_open(&mut self, reason: Reason, now: At) {
        self.probes = Probes::default();
        self.move_to(State::HalfOpen, reason, now);
    }

    fn become_closed(&mut self, reason: Reason, now: At) {
        self.open.close(&self.config.open, now);
        self.begin_cycle();
        self.move_to(State::Closed, reason, now);
    }

    /// Counts begin anew: the windows are emptied before the new cycle is published.
    pub(crate) fn begin_cycle(&mut self) {
        self.cycle = self.cycle.checked_add(1).unwrap_or(1);
    }

    fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn move_to(&mut self, to: State, reason: Reason, now: At) {
        let from = std::mem::replace(&mut self.state, to);
        self.next_generation();
        self.number += 1;
        self.state_changes += 1;
        self.since = now;
        self.said = false;
        if to == State::Closed {
            if let Some(down) = self.down_since.take() {
                self.down_ns = self.down_ns.saturating_add(now.ns.saturating_sub(down.ns));
            }
            self.up_since = Some(now);
        } else {
            self.down_since.get_or_insert(now);
            self.up_since = None;
        }
        let opened = to == State::Open;
        let failure = self.last_failure.filter(|_| opened && reason.is_of_failures());
        self.outbox.push_back(Change::Transition(Transition {
            number: self.number,
            from,
            to,
            reason,
            at: now.wall,
            open_for: opened.then(|| self.open.length()),
            attempt: self.open.attempt(),
            failure,
        }));
    }
}

/// How a repair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepairEnd {
    /// It says that it worked: probes decide.
    Probe,
    /// It is known to have worked.
    Close,
    /// It did not work: open, for this long or as configured.
    Failed(Option<Duration>),
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
