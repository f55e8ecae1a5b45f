//! The breaker beside a naive one that keeps every outcome in a list, on random lives; and the same with
//! mistakes planted in the naive one, each of which must be noticed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod naive;

use std::time::Duration;

use naive::{Bug, Naive, Ticket};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRng, TestRunner};
use resurge_breaker::{
    Breaker, BreakerConfig, FailureKind, HalfOpenConfig, Mode, OnMaxWait, OpenConfig, Outcome,
    Permit, Rate, Trip, Verdict, Window,
};
use resurge_store::VirtualClock;

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// Report the oldest, or else the newest, permit.
    Settle(bool, Outcome),
    /// Drop the oldest, or else the newest, permit.
    Drop(bool),
    /// Acquire and report.
    Call(Outcome),
    /// So many calls that succeed, one after the other.
    Well(u32),
    Advance(u64),
    Trip,
    TripFor(u64),
    Reset,
    HalfOpen,
    Mode(Mode),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        8 => Just(Outcome::Success),
        8 => Just(Outcome::Failure(FailureKind::Error)),
        1 => Just(Outcome::Ignore),
        1 => (1..2_000_u64)
            .prop_map(|ms| Outcome::OpenFor(FailureKind::Error, Duration::from_millis(ms))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        3 => Just(Mode::Active),
        1 => Just(Mode::Shadow),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::Disabled),
    ];
    prop_oneof![
        10 => Just(Step::Acquire),
        10 => (any::<bool>(), outcome()).prop_map(|(oldest, outcome)| Step::Settle(oldest, outcome)),
        2 => any::<bool>().prop_map(Step::Drop),
        30 => outcome().prop_map(Step::Call),
        5 => (2..16_u32).prop_map(Step::Well),
        12 => prop_oneof![0..100_u64, Just(500), 400..600_u64, 900..1_100_u64, 0..4_000_u64]
            .prop_map(Step::Advance),
        1 => Just(Step::Trip),
        1 => (1..3_000_u64).prop_map(Step::TripFor),
        1 => Just(Step::Reset),
        1 => Just(Step::HalfOpen),
        1 => mode.prop_map(Step::Mode),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1..12_u32).prop_map(Window::Calls),
        (1..4_u64, 1..6_u32).prop_map(|(seconds, slices)| Window::Time {
            length: Duration::from_secs(seconds),
            slices
        }),
    ]
}

fn trip() -> impl Strategy<Value = Trip> {
    let rate = || (1..=100_u32).prop_map(|percent| Rate::percent(percent).unwrap());
    prop_oneof![
        (2..6_u32).prop_map(|failures| Trip::ConsecutiveFailures { failures }),
        (1..5_u32, window(), 1..8_u32).prop_map(|(failures, window, min_calls)| {
            let failures = match window {
                Window::Calls(calls) => failures.min(calls),
                _ => failures,
            };
            Trip::FailureCount { failures, window, min_calls }
        }),
        (rate(), window(), 1..8_u32).prop_map(|(rate, window, min_calls)| Trip::FailureRate {
            rate,
            window,
            min_calls
        }),
        (rate(), window(), 1..8_u32).prop_map(|(rate, window, min_calls)| Trip::SlowRate {
            rate,
            window,
            min_calls
        }),
    ]
}

fn half_open() -> impl Strategy<Value = HalfOpenConfig> {
    (1..5_u32, any::<bool>(), 1..5_u32, any::<bool>(), any::<bool>()).prop_map(
        |(probes, all, less, alone, close)| {
            let verdict = if all {
                Verdict::AllOf { successes: less.min(probes) }
            } else {
                Verdict::Rate { failure: Rate::HALF, slow: Some(Rate::HALF) }
            };
            HalfOpenConfig {
                probes,
                concurrent: alone.then_some(1),
                max_wait: Some(Duration::from_millis(1_500)),
                on_max_wait: if close { OnMaxWait::Close } else { OnMaxWait::Open },
                verdict,
                automatic: false,
            }
        },
    )
}

prop_compose! {
    fn config()(
        trips in proptest::collection::vec(trip(), 1..3),
        half_open in half_open(),
        factor in 0..3_u32,
        decay in any::<bool>(),
        timed in any::<bool>(),
    ) -> BreakerConfig {
        let open = OpenConfig {
            initial: Duration::from_secs(1),
            factor: 1.0 + f64::from(factor) / 2.0,
            max: Duration::from_secs(4),
            decay: decay.then_some(Duration::from_secs(2)),
            ..OpenConfig::default()
        };
        // Without it calls take the shortest way through.
        let slow = |rule: &Trip| matches!(rule, Trip::SlowRate { .. });
        let timed = timed || trips.iter().any(slow);
        let slow_after = timed.then_some(Duration::from_millis(500));
        let mut half_open = half_open;
        if let (false, Verdict::Rate { slow, .. }) = (timed, &mut half_open.verdict) {
            *slow = None;
        }
        BreakerConfig { trip: trips, half_open, slow_after, open, ..BreakerConfig::default() }
    }
}

/// Lives one life twice and compares after every step.
fn live(config: BreakerConfig, steps: &[Step], bug: Option<Bug>) -> Result<(), TestCaseError> {
    if config.check().is_err() {
        return Ok(());
    }
    let clock = VirtualClock::new();
    let builder = Breaker::builder("model").config(config.clone()).clock(clock.clone());
    let breaker = builder.build().unwrap();
    let mut naive = Naive::new(config, bug);
    let mut held: Vec<(Option<Permit>, Option<Ticket>)> = Vec::new();
    let pick = |held: &mut Vec<(Option<Permit>, Option<Ticket>)>, oldest: bool| {
        if held.is_empty() {
            return (None, None);
        }
        if oldest { held.remove(0) } else { held.pop().unwrap() }
    };
    let settle = |naive: &mut Naive, permit: Option<Permit>, ticket: Option<Ticket>, outcome| {
        if let Some(permit) = permit {
            permit.settle(outcome);
        }
        if let Some(ticket) = ticket {
            naive.settle(ticket, outcome);
        }
    };
    for (i, step) in steps.iter().enumerate() {
        match *step {
            Step::Acquire | Step::Call(_) => {
                let permit = breaker.acquire().ok();
                let ticket = naive.acquire();
                prop_assert_eq!(permit.is_some(), ticket.is_some(), "step {}: {:?}", i, step);
                match *step {
                    Step::Call(outcome) => settle(&mut naive, permit, ticket, outcome),
                    _ => held.push((permit, ticket)),
                }
            }
            Step::Well(calls) => {
                for _ in 0..calls {
                    let (permit, ticket) = (breaker.acquire().ok(), naive.acquire());
                    prop_assert_eq!(permit.is_some(), ticket.is_some(), "step {}: {:?}", i, step);
                    settle(&mut naive, permit, ticket, Outcome::Success);
                }
            }
            Step::Settle(oldest, outcome) => {
                let (permit, ticket) = pick(&mut held, oldest);
                settle(&mut naive, permit, ticket, outcome);
            }
            Step::Drop(oldest) => {
                let (permit, ticket) = pick(&mut held, oldest);
                drop(permit);
                if let Some(ticket) = ticket {
                    naive.drop(ticket);
                }
            }
            Step::Advance(ms) => {
                clock.advance(Duration::from_millis(ms));
                naive.advance(ms);
            }
            Step::Trip => {
                breaker.trip("");
                naive.trip(None);
            }
            Step::TripFor(ms) => {
                breaker.trip_for("", Duration::from_millis(ms));
                naive.trip(Some(ms));
            }
            Step::Reset => {
                breaker.reset("");
                naive.reset();
            }
            Step::HalfOpen => {
                let ours = breaker.half_open("").is_ok();
                prop_assert_eq!(ours, naive.half_open(), "step {}", i);
            }
            Step::Mode(mode) => {
                breaker.set_mode(mode);
                naive.set_mode(mode);
            }
        }
        let metrics = breaker.metrics();
        let at = || format!("after step {i}: {step:?}");
        prop_assert_eq!(breaker.state(), naive.effective_state(), "{}", at());
        let totals = (metrics.total_requests, metrics.total_failures);
        prop_assert_eq!(totals, (naive.requests, naive.failures), "{}", at());
        prop_assert_eq!(metrics.attempt, naive.attempt, "{}", at());
        if let Some(counts) = naive.window() {
            let window = metrics.window;
            prop_assert_eq!((window.calls, window.failures, window.slow), counts, "{}", at());
            prop_assert_eq!(metrics.consecutive_failures, naive.streak, "{}", at());
        }
        let retry_after = breaker.retry_after().map(|after| after.as_millis());
        prop_assert_eq!(retry_after, naive.retry_after(), "{}", at());
    }
    Ok(())
}

fn lives() -> impl Strategy<Value = (BreakerConfig, Vec<Step>)> {
    (config(), proptest::collection::vec(step(), 1..80))
}

const LIVES: u32 = 2_000;

#[test]
fn it_does_what_the_naive_one_does() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: LIVES, failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    runner.run(&lives(), |(config, steps)| live(config, &steps, None)).unwrap();
    resurge_testkit::evidence("breaker-model", &format!("{LIVES} random lives, 0 differences"));
}

#[test]
fn every_planted_mistake_is_noticed() {
    let missed: Vec<_> = Bug::ALL
        .iter()
        .filter(|bug| {
            let mut runner = TestRunner::new_with_rng(
                Config {
                    cases: LIVES,
                    failure_persistence: None,
                    max_shrink_iters: 0,
                    ..Config::default()
                },
                TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
            );
            runner.run(&lives(), |(config, steps)| live(config, &steps, Some(**bug))).is_ok()
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
    let line = format!("{0} of {0} planted mistakes noticed", Bug::ALL.len());
    resurge_testkit::evidence("breaker-planted-mistakes", &line);
}
