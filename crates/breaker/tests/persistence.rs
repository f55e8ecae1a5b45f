//! What survives a restart, and what a failing store does: C71 to C74, staging, registries.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use resurge_breaker::{
    Breaker, BreakerConfig, BreakerEvent, BreakerRegistry, BuildError, FailureKind, Mode,
    OnUnreadable, OpenConfig, Outcome, RegistryOptions, State, Trip,
};
use resurge_store::{
    Batch, Durability, ErrorKind, Key, MemoryStore, Namespace, Record, Store, Timestamp,
    VirtualClock,
};
use resurge_testkit::{Call, Fault, FaultStore};
use tokio::task::yield_now;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn config() -> BreakerConfig {
    BreakerConfig { trip: vec![Trip::ConsecutiveFailures { failures: 2 }], ..BreakerConfig::fast() }
}

async fn open(store: &Store) -> Breaker {
    Breaker::builder("db").config(config()).open(store).await.unwrap()
}

fn stores() -> (VirtualClock, Store) {
    let clock = VirtualClock::new();
    (clock.clone(), Store::memory().with_clock(clock))
}

fn key() -> Key {
    Namespace::new("resurge/breaker").unwrap().key("db").unwrap()
}

fn fail(breaker: &Breaker) {
    breaker.acquire().unwrap().failure(FailureKind::Error);
}

fn succeed(breaker: &Breaker) {
    breaker.acquire().unwrap().success();
}

async fn opened(store: &Store) -> Breaker {
    let breaker = open(store).await;
    fail(&breaker);
    fail(&breaker);
    breaker.flush().await.unwrap();
    breaker
}

#[tokio::test]
async fn c71_open_stays_open_for_the_time_that_is_left() {
    let (clock, store) = stores();
    opened(&store).await;
    clock.advance(secs(2));
    let breaker = open(&store).await;
    assert_eq!(breaker.acquire().unwrap_err().retry_after, Some(secs(3)));
    let restored = breaker.restored().unwrap();
    assert_eq!((restored.state, restored.remaining), (State::Open, Some(secs(3))));
    clock.advance(secs(3));
    succeed(&breaker);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn c71_open_and_over_is_half_open_never_closed() {
    let (clock, store) = stores();
    opened(&store).await;
    clock.advance(secs(3_600));
    let breaker = open(&store).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let probe = breaker.acquire().unwrap();
    assert!(probe.is_probe() && breaker.acquire().is_err());
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn c72_building_resets_nothing_and_tells_nothing() {
    let (clock, store) = stores();
    let breaker = opened(&store).await;
    let before = breaker.snapshot();
    clock.advance(secs(1));
    for _ in 0..3 {
        let again = open(&store).await;
        let mut events = again.subscribe();
        assert_eq!(again.snapshot(), before);
        yield_now().await;
        assert!(events.try_recv().is_none());
        let metrics = again.metrics();
        assert_eq!((metrics.total_requests, metrics.total_failures), (2, 2));
        assert_eq!(metrics.down_since, Some(before.opened_at));
        assert_eq!(metrics.circuit_open_time, secs(1));
    }
    // The attempts go on, too.
    let again = open(&store).await;
    clock.advance(secs(4));
    again.acquire().unwrap().failure(FailureKind::Error);
    assert_eq!((again.metrics().attempt, again.snapshot().number), (1, before.number + 2));
}

#[tokio::test]
async fn c73_half_open_and_repairing_come_back_as_open_and_recover_by_probes() {
    let (clock, store) = stores();
    let breaker = opened(&store).await;
    clock.advance(secs(5));
    std::mem::forget(breaker.acquire().unwrap());
    breaker.flush().await.unwrap();
    assert_eq!(breaker.snapshot().state, State::HalfOpen);
    let again = open(&store).await;
    succeed(&again);
    assert_eq!(again.state(), State::Closed);

    let (clock, store) = stores();
    let breaker = opened(&store).await;
    clock.advance(secs(1));
    let repair = breaker.begin_repair().unwrap();
    breaker.flush().await.unwrap();
    std::mem::forget(repair);
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let again = Breaker::builder("db")
        .config(config())
        .on_event(move |event| hook.lock().push(event.clone()))
        .open(&store)
        .await
        .unwrap();
    assert_eq!((again.state(), again.retry_after()), (State::Open, Some(secs(4))));
    assert!(again.restored().unwrap().repair_interrupted);
    assert!(matches!(&told.lock()[..], [BreakerEvent::Restored(r)] if r.repair_interrupted));
    clock.advance(secs(4));
    succeed(&again);
    assert_eq!(again.state(), State::Closed);
}

#[tokio::test]
async fn modes_come_back_as_they_were() {
    for mode in [Mode::ForcedOpen, Mode::Disabled, Mode::Shadow] {
        let (clock, store) = stores();
        let breaker = open(&store).await;
        breaker.set_mode(mode);
        breaker.flush().await.unwrap();
        clock.advance(secs(1_000_000));
        let again = open(&store).await;
        assert_eq!(again.mode(), mode);
        assert_eq!(again.acquire().is_err(), mode == Mode::ForcedOpen);
        again.set_mode(Mode::Active);
        again.flush().await.unwrap();
        // Nothing is left to keep.
        assert!(store.get(&key()).await.unwrap().is_none());
        assert_eq!(open(&store).await.mode(), Mode::Active);
    }
}

#[tokio::test]
async fn a_closed_circuit_leaves_nothing_behind() {
    let (clock, store) = stores();
    let breaker = opened(&store).await;
    assert!(store.get(&key()).await.unwrap().is_some());
    clock.advance(secs(5));
    succeed(&breaker);
    breaker.flush().await.unwrap();
    assert!(store.get(&key()).await.unwrap().is_none());
}

#[tokio::test]
async fn with_decay_closing_keeps_the_attempts() {
    let (clock, store) = stores();
    let mut config = config();
    config.open = OpenConfig { decay: Some(secs(60)), ..config.open };
    let open = || Breaker::builder("db").config(config.clone()).open(&store);
    let breaker = open().await.unwrap();
    breaker.trip("once");
    clock.advance(secs(5));
    succeed(&breaker);
    breaker.flush().await.unwrap();
    let again = open().await.unwrap();
    assert_eq!(again.state(), State::Closed);
    again.trip("twice");
    assert_eq!(again.metrics().attempt, 1);
    drop(breaker);
}

#[tokio::test]
async fn a_clock_that_jumps_neither_prolongs_nor_closes() {
    let (clock, store) = stores();
    let opened_at = opened(&store).await.snapshot().opened_at;
    // Back by a year: not longer than it was meant to be.
    clock.set_wall(Timestamp::from_millis(opened_at.as_millis() - 31_536_000_000));
    assert_eq!(open(&store).await.retry_after(), Some(secs(5)));
    // Forth: probes, not closed.
    clock.set_wall(opened_at.saturating_add(secs(31_536_000)));
    assert_eq!(open(&store).await.state(), State::HalfOpen);
}

#[tokio::test]
async fn what_is_unreadable_is_an_error_or_closed_on_demand() {
    let (_, store) = stores();
    opened(&store).await;
    let good = store.read(&key()).await.unwrap().into_payload().unwrap();
    let mut newer = good.to_vec();
    newer[0] = 2;
    let record = |payload: Vec<u8>| Record::new(payload).encode(&key());
    let mut flipped = record(good.to_vec()).to_vec();
    flipped[9] ^= 1;
    for bad in [record(newer), record(vec![]), record(vec![1, 0xff]), flipped.into(), vec![].into()]
    {
        let mut batch = Batch::new();
        batch.put(key(), bad);
        store.commit(batch, Durability::Durable).await.unwrap();
        let error = Breaker::builder("db").open(&store).await.unwrap_err();
        assert!(matches!(error, BuildError::Unreadable { .. }), "{error}");
        let builder = Breaker::builder("db").on_unreadable(OnUnreadable::Closed);
        assert_eq!(builder.open(&store).await.unwrap().state(), State::Closed);
    }
}

#[tokio::test]
async fn every_mangled_record_is_refused() {
    let (_, store) = stores();
    opened(&store).await;
    let stored = store.get(&key()).await.unwrap().unwrap();
    let mut refused = 0;
    for bit in 0..stored.len() * 8 {
        let mut bytes = stored.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut batch = Batch::new();
        batch.put(key(), bytes);
        store.commit(batch, Durability::Durable).await.unwrap();
        assert!(Breaker::builder("db").open(&store).await.is_err());
        refused += 1;
    }
    for cut in 0..stored.len() {
        let mut batch = Batch::new();
        batch.put(key(), stored.slice(..cut));
        store.commit(batch, Durability::Durable).await.unwrap();
        assert!(Breaker::builder("db").open(&store).await.is_err());
        refused += 1;
    }
    resurge_testkit::evidence(
        "breaker-damaged-records",
        &format!("{refused} flipped bits and cuts of a stored state, all refused"),
    );
}

#[tokio::test]
async fn c74_a_failing_store_is_counted_and_tried_again_and_calls_do_not_notice() {
    let clock = VirtualClock::new();
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(clock.clone());
    let breaker = open(&store).await;
    let mut events = breaker.subscribe();
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Full));
    faults.fail(Call::Commit, 3, Fault::after(ErrorKind::Indeterminate));
    fail(&breaker);
    fail(&breaker);
    assert_eq!(breaker.state(), State::Open);
    let mut errors = 0;
    while faults.calls(Call::Commit) < 4 {
        yield_now().await;
        while let Some(event) = events.try_recv() {
            errors += u64::from(matches!(event, BreakerEvent::StoreFailed(_)));
        }
        assert!(breaker.acquire().is_err());
        // It waits between two attempts.
        clock.advance_to_next();
    }
    breaker.flush().await.unwrap();
    assert_eq!((breaker.metrics().store_errors, errors), (3, 3));
    assert_eq!(open(&store).await.snapshot().state, State::Open);
}

#[tokio::test]
async fn c74_a_closed_store_is_given_up_and_calls_go_on() {
    let clock = VirtualClock::new();
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(clock.clone());
    let breaker = open(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Closed).poisoning());
    fail(&breaker);
    fail(&breaker);
    assert_eq!(breaker.flush().await.unwrap_err().kind(), ErrorKind::Closed);
    clock.advance(secs(5));
    succeed(&breaker);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(clock.sleepers(), 0);
}

#[tokio::test]
async fn transitions_while_a_commit_is_under_way_are_coalesced() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
    let breaker = open(&store).await;
    faults.hold();
    for _ in 0..50 {
        breaker.trip("on");
        breaker.reset("off");
        yield_now().await;
    }
    breaker.trip("on");
    assert!(faults.held() <= 1);
    faults.release();
    breaker.flush().await.unwrap();
    assert!(faults.calls(Call::Commit) <= 3, "{}", faults.calls(Call::Commit));
    assert_eq!(open(&store).await.snapshot(), breaker.snapshot());
}

#[tokio::test]
async fn a_staged_transition_shares_the_commit() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
    let breaker = open(&store).await;
    let mut events = breaker.subscribe();
    let failed = Outcome::Failure(FailureKind::Error);
    let mut batch = Batch::new();
    let first = breaker.acquire().unwrap().settle_into(failed, &store, &mut batch);
    assert!(first.is_none() && batch.is_empty());
    let staged = breaker.acquire().unwrap().settle_into(failed, &store, &mut batch).unwrap();
    // Memory moves at once, and the queue waits.
    assert_eq!((breaker.state(), staged.number()), (State::Open, 1));
    yield_now().await;
    assert_eq!(faults.calls(Call::Commit), 0);
    let app = Namespace::new("app").unwrap().key("step").unwrap();
    batch.put(app, "result");
    let commit = store.commit(batch, Durability::Durable);
    staged.submitted(commit).await.unwrap();
    breaker.flush().await.unwrap();
    yield_now().await;
    assert_eq!(faults.calls(Call::Commit), 1);
    assert_eq!(open(&store).await.snapshot(), breaker.snapshot());
    let heard: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
    assert!(matches!(
        &heard[..],
        [BreakerEvent::Transition(_), BreakerEvent::Persisted { number: 1 }]
    ));
}

#[tokio::test]
async fn what_was_staged_and_not_committed_the_queue_persists() {
    for failing in 0..4 {
        let faults = FaultStore::new(MemoryStore::in_memory());
        let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
        let breaker = open(&store).await;
        fail(&breaker);
        let failed = Outcome::Failure(FailureKind::Error);
        let mut batch = Batch::new();
        let staged = breaker.acquire().unwrap().settle_into(failed, &store, &mut batch).unwrap();
        match failing {
            // Dropped before the commit.
            0 => drop(staged),
            // The commit fails.
            1 => {
                faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Conflict));
                let commit = store.commit(batch, Durability::Durable);
                staged.submitted(commit).await.unwrap_err();
            }
            // Nobody waits for it, and it fails.
            2 => {
                faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
                let commit = store.commit(batch, Durability::Durable);
                drop(staged.submitted(commit));
            }
            // More happened meanwhile.
            _ => {
                breaker.reset("meanwhile");
                breaker.trip("meanwhile");
                let commit = store.commit(batch, Durability::Durable);
                staged.submitted(commit).await.unwrap();
            }
        }
        // By itself: nobody asks for it.
        for _ in 0..20 {
            yield_now().await;
        }
        let calls = if failing == 0 { 1 } else { 2 };
        assert_eq!((failing, faults.calls(Call::Commit)), (failing, calls));
        breaker.flush().await.unwrap();
        let again = open(&store).await;
        assert_eq!((failing, again.snapshot()), (failing, breaker.snapshot()));
        assert_eq!(again.state(), State::Open);
    }
}

#[tokio::test]
async fn the_batch_of_another_store_is_left_alone() {
    let (_, store) = stores();
    let (_, other) = stores();
    let breaker = open(&store).await;
    fail(&breaker);
    let failed = Outcome::Failure(FailureKind::Error);
    let mut batch = Batch::new();
    assert!(breaker.acquire().unwrap().settle_into(failed, &other, &mut batch).is_none());
    assert!(batch.is_empty());
    breaker.flush().await.unwrap();
    assert_eq!(open(&store).await.state(), State::Open);
    // Nor is there anything to stage without a store.
    let breaker = Breaker::builder("db").config(config()).build().unwrap();
    breaker.trip("memory");
    assert!(breaker.stage(&store, &mut batch).is_none());
    breaker.flush().await.unwrap();
}

#[tokio::test]
async fn a_transition_outside_a_call_can_be_staged() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
    let breaker = open(&store).await;
    breaker.trip("from outside");
    // The queue has not run yet.
    let mut batch = Batch::new();
    let staged = breaker.stage(&store, &mut batch).unwrap();
    assert!(breaker.stage(&store, &mut batch).is_none());
    staged.submitted(store.commit(batch, Durability::Durable)).await.unwrap();
    breaker.flush().await.unwrap();
    assert_eq!(faults.calls(Call::Commit), 1);
    assert_eq!(open(&store).await.state(), State::Open);
}

#[tokio::test]
async fn a_registry_brings_its_breakers_back() {
    let (_, store) = stores();
    let options = || RegistryOptions::default().config(config());
    let hosts = BreakerRegistry::<String>::open(&store, "hosts", options()).await.unwrap();
    let (a, _b) = (hosts.get("a").unwrap(), hosts.get("b").unwrap());
    a.trip("down");
    hosts.flush().await.unwrap();
    // Another registry whose name begins with this one's does not get them.
    let other = BreakerRegistry::<String>::open(&store, "host", options()).await.unwrap();
    assert_eq!(other.get("s/a").unwrap().state(), State::Closed);
    let again = BreakerRegistry::<String>::open(&store, "hosts", options()).await.unwrap();
    assert!(again.is_empty());
    again.load_all(|name| Some(name.to_owned())).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again.get("a").unwrap().state(), State::Open);
    assert_eq!(again.get("b").unwrap().state(), State::Closed);
}

#[tokio::test]
async fn who_asks_first_configures_what_was_loaded_unasked() {
    let (_, store) = stores();
    let options = || RegistryOptions::default().config(config());
    let hosts = BreakerRegistry::<String>::open(&store, "hosts", options()).await.unwrap();
    hosts.get("a").unwrap().trip("down");
    hosts.get("b").unwrap().trip("down");
    hosts.flush().await.unwrap();
    let again = BreakerRegistry::<String>::open(&store, "hosts", options()).await.unwrap();
    again.load_all(|name| Some(name.to_owned())).unwrap();
    let wrong = BreakerConfig { trip: Vec::new(), ..config() };
    assert!(matches!(again.get_with("a", wrong), Err(BuildError::Config(_))));
    let a = again.get_with("a", BreakerConfig::fast()).unwrap();
    assert_eq!((a.state(), &*a.config()), (State::Open, &BreakerConfig::fast()));
    let b = again.get("b").unwrap();
    again.get_with("a", BreakerConfig::tolerant()).unwrap();
    again.get_with("b", BreakerConfig::tolerant()).unwrap();
    assert_eq!((&*a.config(), &*b.config()), (&BreakerConfig::fast(), &config()), "once");
}

#[tokio::test]
async fn a_registry_says_what_it_cannot_read() {
    let (_, store) = stores();
    let key = Namespace::new("resurge/breaker").unwrap().key("hosts/a").unwrap();
    let mut batch = Batch::new();
    batch.put(key, "rubbish");
    store.commit(batch, Durability::Durable).await.unwrap();
    let options = RegistryOptions::default();
    let error = BreakerRegistry::<String>::open(&store, "hosts", options.clone()).await;
    assert!(matches!(error, Err(BuildError::Unreadable { name, .. }) if &*name == "hosts/a"));
    let options = options.on_unreadable(OnUnreadable::Closed);
    let hosts = BreakerRegistry::<String>::open(&store, "hosts", options).await.unwrap();
    assert_eq!(hosts.get("a").unwrap().state(), State::Closed);
}

#[tokio::test]
async fn a_stage_keeps_out_a_queue_that_was_waiting_to_try_again() {
    let clock = VirtualClock::new();
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(clock.clone());
    let breaker = open(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    breaker.trip("now");
    while clock.sleepers() == 0 {
        yield_now().await;
    }
    let mut batch = Batch::new();
    let staged = breaker.stage(&store, &mut batch).unwrap();
    clock.advance_to_next();
    for _ in 0..5 {
        yield_now().await;
    }
    assert_eq!(faults.calls(Call::Commit), 1);
    staged.submitted(store.commit(batch, Durability::Durable)).await.unwrap();
    breaker.flush().await.unwrap();
    assert_eq!(faults.calls(Call::Commit), 2);
    assert_eq!(open(&store).await.snapshot(), breaker.snapshot());
}

#[tokio::test]
async fn a_breaker_that_could_not_be_made_is_still_open_when_it_can() {
    let (_, store) = stores();
    let options = || RegistryOptions::default().config(config());
    let hosts = BreakerRegistry::<String>::open(&store, "hosts", options()).await.unwrap();
    hosts.get("a").unwrap().trip("down");
    hosts.flush().await.unwrap();
    let again = BreakerRegistry::<String>::open(&store, "hosts", options()).await.unwrap();
    let nonsense = BreakerConfig { trip: Vec::new(), ..config() };
    assert!(matches!(again.get_with("a", nonsense), Err(BuildError::Config(_))));
    assert_eq!(again.get("a").unwrap().state(), State::Open);
}

#[tokio::test]
async fn what_a_reset_of_a_closed_circuit_forgets_does_not_come_back() {
    let (clock, store) = stores();
    let mut config = config();
    config.open.decay = Some(secs(3_600));
    let builder = || Breaker::builder("db").config(config.clone());
    let breaker = builder().open(&store).await.unwrap();
    breaker.trip("");
    clock.advance(secs(5));
    succeed(&breaker);
    breaker.flush().await.unwrap();
    assert!(store.get(&key()).await.unwrap().is_some(), "it remembers that it opened once");
    let mut events = breaker.subscribe();
    breaker.reset("");
    assert!(matches!(events.try_recv(), Some(BreakerEvent::Forgotten { number: 4 })));
    breaker.flush().await.unwrap();
    let again = builder().open(&store).await.unwrap();
    again.trip("");
    assert_eq!(again.metrics().attempt, 0);
}

/// What is stored, changed by somebody who also made the checksums right.
async fn forge(store: &Store, of: &str, put: &str, change: impl Fn(&mut serde_json::Value)) {
    let place = |name: &str| Namespace::new("resurge/breaker").unwrap().key(name).unwrap();
    let breaker = Breaker::builder(of).config(config()).open(store).await.unwrap();
    let mut record = serde_json::to_value(breaker.snapshot()).unwrap();
    change(&mut record);
    let record: resurge_breaker::BreakerRecord = serde_json::from_value(record).unwrap();
    let mut payload = vec![1];
    resurge_store::Codec::Cbor.encode_into(&record, &mut payload).unwrap();
    let mut batch = Batch::new();
    batch.put(place(put), Record::new(payload).encode(&place(put)));
    store.commit(batch, Durability::Durable).await.unwrap();
}

#[tokio::test]
async fn what_no_breaker_wrote_is_refused_or_survived() {
    let (clock, store) = stores();
    opened(&store).await;
    forge(&store, "other", "db", |_| {}).await;
    let refused = Breaker::builder("db").open(&store).await.unwrap_err();
    assert!(refused.to_string().contains("`other`"), "{refused}");
    forge(&store, "x", "db", |record| {
        record["name"] = "db".into();
        record["number"] = u64::MAX.into();
    })
    .await;
    assert!(matches!(
        Breaker::builder("db").open(&store).await,
        Err(BuildError::Unreadable { .. })
    ));
    forge(&store, "x", "db", |record| {
        record["name"] = "db".into();
        record["state"] = "open".into();
        for largest in ["opened_at", "total_requests", "total_failures", "last_failure"] {
            record[largest] = u64::MAX.into();
        }
        record["open_for"] = serde_json::json!({ "secs": u64::MAX, "nanos": 0 });
        record["attempt"] = u32::MAX.into();
        record["next_attempt"] = u32::MAX.into();
    })
    .await;
    let breaker = open(&store).await;
    assert_eq!(breaker.state(), State::Open);
    breaker.half_open("by hand").unwrap();
    fail(&breaker);
    // As long as it may ever be, not for ever.
    assert_eq!(breaker.retry_after(), Some(secs(300)));
    clock.advance(secs(300));
    succeed(&breaker);
    let metrics = breaker.metrics();
    assert_eq!((breaker.state(), metrics.attempt), (State::Closed, 0));
    breaker.flush().await.unwrap();
}

#[tokio::test]
async fn names_are_of_any_text_up_to_the_length_of_a_key() {
    let (_, store) = stores();
    for name in ["", "a/b", "\0", "\u{1F4A5} \n\"'{}", "..", &"x".repeat(400)] {
        let builder = || Breaker::builder(name).config(config());
        let breaker = builder().open(&store).await.unwrap();
        breaker.trip("");
        breaker.flush().await.unwrap();
        assert_eq!(builder().open(&store).await.unwrap().state(), State::Open, "{name:?}");
    }
    let huge = Breaker::builder("x".repeat(1 << 20)).open(&store).await.unwrap_err();
    assert!(matches!(huge, BuildError::Store(error) if error.kind() == ErrorKind::Invalid));
}

#[test]
fn without_the_runtime_that_persists_nobody_waits_for_ever() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime();
    let (_, store) = stores();
    let breaker = first.block_on(open(&store));
    drop(first);
    breaker.trip("nobody can write it down");
    let error = runtime().block_on(breaker.flush()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(breaker.acquire().is_err(), "calls go on");
}

#[tokio::test]
async fn a_hook_that_panics_does_not_end_persisting() {
    let (_, store) = stores();
    let hook = |event: &BreakerEvent| {
        assert!(!matches!(event, BreakerEvent::Persisted { number: 1 }), "on purpose");
    };
    let breaker =
        Breaker::builder("db").config(config()).on_event(hook).open(&store).await.unwrap();
    breaker.trip("");
    breaker.flush().await.unwrap();
    breaker.set_mode(Mode::ForcedOpen);
    breaker.flush().await.unwrap();
    assert_eq!(open(&store).await.mode(), Mode::ForcedOpen);
}

/// A breaker whose hook panics when it hears that the store failed.
async fn panicking(store: &Store) -> Breaker {
    let hook = |event: &BreakerEvent| {
        assert!(!matches!(event, BreakerEvent::StoreFailed(_)), "on purpose");
    };
    Breaker::builder("db").config(config()).on_event(hook).open(store).await.unwrap()
}

#[tokio::test]
async fn a_hook_that_panics_leaves_nobody_waiting_for_a_closed_store() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
    let breaker = panicking(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Closed).poisoning());
    breaker.trip("");
    let mut flushed = pin!(breaker.flush());
    for _ in 0..1_000 {
        if let Poll::Ready(flushed) = flushed.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            assert_eq!(flushed.unwrap_err().kind(), ErrorKind::Closed);
            return;
        }
        yield_now().await;
    }
    panic!("it waits for ever");
}

#[tokio::test]
async fn a_hook_that_panics_does_not_take_the_pause_after_an_error_away() {
    let clock = VirtualClock::new();
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(clock.clone());
    let breaker = panicking(&store).await;
    for n in 1..=3 {
        faults.fail(Call::Commit, n, Fault::before(ErrorKind::Unavailable));
    }
    breaker.trip("");
    for commits in 1..=3 {
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert_eq!(faults.calls(Call::Commit), commits);
        // Longer each time.
        clock.advance(Duration::from_millis((100 << (commits - 1)) - 1));
        yield_now().await;
        assert_eq!(faults.calls(Call::Commit), commits);
        clock.advance(Duration::from_millis(1));
    }
    breaker.flush().await.unwrap();
    assert_eq!(open(&store).await.state(), State::Open);
}
