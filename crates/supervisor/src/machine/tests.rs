//! The machine alone: what it does, step by step, and what its trail never shows, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use resurge_breaker::{FailureKind, Reason, State, Transition};
use resurge_store::{Monotonic, Timestamp};

use super::{At, Begun, History, Machine, Next, Seen};
use crate::alert::AlertKind;
use crate::audit::{AttemptOutcome, AuditEvent};
use crate::config::{Delay, Intensity, RepairOn, SupervisorConfig};
use crate::failure::Failure;

mod lives;

/// What the tests look for in the trail.
fn short(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Recorded { failure } => format!("recorded {}", failure.kind),
        AuditEvent::CircuitBreakerStateChange { to, .. } => format!("{to}"),
        AuditEvent::Began { attempt, strategy, .. } => format!("{attempt} {strategy}"),
        AuditEvent::Ended { attempt, outcome, .. } => format!("{attempt} {}", outcome.as_str()),
        AuditEvent::Exhausted { .. } => "exhausted".to_owned(),
        AuditEvent::Recovered { .. } => "recovered".to_owned(),
        AuditEvent::Revived => "revived".to_owned(),
        AuditEvent::Alert(kind) => format!("alert {}", kind.as_str()),
        AuditEvent::Summary(_) => "summary".to_owned(),
    }
}

/// A machine, a circuit that does what the test says, and a clock.
struct Desk {
    machine: Machine,
    config: Arc<SupervisorConfig>,
    state: State,
    ms: u64,
    under_way: Option<Begun>,
    /// Everything it said.
    trail: Vec<(Timestamp, AuditEvent)>,
    /// Of those, what the test has not looked at.
    unseen: usize,
}

fn config() -> SupervisorConfig {
    SupervisorConfig {
        max_attempts: 3,
        intensity: Intensity { repairs: 100, period: Duration::from_secs(600) },
        retry: Delay { initial: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(3) },
        relapse_window: Duration::from_secs(60),
        ..SupervisorConfig::default()
    }
}

impl Desk {
    fn new(config: SupervisorConfig) -> Self {
        let config = Arc::new(config);
        let machine = Machine::new(Arc::clone(&config), History::default());
        let (state, ms) = (State::Closed, 1_000_000);
        let mut desk =
            Self { machine, config, state, ms, under_way: None, trail: Vec::new(), unseen: 0 };
        desk.machine.watch(State::Closed, None, desk.now());
        desk
    }

    fn now(&self) -> At {
        At {
            mono: Monotonic::from_origin(Duration::from_millis(self.ms)),
            wall: Timestamp::from_millis(self.ms),
        }
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.ms += ms;
        self
    }

    fn moves(&mut self, to: State, reason: &Reason) -> &mut Self {
        let from = std::mem::replace(&mut self.state, to);
        let transition: Transition = serde_json::from_value(serde_json::json!({
            "number": 1, "from": from, "to": to, "reason": reason, "at": self.ms,
            "open_for": null, "attempt": 0,
        }))
        .unwrap();
        self.machine.moved(&transition, self.now());
        self
    }

    fn opens(&mut self) -> &mut Self {
        self.moves(State::Open, &Reason::ConsecutiveFailures { failures: 3 })
    }

    fn closes(&mut self) -> &mut Self {
        self.moves(State::Closed, &Reason::ProbesPassed)
    }

    fn next(&mut self) -> Next {
        self.machine.next(self.state, self.now())
    }

    /// In how many milliseconds something is due; none for never.
    fn due_in(&mut self) -> Option<u64> {
        match self.next() {
            Next::Attempt => Some(0),
            Next::Wait(None) => None,
            Next::Wait(Some(at)) => {
                let after = at.saturating_since(self.now().mono);
                Some(u64::try_from(after.as_millis()).unwrap())
            }
        }
    }

    /// Makes the attempt that is due; what was chosen.
    fn begins(&mut self, candidates: &[&str]) -> Option<Begun> {
        let now = self.now();
        let failure = self.machine.due(self.state, now)?;
        let candidates = candidates.iter().map(|name| Arc::from(*name)).collect();
        let begun = self.machine.begin(self.state, now, failure, candidates)?;
        self.moves(State::Repairing, &Reason::RepairStarted);
        self.under_way = Some(begun.clone());
        Some(begun)
    }

    /// The attempt under way ends, and the circuit does what its breaker does then.
    fn ends(&mut self, outcome: AttemptOutcome) -> &mut Self {
        let begun = self.under_way.take().unwrap();
        let now = self.now();
        let (to, reason) = match &outcome {
            AttemptOutcome::Succeeded => (State::HalfOpen, Reason::Repaired),
            AttemptOutcome::Waiting { .. } => (State::Open, Reason::Suspended),
            _ => (State::Open, Reason::RepairFailed),
        };
        self.machine.ended(&begun, outcome, Duration::ZERO, now);
        self.moves(to, &reason)
    }

    fn attempt(&mut self, candidates: &[&str], outcome: AttemptOutcome) -> &mut Self {
        assert!(self.begins(candidates).is_some(), "no attempt is due");
        self.ends(outcome)
    }

    /// Takes what it said into the trail.
    fn write(&mut self) {
        self.trail.extend(self.machine.take_outbox());
    }

    /// What it said since the last look.
    fn said(&mut self) -> Vec<String> {
        self.write();
        let said = self.trail[self.unseen..].iter().map(|(_, event)| short(event)).collect();
        self.unseen = self.trail.len();
        said
    }

    /// The process dies, and another one reads the trail.
    fn dies(&mut self, open_for: Option<Duration>) -> &mut Self {
        self.write();
        let mut history = History::default();
        for (at, event) in &self.trail {
            history.apply(*at, event);
        }
        assert_eq!(history, self.machine.history, "the trail tells what memory knew");
        self.machine = Machine::new(Arc::clone(&self.config), history);
        self.under_way = None;
        if self.state != State::Closed {
            self.state = State::Open;
        }
        self.machine.watch(self.state, open_for, self.now());
        self
    }
}

fn failed() -> AttemptOutcome {
    AttemptOutcome::Failed { why: "test".to_owned() }
}

#[test]
fn a_second_outage_is_alerted_though_both_are_heard_of_at_once() {
    let mut desk = Desk::new(config());
    desk.opens().moves(State::HalfOpen, &Reason::Elapsed).closes().opens();
    let alerts = desk.said().into_iter().filter(|said| said == "alert circuit_breaker_open");
    assert_eq!(alerts.count(), 2);
    let in_force = desk.machine.alarms.raised();
    assert_eq!(in_force, [AlertKind::CircuitBreakerOpen]);
    assert_eq!(desk.machine.history.alerts, in_force, "after a crash, too");
}

#[test]
fn closed_nothing_is_due() {
    let mut desk = Desk::new(config());
    assert_eq!(desk.due_in(), None);
    assert!(desk.begins(&["a"]).is_none());
    assert!(desk.said().is_empty());
}

#[test]
fn an_attempt_is_due_at_once_when_it_opens_and_later_after_one_that_failed() {
    let mut desk = Desk::new(config());
    desk.opens();
    assert_eq!(desk.due_in(), Some(0));
    for wait in [1_000, 2_000] {
        desk.attempt(&["a"], failed());
        assert_eq!(desk.due_in(), Some(wait));
        assert!(desk.begins(&["a"]).is_none(), "too early");
        desk.wait(wait - 1);
        assert_eq!(desk.due_in(), Some(1));
        desk.wait(1);
        assert_eq!(desk.due_in(), Some(0));
    }
}

#[test]
fn the_least_tried_of_the_first_is_next() {
    let mut desk = Desk::new(SupervisorConfig { max_attempts: 7, ..config() });
    desk.opens();
    let mut chosen = Vec::new();
    for candidates in
        [&["a", "b", "c"][..], &["a", "b", "c"], &["b", "a"], &["a", "b", "c"], &["c", "b", "a"]]
    {
        chosen.push(desk.begins(candidates).unwrap().strategy.to_string());
        desk.ends(failed()).wait(3_000);
    }
    assert_eq!(chosen, ["a", "b", "b", "c", "c"]);
}

#[test]
fn one_attempt_at_a_time_and_failures_meanwhile_join() {
    let mut desk = Desk::new(config());
    desk.opens();
    desk.begins(&["a"]).unwrap();
    desk.said();
    for _ in 0..100 {
        let now = desk.now();
        desk.machine.record(Failure::new(FailureKind::Panic, "more"), desk.state, now);
        assert!(desk.begins(&["b"]).is_none());
        assert_eq!(desk.due_in(), None);
    }
    assert_eq!(desk.machine.coalesced, 100);
    assert!(desk.said().is_empty());
    // The next one counts from nothing.
    desk.ends(failed()).wait(1_000).begins(&["a"]).unwrap();
    assert_eq!(desk.machine.coalesced, 0);
}

#[test]
fn given_up_after_so_many_and_asked_no_more_until_it_was_well() {
    let mut desk = Desk::new(config());
    desk.opens();
    for _ in 0..3 {
        desk.attempt(&["a"], failed()).wait(3_000);
    }
    desk.said();
    assert!(desk.begins(&["a"]).is_none());
    assert_eq!(desk.said(), ["exhausted", "alert exhausted"]);
    for _ in 0..5 {
        // Probes go on without it.
        desk.wait(100_000).moves(State::HalfOpen, &Reason::Elapsed);
        desk.moves(State::Open, &Reason::ProbeFailed);
        assert_eq!(desk.due_in(), None);
        assert!(desk.begins(&["a"]).is_none());
    }
    assert!(desk.said().iter().all(|said| !said.contains("exhausted")), "said once");
    desk.moves(State::HalfOpen, &Reason::Elapsed).closes();
    assert_eq!(desk.due_in(), Some(60_000));
    desk.wait(59_999);
    assert_eq!(desk.due_in(), Some(1));
    desk.wait(1);
    assert_eq!(desk.due_in(), None);
    assert_eq!(desk.said().last().map(String::as_str), Some("recovered"));
    desk.opens();
    assert_eq!(desk.begins(&["a"]).unwrap().attempt, 1);
}

#[test]
fn c76_one_exactly_a_period_old_still_counts() {
    for (after, begins) in [(4_999, false), (5_000, false), (5_001, true)] {
        let intensity = Intensity { repairs: 1, period: Duration::from_secs(5) };
        let mut desk = Desk::new(SupervisorConfig { intensity, ..config() });
        desk.opens().attempt(&["a"], failed()).wait(after);
        assert_eq!(desk.begins(&["a"]).is_some(), begins, "after {after} ms");
        assert_eq!(desk.said().contains(&"exhausted".to_owned()), !begins);
    }
}

#[test]
fn a_clock_that_was_set_back_gives_nobody_up_for_as_long() {
    let intensity = Intensity { repairs: 1, period: Duration::from_secs(5) };
    for (back, begins) in [(5_000, false), (5_001, true), (900_000, true)] {
        let mut desk = Desk::new(SupervisorConfig { intensity: intensity.clone(), ..config() });
        desk.opens().attempt(&["a"], failed());
        // Time goes on, and the wall's is another one.
        desk.wait(1_000);
        let mut now = desk.now();
        now.wall = Timestamp::from_millis(desk.ms - 1_000 - back);
        let failure = desk.machine.due(State::Open, now).unwrap();
        let begun = desk.machine.begin(State::Open, now, failure, vec![Arc::from("a")]);
        assert_eq!(begun.is_some(), begins, "set back by {back} ms");
    }
}

#[test]
fn the_intensity_counts_also_what_was_before_it_was_well() {
    let intensity = Intensity { repairs: 2, period: Duration::from_secs(3_600) };
    let mut desk = Desk::new(SupervisorConfig { intensity, ..config() });
    for _ in 0..2 {
        desk.opens().attempt(&["a"], AttemptOutcome::Succeeded).closes();
        desk.next();
        desk.wait(60_000).next();
    }
    desk.opens();
    assert!(desk.begins(&["a"]).is_none());
    assert_eq!(desk.said().last().map(String::as_str), Some("alert exhausted"));
}

#[test]
fn what_did_not_last_is_the_same_failure_and_the_next_strategy() {
    let mut desk = Desk::new(config());
    let now = desk.now();
    desk.machine.note(Failure::new(FailureKind::Panic, "the cause"), now);
    desk.opens().attempt(&["a", "b"], AttemptOutcome::Succeeded).closes();
    desk.next();
    desk.wait(59_000).opens();
    assert_eq!(desk.due_in(), Some(1_000), "not at once");
    desk.wait(1_000);
    let begun = desk.begins(&["a", "b"]).unwrap();
    assert_eq!((begun.attempt, &*begun.strategy), (2, "b"));
    assert_eq!(begun.failure.message, "the cause");
}

#[test]
fn suspended_nothing_is_due_until_probes_failed() {
    let mut desk = Desk::new(config());
    let suspended = Duration::from_secs(30);
    desk.opens().attempt(&["backoff"], AttemptOutcome::Waiting { suspended });
    assert_eq!(desk.due_in(), None);
    assert!(desk.machine.is_suspended(desk.now()));
    desk.wait(29_999);
    assert!(desk.machine.is_suspended(desk.now()));
    // In another life, too, for as long as the circuit stays open.
    desk.dies(Some(Duration::from_millis(1)));
    assert_eq!(desk.due_in(), None);
    desk.wait(1);
    assert!(!desk.machine.is_suspended(desk.now()));
    desk.moves(State::HalfOpen, &Reason::Elapsed).moves(State::Open, &Reason::ProbeFailed);
    desk.wait(1_000);
    let begun = desk.begins(&["backoff"]).unwrap();
    assert_eq!((begun.attempt, begun.waits), (2, 1));
}

#[test]
fn what_died_with_the_process_ended_interrupted_and_counts() {
    let mut desk = Desk::new(config());
    desk.opens().begins(&["a", "b"]).unwrap();
    desk.dies(None);
    assert_eq!(desk.said().last().map(String::as_str), Some("1 interrupted"));
    assert_eq!(desk.due_in(), Some(1_000));
    desk.wait(1_000);
    let begun = desk.begins(&["a", "b"]).unwrap();
    assert_eq!((begun.attempt, &*begun.strategy), (2, "b"));
    for _ in 0..2 {
        desk.dies(None).wait(10_000).begins(&["a", "b"]);
    }
    desk.dies(None).wait(10_000);
    assert!(desk.begins(&["a", "b"]).is_none(), "not tried for ever");
    assert_eq!(desk.machine.history.attempts, 3);
}

#[test]
fn what_nothing_can_recover_is_told_once_and_looked_at_anew_with_another_failure() {
    let mut desk = Desk::new(config());
    desk.opens();
    assert!(desk.begins(&[]).is_none());
    assert_eq!(desk.said().last().map(String::as_str), Some("alert unrecoverable"));
    assert_eq!(desk.due_in(), None);
    desk.moves(State::HalfOpen, &Reason::Elapsed).moves(State::Open, &Reason::ProbeFailed);
    assert!(desk.begins(&[]).is_none());
    assert!(!desk.said().contains(&"alert unrecoverable".to_owned()));
    let now = desk.now();
    desk.machine.record(Failure::new(FailureKind::Error, "another"), desk.state, now);
    assert_eq!(desk.begins(&["a"]).unwrap().failure.message, "another");
}

#[test]
fn a_failure_that_changed_while_it_was_asked_who_can_is_asked_again() {
    let mut desk = Desk::new(config());
    desk.opens();
    let now = desk.now();
    let asked = desk.machine.due(desk.state, now).unwrap();
    desk.machine.record(Failure::new(FailureKind::Panic, "another"), desk.state, now);
    assert!(desk.machine.begin(desk.state, now, asked, Vec::new()).is_none());
    assert_eq!(desk.due_in(), Some(0), "it is not unrecoverable");
    assert_eq!(desk.begins(&["a"]).unwrap().failure.message, "another");
}

#[test]
fn revived_it_counts_from_one_and_forgets_the_period() {
    let intensity = Intensity { repairs: 1, period: Duration::from_secs(3_600) };
    let mut desk = Desk::new(SupervisorConfig { intensity, ..config() });
    desk.opens().attempt(&["a"], failed()).wait(3_000);
    assert!(desk.begins(&["a"]).is_none());
    let now = desk.now();
    desk.machine.revive(desk.state, now);
    let begun = desk.begins(&["a", "b"]).unwrap();
    assert_eq!((begun.attempt, &*begun.strategy), (1, "a"));
    assert!(!desk.machine.alarms.raised().iter().any(|a| matches!(a, AlertKind::Exhausted { .. })));
}

#[test]
fn without_auto_recovery_and_while_others_repair_nothing_is_due() {
    let mut desk = Desk::new(SupervisorConfig { auto_recovery: false, ..config() });
    desk.opens();
    assert_eq!(desk.due_in(), None);
    let mut desk = Desk::new(config());
    desk.opens().moves(State::Repairing, &Reason::RepairStarted);
    assert_eq!(desk.due_in(), Some(1_000), "looked at again: that one may hang");
    assert!(desk.begins(&["a"]).is_none());
}

#[test]
fn repairing_on_failures_begins_while_it_is_closed() {
    let mut desk = Desk::new(SupervisorConfig { repair_on: RepairOn::Failure, ..config() });
    let now = desk.now();
    desk.machine.note(Failure::new(FailureKind::Timeout, "slow"), now);
    assert_eq!(desk.begins(&["a"]).unwrap().failure.kind, FailureKind::Timeout);
}

#[test]
fn who_missed_something_looks_at_the_state() {
    let mut desk = Desk::new(config());
    let now = desk.now();
    desk.machine.missed(State::HalfOpen, now);
    desk.machine.missed(State::Closed, now);
    assert_eq!(desk.due_in(), None);
    desk.state = State::Open;
    desk.machine.missed(State::Open, now);
    assert_eq!(desk.due_in(), Some(0));
    assert_eq!(desk.said(), ["alert circuit_breaker_open"]);
}

#[test]
fn alerts_have_an_edge_and_the_rate_a_hysteresis() {
    let mut desk = Desk::new(config());
    let mut look = |seen: Seen| {
        let now = desk.now();
        desk.machine.look(&seen, now);
        desk.said()
    };
    let row = |failures| Seen { consecutive_failures: failures, ..Seen::default() };
    let rate = |rate| Seen { failure_rate: Some(rate), ..Seen::default() };
    let down = |secs| Seen { down_for: Some(Duration::from_secs(secs)), ..Seen::default() };
    for (seen, alert) in [
        (row(2), None),
        (row(3), Some("consecutive_failures")),
        (row(9), None),
        (row(2), None),
        (row(3), Some("consecutive_failures")),
        (rate(0.499), None),
        (rate(0.5), Some("failure_rate")),
        (rate(0.41), None),
        (rate(0.5), None),
        (Seen::default(), None),
        (rate(0.5), None),
        (rate(0.39), None),
        (rate(0.5), Some("failure_rate")),
        (down(299), None),
        (down(300), Some("recovery_time")),
        (down(900), None),
    ] {
        let expected: Vec<_> = alert.map(|kind| format!("alert {kind}")).into_iter().collect();
        assert_eq!(look(seen), expected, "{seen:?}");
    }
}
