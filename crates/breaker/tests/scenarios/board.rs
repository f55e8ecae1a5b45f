//! The language of the table: a breaker, a clock, and steps written as in the scenarios.

use std::time::Duration;

use resurge_breaker::{
    Breaker, BreakerConfig, BreakerEvent, Events, FailureKind, HalfOpenConfig, OpenConfig, Permit,
    Rate, Reason, State, Trip, Verdict, Window,
};
use resurge_store::VirtualClock;

/// A breaker under test.
pub(crate) struct Board {
    pub(crate) breaker: Breaker,
    pub(crate) clock: VirtualClock,
    pub(crate) held: Vec<Permit>,
    pub(crate) events: Events,
    /// Calls that ran.
    pub(crate) executions: u64,
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn percent(n: u32) -> Rate {
    Rate::percent(n).unwrap()
}

/// The failure rate of the last `n` calls.
pub(crate) fn last(n: u32, percentage: u32, min_calls: u32) -> Trip {
    Trip::FailureRate { rate: percent(percentage), window: Window::Calls(n), min_calls }
}

/// The failure rate of the last seconds, in slices of one second.
pub(crate) fn within(seconds: u32, percentage: u32, min_calls: u32) -> Trip {
    let window = Window::Time { length: secs(seconds.into()), slices: seconds };
    Trip::FailureRate { rate: percent(percentage), window, min_calls }
}

pub(crate) fn in_a_row(failures: u32) -> Trip {
    Trip::ConsecutiveFailures { failures }
}

/// Opens for 5 s each time, one probe decides.
pub(crate) fn config(trip: Trip) -> BreakerConfig {
    BreakerConfig {
        trip: vec![trip],
        open: OpenConfig { initial: secs(5), factor: 1.0, ..OpenConfig::default() },
        half_open: all_of(1),
        ..BreakerConfig::default()
    }
}

pub(crate) fn all_of(n: u32) -> HalfOpenConfig {
    HalfOpenConfig {
        probes: n,
        verdict: Verdict::AllOf { successes: n },
        ..HalfOpenConfig::default()
    }
}

pub(crate) fn rate_of(n: u32, failure: u32) -> HalfOpenConfig {
    let verdict = Verdict::Rate { failure: percent(failure), slow: None };
    HalfOpenConfig { probes: n, verdict, ..HalfOpenConfig::default() }
}

impl Board {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        let clock = VirtualClock::new();
        let breaker =
            Breaker::builder("board").config(config).clock(clock.clone()).build().unwrap();
        let events = breaker.subscribe();
        Self { breaker, clock, held: Vec::new(), events, executions: 0 }
    }

    /// Steps, separated by spaces:
    /// `S F I` a call that succeeds, fails, is ignored, when it is admitted; `SSS` three of them;
    /// `acq` a permit that is kept, `acq!` one that must be refused, `rel` the oldest one dropped,
    /// `okS okF okI` the oldest one reported; `np!` a call that must be refused;
    /// `+1s +300ms` time; `CL OP HO RE` the state that calls meet.
    pub(crate) fn run(&mut self, steps: &str) -> &mut Self {
        for (i, step) in steps.split_whitespace().enumerate() {
            let at = || format!("step {i} `{step}` of `{steps}`");
            match step {
                "CL" => assert_eq!(self.breaker.state(), State::Closed, "{}", at()),
                "OP" => assert_eq!(self.breaker.state(), State::Open, "{}", at()),
                "HO" => assert_eq!(self.breaker.state(), State::HalfOpen, "{}", at()),
                "RE" => assert_eq!(self.breaker.state(), State::Repairing, "{}", at()),
                "acq" => {
                    let permit = self.breaker.acquire().unwrap_or_else(|e| panic!("{}: {e}", at()));
                    self.held.push(permit);
                }
                "acq!" | "np!" => assert!(self.breaker.acquire().is_err(), "{}", at()),
                "rel" => drop(self.held.remove(0)),
                "okS" => self.held.remove(0).success(),
                "okF" => self.held.remove(0).failure(FailureKind::Error),
                "okI" => self.held.remove(0).ignore(),
                time if time.starts_with('+') => {
                    self.clock.advance(humantime::parse_duration(&time[1..]).unwrap());
                }
                calls => {
                    for call in calls.chars() {
                        self.call(call);
                    }
                }
            }
        }
        self
    }

    fn call(&mut self, call: char) {
        let Ok(permit) = self.breaker.acquire() else { return };
        self.executions += 1;
        match call {
            'S' => permit.success(),
            'F' => permit.failure(FailureKind::Error),
            'I' => permit.ignore(),
            other => panic!("no such step: {other}"),
        }
    }

    /// A call that takes this long.
    pub(crate) fn takes(&mut self, call: char, duration: Duration) -> &mut Self {
        self.run("acq");
        self.clock.advance(duration);
        self.run(&format!("ok{call}"))
    }

    /// The states it went to since the last time, in order.
    pub(crate) fn went(&mut self) -> Vec<State> {
        std::iter::from_fn(|| self.events.try_recv())
            .filter_map(|event| match event {
                BreakerEvent::Transition(transition) => Some(transition.to),
                _ => None,
            })
            .collect()
    }

    /// What it would have tripped by, since the last time.
    pub(crate) fn would_trip(&mut self) -> Vec<Reason> {
        std::iter::from_fn(|| self.events.try_recv())
            .filter_map(|event| match event {
                BreakerEvent::WouldTrip(reason) => Some(reason),
                _ => None,
            })
            .collect()
    }

    /// Calls, failures and slow calls in the window.
    pub(crate) fn window(&self) -> (u64, u64, u64) {
        let window = self.breaker.metrics().window;
        (window.calls, window.failures, window.slow)
    }

    /// The failure rate in percent, rounded down; none before it is defined.
    pub(crate) fn rate(&self) -> Option<u64> {
        let window = self.breaker.metrics().window;
        let rate = window.failure_rate?;
        let percent = window.failures * 100 / window.calls;
        assert!((rate * 100.0).floor().to_string() == percent.to_string(), "{rate}");
        Some(percent)
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.breaker.metrics().rejected
    }
}
