//! Random lives of a machine. What a life shows in the trail is recounted from the trail alone, by a model
//! that knows the rules and nothing of how the machine keeps them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{
    AlertKind, AttemptOutcome, AuditEvent, Delay, Desk, Duration, Failure, FailureKind, Intensity,
    Next, Reason, State, SupervisorConfig, failed,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Record,
    Note,
    Opens,
    /// The open time is over, and the probe says this.
    Probed(bool),
    /// Whatever is due is done, with so many of the strategies in question.
    Act(usize),
    End(u8),
    Missed,
    Revive,
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![Just(1_000), Just(5_000), Just(60_000), 0..4_000_u64].prop_map(Step::Wait),
        2 => Just(Step::Record),
        1 => Just(Step::Note),
        3 => Just(Step::Opens),
        4 => any::<bool>().prop_map(Step::Probed),
        8 => (0..8_usize).prop_map(Step::Act),
        7 => (0..8_u8).prop_map(Step::End),
        1 => Just(Step::Missed),
        1 => Just(Step::Revive),
        1 => Just(Step::Die),
    ]
}

prop_compose! {
    fn configs()(
        max_attempts in 1..5_u32,
        repairs in 1..6_u32,
        period in prop_oneof![Just(5_u64), Just(120)],
        factor in prop_oneof![Just(1.0), Just(2.0)],
    ) -> SupervisorConfig {
        let seconds = Duration::from_secs;
        SupervisorConfig {
            max_attempts,
            intensity: Intensity { repairs, period: seconds(period) },
            retry: Delay { initial: seconds(1), factor, max: seconds(3) },
            relapse_window: seconds(60),
            ..SupervisorConfig::default()
        }
    }
}

const NAMES: [&str; 4] = ["restart", "reload", "reset", "backoff"];

/// What the trail says, recounted.
#[derive(Default)]
struct Recount {
    looked_at: usize,
    attempts: u32,
    tried: Vec<String>,
    running: Option<(u32, String)>,
    exhausted: bool,
    began_at: Vec<u64>,
    /// Alerts that only these end: closed, well.
    alerts: BTreeSet<&'static str>,
    not_before: u64,
    /// Somebody revived it, or began to watch: it is repaired half-open, too, since that may be only the end
    /// of the open time.
    asked: bool,
}

impl Recount {
    /// Checks what is new, which was said with the circuit in `state`.
    fn look(
        &mut self,
        desk: &Desk,
        state: State,
        candidates: &[&str],
    ) -> Result<(), TestCaseError> {
        let config = &desk.config;
        for (at, event) in &desk.trail[self.looked_at..] {
            match event {
                AuditEvent::Began { attempt, strategy, .. } => {
                    prop_assert!(self.running.is_none(), "two at once");
                    prop_assert!(!self.exhausted, "after it was given up");
                    let half_open = state == State::HalfOpen && self.asked;
                    prop_assert!(state == State::Open || half_open, "began while {state}");
                    self.asked = false;
                    prop_assert_eq!(*attempt, self.attempts + 1);
                    prop_assert!(*attempt <= config.max_attempts, "more than allowed");
                    let period = u64::try_from(config.intensity.period.as_millis()).unwrap();
                    let recent = self.began_at.iter().filter(|began| desk.ms - **began <= period);
                    prop_assert!(recent.count() < config.intensity.repairs as usize, "too many");
                    prop_assert!(desk.ms >= self.not_before, "too early");
                    let times =
                        |name: &str| self.tried.iter().filter(|tried| *tried == name).count();
                    let least = candidates.iter().map(|name| times(name)).min().unwrap();
                    let first = candidates.iter().find(|name| times(name) == least).unwrap();
                    prop_assert_eq!(&**strategy, *first, "not the first of the least tried");
                    self.attempts += 1;
                    self.tried.push(strategy.to_string());
                    self.began_at.push(desk.ms);
                    self.running = Some((*attempt, strategy.to_string()));
                }
                AuditEvent::Ended { attempt, strategy, outcome, .. } => {
                    let ended = Some((*attempt, strategy.to_string()));
                    prop_assert_eq!(&ended, &self.running, "what ended did not begin");
                    self.running = None;
                    // Revived meanwhile, it counts for nothing.
                    if !outcome.is_success() && self.attempts > 0 {
                        let pause = config.retry.of(self.attempts).as_millis();
                        self.not_before = at.as_millis() + u64::try_from(pause).unwrap();
                    }
                }
                AuditEvent::Exhausted { attempts } => {
                    prop_assert!(!self.exhausted, "given up twice");
                    prop_assert_eq!(*attempts, self.attempts);
                    self.exhausted = true;
                }
                AuditEvent::Recovered { .. } | AuditEvent::Revived => {
                    (self.attempts, self.exhausted, self.not_before) = (0, false, 0);
                    self.tried.clear();
                    self.alerts.remove("exhausted");
                    if let AuditEvent::Revived = event {
                        self.asked = true;
                        self.began_at.clear();
                    }
                }
                AuditEvent::CircuitBreakerStateChange { to, .. } => {
                    if let State::HalfOpen | State::Closed = to {
                        self.not_before = 0;
                    }
                    if *to == State::Closed {
                        for over in ["circuit_breaker_open", "unrecoverable"] {
                            self.alerts.remove(over);
                        }
                    }
                }
                AuditEvent::Alert(kind) => {
                    prop_assert!(
                        self.alerts.insert(kind.as_str()),
                        "raised twice: {}",
                        kind.as_str()
                    );
                    if let AlertKind::Exhausted { .. } = kind {
                        prop_assert!(self.exhausted);
                    }
                }
                AuditEvent::Recorded { .. } | AuditEvent::Summary(_) => {}
            }
        }
        self.looked_at = desk.trail.len();
        Ok(())
    }
}

fn live(config: SupervisorConfig, steps: &[Step]) -> Result<(), TestCaseError> {
    let longest = u64::try_from(config.retry.max.as_millis()).unwrap();
    let mut desk = Desk::new(config);
    let mut recount = Recount::default();
    // Somebody has to act: it is open, and nobody said that nothing can be done.
    let (mut unrecoverable, mut waits_for_probe) = (false, false);
    for step in steps {
        let before = desk.state;
        let mut candidates = &NAMES[..0];
        let now = desk.now();
        match *step {
            Step::Wait(ms) => {
                desk.wait(ms);
            }
            Step::Record => {
                let failure = Failure::new(FailureKind::Error, "recorded").noted(now.wall);
                desk.machine.record(failure, desk.state, now);
                unrecoverable &= desk.under_way.is_some() || desk.machine.is_suspended(now);
            }
            Step::Note => {
                let failure = Failure::new(FailureKind::Timeout, "noted").noted(now.wall);
                desk.machine.note(failure, now);
            }
            Step::Opens if matches!(desk.state, State::Closed) => {
                desk.opens();
                (unrecoverable, waits_for_probe) = (false, false);
            }
            Step::Probed(well) if desk.state == State::Open || desk.state == State::HalfOpen => {
                if desk.state == State::Open {
                    desk.moves(State::HalfOpen, &Reason::Elapsed);
                }
                (unrecoverable, waits_for_probe) = (false, false);
                if well {
                    desk.closes();
                } else {
                    desk.moves(State::Open, &Reason::ProbeFailed);
                }
            }
            Step::Act(able) => {
                candidates = &NAMES[..able.min(NAMES.len())];
                let exhausted = desk.machine.history.exhausted;
                if desk.next() == Next::Attempt && desk.begins(candidates).is_none() {
                    let given_up = desk.machine.history.exhausted && !exhausted;
                    prop_assert!(given_up || candidates.is_empty(), "nothing was done");
                    unrecoverable = !given_up;
                }
            }
            Step::End(how) if desk.under_way.is_some() => {
                let suspended = Duration::from_secs(7);
                let outcome = match how {
                    0 | 1 => AttemptOutcome::Succeeded,
                    2 => AttemptOutcome::Waiting { suspended },
                    3 => AttemptOutcome::TimedOut,
                    4 => AttemptOutcome::Cancelled,
                    _ => failed(),
                };
                waits_for_probe = how == 2;
                desk.ends(outcome);
            }
            Step::Missed => desk.machine.missed(desk.state, now),
            Step::Revive => {
                desk.machine.revive(desk.state, now);
                unrecoverable = false;
                waits_for_probe = false;
            }
            Step::Die => {
                // What suspends calls is not lost, what could not be recovered is looked at again.
                let left = waits_for_probe.then(|| Duration::from_secs(7));
                desk.dies(left);
                recount.asked = true;
                unrecoverable = false;
            }
            _ => {}
        }
        desk.write();
        recount.look(&desk, before, candidates)?;
        let due = desk.due_in();
        desk.write();
        recount.look(&desk, desk.state, &[])?;
        prop_assert_eq!(desk.machine.history.attempts, recount.attempts);
        prop_assert_eq!(desk.machine.history.exhausted, recount.exhausted);
        // Never a dead end: open, with nothing under way, nobody has given it up, and yet nothing is due.
        let idle = desk.state == State::Open && desk.under_way.is_none();
        if idle && !recount.exhausted && !unrecoverable && !waits_for_probe {
            prop_assert!(due.is_some_and(|ms| ms <= longest), "nothing is due: {due:?}");
        }
        if recount.exhausted {
            prop_assert!(desk.next() != Next::Attempt);
        }
    }
    Ok(())
}

const LIVES: u32 = 1_000;

#[test]
fn no_life_breaks_a_rule() {
    let config = Config { cases: LIVES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let lives = (configs(), proptest::collection::vec(step(), 1..100));
    TestRunner::new_with_rng(config, rng)
        .run(&lives, |(config, steps)| live(config, &steps))
        .unwrap();
    resurge_testkit::evidence("supervisor-model", &format!("{LIVES} random lives, no rule broken"));
}
