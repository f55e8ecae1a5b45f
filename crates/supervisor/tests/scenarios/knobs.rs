//! Every knob changes something. Those of health are tested with it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use resurge_breaker::{BreakerConfig, FailureKind, Rate, State};
use resurge_supervisor::{
    AlertKind, CustomStrategy, Failure, Registration, RepairOn, ResourceConfig, StrategySettings,
    SupervisorConfig, SupervisorError,
};

use crate::world::{Fake, Handle, World, config, quick, secs};

#[tokio::test]
async fn knob_auto_recovery() {
    let world =
        World::new(SupervisorConfig { auto_recovery: false, ..config() }, Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(5)).await;
    assert_eq!(world.state(), State::Open);
    assert!(world.fake.calls().is_empty());
    assert!(!world.manager.status().auto_recovery);
    assert!(!world.mailer().recovery.alerts.is_empty(), "somebody hears of it all the same");
}

#[tokio::test]
async fn knob_repair_on() {
    for (on, calls) in [(RepairOn::Open, 0), (RepairOn::Failure, 2)] {
        let world = World::new(SupervisorConfig { repair_on: on, ..config() }, Fake::new()).await;
        world.fail(1).await;
        world.advance(secs(1)).await;
        assert_eq!(world.fake.calls().len(), calls, "{on:?}");
    }
}

#[tokio::test]
async fn knob_max_attempts() {
    for max in [1, 5] {
        let config = SupervisorConfig { max_attempts: max, ..config() };
        let world = World::new(config, Fake::new().breaks(&["shutdown"])).await;
        for _ in 0..3 {
            let failure = Failure::new(FailureKind::Panic, "p");
            world.manager.record_failure("mailer", failure).await.unwrap();
        }
        for _ in 0..20 {
            world.advance(secs(1)).await;
        }
        assert_eq!(world.tried().await, vec!["restart"; max as usize]);
    }
}

#[tokio::test]
async fn knob_retry() {
    let mut config = SupervisorConfig { max_attempts: 4, ..config() };
    config.retry.initial = secs(10);
    config.retry.factor = 3.0;
    config.retry.max = secs(50);
    let world = World::new(config, Fake::new().breaks(&["shutdown", "reload"])).await;
    for _ in 0..3 {
        let failure = Failure::new(FailureKind::Panic, "p");
        world.manager.record_failure("mailer", failure).await.unwrap();
    }
    world.settle().await;
    for (wait, made) in [(10, 2), (30, 3), (50, 4)] {
        world.advance(secs(wait - 1)).await;
        assert_eq!(world.mailer().recovery.attempts, made - 1);
        world.advance(secs(1)).await;
        assert_eq!(world.mailer().recovery.attempts, made);
    }
}

#[tokio::test]
async fn knob_attempt_timeout() {
    let config = SupervisorConfig { attempt_timeout: secs(7), ..config() };
    let world = World::new(config, Fake::new().hangs(&["shutdown"])).await;
    world.fail(3).await;
    world.advance(secs(6)).await;
    assert_eq!(world.state(), State::Repairing);
    world.advance(secs(1)).await;
    assert_eq!(world.state(), State::Open);
    assert_eq!(world.mailer().recovery.last_outcome.unwrap().as_str(), "timed_out");
}

#[tokio::test]
async fn knob_relapse_window() {
    for (window, second) in [(secs(30), "restart"), (secs(90), "reload")] {
        let config = SupervisorConfig { relapse_window: window, ..config() };
        let world = World::new(config, Fake::new()).await;
        world.fail(3).await;
        world.advance(secs(1)).await;
        assert!(world.succeed().await);
        world.advance(secs(60)).await;
        world.fail(3).await;
        world.advance(secs(2)).await;
        assert_eq!(world.tried().await, ["restart", second]);
    }
}

#[tokio::test]
async fn knob_concurrency_of_repairs() {
    for allowed in [1, 3] {
        let config = SupervisorConfig { concurrency: allowed, ..config() };
        let world = World::new(config, Fake::new().hangs(&["shutdown"])).await;
        for n in 0..5 {
            let other = Registration::new(Handle(Arc::clone(&world.fake)));
            world.manager.register(&format!("other-{n}"), other).unwrap().trip("test");
        }
        world.settle().await;
        assert_eq!(world.fake.at_once.load(Ordering::SeqCst) as usize, allowed);
        world.advance(secs(30)).await;
        assert_eq!(world.fake.most_at_once.load(Ordering::SeqCst) as usize, allowed);
    }
}

#[tokio::test]
async fn knob_default_strategy() {
    let default_strategy = Some("reload".to_owned());
    let world = World::new(SupervisorConfig { default_strategy, ..config() }, Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["reload"]);

    let unknown = SupervisorConfig { default_strategy: Some("magic".to_owned()), ..config() };
    let world = World::stopped(unknown, Fake::new()).await;
    let started = world.manager.start().await;
    assert!(matches!(started, Err(SupervisorError::UnknownStrategy(name)) if name == "magic"));
    assert!(!world.manager.status().running);

    // A slip in the name of whose settings they are.
    let mut unknown = config();
    unknown.strategies.entry("restrat".to_owned()).or_default();
    let world = World::stopped(unknown, Fake::new()).await;
    let started = world.manager.start().await;
    assert!(matches!(started, Err(SupervisorError::UnknownStrategy(name)) if name == "restrat"));
    let mut of_one = config();
    let resource = of_one.resources.entry("mailer".to_owned()).or_default();
    resource.strategies.entry("relod".to_owned()).or_default();
    let world = World::stopped(of_one, Fake::new()).await;
    let started = world.manager.start().await;
    assert!(matches!(started, Err(SupervisorError::UnknownStrategy(name)) if name == "relod"));
}

#[tokio::test]
async fn knob_strategy_priority_enabled_and_also() {
    let mut config = config();
    config.strategies.entry("restart".to_owned()).or_default().priority = Some(-5);
    config.strategies.entry("reload".to_owned()).or_default().enabled = false;
    config.strategies.entry("reset".to_owned()).or_default().also = vec![FailureKind::Error];
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    world.settle().await;
    assert_eq!(world.state(), State::Closed);
    world.fail(3).await;
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["reset", "backoff"]);
}

#[tokio::test]
async fn knob_strategy_pause() {
    let mut config = config();
    config.strategies.entry("restart".to_owned()).or_default().pause = secs(5);
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(4)).await;
    assert_eq!(world.fake.calls(), ["shutdown"]);
    world.advance(secs(1)).await;
    assert_eq!(world.fake.calls(), ["shutdown", "load"]);
}

#[tokio::test]
async fn knob_resources_their_options_and_their_breakers() {
    let mut config = config();
    let mut settings = StrategySettings::default();
    settings.options.insert("level".to_owned(), "9".to_owned());
    let one = BreakerConfig {
        trip: vec![resurge_breaker::Trip::ConsecutiveFailures { failures: 1 }],
        ..quick()
    };
    let own = ResourceConfig {
        strategy: Some("own".to_owned()),
        strategies: [("own".to_owned(), settings)].into(),
        breaker: Some(one),
        health: None,
    };
    config.resources.insert("mailer".to_owned(), own);
    let world = World::stopped(config, Fake::new()).await;
    let seen = Arc::new(Mutex::new(None));
    let found = Arc::clone(&seen);
    let strategy = CustomStrategy::new(
        "own",
        -1,
        |_| true,
        move |attempt| {
            *found.lock().unwrap() = attempt.settings.options.get("level").cloned();
            async { Ok(()) }
        },
    );
    world.manager.register_strategy(strategy).unwrap();
    world.manager.start().await.unwrap();
    world.fail(1).await;
    world.settle().await;
    assert_eq!(seen.lock().unwrap().as_deref(), Some("9"));
}

async fn alerts_of(config: SupervisorConfig, failures: u32) -> Vec<AlertKind> {
    let world = World::new(SupervisorConfig { auto_recovery: false, ..config }, Fake::new()).await;
    world.fail(failures).await;
    world.settle().await;
    world.mailer().recovery.alerts
}

#[tokio::test]
async fn knob_alerting_and_the_threshold_of_failures_in_a_row() {
    assert_eq!(alerts_of(config(), 2).await, []);
    assert!(!alerts_of(config(), 3).await.is_empty());
    let mut early = config();
    early.alerts.consecutive_failures = 2;
    let alert = AlertKind::ConsecutiveFailures { failures: 2 };
    assert_eq!(alerts_of(early.clone(), 2).await, [alert]);
    assert_eq!(alerts_of(SupervisorConfig { alerting: false, ..early }, 9).await, []);
}

#[tokio::test]
async fn knob_the_threshold_of_the_failure_rate_raised_once_until_it_is_over() {
    for (threshold, raised) in [(0.4, 2), (0.9, 0)] {
        let mut config = SupervisorConfig { auto_recovery: false, ..config() };
        config.alerts.failure_rate = Rate::new(threshold).unwrap();
        config.alerts.consecutive_failures = 1_000;
        config.breaker = BreakerConfig {
            trip: vec![resurge_breaker::Trip::FailureRate {
                rate: Rate::new(1.0).unwrap(),
                window: resurge_breaker::Window::Calls(10),
                min_calls: 10,
            }],
            ..quick()
        };
        let world = World::new(config, Fake::new()).await;
        let mut alerts = world.manager.alerts();
        for _ in 0..2 {
            for _ in 0..5 {
                assert!(world.succeed().await);
                world.fail(1).await;
                world.settle().await;
            }
            for _ in 0..10 {
                assert!(world.succeed().await);
            }
            world.fail(1).await; // 10 %: over
            world.settle().await;
        }
        let mut count = 0;
        while let Some(alert) = alerts.try_recv() {
            assert!(matches!(alert.kind, AlertKind::FailureRate { .. }), "{alert:?}");
            count += 1;
        }
        assert_eq!(count, raised, "at {threshold}");
    }
}

#[tokio::test]
async fn knob_the_threshold_of_the_recovery_time() {
    let mut config = SupervisorConfig { auto_recovery: false, ..config() };
    config.alerts.recovery_time = secs(40);
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(39)).await;
    let late = |world: &World| {
        let alerts = world.mailer().recovery.alerts;
        alerts.iter().filter(|alert| matches!(alert, AlertKind::RecoveryTime { .. })).count()
    };
    assert_eq!(late(&world), 0);
    world.advance(secs(1)).await;
    assert_eq!(late(&world), 1);
    world.advance(secs(100)).await;
    assert!(world.succeed().await);
    world.settle().await;
    assert_eq!(late(&world), 0, "over");
    let said = world.story().await;
    assert_eq!(said.iter().filter(|s| *s == "alert recovery_time").count(), 1);
}

#[test]
fn what_makes_no_sense_is_refused_and_named() {
    let refused = |text: &str| {
        let config: Result<SupervisorConfig, _> = serde_json::from_str(text);
        config.map_err(|e| e.to_string()).and_then(|c| c.check().map_err(|e| e.to_string()))
    };
    assert_eq!(refused("{}"), Ok(()));
    for (text, names) in [
        (r#"{ "max_attempts": 0 }"#, "max_attempts"),
        (r#"{ "max_attempts": 1001 }"#, "max_attempts"),
        (r#"{ "intensity": { "repairs": 0 } }"#, "intensity.repairs"),
        (r#"{ "intensity": { "period": "0s" } }"#, "intensity.period"),
        (r#"{ "retry": { "factor": 0.5 } }"#, "retry"),
        (r#"{ "retry": { "initial": "10s", "max": "5s" } }"#, "retry"),
        (r#"{ "attempt_timeout": "0s" }"#, "attempt_timeout"),
        (r#"{ "attempt_timeout": "5m" }"#, "repair_at_most"),
        (r#"{ "relapse_window": "0s" }"#, "relapse_window"),
        (r#"{ "concurrency": 0 }"#, "concurrency"),
        (r#"{ "health_concurrency": 0 }"#, "health_concurrency"),
        (r#"{ "health": { "interval": "0s" } }"#, "health.interval"),
        (r#"{ "health": { "timeout": "0s" } }"#, "health.timeout"),
        (r#"{ "health": { "jitter": 1.5 } }"#, "health.jitter"),
        (r#"{ "health": { "max_failures": 0 } }"#, "health.max_failures"),
        (r#"{ "health": { "successes": 0 } }"#, "health.successes"),
        (r#"{ "alerts": { "consecutive_failures": 0 } }"#, "alerts.consecutive_failures"),
        (r#"{ "alerts": { "failure_rate": 50 } }"#, "fraction"),
        (r#"{ "alerts": { "recovery_time": "0s" } }"#, "alerts.recovery_time"),
        (r#"{ "audit_keep": 99 }"#, "audit_keep"),
        (r#"{ "breaker": { "trip": [] } }"#, "trip"),
        (r#"{ "strategies": { "backoff": { "suspend": { "factor": 0 } } } }"#, "suspend"),
        (r#"{ "resources": { "x": { "health": { "interval": "0s" } } } }"#, "health.interval"),
        (r#"{ "resources": { "x": { "breaker": { "trip": [] } } } }"#, "trip"),
        (r#"{ "max_atempts": 3 }"#, "max_atempts"),
        (r#"{ "attempt_timeout": 30 }"#, "duration with its unit"),
    ] {
        let error = refused(text).unwrap_err();
        assert!(error.contains(names), "{text}: {error}");
    }
}

#[test]
fn r10_the_defaults_are_those_of_the_document() {
    let config = SupervisorConfig::default();
    assert!(config.auto_recovery && config.health_checking && config.alerting);
    assert_eq!((config.max_attempts, config.retry.factor), (3, 1.5));
    assert_eq!((config.health.interval, config.health.timeout), (secs(30), secs(10)));
    assert_eq!((config.health.max_failures, config.health_concurrency), (3, 5));
    assert_eq!(config.alerts.consecutive_failures, 3);
    assert_eq!((config.alerts.failure_rate, config.alerts.recovery_time), (Rate::HALF, secs(300)));
    assert_eq!(config.attempt_timeout, secs(30));
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<SupervisorConfig>(&text).unwrap(), config, "and back");
}
