//! The tasks of one resource: one that repairs, one that checks its health.

use std::sync::Arc;
use std::time::Duration;

use resurge_breaker::{BreakerEvent, FailureKind, Mode, State};
use resurge_store::Monotonic;
use tokio::sync::watch;

use crate::alert::AlertKind;
use crate::attempt;
use crate::catch::{caught, message};
use crate::config::OnHealthy;
use crate::failure::Failure;
use crate::health::{Verdict, report};
use crate::machine::Next;
use crate::meters;
use crate::repairable::Health;
use crate::resource::{Resource, Shared};

/// Resolves when it is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender is gone: nobody wants it to go on either.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Repairs: the only task that does, so one repair at a time is under way.
pub(crate) async fn keep(
    shared: Arc<Shared>,
    resource: Arc<Resource>,
    mut events: resurge_breaker::Events,
    mut stop: watch::Receiver<bool>,
) {
    hear_all(&shared, &resource, &mut events);
    let state = resource.breaker.state();
    let open_for = resource.breaker.retry_after().filter(|_| state == State::Open);
    resource.machine.lock().watch(state, open_for, shared.at());
    loop {
        hear_all(&shared, &resource, &mut events);
        let next = decide(&shared, &resource);
        shared.publish_later(&resource);
        match next {
            Next::Attempt => {
                let room = tokio::select! {
                    biased;
                    () = stopped(&mut stop) => return,
                    room = shared.repairs.acquire() => room,
                };
                attempt::make(&shared, &resource, &mut events, &mut stop).await;
                drop(room);
            }
            Next::Wait(until) => {
                let time = async {
                    match until {
                        Some(until) => shared.clock.sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = stopped(&mut stop) => return,
                    event = events.recv() => match event {
                        Some(event) => heard(&shared, &resource, &event),
                        None => return,
                    },
                    () = resource.woken.notified() => {}
                    () = time => {}
                }
            }
        }
        if *stop.borrow() {
            return;
        }
    }
}

/// Everything the breaker said up to now.
pub(crate) fn hear_all(shared: &Shared, resource: &Resource, events: &mut resurge_breaker::Events) {
    while let Some(event) = events.try_recv() {
        heard(shared, resource, &event);
    }
}

/// The breaker said something.
pub(crate) fn heard(shared: &Shared, resource: &Resource, event: &BreakerEvent) {
    match event {
        BreakerEvent::Transition(transition) => {
            resource.machine.lock().moved(transition, shared.at());
        }
        BreakerEvent::Lagged(_) => {
            resource.machine.lock().missed(resource.breaker.state(), shared.at());
        }
        _ => {}
    }
}

fn decide(shared: &Shared, resource: &Resource) -> Next {
    let now = shared.at();
    let seen = resource.seen();
    let mut machine = resource.machine.lock();
    machine.look(&seen, now);
    // In another mode, somebody else decides.
    let next = match resource.breaker.mode() {
        Mode::Active => machine.next(resource.breaker.state(), now),
        _ => Next::Wait(None),
    };
    let Next::Wait(until) = next else { return next };
    let thresholds = &shared.config.alerts;
    let raised =
        machine.alarms.raised().iter().any(|a| matches!(a, AlertKind::RecoveryTime { .. }));
    let overdue = match seen.down_for {
        Some(down_for) if shared.config.alerting && !raised => {
            Some(now.mono.saturating_add(thresholds.recovery_time.saturating_sub(down_for)))
        }
        _ => None,
    };
    Next::Wait(earlier(until, overdue))
}

fn earlier(a: Option<Monotonic>, b: Option<Monotonic>) -> Option<Monotonic> {
    [a, b].into_iter().flatten().min()
}

/// Checks health, one check at a time, whatever the circuit's state, and not through the breaker.
pub(crate) async fn watch_health(
    shared: Arc<Shared>,
    resource: Arc<Resource>,
    mut stop: watch::Receiver<bool>,
) {
    let checking = async {
        let config = &resource.health_config;
        if !config.initial_delay.is_zero() {
            shared.clock.sleep(config.initial_delay).await;
        }
        loop {
            check(&shared, &resource).await;
            shared.clock.sleep(pause(&shared, config.interval, config.jitter)).await;
        }
    };
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
        () = checking => {}
    }
}

fn pause(shared: &Shared, interval: Duration, jitter: f64) -> Duration {
    // Without randomness there is no jitter, which is no reason to fail.
    let random = shared.store.entropy().next_u64().unwrap_or_default() >> 40;
    let random = f64::from(u32::try_from(random).unwrap_or_default()) / f64::from(1 << 24);
    interval.mul_f64(1.0 - jitter * random)
}

async fn check(shared: &Arc<Shared>, resource: &Resource) {
    let Ok(room) = shared.checks.acquire().await else { return };
    let config = &resource.health_config;
    let began = shared.clock.monotonic();
    let found = tokio::select! {
        biased;
        found = caught(look(resource)) => {
            found.unwrap_or_else(|panic| Health::unhealthy(message(&panic.payload)))
        }
        () = shared.clock.sleep(config.timeout) => {
            let limit = humantime::format_duration(config.timeout);
            Health::unhealthy(format!("the check took longer than {limit}"))
        }
    };
    drop(room);
    let now = shared.at();
    let report = report(found, now.wall, now.mono.saturating_since(began), config);
    meters::health(report.healthy);
    resource.breaker.note_health(report.healthy);
    let (took, why) = (report.duration, report.message.clone());
    let (verdict, fails) = {
        let mut health = resource.health.lock();
        let verdict = health.record(report, config);
        (verdict, health.consecutive_fails)
    };
    if resource.breaker.mode() == Mode::Active {
        match verdict {
            Verdict::Undecided => {}
            Verdict::Healthy => healthy(shared, resource),
            Verdict::Unhealthy => {
                let failure = Failure::new(FailureKind::HealthCheck, why)
                    .context("consecutive_failures", fails.to_string())
                    .context("check_duration", took.to_string());
                unhealthy(shared, resource, failure, fails);
            }
        }
    }
    resource.wake();
}

/// All checks of a resource, one after the other, up to the first that is not content.
async fn look(resource: &Resource) -> Health {
    let mut all = match resource.registration.resource.health().await {
        Ok(health) => health,
        Err(error) => return Health::unhealthy(error.to_string()),
    };
    for (name, check) in &resource.registration.checks {
        if !all.healthy {
            break;
        }
        let found = check().await.unwrap_or_else(|error| Health::unhealthy(error.to_string()));
        all.healthy = found.healthy;
        if !found.healthy {
            all.message = format!("{name}: {}", found.message);
        }
        let details =
            found.details.into_iter().map(|(key, value)| (format!("{name}.{key}"), value));
        all.details.extend(details);
    }
    all
}

fn healthy(shared: &Shared, resource: &Resource) {
    if resource.machine.lock().is_suspended(shared.at()) {
        return;
    }
    let (breaker, state) = (&resource.breaker, resource.breaker.state());
    match resource.health_config.on_healthy {
        OnHealthy::HalfOpen if state == State::Open => {
            // It closed meanwhile: all the better.
            let _ = breaker.half_open("healthy again");
        }
        OnHealthy::Close if matches!(state, State::Open | State::HalfOpen) => {
            breaker.reset("healthy again");
        }
        _ => {}
    }
}

fn unhealthy(shared: &Arc<Shared>, resource: &Resource, failure: Failure, fails: u32) {
    let state = resource.breaker.state();
    if !matches!(state, State::Closed | State::HalfOpen) {
        return;
    }
    let now = shared.at();
    resource.machine.lock().record(failure.noted(now.wall), state, now);
    resource.breaker.trip(&format!("{fails} health checks failed"));
    shared.publish_later(resource);
}
