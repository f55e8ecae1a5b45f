//! Health checks: what they see, and what they do about it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_breaker::{FailureKind, Mode, State};
use resurge_supervisor::{
    AuditEvent, BoxError, Health, OnHealthy, Registration, ResourceConfig, SupervisorConfig,
};

use crate::world::{Fake, Handle, World, config, secs};

/// Checked every ten seconds, the first time at once.
fn checked() -> SupervisorConfig {
    let mut config = SupervisorConfig { health_checking: true, ..config() };
    config.health.interval = secs(10);
    config.health.timeout = secs(2);
    config.health.on_healthy = OnHealthy::Nothing;
    config
}

impl World {
    /// One more check, which finds it so.
    async fn check(&self, healthy: bool) {
        self.fake.sick.store(!healthy, Ordering::SeqCst);
        self.advance(secs(10)).await;
    }
}

#[tokio::test]
async fn ra5_three_failed_checks_in_a_row_repair_it_and_a_good_one_counts_from_the_start() {
    let world = World::new(checked(), Fake::new()).await;
    world.settle().await;
    for healthy in [false, false, true, false, false] {
        world.check(healthy).await;
        assert_eq!(world.state(), State::Closed);
    }
    assert_eq!(world.mailer().health_check.consecutive_fails, 2);
    world.check(false).await;
    world.advance(secs(1)).await;
    let trail = world.trail().await;
    let failure = trail.iter().find_map(|event| match event {
        AuditEvent::Began { failure, strategy, .. } => Some((failure.clone(), strategy.clone())),
        _ => None,
    });
    let (failure, strategy) = failure.unwrap();
    assert_eq!((failure.kind, &*strategy), (FailureKind::HealthCheck, "restart"));
    assert_eq!((&*failure.message, failure.recoverable), ("fever", true));
    assert_eq!(failure.context["consecutive_failures"], "3");
    assert!(failure.context.contains_key("check_duration"));
    world.check(true).await;
    let health = world.mailer().health_check;
    assert_eq!(health.consecutive_fails, 0);
    let report = health.last_result.unwrap();
    assert!(report.healthy);
    assert_eq!(report.details["pulse"], "60");
}

#[tokio::test]
async fn c77_a_check_that_hangs_panics_or_errs_has_failed() {
    let world = World::new(checked(), Fake::new()).await;
    world.settle().await;
    world.fake.hangs(&["health"]);
    world.clock.advance(secs(10));
    world.settle().await;
    assert_eq!(world.mailer().health_check.consecutive_fails, 0, "not yet");
    world.advance(secs(2)).await;
    let health = world.mailer().health_check;
    assert_eq!(health.consecutive_fails, 1);
    assert_eq!(health.last_result.unwrap().message, "the check took longer than 2s");
    world.fake.hangs(&[]);
    world.fake.panicking.store(true, Ordering::SeqCst);
    world.advance(secs(10)).await;
    let health = world.mailer().health_check;
    assert_eq!(health.consecutive_fails, 2);
    assert_eq!(health.last_result.unwrap().message, "panicked: it panics");
    world.fake.panicking.store(false, Ordering::SeqCst);
    world.fake.breaks(&["health"]);
    world.advance(secs(10)).await;
    assert_eq!(world.mailer().health_check.consecutive_fails, 3);
    assert_ne!(world.state(), State::Closed);
}

#[tokio::test]
async fn c77_checks_go_on_while_it_is_down_and_not_through_the_breaker() {
    let world =
        World::new(SupervisorConfig { auto_recovery: false, ..checked() }, Fake::new()).await;
    world.manager.breaker("mailer").unwrap().trip_for("test", secs(3_600));
    world.settle().await;
    let before = world.fake.checks.load(Ordering::SeqCst);
    for _ in 0..5 {
        world.check(true).await;
    }
    assert_eq!(world.fake.checks.load(Ordering::SeqCst), before + 5);
    let metrics = world.manager.breaker("mailer").unwrap().metrics();
    assert_eq!((metrics.rejected, metrics.total_requests), (0, 0));
    assert_eq!(metrics.health_check_success, Some(true));
    assert_eq!(metrics.state, State::Open);
}

#[tokio::test]
async fn a_repair_that_leaves_it_sick_is_found_out_by_the_next_check() {
    let world = World::new(checked(), Fake::new()).await;
    world.settle().await;
    for _ in 0..3 {
        world.check(false).await;
    }
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart"], "and no caller to probe it");
    world.check(false).await;
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["restart", "reload"]);
}

#[tokio::test]
async fn ra5_no_more_checks_at_once_than_allowed_and_never_two_of_one() {
    let config = SupervisorConfig { health_concurrency: 2, ..checked() };
    let world = World::new(config, Fake::new().hangs(&["health"])).await;
    for n in 0..5 {
        let other = Registration::new(Handle(Arc::clone(&world.fake)));
        world.manager.register(&format!("other-{n}"), other).unwrap();
    }
    world.settle().await;
    assert_eq!(world.fake.at_once.load(Ordering::SeqCst), 2);
    for _ in 0..20 {
        world.advance(secs(1)).await;
    }
    assert_eq!(world.fake.most_at_once.load(Ordering::SeqCst), 2);
    assert!(world.fake.checks.load(Ordering::SeqCst) >= 6, "all have their turn");

    let fake = Fake::new().hangs(&["health"]);
    let alone = World::new(checked(), Arc::clone(&fake)).await;
    for _ in 0..30 {
        alone.advance(secs(1)).await;
    }
    assert_eq!(fake.most_at_once.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_check_of_ones_own_counts_like_the_resources() {
    let world = World::new(checked(), Fake::new()).await;
    let own = Registration::new(Handle(Fake::new())).check("queue", || async {
        Ok::<_, BoxError>(Health::unhealthy("too long").detail("length", "9000"))
    });
    world.manager.register("queue", own).unwrap();
    world.settle().await;
    let report = world.manager.status().plugins["queue"].health_check.last_result.clone().unwrap();
    assert!(!report.healthy);
    assert_eq!(report.message, "queue: too long");
    assert_eq!((&*report.details["queue.length"], &*report.details["pulse"]), ("9000", "60"));
}

#[tokio::test]
async fn nobody_overrides_what_people_decided_about_a_circuit() {
    let world = World::new(checked(), Fake::new()).await;
    world.manager.breaker("mailer").unwrap().set_mode(Mode::Shadow);
    world.settle().await;
    for _ in 0..5 {
        world.check(false).await;
    }
    assert!(world.tried().await.is_empty());
    world.manager.breaker("mailer").unwrap().set_mode(Mode::ForcedOpen);
    world.advance(secs(60)).await;
    assert!(world.tried().await.is_empty());
    assert_eq!(world.state(), State::Open);
}

/// How a circuit stands after a good check while it was open.
async fn after_a_good_check(on_healthy: OnHealthy) -> State {
    let mut config = SupervisorConfig { auto_recovery: false, ..checked() };
    config.health.on_healthy = on_healthy;
    config.health.initial_delay = secs(1);
    let world = World::new(config, Fake::new()).await;
    world.manager.breaker("mailer").unwrap().trip_for("test", secs(3_600));
    world.advance(secs(1)).await;
    world.state()
}

#[tokio::test]
async fn knob_health_on_healthy() {
    assert_eq!(after_a_good_check(OnHealthy::Nothing).await, State::Open);
    assert_eq!(after_a_good_check(OnHealthy::HalfOpen).await, State::HalfOpen);
    assert_eq!(after_a_good_check(OnHealthy::Close).await, State::Closed);
}

#[tokio::test]
async fn a_good_check_does_not_end_a_suspension() {
    let mut config = checked();
    config.health.on_healthy = OnHealthy::Close;
    let backoff = config.strategies.entry("backoff".to_owned()).or_default();
    backoff.priority = Some(1_000);
    backoff.suspend.initial = secs(100);
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    world.check(true).await;
    assert_eq!(world.state(), State::Open);
    for _ in 0..9 {
        world.check(true).await;
    }
    world.check(true).await;
    assert_eq!(world.state(), State::Closed);
}

#[tokio::test]
async fn knob_health_successes() {
    let mut config = SupervisorConfig { auto_recovery: false, ..checked() };
    config.health.on_healthy = OnHealthy::Close;
    config.health.successes = 2;
    let world = World::new(config, Fake::new()).await;
    world.settle().await;
    world.check(false).await;
    world.manager.breaker("mailer").unwrap().trip_for("test", secs(3_600));
    world.check(true).await;
    assert_eq!(world.state(), State::Open, "one is not enough");
    world.check(true).await;
    assert_eq!(world.state(), State::Closed);
}

#[tokio::test]
async fn knob_health_interval_initial_delay_jitter_and_check_type() {
    let mut config = checked();
    config.health.initial_delay = secs(7);
    config.health.check_type = "deep".to_owned();
    let world = World::new(config.clone(), Fake::new()).await;
    world.advance(secs(6)).await;
    assert_eq!(world.fake.checks.load(Ordering::SeqCst), 0);
    world.advance(secs(1)).await;
    assert_eq!(world.fake.checks.load(Ordering::SeqCst), 1);
    assert_eq!(world.mailer().health_check.last_result.unwrap().check_type, "deep");
    world.advance(secs(9)).await;
    assert_eq!(world.fake.checks.load(Ordering::SeqCst), 1);
    world.advance(secs(1)).await;
    assert_eq!(world.fake.checks.load(Ordering::SeqCst), 2);

    config.health.jitter = 1.0; // takes off half of it on the average
    let world = World::new(config, Fake::new()).await;
    for _ in 0..1_007 {
        world.clock.advance(secs(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    assert!(world.fake.checks.load(Ordering::SeqCst) > 120);
}

#[tokio::test]
async fn knob_health_max_failures_and_health_checking_also_for_one_resource() {
    let mut config = checked();
    config.health.max_failures = 1;
    let world = World::new(config.clone(), Fake::new()).await;
    world.settle().await;
    let patient = resurge_supervisor::HealthConfig { max_failures: 50, ..config.health.clone() };
    let own = ResourceConfig { health: Some(patient), ..ResourceConfig::default() };
    let fake = Fake::new();
    fake.sick.store(true, Ordering::SeqCst);
    let other = Registration::new(Handle(Arc::clone(&fake))).config(own);
    world.manager.register("patient", other).unwrap();
    world.check(false).await;
    assert_ne!(world.state(), State::Closed);
    assert_eq!(world.manager.breaker("patient").unwrap().state(), State::Closed);

    let off = SupervisorConfig { health_checking: false, ..config };
    let world = World::new(off, Fake::new()).await;
    world.check(false).await;
    assert_eq!(world.fake.checks.load(Ordering::SeqCst), 0);
    assert!(!world.manager.status().health_checking);
}
