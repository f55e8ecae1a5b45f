//! Starting, stopping, looking.

use std::sync::Arc;

use resurge_breaker::{FailureKind, State};
use resurge_supervisor::{
    AlertKind, ExecuteError, Failure, RecoveryManager, Registration, SupervisorConfig,
    SupervisorError,
};

use crate::world::{Fake, Handle, World, config, secs};

#[tokio::test]
async fn ra8_started_and_stopped_as_often_as_one_likes() {
    let world = World::new(config(), Fake::new()).await;
    let again = world.manager.start().await;
    assert!(matches!(again, Err(SupervisorError::AlreadyRunning)), "{again:?}");
    assert!(world.manager.status().running);
    for _ in 0..3 {
        world.manager.stop().await;
        world.manager.stop().await;
        assert!(!world.manager.status().running);
        world.manager.start().await.unwrap();
    }
    world.fail(3).await;
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart"]);
}

#[tokio::test]
async fn stopped_it_repairs_nothing_and_started_it_repairs_what_broke_meanwhile() {
    let world = World::stopped(config(), Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(5)).await;
    assert!(world.fake.calls().is_empty());
    assert!(!world.succeed().await, "calls go through the breaker all the same");
    world.manager.start().await.unwrap();
    world.advance(secs(1)).await;
    assert_eq!(world.fake.calls(), ["shutdown", "load"]);
}

#[tokio::test]
async fn stopping_gives_up_the_attempt_under_way_and_says_so() {
    let world = World::new(config(), Fake::new().hangs(&["shutdown"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.fake.calls() == ["shutdown"]).await;
    world.manager.stop().await;
    assert_eq!(world.state(), State::Open);
    let story = world.story().await;
    assert!(story.contains(&"1 restart cancelled".to_owned()), "{story:?}");
    assert_eq!(world.mailer().recovery.repairing, None);
    world.manager.start().await.unwrap();
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart", "reload"], "and goes on with the next");
}

#[tokio::test]
async fn dropping_the_last_handle_ends_everything() {
    let world = World::new(config(), Fake::new().hangs(&["shutdown"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.fake.calls() == ["shutdown"]).await;
    let (fake, breaker) = (Arc::clone(&world.fake), world.manager.breaker("mailer").unwrap());
    drop(world);
    crate::world::until("open again", || breaker.state() == State::Open).await;
    assert_eq!(fake.at_once.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn ra6_the_status_document_has_the_fields_of_the_document() {
    let mut config = SupervisorConfig { health_checking: true, ..config() };
    config.breaker = resurge_breaker::BreakerConfig::tolerant();
    let world = World::new(config, Fake::new()).await;
    for n in 0..1_000 {
        if n % 200 == 0 {
            world.fail(1).await;
        } else {
            assert!(world.succeed().await);
        }
    }
    world.settle().await;
    let status = serde_json::to_value(world.manager.status()).unwrap();
    let flags = ["running", "auto_recovery", "health_checking"];
    assert_eq!(flags.map(|flag| status[flag].as_bool()), [Some(true); 3]);
    let mailer = &status["plugins"]["mailer"];
    let circuit = &mailer["circuit_breaker"];
    assert_eq!(circuit["state"], "closed");
    assert_eq!(
        (circuit["total_requests"].as_u64(), circuit["total_failures"].as_u64()),
        (Some(1_000), Some(5))
    );
    assert_eq!(circuit["failure_rate"].as_f64(), Some(0.005));
    let health = &mailer["health_check"];
    assert_eq!(health["last_check"], "2020-01-01T00:00:00Z");
    assert_eq!(health["last_result"]["healthy"], true);
    assert_eq!(health["last_result"]["duration"], "0s");
    assert_eq!(health["consecutive_fails"], 0);
    assert_eq!(mailer["recovery"]["attempts"], 0);
}

#[tokio::test]
async fn ra7_the_trail_has_the_failure_the_attempt_and_its_end_and_is_read_again_later() {
    let world = World::new(config(), Fake::new()).await;
    let failure = || Failure::new(FailureKind::Timeout, "slow").context("operation", "send");
    world.manager.record_failure("mailer", failure()).await.unwrap();
    assert_eq!(world.story().await, ["recorded timeout"]);
    for _ in 0..2 {
        world.manager.record_failure("mailer", failure()).await.unwrap();
    }
    world.advance(secs(1)).await;
    let story = world.story().await;
    let expected = [
        "recorded timeout",
        "recorded timeout",
        "recorded timeout",
        "closed -> open",
        "alert circuit_breaker_open",
        "alert consecutive_failures",
        "1 restart",
        "open -> repairing",
        "1 restart succeeded",
        "repairing -> half_open",
    ];
    assert_eq!(story, expected);
    let trail = world.trail().await;
    let kept = world.store.clone();
    drop(world);
    let later = RecoveryManager::open(&kept, config()).await.unwrap();
    assert_eq!(later.audit().await.unwrap().of("mailer").await.unwrap(), trail);
}

#[tokio::test]
async fn ra7_alerts_are_raised_once_and_again_after_they_were_over() {
    let world = World::new(config(), Fake::new()).await;
    let mut alerts = world.manager.alerts();
    for _ in 0..2 {
        world.fail(3).await;
        world.advance(secs(2)).await;
        world.fail(1).await; // the probe: open again, which nobody is alerted of
        world.advance(secs(3)).await;
        assert!(world.succeed().await);
        world.advance(secs(60)).await;
    }
    let mut raised = Vec::new();
    while let Some(alert) = alerts.try_recv() {
        assert_eq!(&*alert.resource, "mailer");
        raised.push(alert.kind.as_str());
    }
    let twice = ["circuit_breaker_open", "consecutive_failures"];
    assert_eq!(raised, [twice, twice].concat());
}

#[tokio::test]
async fn who_is_not_there_is_named() {
    let world = World::new(config(), Fake::new()).await;
    let call = world.manager.execute("nobody", async { Ok::<_, String>(()) }).await;
    assert_eq!(call, Err(ExecuteError::UnknownResource("nobody".to_owned())));
    let told = Failure::new(FailureKind::Error, "e");
    let told = world.manager.record_failure("nobody", told).await;
    assert!(matches!(told, Err(SupervisorError::UnknownResource(name)) if name == "nobody"));
    assert!(matches!(world.manager.revive("nobody"), Err(SupervisorError::UnknownResource(_))));
    let twice = world.manager.register("mailer", Registration::new(Handle(Fake::new())));
    assert!(matches!(twice, Err(SupervisorError::ResourceExists(name)) if name == "mailer"));
}

#[tokio::test]
async fn revived_it_begins_to_count_again() {
    let config = SupervisorConfig { max_attempts: 1, ..config() };
    let world = World::new(config, Fake::new().breaks(&["shutdown"])).await;
    world.fail(3).await;
    world.advance(secs(5)).await;
    assert!(world.mailer().recovery.alerts.contains(&AlertKind::Exhausted { attempts: 1 }));
    world.fake.breaks(&[]);
    world.manager.revive("mailer").unwrap();
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart", "restart"]);
    assert_eq!(world.state(), State::HalfOpen);
    assert!(
        world.mailer().recovery.alerts.iter().all(|a| !matches!(a, AlertKind::Exhausted { .. }))
    );
}
