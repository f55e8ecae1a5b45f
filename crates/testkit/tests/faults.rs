//! Faults strike the call they were planned for, once, and change nothing else.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use resurge_store::{
    Batch, Durability, ErrorKind, Key, MemoryStore, Namespace, ScanOptions, Store, VirtualClock,
};
use resurge_testkit::{Call, Fault, FaultStore};

fn key(name: &str) -> Key {
    Namespace::new("faults").unwrap().key(name).unwrap()
}

fn put(name: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(name), "v");
    batch
}

fn store() -> (Store, FaultStore) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    (Store::new(faults.clone()), faults)
}

async fn there(store: &Store, name: &str) -> bool {
    store.get(&key(name)).await.unwrap().is_some()
}

async fn commit(store: &Store, name: &str) -> Result<(), ErrorKind> {
    store.commit(put(name), Durability::Durable).await.map(|_| ()).map_err(|e| e.kind())
}

#[tokio::test]
async fn the_nth_call_fails_and_no_other() {
    let (store, faults) = store();
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Full));
    faults.fail(Call::Commit, 3, Fault::after(ErrorKind::Indeterminate));
    faults.fail(Call::Get, 2, Fault::before(ErrorKind::Corrupt));
    faults.fail(Call::Scan, 1, Fault::after(ErrorKind::Unavailable));
    faults.fail(Call::Sync, 1, Fault::before(ErrorKind::Unavailable));
    assert_eq!(commit(&store, "a").await, Ok(()));
    assert_eq!(commit(&store, "b").await, Err(ErrorKind::Full));
    assert_eq!(commit(&store, "c").await, Err(ErrorKind::Indeterminate));
    assert_eq!(commit(&store, "d").await, Ok(()));
    assert!(there(&store, "a").await);
    assert_eq!(store.get(&key("a")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!there(&store, "b").await, "failed before it was applied");
    assert!(there(&store, "c").await, "failed after it was applied");
    assert!(there(&store, "d").await);
    let all = key("a").namespace().all();
    let scan = store.scan(all.clone(), ScanOptions::new()).await;
    assert_eq!(scan.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.scan(all, ScanOptions::new()).await.unwrap().entries.len(), 3);
    assert_eq!(store.sync().await.unwrap_err().kind(), ErrorKind::Unavailable);
    store.sync().await.unwrap();
    let counts = [Call::Commit, Call::Get, Call::Scan, Call::Sync].map(|call| faults.calls(call));
    assert_eq!(counts, [4, 5, 2, 2]);
}

#[tokio::test]
async fn counting_starts_when_the_fault_is_planned() {
    let (store, faults) = store();
    for name in ["a", "b", "c"] {
        commit(&store, name).await.unwrap();
    }
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    assert_eq!(commit(&store, "d").await, Err(ErrorKind::Unavailable));
    assert_eq!(commit(&store, "e").await, Ok(()));
}

#[tokio::test]
async fn always_lasts_until_healed() {
    let (store, faults) = store();
    faults.fail_always(Call::Commit, Fault::before(ErrorKind::Unavailable));
    for _ in 0..3 {
        assert_eq!(commit(&store, "a").await, Err(ErrorKind::Unavailable));
    }
    faults.heal();
    assert_eq!(commit(&store, "a").await, Ok(()));
}

#[tokio::test]
async fn a_poisoning_fault_closes_what_follows() {
    let (store, faults) = store();
    faults.fail(Call::Commit, 1, Fault::after(ErrorKind::Indeterminate).poisoning());
    assert_eq!(commit(&store, "a").await, Err(ErrorKind::Indeterminate));
    assert_eq!(commit(&store, "b").await, Err(ErrorKind::Closed));
    assert_eq!(store.get(&key("a")).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.sync().await.unwrap_err().kind(), ErrorKind::Closed);
    faults.heal();
    assert!(there(&store, "a").await);
}

#[tokio::test]
async fn held_commits_are_unseen_and_keep_their_order() {
    let (store, faults) = store();
    faults.hold();
    let mut watch = store.watch(&key("a").namespace());
    let first = store.commit(put("a"), Durability::Durable);
    drop(store.commit(put("b"), Durability::Buffered));
    let synced = store.sync();
    let mut after = put("c");
    after.guard(key("b"), resurge_store::Guard::Present);
    let last = store.commit(after, Durability::Durable);
    assert_eq!(faults.held(), 4);
    assert!(!there(&store, "a").await && !watch.has_changed().unwrap());

    assert_eq!(faults.release_next(1), 1);
    let first = first.await.unwrap();
    assert!(there(&store, "a").await && faults.held() == 3);
    faults.release();
    synced.await.unwrap();
    assert!(last.await.unwrap() > first);
    assert!(there(&store, "b").await, "a dropped future commits all the same");
    watch.changed().await.unwrap();
    assert_eq!(commit(&store, "d").await, Ok(()), "nothing is held any more");
}

#[tokio::test]
async fn held_calls_that_are_dropped_are_indeterminate() {
    let (store, faults) = store();
    faults.hold();
    let held = store.commit(put("a"), Durability::Durable);
    faults.drop_held();
    assert_eq!(held.await.unwrap_err().kind(), ErrorKind::Indeterminate);
    faults.release();
    assert!(!there(&store, "a").await);
}

#[tokio::test]
async fn faults_strike_held_calls_too() {
    let (store, faults) = store();
    faults.hold();
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Full));
    let good = store.commit(put("a"), Durability::Durable);
    let bad = store.commit(put("b"), Durability::Durable);
    faults.release();
    good.await.unwrap();
    assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::Full);
}

#[tokio::test]
async fn acknowledgements_wait_for_the_clock() {
    let (store, faults) = store();
    let clock = VirtualClock::new();
    faults.delay_acks(clock.clone(), Duration::from_secs(60));
    let commit = tokio::spawn(store.commit(put("a"), Durability::Durable));
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(there(&store, "a").await && !commit.is_finished());
    clock.advance(Duration::from_secs(60));
    commit.await.unwrap().unwrap();
}

#[tokio::test]
async fn waiting_for_calls_needs_no_sleep() {
    let (store, faults) = store();
    let waiting = {
        let faults = faults.clone();
        tokio::spawn(async move { faults.wait_for_calls(Call::Commit, 2).await })
    };
    commit(&store, "a").await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    commit(&store, "b").await.unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn closing_lets_go_of_what_is_held() {
    let (store, faults) = store();
    faults.hold();
    let held = store.commit(put("a"), Durability::Durable);
    store.close().await.unwrap();
    held.await.unwrap();
}
