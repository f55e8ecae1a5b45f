//! What people do to a supervisor: from inside of it, at the wrong moment, with strange things.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};

use resurge_breaker::{BreakerConfig, BreakerEvent, FailureKind, State};
use resurge_store::{BoxFuture, Timestamp};
use resurge_supervisor::{
    AlertKind, AuditEvent, BoxError, CustomStrategy, ExecuteError, Failure, Recovered,
    RecoveryManager, RecoveryStrategy, Registration, RepairContext, RepairOn, Severity,
    SupervisorConfig, SupervisorError,
};

use crate::world::{Fake, Handle, World, config, quick, secs};

#[tokio::test]
async fn r6_a_name_nobody_registered_is_an_error_or_what_on_unknown_makes_of_it() {
    let made = Arc::new(AtomicU32::new(0));
    let world = World::stopped(config(), Fake::new()).await;
    let (count, fake) = (Arc::clone(&made), Arc::clone(&world.fake));
    let builder = RecoveryManager::builder().name("other").config(config());
    let builder = builder.on_unknown(move |name| {
        count.fetch_add(1, Ordering::SeqCst);
        (name != "misspelt").then(|| Registration::new(Handle(Arc::clone(&fake))))
    });
    let manager = builder.open(&world.store).await.unwrap();
    manager.start().await.unwrap();
    let refused = manager.execute("misspelt", async { Ok::<_, String>(()) }).await;
    assert_eq!(refused, Err(ExecuteError::UnknownResource("misspelt".to_owned())));
    for _ in 0..3 {
        let failed = manager.execute("new", async { Err::<(), _>("down".to_owned()) }).await;
        assert_eq!(failed, Err(ExecuteError::Inner("down".to_owned())));
    }
    assert_eq!(made.load(Ordering::SeqCst), 2, "once for each name");
    world.advance(secs(1)).await;
    assert_eq!(world.fake.calls(), ["shutdown", "load"], "it is supervised");
    let failure = Failure::new(FailureKind::Error, "told");
    manager.record_failure("newer", failure).await.unwrap();
    assert_eq!(manager.status().plugins.len(), 2);

    let nonsense = resurge_supervisor::ResourceConfig {
        breaker: Some(BreakerConfig { trip: Vec::new(), ..quick() }),
        ..Default::default()
    };
    let builder = RecoveryManager::builder().name("third").config(config());
    let builder = builder
        .on_unknown(move |_| Some(Registration::new(Handle(Fake::new())).config(nonsense.clone())));
    let manager = builder.open(&world.store).await.unwrap();
    let refused = manager.execute("x", async { Ok::<_, String>(()) }).await.unwrap_err();
    assert!(
        matches!(&refused, ExecuteError::Unregistered { name, .. } if name == "x"),
        "{refused}"
    );
}

/// A strategy that uses the manager it belongs to.
struct Inside {
    manager: Arc<Mutex<Option<RecoveryManager>>>,
    recover: fn(RecoveryManager) -> BoxFuture<'static, ()>,
}

impl RecoveryStrategy for Inside {
    fn name(&self) -> &'static str {
        "inside"
    }
    fn priority(&self) -> i32 {
        200
    }
    fn can_recover(&self, _: &Failure) -> bool {
        let manager = self.manager.lock().unwrap().clone();
        let manager = manager.unwrap();
        assert!(manager.status().plugins.contains_key("mailer"));
        let other = CustomStrategy::new("made inside", -1, |_| false, |_| async { Ok(()) });
        let _ = manager.register_strategy(other);
        true
    }
    fn recover(&self, _: RepairContext) -> BoxFuture<'_, Result<Recovered, BoxError>> {
        let manager = self.manager.lock().unwrap().take().unwrap();
        let done = (self.recover)(manager);
        Box::pin(async move {
            done.await;
            Ok(Recovered::Repaired)
        })
    }
}

async fn inside(recover: fn(RecoveryManager) -> BoxFuture<'static, ()>) -> World {
    let world = World::stopped(config(), Fake::new()).await;
    let manager = Arc::new(Mutex::new(Some(world.manager.clone())));
    world.manager.register_strategy(Inside { manager, recover }).unwrap();
    world.manager.register("other", Handle(Arc::clone(&world.fake))).unwrap();
    world.manager.start().await.unwrap();
    world.fail(3).await;
    world.advance(secs(1)).await;
    world
}

#[tokio::test]
async fn a_strategy_may_use_its_manager_also_when_it_is_asked() {
    let world = inside(|manager| {
        Box::pin(async move {
            manager.status();
            manager.breaker("mailer").unwrap().metrics();
            manager.record_failure("mailer", Failure::new(FailureKind::Error, "x")).await.unwrap();
        })
    })
    .await;
    assert_eq!(world.tried().await, ["inside"]);
    assert_eq!(world.state(), State::HalfOpen);
}

#[tokio::test]
async fn a_strategy_may_stop_its_manager_or_have_its_resource_unregistered() {
    let world = inside(|manager| Box::pin(async move { manager.stop().await })).await;
    assert!(!world.manager.status().running);
    assert!(world.story().await.contains(&"1 inside cancelled".to_owned()));
    // Nothing was left half stopped: no second keeper repairs beside the first one.
    world.manager.start().await.unwrap();
    world.manager.breaker("other").unwrap().trip("test");
    world.advance(secs(2)).await;
    let other = world.manager.audit().await.unwrap().of("other").await.unwrap();
    let began = other.iter().filter(|event| matches!(event, AuditEvent::Began { .. }));
    assert_eq!(began.count(), 1);

    let world = inside(|manager| {
        Box::pin(async move {
            manager.unregister("mailer").await;
        })
    })
    .await;
    assert!(!world.manager.status().plugins.contains_key("mailer"));
    assert!(world.story().await.contains(&"1 inside cancelled".to_owned()));
}

#[tokio::test]
async fn who_gives_up_waiting_for_the_end_leaves_nothing_half_stopped() {
    let world = World::new(config(), Fake::new().hangs(&["shutdown"])).await;
    world.manager.register("other", Handle(Arc::clone(&world.fake))).unwrap();
    world.fail(3).await;
    world.manager.breaker("other").unwrap().trip("test");
    world.until("both are repaired", |w| w.fake.calls() == ["shutdown"; 2]).await;
    let mut stop = Box::pin(world.manager.stop());
    std::future::poll_fn(|cx| {
        assert!(stop.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(stop);
    // It stops all the same, and who starts it waits for that.
    while world.manager.start().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.fake.at_once.load(Ordering::SeqCst), 0, "it waits for the end of the others");
    world.advance(secs(2)).await;
    for name in ["mailer", "other"] {
        let trail = world.manager.audit().await.unwrap().of(name).await.unwrap();
        let ended =
            trail.iter().filter(|event| matches!(event, AuditEvent::Ended { attempt: 1, .. }));
        assert_eq!(ended.count(), 1, "{name}: {trail:?}");
    }
    assert_eq!(world.tried().await, ["restart", "reload"]);
}

#[tokio::test]
async fn unregistered_by_two_and_started_meanwhile_nobody_goes_on() {
    let world = World::new(config(), Fake::new().hangs(&["shutdown"])).await;
    world.fail(3).await;
    world.until("repairing", |w| w.fake.calls() == ["shutdown"]).await;
    let (a, b, c) = (world.manager.clone(), world.manager.clone(), world.manager.clone());
    let restart = async move {
        c.stop().await;
        c.start().await
    };
    let gone = tokio::join!(restart, a.unregister("mailer"), b.unregister("mailer"));
    gone.0.unwrap();
    assert_eq!(u32::from(gone.1) + u32::from(gone.2), 1);
    world.manager.register("mailer", Handle(Arc::clone(&world.fake))).unwrap();
    world.advance(secs(2)).await;
    let story = world.story().await;
    let ended: Vec<_> = story.iter().filter(|said| said.starts_with("1 restart ")).collect();
    assert_eq!(ended, ["1 restart cancelled"], "{story:?}");
    assert_eq!(world.tried().await, ["restart", "reload"], "the attempts made are not forgotten");
}

#[tokio::test]
async fn who_missed_the_opening_repairs_all_the_same() {
    let world = World::new(config(), Fake::new()).await;
    let breaker = world.manager.breaker("mailer").unwrap();
    world.settle().await;
    // More than anybody keeps for the keeper, and none of the last says that the circuit opened.
    breaker.trip("test");
    for n in 0..300 {
        breaker.trip_for("test", secs(1_000 + n));
    }
    world.advance(secs(1)).await;
    assert_eq!(world.fake.calls(), ["shutdown", "load"]);
    assert!(world.story().await.contains(&"alert circuit_breaker_open".to_owned()));
}

#[tokio::test]
async fn what_opened_while_nobody_watched_is_told_at_the_start() {
    let world = World::stopped(config(), Fake::new()).await;
    world.fail(3).await;
    let mut alerts = world.manager.alerts();
    world.manager.start().await.unwrap();
    world.settle().await;
    let mut raised = std::iter::from_fn(|| alerts.try_recv());
    assert!(raised.any(|alert| alert.kind == AlertKind::CircuitBreakerOpen));
}

#[tokio::test]
async fn a_call_that_was_given_up_is_audited_as_what_it_was() {
    for (call_timeout, slow_after) in [(Some(secs(2)), None), (None, Some(secs(2)))] {
        let mut config = SupervisorConfig { auto_recovery: false, ..config() };
        config.breaker.trip = vec![resurge_breaker::Trip::ConsecutiveFailures { failures: 1 }];
        config.breaker.call_timeout = call_timeout;
        config.breaker.slow_after = slow_after;
        let world = World::new(config, Fake::new()).await;
        let manager = world.manager.clone();
        let hanging = std::future::pending::<Result<(), String>>();
        let call = tokio::spawn(async move { manager.execute("mailer", hanging).await });
        world.advance(secs(2)).await;
        if call_timeout.is_some() {
            assert!(matches!(call.await.unwrap(), Err(ExecuteError::TimedOut(_))));
        } else {
            // As an outer timeout does it.
            call.abort();
        }
        world.settle().await;
        assert_eq!(world.state(), State::Open);
        let failures: Vec<_> = (world.trail().await.into_iter())
            .filter_map(|event| match event {
                AuditEvent::Recorded { failure } => Some((failure.kind, failure.message)),
                _ => None,
            })
            .collect();
        assert_eq!(failures, [(FailureKind::Timeout, "given up after 2s".to_owned())]);
    }
    // Too early to be a failure: nothing is said of it.
    let mut config = config();
    config.breaker.slow_after = Some(secs(2));
    let world = World::new(config, Fake::new()).await;
    let manager = world.manager.clone();
    let hanging = std::future::pending::<Result<(), String>>();
    let call = tokio::spawn(async move { manager.execute("mailer", hanging).await });
    world.advance(secs(1)).await;
    call.abort();
    world.settle().await;
    world.manager.breaker("mailer").unwrap().trip("by hand");
    assert!(world.story().await.contains(&"recorded error".to_owned()));
}

#[tokio::test]
async fn who_calls_through_the_breaker_alone_is_understood_too() {
    let mut config = config();
    config.breaker.trip = vec![resurge_breaker::Trip::ConsecutiveFailures { failures: 1 }];
    for kind in FailureKind::ALL {
        let world = World::new(config.clone(), Fake::new()).await;
        world.manager.breaker("mailer").unwrap().acquire().unwrap().failure(kind);
        assert!(world.story().await.contains(&format!("recorded {kind}")));
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_alerts_nobody() {
    let config = SupervisorConfig { auto_recovery: false, ..config() };
    let world = World::new(config, Fake::new()).await;
    world.fail(3).await;
    world.settle().await;
    world.clock.set_wall(Timestamp::from_millis(4_000_000_000_000));
    world.advance(secs(1)).await;
    let late = |world: &World| {
        let alerts = world.mailer().recovery.alerts;
        alerts.iter().any(|alert| matches!(alert, AlertKind::RecoveryTime { .. }))
    };
    assert!(!late(&world));
    world.clock.set_wall(Timestamp::from_millis(0));
    world.advance(secs(299)).await;
    assert!(late(&world), "nor does it keep an alert back");
}

#[tokio::test]
async fn what_is_huge_is_cut_and_does_not_end_the_trail() {
    let world = World::new(config(), Fake::new()).await;
    let huge = || "\u{1F4A5}".repeat(5 << 20);
    let mut failure = Failure::new(FailureKind::Error, huge()).stack(huge());
    failure = failure.severity(Severity::new(huge())).context(huge(), huge());
    for n in 0..100 {
        failure = failure.context(n.to_string(), "long".repeat(5_000));
    }
    world.manager.record_failure("mailer", failure).await.unwrap();
    let Some(AuditEvent::Recorded { failure }) = world.trail().await.pop() else {
        panic!("not recorded");
    };
    assert!((3_000..=4_096).contains(&failure.message.len()));
    assert!(failure.severity.as_str().len() <= 256 && failure.context.len() <= 32);
    assert!(failure.context.iter().all(|(k, v)| k.len() <= 256 && v.len() <= 4_096));
}

#[tokio::test]
async fn one_that_hangs_does_not_keep_others_from_being_repaired_or_ended() {
    let config = SupervisorConfig { concurrency: 2, ..config() };
    let world = World::new(config, Fake::new().hangs(&["shutdown"])).await;
    let well = Fake::new();
    world.manager.register("well", Handle(Arc::clone(&well))).unwrap();
    world.fail(3).await;
    world.manager.breaker("well").unwrap().trip("test");
    world.advance(secs(1)).await;
    assert_eq!(well.calls(), ["shutdown", "load"]);
    assert!(world.manager.unregister("mailer").await);
    assert_eq!(world.manager.breaker("mailer").map(|_| ()), None);
    assert!(world.story().await.contains(&"1 restart cancelled".to_owned()));
    let twice = world.manager.register("well", Handle(well));
    assert!(matches!(twice, Err(SupervisorError::ResourceExists(_))));
}

#[tokio::test]
async fn who_listens_to_nothing_costs_a_bounded_number_of_events() {
    let world = World::stopped(config(), Fake::new()).await;
    let breaker = world.manager.breaker("mailer").unwrap();
    let mut events = breaker.subscribe();
    for _ in 0..10_000 {
        breaker.trip("");
        breaker.reset("");
    }
    let Some(BreakerEvent::Lagged(missed)) = events.try_recv() else { panic!("nothing missed") };
    assert!(missed >= 20_000 - 256);
    assert!(std::iter::from_fn(|| events.try_recv()).count() <= 256);
}

#[tokio::test]
async fn many_resources_with_long_failures_do_not_end_the_trimming_of_the_trail() {
    let config = SupervisorConfig { audit_keep: 100, auto_recovery: false, ..config() };
    let world = World::stopped(config.clone(), Fake::new()).await;
    let name = |n: u32| format!("r-{n:03}");
    let long = || {
        let failure = Failure::new(FailureKind::Error, "x".repeat(4_096));
        (0..32).fold(failure, |failure, n| failure.context(n.to_string(), "x".repeat(4_096)))
    };
    for n in 0..200 {
        let resource = Registration::new(Handle(Arc::clone(&world.fake)));
        world.manager.register(&name(n), resource).unwrap().trip("test");
    }
    world.manager.start().await.unwrap();
    for n in 0..200 {
        // 26 MiB of them: more than a record of the trail holds.
        world.manager.record_failure(&name(n), long()).await.unwrap();
    }
    world.settle().await;
    world.manager.stop().await;
    let mut trail = world.manager.audit().await.unwrap();
    let (mut records, mut summaries) = (0, 0);
    while let Some((_, record)) = trail.next().await.unwrap() {
        records += 1;
        summaries += u32::from(matches!(record.event, AuditEvent::Summary(_)));
    }
    assert!(summaries >= 4 && records <= 140, "{summaries} of {records}");
    // What the older records said is still known.
    let again = RecoveryManager::open(&world.store, config).await.unwrap();
    for n in 0..200 {
        again.register(&name(n), Handle(Arc::clone(&world.fake))).unwrap();
        let alerts = &again.status().plugins[&*name(n)].recovery.alerts;
        assert_eq!(*alerts, [AlertKind::CircuitBreakerOpen], "{}", name(n));
    }
}

#[tokio::test]
async fn reviving_needs_no_runtime() {
    let world = World::new(SupervisorConfig { max_attempts: 1, ..config() }, Fake::new()).await;
    world.fake.breaks(&["shutdown"]);
    world.fail(3).await;
    world.advance(secs(5)).await;
    assert!(world.mailer().recovery.exhausted);
    let manager = world.manager.clone();
    std::thread::spawn(move || manager.revive("mailer")).join().unwrap().unwrap();
    world.fake.breaks(&[]);
    world.advance(secs(5)).await;
    assert_eq!(world.tried().await.len(), 2);
}

#[tokio::test]
async fn a_call_may_be_given_up_where_no_runtime_is() {
    let breaker = BreakerConfig { call_timeout: Some(secs(5)), ..quick() };
    let config = SupervisorConfig { breaker, repair_on: RepairOn::Failure, ..config() };
    let world = World::new(config, Fake::new()).await;
    let manager = world.manager.clone();
    let hangs = std::future::pending::<Result<(), String>>();
    let mut call = Box::pin(async move { manager.execute("mailer", hangs).await });
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    world.clock.advance(secs(6));
    std::thread::spawn(move || drop(call)).join().unwrap();
    world.advance(secs(1)).await;
    assert!(world.story().await.contains(&"recorded timeout".to_owned()));
    assert_eq!(world.tried().await, ["restart"]);
}
