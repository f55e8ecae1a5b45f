//! Every interleaving of a few threads on the engine. Its own source is compiled here once more, with
//! the model checker's atomics and lock in the place of the real ones.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a test fails by panicking; and it uses only a part of what it compiles"
)]

mod sync;

#[path = "../../src"]
mod source {
    pub(crate) mod config;
    pub(crate) mod engine;
    pub(crate) mod error;
    pub(crate) mod machine;
    pub(crate) mod outcome;
    pub(crate) mod state;
    pub(crate) mod transition;
    pub(crate) mod window;
    pub(crate) mod word;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use resurge_store::Timestamp;
use source::{config, engine, error, machine, outcome, state, transition, window, word};

use config::{BreakerConfig, OpenConfig, Trip, Verdict, Window};
use engine::{Engine, Host, Ticket};
use machine::{Admission, Machine};
use outcome::{FailureKind, Outcome};
use state::State;
use transition::{At, Change};

const FAILED: Outcome = Outcome::Failure(FailureKind::Error);
const SECOND: u64 = 1_000_000_000;

/// An engine and a clock; nobody is told anything.
struct Circuit {
    engine: Engine,
    ns: AtomicU64,
}

struct Clock(u64);

impl Host for Clock {
    fn ns(&self) -> u64 {
        self.0
    }
    fn at(&self) -> At {
        At { ns: self.0, wall: Timestamp::from_millis(self.0 / 1_000_000) }
    }
    fn changed(&self) {}
    fn released(&self) {}
}

impl Circuit {
    fn new(trip: Vec<Trip>, probes: u32) -> Arc<Self> {
        let open = OpenConfig { factor: 1.0, ..OpenConfig::default() };
        let mut config = BreakerConfig { trip, open, ..BreakerConfig::default() };
        config.half_open.probes = probes;
        config.half_open.verdict = Verdict::AllOf { successes: probes };
        config.check().unwrap();
        let machine = Machine::new(Arc::new(config), 7, At::default());
        Arc::new(Self { engine: Engine::new(machine, 0), ns: AtomicU64::new(0) })
    }

    fn clock(&self) -> Clock {
        Clock(self.ns.load(Ordering::Relaxed))
    }

    fn admit(&self) -> Option<Ticket> {
        self.engine.admit(&self.clock()).ok()
    }

    fn settle(&self, ticket: &Ticket, outcome: Outcome) {
        self.engine.settle(ticket, outcome, &self.clock());
    }

    fn call(&self, outcome: Outcome) {
        if let Some(ticket) = self.admit() {
            self.settle(&ticket, outcome);
        }
    }

    fn command(&self, change: impl FnOnce(&mut Machine, At)) {
        let clock = self.clock();
        self.engine.command(clock.at(), &clock, |machine| change(machine, clock.at()));
    }

    /// The states it went to.
    fn went(&self) -> Vec<State> {
        std::iter::from_fn(|| self.engine.next_change())
            .filter_map(|change| match change {
                Change::Transition(transition) => Some(transition.to),
                _ => None,
            })
            .collect()
    }

    /// Calls, failures and the streak of the window.
    fn counts(&self) -> (u64, u64, u64) {
        let view = self.engine.view(self.clock().0);
        (view.counts.calls, view.counts.failures, view.streak)
    }
}

fn row(failures: u32) -> Trip {
    Trip::ConsecutiveFailures { failures }
}

fn last(calls: u32, failures: u32) -> Trip {
    Trip::FailureCount { failures, window: Window::Calls(calls), min_calls: 1 }
}

/// Explores all interleavings with up to three preemptions.
fn explore(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

#[test]
fn one_thread_of_two_becomes_the_probe() {
    explore(|| {
        let circuit = Circuit::new(vec![row(1)], 1);
        circuit.call(FAILED);
        circuit.ns.store(30 * SECOND, Ordering::Relaxed);
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.admit());
        let tickets = [circuit.admit(), other.join().unwrap()];
        let admitted: Vec<_> = tickets.iter().flatten().collect();
        assert_eq!(admitted.len(), 1);
        assert_eq!(admitted[0].admission(), Admission::Probe);
        assert_eq!(circuit.went(), [State::Open, State::HalfOpen]);
    });
}

#[test]
fn two_failures_trip_once_and_nobody_passes_afterwards() {
    explore(|| {
        let circuit = Circuit::new(vec![row(2), last(4, 2)], 1);
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.call(FAILED));
        circuit.call(FAILED);
        other.join().unwrap();
        assert!(circuit.admit().is_none());
        assert_eq!(circuit.went(), [State::Open]);
    });
}

#[test]
fn a_result_of_a_cycle_that_is_over_is_in_no_window() {
    for outcome in [FAILED, Outcome::Success] {
        explore(move || {
            let circuit = Circuit::new(vec![last(2, 2), row(2)], 1);
            let late = circuit.admit().unwrap();
            let other = Arc::clone(&circuit);
            let other = loom::thread::spawn(move || other.settle(&late, outcome));
            // Meanwhile it opens, is probed and closes.
            circuit.command(|machine, now| machine.trip("", None, now));
            circuit.command(|machine, now| machine.half_open("", now).unwrap());
            circuit.call(Outcome::Success);
            other.join().unwrap();
            assert_eq!(circuit.counts(), (0, 0, 0));
            assert_eq!(circuit.went(), [State::Open, State::HalfOpen, State::Closed]);
            // It is in the totals.
            assert_eq!(circuit.engine.view(0).requests, 2);
        });
    }
}

#[test]
fn what_a_reset_forgets_does_not_come_back() {
    explore(|| {
        let circuit = Circuit::new(vec![last(2, 2)], 1);
        let late = circuit.admit().unwrap();
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.settle(&late, FAILED));
        circuit.command(|machine, now| machine.reset("", now));
        circuit.call(FAILED);
        other.join().unwrap();
        assert_eq!(circuit.counts(), (1, 1, 1));
        assert!(circuit.went().is_empty());
        circuit.call(FAILED);
        assert_eq!(circuit.went(), [State::Open]);
    });
}

#[test]
fn a_late_call_takes_no_place_in_the_window() {
    explore(|| {
        let circuit = Circuit::new(vec![last(2, 2)], 1);
        let late = circuit.admit().unwrap();
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.settle(&late, Outcome::Success));
        circuit.command(|machine, now| machine.reset("", now));
        circuit.call(FAILED);
        other.join().unwrap();
        // The failure leaves the window when two calls came after it, not later.
        circuit.call(Outcome::Success);
        assert_eq!(circuit.counts(), (2, 1, 0));
        circuit.call(Outcome::Success);
        assert_eq!(circuit.counts(), (2, 0, 0));
    });
}

#[test]
fn a_late_call_takes_no_place_in_a_window_of_time() {
    explore(|| {
        let window = Window::interval(std::time::Duration::from_secs(1));
        let trip = Trip::FailureCount { failures: 9, window, min_calls: 1 };
        let circuit = Circuit::new(vec![trip], 1);
        let late = circuit.admit().unwrap();
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.settle(&late, FAILED));
        circuit.command(|machine, now| machine.reset("", now));
        circuit.call(FAILED);
        other.join().unwrap();
        let (calls, failures, _) = circuit.counts();
        assert_eq!((calls, failures), (1, 1));
    });
}

#[test]
fn the_window_neither_keeps_nor_loses_a_failure() {
    explore(|| {
        // Never trips: more failures than it can hold are needed in a row.
        let circuit = Circuit::new(vec![last(2, 2), row(99)], 1);
        circuit.call(FAILED);
        let other = Arc::clone(&circuit);
        // These two replace the failure, and one of them is one.
        let other = loom::thread::spawn(move || other.call(Outcome::Success));
        circuit.call(Outcome::Success);
        other.join().unwrap();
        assert_eq!(circuit.counts(), (2, 0, 0));
        circuit.call(FAILED);
        circuit.call(Outcome::Success);
        assert_eq!(circuit.counts(), (2, 1, 0));
        assert_eq!(circuit.engine.view(0).requests, 5);
    });
}

#[test]
fn a_failure_beside_successes_without_a_number_is_exactly_in_the_window() {
    explore(|| {
        let circuit = Circuit::new(vec![last(2, 2), row(99)], 1);
        for _ in 0..2 {
            circuit.call(Outcome::Success);
        }
        // Full and clean: these take no number, unless they come after the failure.
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || {
            other.call(Outcome::Success);
            other.call(Outcome::Success);
        });
        circuit.call(FAILED);
        other.join().unwrap();
        let (calls, failures, streak) = circuit.counts();
        assert!(calls == 2 && failures <= 1 && streak <= 1, "{failures} {streak}");
        assert_eq!(circuit.engine.view(0).requests, 5);
        // As many as came after the failure, up to two, and those that come now, replace it.
        circuit.call(Outcome::Success);
        circuit.call(Outcome::Success);
        assert_eq!(circuit.counts(), (2, 0, 0));
        circuit.call(FAILED);
        circuit.call(Outcome::Success);
        assert_eq!(circuit.counts(), (2, 1, 0));
        assert_eq!(circuit.engine.view(0).requests, 9);
    });
}

#[test]
fn two_failures_beside_a_success_without_a_number_open() {
    explore(|| {
        let circuit = Circuit::new(vec![last(2, 2)], 1);
        for _ in 0..2 {
            circuit.call(Outcome::Success);
        }
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.call(Outcome::Success));
        circuit.call(FAILED);
        circuit.call(FAILED);
        other.join().unwrap();
        // Unless the success came between them, or while the second was looked at.
        if circuit.went().is_empty() {
            circuit.call(FAILED);
            circuit.call(FAILED);
            assert_eq!(circuit.went(), [State::Open]);
        }
    });
}

#[test]
fn a_reset_forgets_successes_without_a_number_too_and_counts_them_in_the_total() {
    explore(|| {
        let circuit = Circuit::new(vec![last(1, 1), row(99)], 1);
        circuit.call(Outcome::Success);
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || {
            other.call(Outcome::Success);
            other.call(Outcome::Success);
        });
        circuit.command(|machine, now| machine.reset("", now));
        other.join().unwrap();
        assert_eq!(circuit.engine.view(0).requests, 3);
        let (calls, failures, _) = circuit.counts();
        assert!(calls <= 1 && failures == 0);
    });
}

#[test]
fn calls_of_two_threads_are_all_counted() {
    explore(|| {
        let circuit = Circuit::new(vec![last(3, 3)], 1);
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || {
            other.call(FAILED);
        });
        circuit.call(FAILED);
        circuit.call(Outcome::Success);
        other.join().unwrap();
        let (calls, failures, _) = circuit.counts();
        assert_eq!((calls, failures), (3, 2));
    });
}

#[test]
fn a_probe_of_an_earlier_cycle_frees_no_place() {
    explore(|| {
        let circuit = Circuit::new(vec![row(1)], 1);
        circuit.call(FAILED);
        circuit.ns.store(30 * SECOND, Ordering::Relaxed);
        let hung = circuit.admit().unwrap();
        circuit.command(|machine, now| machine.trip("", None, now));
        circuit.command(|machine, now| machine.half_open("", now).unwrap());
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.settle(&hung, Outcome::Ignore));
        let probe = circuit.admit().unwrap();
        assert!(circuit.admit().is_none());
        other.join().unwrap();
        assert!(circuit.admit().is_none());
        circuit.settle(&probe, Outcome::Success);
        assert!(circuit.admit().is_some());
    });
}

#[test]
fn two_probes_decide_once() {
    explore(|| {
        let circuit = Circuit::new(vec![row(1)], 2);
        circuit.call(FAILED);
        circuit.ns.store(30 * SECOND, Ordering::Relaxed);
        let (a, b) = (circuit.admit().unwrap(), circuit.admit().unwrap());
        circuit.went();
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.settle(&b, FAILED));
        circuit.settle(&a, FAILED);
        other.join().unwrap();
        assert_eq!(circuit.went(), [State::Open]);
        assert_eq!(circuit.engine.view(0).requests, 3);
    });
}

#[test]
fn a_slice_of_time_forgets_no_call_while_it_begins() {
    explore(|| {
        let window = Window::Time { length: std::time::Duration::from_secs(2), slices: 2 };
        let trip = Trip::FailureCount { failures: 9, window, min_calls: 1 };
        let circuit = Circuit::new(vec![trip], 1);
        circuit.call(FAILED);
        circuit.ns.store(2 * SECOND, Ordering::Relaxed);
        let other = Arc::clone(&circuit);
        let other = loom::thread::spawn(move || other.call(FAILED));
        circuit.call(Outcome::Success);
        other.join().unwrap();
        let (calls, failures, _) = circuit.counts();
        assert_eq!((calls, failures), (2, 1));
    });
}
