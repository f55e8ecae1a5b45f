//! Who is measured, each set up for the same job as far as it can be.

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use failsafe::CircuitBreaker as _;
use resurge_breaker::{Breaker, BreakerConfig, BreakerLayer, Rate, Trip, Window};
use tower::Layer;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use crate::measure::Case;
use crate::poll::{Echo, drive, request};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longer than everything here takes, so that no call leaves it.
const WINDOW: Duration = Duration::from_secs(600);

/// Calls in the time windows before the first one is measured.
const CALLS_IN_WINDOW: u32 = 40_000;

const OPEN_FOR: Duration = Duration::from_secs(30);

fn success() -> std::result::Result<u64, Infallible> {
    Ok(black_box(7))
}

/// A call that was let through; one that was not would be cheap for the wrong reason.
fn passed(ok: bool) {
    assert!(black_box(ok), "a closed breaker refused a call");
}

/// The same call in every thread.
fn shared(name: &'static str, call: impl Fn() -> bool + Send + Sync + 'static) -> Case {
    let call = Arc::new(call);
    Case::new(name, move || {
        let call = Arc::clone(&call);
        move || passed(call())
    })
}

/// A clone of the service in every thread.
fn service<S>(name: &'static str, service: S) -> Case
where
    S: tower::Service<u64, Response = u64> + Clone + Send + Sync + 'static,
{
    Case::new(name, move || {
        let mut service = service.clone();
        move || passed(request(&mut service))
    })
}

fn ours(trip: Trip) -> Result<Breaker> {
    let config = BreakerConfig { trip: vec![trip], ..BreakerConfig::default() };
    Ok(Breaker::builder("bench").config(config).build()?)
}

fn half_of(window: Window) -> Trip {
    Trip::FailureRate { rate: Rate::HALF, window, min_calls: 100 }
}

fn breaker_crate() -> breaker::CircuitBreaker {
    let config = breaker::CircuitBreakerConfig::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .minimum_calls(100)
        .wait_duration(OPEN_FOR)
        .build();
    breaker::CircuitBreaker::new(config)
}

/// What everything is compared with.
pub fn floor() -> Vec<Case> {
    let count = AtomicU64::new(0);
    vec![
        shared("one atomic add", move || {
            black_box(count.fetch_add(1, Ordering::SeqCst));
            true
        }),
        shared("the call alone", || success().is_ok()),
    ]
}

/// A plain call. Half of the last 100 calls open the circuit, or failures in a row.
pub fn calls() -> Result<Vec<Case>> {
    let streak = ours(Trip::ConsecutiveFailures { failures: 5 })?;
    let window = ours(half_of(Window::Calls(100)))?;
    let backoff = failsafe::backoff::constant(OPEN_FOR);
    let failsafe_streak = failsafe::Config::new()
        .failure_policy(failsafe::failure_policy::consecutive_failures(5, backoff))
        .build();
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let rs = circuitbreaker_rs::BreakerBuilder::<_, Infallible>::new()
        .failure_threshold(0.5)
        .min_throughput(100)
        .build();
    Ok(vec![
        shared("resurge, in a row", move || streak.call(success).is_ok()),
        shared("resurge, of 100 calls", move || window.call(success).is_ok()),
        shared("failsafe, in a row", move || failsafe_streak.call(success).is_ok()),
        shared("recloser, of 100 calls", move || recloser.call(success).is_ok()),
        shared("circuitbreaker-rs, rate", move || rs.call(success).is_ok()),
    ])
}

/// A future that is ready. Half of the last 100 calls open the circuit.
pub fn futures() -> Result<Vec<Case>> {
    let window = ours(half_of(Window::Calls(100)))?;
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let recloser = recloser::AsyncRecloser::from(recloser);
    let breaker = breaker_crate();
    Ok(vec![
        shared("resurge, of 100 calls", move || drive(window.run(async { success() })).is_ok()),
        shared("recloser, of 100 calls", move || drive(recloser.call(ready(success()))).is_ok()),
        shared("breaker, of 100 calls", move || drive(breaker.call(|| ready(success()))).is_ok()),
    ])
}

/// A request through a layer, around a service that costs nothing.
pub fn layers() -> Result<Vec<Case>> {
    let resurge = BreakerLayer::new(ours(half_of(Window::Calls(100)))?);
    let breaker = breaker::BreakerLayer::new(breaker_crate());
    let resilience = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .minimum_number_of_calls(100)
        .build()?;
    Ok(vec![
        service("the service alone", Echo),
        service("resurge, of 100 calls", resurge.layer(Echo)),
        service("breaker, of 100 calls", breaker.layer(Echo)),
        service("tower-resilience, of 100", resilience.layer(Echo)),
    ])
}

/// The same with a time window that is full of calls.
pub fn time_windows() -> Result<Vec<Case>> {
    let window = ours(half_of(Window::time(WINDOW)))?;
    let layer = BreakerLayer::new(window.clone()).layer(Echo);
    let backoff = failsafe::backoff::constant(OPEN_FOR);
    let policy = failsafe::failure_policy::success_rate_over_time_window(0.5, 100, WINDOW, backoff);
    let failsafe = failsafe::Config::new().failure_policy(policy).build();
    let mut resilience = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(WINDOW)
        .minimum_number_of_calls(100)
        .build()?
        .layer(Echo);
    for _ in 0..CALLS_IN_WINDOW {
        passed(window.call(success).is_ok());
        passed(failsafe.call(success).is_ok());
        passed(request(&mut resilience));
    }
    Ok(vec![
        shared("resurge", move || window.call(success).is_ok()),
        service("resurge, as a layer", layer),
        shared("failsafe", move || failsafe.call(success).is_ok()),
        service("tower-resilience (a layer)", resilience),
    ])
}
