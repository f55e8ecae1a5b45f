//! What to do about a resource, decided without doing it: pure, with time as an argument.

use std::sync::Arc;
use std::time::Duration;

use resurge_breaker::{FailureKind, Reason, State, Transition};
use resurge_store::{Monotonic, Timestamp};

use crate::alert::AlertKind;
use crate::audit::{AttemptOutcome, AuditEvent};
use crate::config::{RepairOn, SupervisorConfig};
use crate::failure::Failure;

mod alarms;
mod history;

pub(crate) use alarms::{Alarms, Seen};
pub use history::History;

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) mono: Monotonic,
    pub(crate) wall: Timestamp,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing before this moment, if there is one.
    Wait(Option<Monotonic>),
    /// An attempt: call [`Machine::begin`] as soon as there is room for it.
    Attempt,
}

/// An attempt to be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Begun {
    pub(crate) attempt: u32,
    pub(crate) strategy: Arc<str>,
    pub(crate) failure: Failure,
    /// Times calls were suspended before.
    pub(crate) waits: u32,
}

#[derive(Debug)]
pub(crate) struct Machine {
    config: Arc<SupervisorConfig>,
    pub(crate) history: History,
    pub(crate) alarms: Alarms,
    /// The last failure somebody told of, until the circuit opens by it.
    noted: Option<Failure>,
    /// Somebody should repair.
    wanted: bool,
    /// Not before.
    retry_at: Option<Monotonic>,
    /// Calls are suspended until then.
    suspended_until: Option<Monotonic>,
    closed_since: Option<Monotonic>,
    /// Failures that came while one is repaired.
    pub(crate) coalesced: u64,
    /// For the audit trail, in order.
    outbox: Vec<(Timestamp, AuditEvent)>,
}

impl Machine {
    pub(crate) fn new(config: Arc<SupervisorConfig>, history: History) -> Self {
        let mut alarms = Alarms::new(config.alerting, config.alerts.clone());
        // Somebody was alerted before the restart.
        for alert in &history.alerts {
            alarms.raise(alert.clone());
        }
        if history.exhausted {
            alarms.raise(AlertKind::Exhausted { attempts: history.attempts });
        }
        Self {
            config,
            history,
            alarms,
            noted: None,
            wanted: false,
            retry_at: None,
            suspended_until: None,
            closed_since: None,
            coalesced: 0,
            outbox: Vec::new(),
        }
    }

    /// What was decided since the last time.
    pub(crate) fn take_outbox(&mut self) -> Vec<(Timestamp, AuditEvent)> {
        std::mem::take(&mut self.outbox)
    }

    pub(crate) fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn say(&mut self, now: At, event: AuditEvent) {
        self.history.apply(now.wall, &event);
        self.outbox.push((now.wall, event));
    }

    pub(crate) fn alert(&mut self, now: At, kind: AlertKind) {
        if let Some(kind) = self.alarms.raise(kind) {
            self.say(now, AuditEvent::Alert(kind));
        }
    }

    /// Watching begins, with the circuit in this state, open for this long: what is down is repaired, with
    /// the attempts made before still counting, unless calls are suspended.
    pub(crate) fn watch(&mut self, state: State, open_for: Option<Duration>, now: At) {
        self.closed_since = None;
        if let Some(strategy) = self.history.running.clone() {
            let (attempt, took) = (self.history.number, Duration::ZERO);
            let outcome = AttemptOutcome::Interrupted;
            self.say(now, AuditEvent::Ended { attempt, strategy, outcome, took });
        }
        self.suspended_until = match open_for {
            Some(left) if self.history.suspended => Some(now.mono.saturating_add(left)),
            _ => None,
        };
        if state == State::Open {
            // Nobody was there when it opened.
            self.alert(now, AlertKind::CircuitBreakerOpen);
            if let Some(failure) = self.noted.take() {
                self.say(now, AuditEvent::Recorded { failure });
            }
        }
        if state != State::Closed && !self.is_suspended(now) {
            self.want(now);
        }
    }

    /// The circuit did more than was heard of; this is the state it is in.
    pub(crate) fn missed(&mut self, state: State, now: At) {
        if state == State::Open && self.history.running.is_none() && !self.is_suspended(now) {
            self.alert(now, AlertKind::CircuitBreakerOpen);
            self.want(now);
        }
    }

    fn want(&mut self, now: At) {
        self.wanted = true;
        if self.history.attempts > 0 && self.retry_at.is_none() {
            let pause = self.config.retry.of(self.history.attempts);
            self.retry_at = Some(now.mono.saturating_add(pause));
        }
    }

    /// Somebody recorded a failure, with the circuit in this state.
    pub(crate) fn record(&mut self, failure: Failure, state: State, now: At) {
        if self.history.running.is_some() {
            self.coalesced += 1;
            return;
        }
        self.noted = Some(failure.clone());
        self.say(now, AuditEvent::Recorded { failure });
        // What nothing could recover when the circuit opened may be another failure by now.
        let down = state == State::Open && !self.is_suspended(now);
        if down || self.config.repair_on == RepairOn::Failure {
            self.want(now);
        }
    }

    /// A call failed; the trail hears of it when the circuit opens.
    pub(crate) fn note(&mut self, failure: Failure, now: At) {
        if self.config.repair_on == RepairOn::Failure {
            return self.record(failure, State::Closed, now);
        }
        if self.history.running.is_none() {
            self.noted = Some(failure);
        }
    }

    /// The circuit changed its state.
    pub(crate) fn moved(&mut self, transition: &Transition, now: At) {
        let (from, to) = (transition.from, transition.to);
        let reason = transition.reason.to_string();
        self.say(now, AuditEvent::CircuitBreakerStateChange { from, to, reason });
        match to {
            State::Open => {
                self.closed_since = None;
                self.alert(now, AlertKind::CircuitBreakerOpen);
                let ours = matches!(
                    transition.reason,
                    Reason::RepairFailed | Reason::Suspended | Reason::RepairHung
                );
                if self.history.running.is_none() && !ours {
                    self.opened(transition, now);
                }
            }
            State::HalfOpen => {
                // Probes decide from here on.
                self.wanted = false;
                self.retry_at = None;
                self.suspended_until = None;
            }
            // Here, too: it may have opened again before anybody asks what comes next.
            State::Closed => self.alarms.closed(),
            _ => {}
        }
    }

    fn opened(&mut self, transition: &Transition, now: At) {
        self.suspended_until = None;
        let relapsed = (self.history.attempts > 0).then(|| self.history.failure.clone()).flatten();
        let unknown =
            || Failure::new(kind_of(transition), transition.reason.to_string()).noted(now.wall);
        let failure = self.noted.take().or(relapsed).unwrap_or_else(unknown);
        if self.history.failure.as_ref() != Some(&failure) {
            self.say(now, AuditEvent::Recorded { failure });
        }
        self.want(now);
    }

    /// Calls are suspended: nobody but time lets probes through.
    pub(crate) fn is_suspended(&self, now: At) -> bool {
        self.suspended_until.is_some_and(|until| now.mono < until)
    }

    /// What comes next, with the circuit in this state.
    pub(crate) fn next(&mut self, state: State, now: At) -> Next {
        if self.history.running.is_some() {
            return Next::Wait(None);
        }
        if state == State::Repairing {
            // Somebody else does; the circuit says when it is over, unless that one hangs.
            return Next::Wait(Some(now.mono.saturating_add(self.config.retry.initial)));
        }
        if state == State::Closed {
            self.alarms.closed();
            self.wanted &= self.config.repair_on == RepairOn::Failure;
            if !self.wanted || self.history.exhausted {
                self.retry_at = None;
                return Next::Wait(self.watch_for_relapse(now));
            }
        } else {
            self.closed_since = None;
        }
        if !self.wanted || self.history.exhausted || !self.config.auto_recovery {
            return Next::Wait(None);
        }
        match self.retry_at {
            Some(at) if now.mono < at => Next::Wait(Some(at)),
            _ => Next::Attempt,
        }
    }

    /// Closed: when it counts as well again; says so when that is now.
    fn watch_for_relapse(&mut self, now: At) -> Option<Monotonic> {
        let since = *self.closed_since.get_or_insert(now.mono);
        let attempts = self.history.attempts;
        if attempts == 0 && !self.history.exhausted {
            return None;
        }
        let well_at = since.saturating_add(self.config.relapse_window);
        if now.mono < well_at {
            return Some(well_at);
        }
        self.say(now, AuditEvent::Recovered { attempts });
        self.wanted = false;
        self.alarms.recovered();
        None
    }

    /// What the attempt that is due is to repair; none when nothing is to be done.
    pub(crate) fn due(&mut self, state: State, now: At) -> Option<Failure> {
        if self.next(state, now) != Next::Attempt {
            return None;
        }
        let unknown = || Failure::new(FailureKind::Error, "it was down").noted(now.wall);
        Some(self.history.failure.clone().unwrap_or_else(unknown))
    }

    /// Begins that attempt with one of the `candidates` for it, unless nothing is to be done any more, or
    /// something else.
    pub(crate) fn begin(
        &mut self,
        state: State,
        now: At,
        failure: Failure,
        candidates: Vec<Arc<str>>,
    ) -> Option<Begun> {
        if self.due(state, now)? != failure {
            return None;
        }
        // The one tried least; of those, the first.
        let times = |name: &Arc<str>| self.history.tried.iter().filter(|t| *t == name).count();
        let Some(strategy) = candidates.into_iter().min_by_key(times) else {
            self.wanted = false;
            self.alert(now, AlertKind::Unrecoverable);
            return None;
        };
        if self.history.attempts >= self.config.max_attempts || !self.has_intensity_left(now) {
            let attempts = self.history.attempts;
            self.say(now, AuditEvent::Exhausted { attempts });
            self.alert(now, AlertKind::Exhausted { attempts });
            return None;
        }
        let attempt = self.history.attempts + 1;
        let waits = self.history.waits;
        self.retry_at = None;
        self.coalesced = 0;
        let begun = Begun { attempt, strategy, failure, waits };
        self.say(
            now,
            AuditEvent::Began {
                attempt,
                strategy: Arc::clone(&begun.strategy),
                failure: begun.failure.clone(),
            },
        );
        Some(begun)
    }

    fn has_intensity_left(&self, now: At) -> bool {
        let intensity = &self.config.intensity;
        // Both ways: a clock that was set back by a year must not count them for a year.
        let recent = |at: &&Timestamp| {
            let (since, until) = (now.wall.saturating_since(**at), at.saturating_since(now.wall));
            since.max(until) <= intensity.period
        };
        let recent = self.history.beginnings.iter().filter(recent).count();
        recent < usize::try_from(intensity.repairs).unwrap_or(usize::MAX)
    }

    /// The attempt ended.
    pub(crate) fn ended(
        &mut self,
        begun: &Begun,
        outcome: AttemptOutcome,
        took: Duration,
        now: At,
    ) {
        let (attempt, strategy) = (begun.attempt, Arc::clone(&begun.strategy));
        self.wanted = false;
        match &outcome {
            AttemptOutcome::Succeeded => {}
            AttemptOutcome::Waiting { suspended } => {
                self.suspended_until = Some(now.mono.saturating_add(*suspended));
            }
            AttemptOutcome::Failed { .. }
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Cancelled
            | AttemptOutcome::Interrupted => self.want(now),
        }
        self.say(now, AuditEvent::Ended { attempt, strategy, outcome, took });
    }

    /// Attempts count from 1 again.
    pub(crate) fn revive(&mut self, state: State, now: At) {
        self.say(now, AuditEvent::Revived);
        self.alarms.recovered();
        self.retry_at = None;
        self.wanted = state != State::Closed;
    }

    /// Looks at what the breaker counted.
    pub(crate) fn look(&mut self, seen: &Seen, now: At) {
        for kind in self.alarms.look(seen) {
            self.say(now, AuditEvent::Alert(kind));
        }
    }
}

/// What opened a circuit when nobody said what failed.
fn kind_of(transition: &Transition) -> FailureKind {
    transition.failure.unwrap_or(match transition.reason {
        Reason::SlowRate { .. } | Reason::ProbesSlow | Reason::ProbesHung => FailureKind::Timeout,
        _ => FailureKind::Error,
    })
}

#[cfg(test)]
mod tests;
