//! What is promised to be on disk is, whoever else tells of something at the same moment.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use resurge_breaker::{BreakerConfig, FailureKind, Trip};
use resurge_store::{MemoryStore, Store};
use resurge_supervisor::{Failure, RecoveryManager, Registration, SupervisorConfig};
use resurge_testkit::FaultStore;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::world::{Fake, Handle, config, until};

async fn on_held(config: SupervisorConfig) -> (FaultStore, RecoveryManager, Arc<Fake>) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let manager = RecoveryManager::open(&store, config).await.unwrap();
    let fake = Fake::new();
    manager.register("mailer", Registration::new(Handle(Arc::clone(&fake)))).unwrap();
    (faults, manager, fake)
}

/// Tells of a failure; true when that is already said to be on disk.
fn told(manager: &RecoveryManager) -> bool {
    let told = pin!(manager.record_failure("mailer", Failure::new(FailureKind::Error, "told")));
    matches!(told.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
}

#[tokio::test]
async fn a_failure_told_beside_others_is_on_disk_when_that_is_said() {
    let trip = vec![Trip::ConsecutiveFailures { failures: 1_000_000 }];
    let breaker = BreakerConfig { trip, ..BreakerConfig::default() };
    let (faults, manager, _) = on_held(SupervisorConfig { breaker, ..config() }).await;
    faults.hold();
    let early = AtomicU32::new(0);
    let runtime = tokio::runtime::Handle::current();
    // Often enough that two of them meet in most runs.
    let left = AtomicU32::new(20_000);
    let next = |left: u32| left.checked_sub(1);
    thread::scope(|threads| {
        threads.spawn(|| {
            let _inside = runtime.enter();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
                early.fetch_add(u32::from(told(&manager)), Ordering::Relaxed);
            }
        });
        // Meanwhile calls fail, after each of which the trail is told what is new.
        threads.spawn(|| {
            let _inside = runtime.enter();
            while left.load(Ordering::Relaxed) > 0 {
                let call = pin!(manager.execute("mailer", async { Err::<(), _>("down") }));
                let _ = call.poll(&mut Context::from_waker(Waker::noop()));
            }
        });
    });
    assert_eq!(early.into_inner(), 0, "nothing was written yet");
}

/// Tells of a failure at the moment an attempt begins.
struct Meanwhile(RecoveryManager);

impl Subscriber for Meanwhile {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "resurge_supervisor::attempt"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut begins = Begins(false);
        event.record(&mut begins);
        if begins.0 {
            told(&self.0);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Begins(bool);

impl Visit for Begins {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 |= format!("{value:?}") == "an attempt begins";
    }
}

#[tokio::test]
async fn an_attempt_waits_for_the_disk_whoever_tells_of_a_failure_as_it_begins() {
    let (faults, manager, fake) = on_held(config()).await;
    manager.start().await.unwrap();
    let _heard = tracing::subscriber::set_default(Meanwhile(manager.clone()));
    faults.hold();
    for _ in 0..3 {
        let failed = async { Err::<(), _>("down".to_owned()) };
        assert!(manager.execute("mailer", failed).await.is_err());
    }
    let coalesced = || manager.status().plugins["mailer"].recovery.coalesced_failures;
    until("the attempt begins", || coalesced() == 1).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(fake.calls().is_empty(), "the beginning is not on disk");
    faults.release();
    until("it is repaired", || !fake.calls().is_empty()).await;
}
