//! What survives a crash: attempts, and the order to make no more of them.

use std::sync::Arc;

use resurge_breaker::{FailureKind, State};
use resurge_store::{Store, VirtualClock};
use resurge_supervisor::{
    AlertKind, AuditEvent, Failure, RecoveryManager, Registration, SupervisorConfig,
    SupervisorError,
};

use crate::world::{Fake, Handle, World, config, secs};

impl World {
    /// The process is gone, and another one opens the same store.
    async fn crash(self, config: SupervisorConfig, fake: Arc<Fake>) -> Self {
        self.settle().await;
        let (store, clock) = (self.store.clone(), self.clock.clone());
        drop(self); // its tasks are aborted: nothing is said about what was under way
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        reopen(store, clock, config, fake).await
    }
}

async fn reopen(
    store: Store,
    clock: VirtualClock,
    config: SupervisorConfig,
    fake: Arc<Fake>,
) -> World {
    let manager = RecoveryManager::open(&store, config).await.unwrap();
    manager.register("mailer", Registration::new(Handle(Arc::clone(&fake)))).unwrap();
    manager.start().await.unwrap();
    World { clock, store, manager, fake }
}

#[tokio::test]
async fn c73_killed_while_repairing_it_is_open_counts_the_attempt_and_goes_on_with_the_next() {
    let world = World::new(config(), Fake::new().hangs(&["shutdown"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.fake.calls() == ["shutdown"]).await;
    world.manager.breaker("mailer").unwrap().flush().await.unwrap();

    let world = world.crash(config(), Fake::new()).await;
    assert_eq!(world.state(), State::Open);
    world.settle().await;
    let recovery = world.mailer().recovery;
    assert_eq!(recovery.last_outcome.unwrap().as_str(), "interrupted");
    assert_eq!((recovery.attempts, recovery.exhausted), (1, false));
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart", "reload"]);
    assert_eq!(world.state(), State::HalfOpen);
    assert!(world.succeed().await);
    assert_eq!(world.state(), State::Closed);
    world.advance(secs(60)).await;
    assert_eq!(world.mailer().recovery.attempts, 0);
}

#[tokio::test]
async fn ra3_a_repair_that_kills_the_process_is_not_tried_for_ever() {
    let deadly = || Fake::new().hangs(&["shutdown", "reload"]);
    let mut config = config();
    config.strategies.entry("backoff".to_owned()).or_default().enabled = false;
    let mut world = World::new(config.clone(), deadly()).await;
    world.fail(3).await;
    for lives in 1..=6 {
        // Each process dies a second into its first attempt.
        world.advance(secs(3)).await;
        world.manager.breaker("mailer").unwrap().flush().await.unwrap();
        let expected = lives.min(3);
        assert_eq!(world.mailer().recovery.attempts, expected, "in life {lives}");
        world = world.crash(config.clone(), deadly()).await;
    }
    world.advance(secs(3)).await;
    assert_eq!(world.tried().await, ["restart", "reload", "restart"]);
    assert!(world.mailer().recovery.exhausted);
    let alerts: Vec<_> = world
        .trail()
        .await
        .into_iter()
        .filter(|e| matches!(e, AuditEvent::Alert(AlertKind::Exhausted { attempts: 3 })))
        .collect();
    assert_eq!(alerts.len(), 1, "said once, not in each life");
    assert!(world.fake.calls().is_empty(), "nobody touches it any more");
    world.advance(secs(300)).await;
    assert!(world.succeed().await, "but a probe is let through");
}

#[tokio::test]
async fn the_intensity_of_a_period_is_remembered_across_a_crash_and_forgotten_after_it() {
    let mut config = SupervisorConfig { max_attempts: 100, ..config() };
    config.intensity.repairs = 2;
    config.intensity.period = secs(600);
    let world = World::new(config.clone(), Fake::new().breaks(&["shutdown", "reload"])).await;
    world.fail(3).await;
    world.advance(secs(1)).await;
    world.manager.breaker("mailer").unwrap().flush().await.unwrap();
    let world = world.crash(config.clone(), Fake::new()).await;
    world.advance(secs(5)).await;
    assert_eq!(world.tried().await.len(), 2);
    assert!(world.mailer().recovery.exhausted, "restart and reload were all of this period");
    world.advance(secs(600)).await;
    world.manager.revive("mailer").unwrap();
    world.settle().await;
    assert_eq!(world.tried().await.len(), 3);
}

#[tokio::test]
async fn a_summary_stands_for_the_records_it_replaces() {
    let config = SupervisorConfig { audit_keep: 100, max_attempts: 2, ..config() };
    let world = World::new(config.clone(), Fake::new().breaks(&["shutdown"])).await;
    world.fail(3).await;
    world.settle().await;
    assert_eq!(world.mailer().recovery.attempts, 1);
    // A second resource fills the trail until the first attempt of the first one is no longer in it.
    let other = Registration::new(Handle(Fake::new()));
    world.manager.register("other", other).unwrap();
    for _ in 0..100 {
        world.manager.breaker("other").unwrap().trip("test");
        world.settle().await;
        world.manager.breaker("other").unwrap().reset("test");
        world.settle().await;
    }
    assert!(world.tried().await.is_empty(), "the trail holds no trace of the attempt");
    world.manager.breaker("mailer").unwrap().flush().await.unwrap();
    let mut audit = world.manager.audit().await.unwrap();
    let mut kept = 0;
    while audit.next().await.unwrap().is_some() {
        kept += 1;
    }
    assert!((100..=130).contains(&kept), "{kept}");

    let world = world.crash(config, Fake::new()).await;
    assert_eq!(world.mailer().recovery.attempts, 1, "remembered all the same");
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["reload"]);
    assert_eq!(world.mailer().recovery.attempts, 2);
}

#[tokio::test]
async fn who_was_overtaken_repairs_nothing_any_more() {
    let world = World::new(config(), Fake::new()).await;
    let second = reopen(world.store.clone(), world.clock.clone(), config(), Fake::new()).await;
    world.fail(3).await;
    world.settle().await;
    assert!(world.fake.calls().is_empty(), "what cannot be journaled is not done");
    assert!(world.mailer().recovery.alerts.contains(&AlertKind::JournalFailed));
    assert_ne!(world.state(), State::Closed);
    let telling = Failure::new(FailureKind::Error, "e");
    let told = world.manager.record_failure("mailer", telling).await;
    assert!(matches!(told, Err(SupervisorError::Journal(_))), "{told:?}");
    drop(second);
}

#[tokio::test]
async fn what_was_unregistered_comes_back_with_its_attempts() {
    let world = World::new(config(), Fake::new().breaks(&["shutdown"])).await;
    world.fail(3).await;
    world.settle().await;
    assert!(world.manager.unregister("mailer").await);
    assert!(!world.manager.unregister("mailer").await);
    assert!(world.manager.breaker("mailer").is_none());
    let again = Registration::new(Handle(Arc::clone(&world.fake)));
    world.manager.register("mailer", again).unwrap();
    assert_eq!(world.state(), State::Open, "the same circuit");
    assert_eq!(world.mailer().recovery.attempts, 1);
}

#[tokio::test]
async fn ra9_what_is_suspended_stays_so_after_a_crash() {
    let mut config = SupervisorConfig { health_checking: true, ..config() };
    config.health.initial_delay = secs(1);
    config.strategies.entry("backoff".to_owned()).or_default().suspend.initial = secs(40);
    for other in ["restart", "reload"] {
        config.strategies.entry(other.to_owned()).or_default().enabled = false;
    }
    let world = World::new(config.clone(), Fake::new()).await;
    world.fail(3).await;
    world.settle().await;
    world.manager.breaker("mailer").unwrap().flush().await.unwrap();

    let world = world.crash(config.clone(), Fake::new()).await;
    world.advance(secs(35)).await;
    assert_eq!(world.state(), State::Open, "health checks let no probe through");
    assert_eq!(world.tried().await, ["backoff"], "nor is anything else tried");
    world.advance(secs(5)).await;
    world.fail(1).await; // the probe
    world.manager.breaker("mailer").unwrap().flush().await.unwrap();

    // Open again, and suspended no longer: in the next life, too.
    config.health_checking = false;
    let world = world.crash(config, Fake::new()).await;
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["backoff", "backoff"]);
}

#[tokio::test]
async fn ra7_alerts_in_force_are_so_after_a_crash_and_not_raised_again() {
    let world = World::new(config(), Fake::new()).await;
    for _ in 0..3 {
        let boom = Failure::new(FailureKind::Panic, "boom").unrecoverable();
        world.manager.record_failure("mailer", boom).await.unwrap();
    }
    world.settle().await;
    world.manager.breaker("mailer").unwrap().flush().await.unwrap();

    let world = world.crash(config(), Fake::new()).await;
    let in_force = [AlertKind::CircuitBreakerOpen, AlertKind::Unrecoverable];
    assert_eq!(world.mailer().recovery.alerts, in_force);
    world.advance(secs(30)).await;
    let unrecoverable = AuditEvent::Alert(AlertKind::Unrecoverable);
    let raised = |trail: Vec<_>| trail.into_iter().filter(|e| *e == unrecoverable).count();
    assert_eq!(raised(world.trail().await), 1, "once, not in each life");
    assert!(world.succeed().await);
    world.settle().await;
    assert!(world.mailer().recovery.alerts.is_empty(), "over");
    let world = world.crash(config(), Fake::new()).await;
    assert!(world.mailer().recovery.alerts.is_empty(), "and so in the next life");
}
