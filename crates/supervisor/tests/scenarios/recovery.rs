//! From the failure to the probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use resurge_breaker::{FailureKind, Mode, State};
use resurge_supervisor::{
    AlertKind, AuditEvent, CustomStrategy, ExecuteError, Failure, Registration, RepairOn,
    ResourceConfig, Severity, SupervisorConfig, SupervisorError,
};

use crate::world::{Fake, Handle, World, config, secs};

#[tokio::test]
async fn ra4_open_repairing_half_open_closed_and_only_the_probe_closes() {
    let world = World::new(config(), Fake::new().hangs(&["load"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.state() == State::Repairing).await;
    let rejected = world.manager.execute("mailer", async { Ok::<_, String>(()) }).await;
    assert!(matches!(rejected, Err(ExecuteError::Rejected(r)) if r.state == State::Repairing));
    world.fake.hangs(&[]);
    // The hanging load stays; the next attempt is one that works.
    world.advance(secs(30)).await;
    world.advance(secs(2)).await;
    world.advance(secs(1)).await;
    assert_eq!(world.state(), State::HalfOpen, "a claim does not close");
    assert!(world.succeed().await);
    assert_eq!(world.state(), State::Closed);
    assert_eq!(
        world.story().await,
        [
            "closed -> open",
            "alert circuit_breaker_open",
            "recorded error",
            "alert consecutive_failures",
            "1 restart",
            "open -> repairing",
            "1 restart timed_out",
            "repairing -> open",
            "2 reload",
            "open -> repairing",
            "2 reload succeeded",
            "repairing -> half_open",
            "half_open -> closed",
        ]
    );
}

#[tokio::test]
async fn ra4_c80_a_hundred_failures_at_once_are_one_repair() {
    let world = World::new(config(), Fake::new().breaks(&["load", "reload", "degrade"])).await;
    let mut told = Vec::new();
    for _ in 0..100 {
        let manager = world.manager.clone();
        told.push(tokio::spawn(async move {
            manager.record_failure("mailer", Failure::new(FailureKind::Panic, "boom")).await
        }));
    }
    for told in told {
        told.await.unwrap().unwrap();
    }
    world.settle().await;
    for _ in 0..20 {
        let telling = Failure::new(FailureKind::Panic, "again");
        world.manager.record_failure("mailer", telling).await.unwrap();
        world.advance(secs(1)).await;
    }
    assert_eq!(world.fake.most_at_once.load(Ordering::SeqCst), 1, "never two at once");
    let story = world.story().await;
    let began: Vec<_> = story.iter().filter(|s| s.ends_with(" restart")).collect();
    let ended: Vec<_> = story.iter().filter(|s| s.ends_with(" restart failed")).collect();
    assert_eq!(began, ["1 restart", "2 restart", "3 restart"], "bounded");
    assert_eq!(ended.len(), began.len(), "each has an end");
    assert!(world.mailer().recovery.exhausted);
}

#[tokio::test]
async fn ra4_a_strategy_that_lies_is_found_out_by_the_probe_and_the_next_one_is_tried() {
    let world = World::new(config(), Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(1)).await;
    assert_eq!(world.state(), State::HalfOpen);
    world.fail(1).await; // the probe
    assert_eq!(world.state(), State::Open);
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart", "reload"]);
    assert!(world.succeed().await);
    assert_eq!(world.state(), State::Closed);
}

#[tokio::test]
async fn ra3_c79_a_sick_resource_is_restarted_reloaded_reset_and_suspended_in_that_order() {
    let four = SupervisorConfig { max_attempts: 5, ..config() };
    let world = World::new(four, Fake::new().breaks(&["load", "reload"])).await;
    for _ in 0..3 {
        let sick = Failure::new(FailureKind::HealthCheck, "sick");
        world.manager.record_failure("mailer", sick).await.unwrap();
    }
    for _ in 0..10 {
        world.advance(secs(1)).await;
    }
    assert_eq!(world.tried().await, ["restart", "reload", "reset"]);
    assert_eq!(world.state(), State::Closed, "reset closes");
    world.fail(3).await; // but it does not last
    for _ in 0..10 {
        world.advance(secs(1)).await;
    }
    assert_eq!(world.tried().await, ["restart", "reload", "reset", "backoff"]);
}

#[tokio::test]
async fn ra7_an_attempt_that_ends_at_once_is_told_in_order_too() {
    let mut config = config();
    config.default_strategy = Some("backoff".to_owned());
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    let story = world.story().await;
    let began = story.iter().position(|line| line == "1 backoff").unwrap();
    let ended = ["1 backoff", "open -> repairing", "1 backoff waiting", "repairing -> open"];
    assert_eq!(story[began..], ended);
    let last = world.trail().await.pop();
    let suspended = "a repair suspends calls"; // which is no failure
    assert!(
        matches!(&last, Some(AuditEvent::CircuitBreakerStateChange { reason, .. }) if reason == suspended),
        "{last:?}"
    );
}

#[tokio::test]
async fn c79_what_nothing_recovers_alerts_and_is_left_to_the_probes() {
    let world = World::new(config(), Fake::new()).await;
    for _ in 0..3 {
        let boom = Failure::new(FailureKind::Panic, "boom").unrecoverable();
        world.manager.record_failure("mailer", boom).await.unwrap();
    }
    world.advance(secs(5)).await;
    assert!(world.tried().await.is_empty());
    assert!(world.mailer().recovery.alerts.contains(&AlertKind::Unrecoverable));
    world.advance(secs(30)).await;
    assert!(world.succeed().await, "a probe");
    assert_eq!(world.state(), State::Closed);
    world.settle().await;
    assert!(world.mailer().recovery.alerts.is_empty());
}

#[tokio::test]
async fn c79_out_of_resources_is_degraded_even_when_it_is_unrecoverable() {
    let world = World::new(config(), Fake::new()).await;
    for _ in 0..3 {
        let full = Failure::new(FailureKind::ResourceLimit, "full").unrecoverable();
        world.manager.record_failure("mailer", full).await.unwrap();
    }
    world.settle().await;
    assert_eq!(world.fake.calls(), ["degrade"]);
    assert_eq!(world.state(), State::HalfOpen);
}

#[tokio::test]
async fn ra3_a_strategy_of_ones_own_with_a_higher_priority_wins() {
    let world = World::stopped(config(), Fake::new()).await;
    let used = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&used);
    let own = || {
        let count = Arc::clone(&count);
        let custom = |failure: &Failure| failure.severity.as_str() == "custom";
        CustomStrategy::new("custom-recovery", 150, custom, move |attempt| {
            assert_eq!((&*attempt.name, attempt.attempt), ("mailer", 1));
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        })
    };
    world.manager.register_strategy(own()).unwrap();
    let again = world.manager.register_strategy(own());
    assert!(
        matches!(again, Err(SupervisorError::StrategyExists(name)) if name == "custom-recovery")
    );
    world.manager.start().await.unwrap();
    for _ in 0..3 {
        let failure = Failure::new(FailureKind::Error, "odd").severity(Severity::new("custom"));
        world.manager.record_failure("mailer", failure).await.unwrap();
    }
    world.settle().await;
    assert_eq!(world.tried().await, ["custom-recovery"]);
    assert_eq!(used.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn ra3_a_resource_may_have_a_strategy_of_its_own_which_is_used_only_where_it_can() {
    let world = World::new(config(), Fake::new()).await;
    let fake = Fake::new().breaks(&["reload"]);
    let own = ResourceConfig { strategy: Some("reload".to_owned()), ..ResourceConfig::default() };
    let plugin = Registration::new(Handle(Arc::clone(&fake))).config(own);
    world.manager.register("own", plugin).unwrap();
    for _ in 0..3 {
        world.manager.record_failure("own", Failure::new(FailureKind::Error, "e")).await.unwrap();
    }
    world.settle().await;
    for _ in 0..3 {
        world.advance(secs(1)).await;
    }
    assert_eq!(fake.calls(), ["reload", "shutdown", "load"], "its own first, then the others");
    world.manager.breaker("own").unwrap().reset("test");
    world.advance(secs(60)).await;
    for _ in 0..3 {
        world.manager.record_failure("own", Failure::new(FailureKind::Panic, "p")).await.unwrap();
    }
    world.advance(secs(1)).await;
    assert_eq!(fake.calls()[3..], ["shutdown", "load"], "it cannot recover a panic");
}

#[tokio::test]
async fn ra3_given_up_after_three_with_an_alert_and_still_probed() {
    let world = World::new(config(), Fake::new().breaks(&["shutdown", "reload"])).await;
    let mut alerts = world.manager.alerts();
    world.fail(3).await;
    for _ in 0..20 {
        world.advance(secs(1)).await;
    }
    // The third, backoff, suspends for a second; then the probe fails.
    assert_eq!(world.tried().await, ["restart", "reload", "backoff"]);
    world.fail(1).await;
    world.advance(secs(5)).await;
    assert_eq!(world.tried().await.len(), 3);
    assert!(world.mailer().recovery.exhausted);
    let mut raised = Vec::new();
    while let Some(alert) = alerts.try_recv() {
        raised.push(alert.kind);
    }
    let exhausted = AlertKind::Exhausted { attempts: 3 };
    assert_eq!(raised.iter().filter(|kind| **kind == exhausted).count(), 1, "{raised:?}");
    world.advance(secs(300)).await;
    assert!(world.succeed().await, "a probe is let through all the same");
    assert_eq!(world.state(), State::Closed);
    world.advance(secs(60)).await;
    assert!(!world.mailer().recovery.exhausted, "well again");
    assert!(world.story().await.contains(&"recovered after 3".to_owned()));
}

#[tokio::test]
async fn ra9_suspended_longer_each_time_up_to_a_cap_and_from_the_start_after_it_was_well() {
    let mut config = SupervisorConfig { max_attempts: 100, ..config() };
    config.intensity.repairs = 100;
    config.retry.initial = secs(1);
    config.retry.factor = 1.0;
    let settings = config.strategies.entry("backoff".to_owned()).or_default();
    settings.suspend.initial = secs(10);
    settings.suspend.factor = 2.0;
    settings.suspend.max = secs(25);
    for other in ["restart", "reload"] {
        config.strategies.entry(other.to_owned()).or_default().enabled = false;
    }
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    for suspended in [10, 20, 25, 25] {
        world.advance(secs(1)).await;
        let next = world.manager.breaker("mailer").unwrap().retry_after();
        let left = next.unwrap().as_secs();
        assert!((suspended - 1..=suspended).contains(&left), "{left} of {suspended}");
        assert!(!world.succeed().await, "rejected while suspended");
        world.advance(secs(suspended)).await;
        world.fail(1).await; // the probe
    }
    world.advance(secs(1)).await;
    world.advance(secs(25)).await;
    assert!(world.succeed().await);
    world.advance(secs(61)).await;
    world.fail(3).await;
    world.settle().await;
    let next = world.manager.breaker("mailer").unwrap().retry_after();
    assert_eq!(next, Some(secs(10)), "from the start");
}

#[tokio::test]
async fn c76_more_attempts_than_the_intensity_allows_in_its_period_and_no_more_are_made() {
    let mut config = SupervisorConfig { max_attempts: 1_000, ..config() };
    config.intensity.repairs = 1;
    config.intensity.period = secs(5);
    config.relapse_window = secs(1);
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    world.advance(secs(1)).await;
    assert!(world.succeed().await);
    world.settle().await;
    world.clock.advance(secs(1)); // well; but the attempt is remembered
    world.settle().await;
    world.clock.advance(secs(3)); // exactly five seconds old: counts
    world.settle().await;
    world.fail(3).await;
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["restart"]);
    assert!(world.mailer().recovery.exhausted);
}

#[tokio::test]
async fn ra8_a_panic_goes_on_unwinding_and_is_a_failure_of_its_own_kind() {
    let world = World::new(config(), Fake::new()).await;
    for _ in 0..3 {
        let manager = world.manager.clone();
        let call = tokio::spawn(async move {
            let call = async { if true { panic!("boom") } else { Ok::<(), String>(()) } };
            manager.execute("mailer", call).await
        });
        assert!(call.await.unwrap_err().is_panic());
    }
    let trail = world.trail().await;
    let failure = trail.iter().find_map(|event| match event {
        AuditEvent::Began { failure, .. } => Some(failure.clone()),
        _ => None,
    });
    let failure = failure.unwrap();
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Panic, "panicked: boom"));
    assert_eq!(world.mailer().circuit_breaker.total_failures, 3);
}

#[tokio::test]
async fn a_strategy_that_panics_is_a_failed_attempt() {
    let world = World::new(config(), Fake::new()).await;
    world.fake.panicking.store(true, Ordering::SeqCst);
    world.fail(3).await;
    world.settle().await;
    assert_eq!(world.mailer().recovery.last_outcome.unwrap().as_str(), "failed");
    world.fake.panicking.store(false, Ordering::SeqCst);
    world.advance(secs(1)).await;
    assert_eq!(world.state(), State::HalfOpen, "and the next one is made");
}

#[tokio::test]
async fn an_attempt_overtaken_by_a_person_did_not_work() {
    let world = World::new(config(), Fake::new().hangs(&["load"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.state() == State::Repairing).await;
    world.manager.breaker("mailer").unwrap().reset("by hand");
    assert_eq!(world.state(), State::Closed);
    world.advance(secs(30)).await;
    world.advance(secs(30)).await;
    assert_eq!(world.state(), State::Closed, "nobody opens it again");
    assert_eq!(world.tried().await, ["restart"]);
}

#[tokio::test]
async fn a_predicate_that_panics_cannot_recover_and_takes_nobody_along() {
    let world = World::new(config(), Fake::new()).await;
    let odd = |_: &Failure| panic!("odd");
    let odd = CustomStrategy::new("odd", 500, odd, |_| async { Ok(()) });
    world.manager.register_strategy(odd).unwrap();
    world.fail(3).await;
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart"]);
}

#[tokio::test]
async fn another_failure_of_what_is_down_may_be_one_that_can_be_recovered() {
    let world = World::new(config(), Fake::new()).await;
    for _ in 0..3 {
        let boom = Failure::new(FailureKind::Panic, "boom").unrecoverable();
        world.manager.record_failure("mailer", boom).await.unwrap();
    }
    world.advance(secs(5)).await;
    assert!(world.tried().await.is_empty());
    let slow = Failure::new(FailureKind::Timeout, "slow");
    world.manager.record_failure("mailer", slow).await.unwrap();
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["restart"]);
}

#[tokio::test]
async fn given_up_by_failures_alone_it_comes_back_when_it_was_well() {
    let on_failure = RepairOn::Failure;
    let config = SupervisorConfig { repair_on: on_failure, max_attempts: 1, ..config() };
    let world = World::new(config, Fake::new()).await;
    world.fail(1).await;
    world.advance(secs(1)).await;
    assert!(world.succeed().await);
    world.fail(1).await;
    world.advance(secs(2)).await;
    assert_eq!(world.state(), State::Closed);
    assert!(world.mailer().recovery.exhausted);
    world.advance(secs(61)).await;
    assert!(!world.mailer().recovery.exhausted);
    for mode in [Mode::Disabled, Mode::Active] {
        // Something the supervisor hears of.
        world.manager.breaker("mailer").unwrap().set_mode(mode);
        world.advance(secs(1)).await;
    }
    assert_eq!(world.tried().await, ["restart"], "what is well is left alone");
    world.fail(1).await;
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart", "restart"]);
}

#[tokio::test]
async fn failures_during_a_repair_join_those_that_made_it_necessary() {
    let world = World::new(config(), Fake::new().hangs(&["shutdown"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.state() == State::Repairing).await;
    let before = world.story().await;
    for _ in 0..5 {
        let more = Failure::new(FailureKind::Timeout, "more");
        world.manager.record_failure("mailer", more).await.unwrap();
    }
    assert_eq!(world.mailer().recovery.coalesced_failures, 5);
    assert_eq!(world.story().await, before);
}

#[tokio::test]
async fn while_probes_decide_nobody_repairs() {
    let mut config = config();
    config.retry.initial = secs(100);
    let world = World::new(config, Fake::new().breaks(&["shutdown"])).await;
    world.fail(3).await;
    world.advance(secs(50)).await;
    let probe = world.manager.breaker("mailer").unwrap().acquire().unwrap();
    assert!(probe.is_probe());
    world.advance(secs(51)).await;
    assert_eq!(world.tried().await, ["restart"], "although the next attempt was due");
    probe.success();
    assert_eq!(world.state(), State::Closed);
}

#[tokio::test]
async fn what_did_not_last_is_repaired_as_what_it_was() {
    let world = World::new(config(), Fake::new()).await;
    for _ in 0..3 {
        let boom = Failure::new(FailureKind::Panic, "boom");
        world.manager.record_failure("mailer", boom).await.unwrap();
    }
    world.advance(secs(1)).await;
    let probe = world.manager.breaker("mailer").unwrap().acquire().unwrap();
    probe.failure(FailureKind::Error); // nobody tells the supervisor why
    world.advance(secs(2)).await;
    assert_eq!(world.tried().await, ["restart", "restart"], "nothing else helps after a panic");
}

#[tokio::test]
async fn an_attempt_that_is_due_waits_until_people_let_the_circuit_be() {
    let world = World::new(config(), Fake::new().breaks(&["shutdown"])).await;
    world.fail(3).await;
    world.settle().await;
    let breaker = world.manager.breaker("mailer").unwrap();
    breaker.set_mode(Mode::ForcedOpen);
    world.advance(secs(60)).await;
    assert_eq!(world.tried().await, ["restart"]);
    breaker.set_mode(Mode::Active);
    world.advance(secs(1)).await;
    assert_eq!(world.tried().await, ["restart", "reload"]);
}

#[tokio::test]
async fn who_waits_for_room_leaves_the_probes_alone_that_began_meanwhile() {
    let config = SupervisorConfig { concurrency: 1, ..config() };
    let world = World::new(config, Fake::new()).await;
    let hanging = Handle(Fake::new().hangs(&["shutdown"]));
    world.manager.register("other", hanging).unwrap().trip("test");
    world.settle().await;
    let mailer = world.manager.breaker("mailer").unwrap();
    mailer.trip("test");
    world.settle().await;
    assert!(world.fake.calls().is_empty(), "no room");

    mailer.half_open("test").unwrap();
    let probe = mailer.acquire().unwrap();
    world.manager.unregister("other").await;
    world.settle().await;
    assert!(world.fake.calls().is_empty(), "probes decide");
    probe.success();
    assert_eq!(world.state(), State::Closed);
}

#[tokio::test]
async fn who_chooses_a_strategy_leaves_the_probes_alone_that_began_meanwhile() {
    let world = World::stopped(config(), Fake::new()).await;
    let mailer = world.manager.breaker("mailer").unwrap();
    let breaker = mailer.clone();
    let chooses = move |_: &Failure| breaker.half_open("test").is_ok();
    let slow = CustomStrategy::new("slow", 999, chooses, |_| async { Ok(()) });
    world.manager.register_strategy(slow).unwrap();
    world.manager.start().await.unwrap();
    mailer.trip("test");
    world.settle().await;
    assert_eq!(world.state(), State::HalfOpen);
    assert!(world.tried().await.is_empty());
}
