//! The bytes-level half: begin, stage, settle, release, drop.

use std::time::Duration;

use resurge_checkpoint::{Begin, CheckpointError, CheckpointState, Miss, StepPolicy};
use resurge_store::{Batch, Durability, Namespace};
use resurge_testkit::FaultStore;

use super::support::{FOREVER, flushed, settle, until};
use super::{CHARGE, claim, key, memory, open, restarted};

#[tokio::test]
async fn done_and_the_caller_s_own_writes_are_one_commit() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("charge");
    let mut claim = claim(&checkpoints, &key, CHARGE).await;
    let mine = Namespace::new("app").unwrap().key("order").unwrap();
    let mut batch = Batch::new();
    batch.put(mine.clone(), "paid");
    claim.stage_done(&mut batch, "receipt", FOREVER).unwrap();
    let waiting = {
        let (checkpoints, key) = (checkpoints.clone(), key.clone());
        tokio::spawn(async move { checkpoints.begin(&key, CHARGE).await })
    };
    settle().await;
    assert!(!waiting.is_finished(), "staged is not done");
    store.commit(batch, Durability::Durable).await.unwrap();
    claim.settled();
    let got = waiting.await.unwrap().unwrap();
    assert!(matches!(&got, Begin::Hit(b) if b == "receipt"), "{got:?}");
    assert_eq!(store.get(&mine).await.unwrap().unwrap(), "paid");
    assert_eq!(checkpoints.get_bytes(&key).await.unwrap().unwrap(), "receipt");
}

#[tokio::test]
async fn a_batch_that_is_not_committed_leaves_nothing() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    let mut first = claim(&checkpoints, &key, StepPolicy::new()).await;
    first.stage_done(&mut Batch::new(), "never", FOREVER).unwrap();
    drop(first);
    flushed(&store).await;
    assert_eq!(checkpoints.inspect(&key).await.unwrap(), None, "released");
    drop(claim(&checkpoints, &key, StepPolicy::new()).await);
}

#[tokio::test]
async fn a_release_can_share_a_batch() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("charge");
    let mut claim = claim(&checkpoints, &key, CHARGE).await;
    let mut batch = Batch::new();
    claim.stage_release(&mut batch);
    store.commit(batch, Durability::Durable).await.unwrap();
    claim.settled();
    assert_eq!(checkpoints.inspect(&key).await.unwrap(), None);
    assert_eq!(checkpoints.stats().failed, 1);
}

#[tokio::test]
async fn a_released_claim_is_free_at_once_also_for_one_that_must_not_run_twice() {
    let (store, _) = memory();
    let (checkpoints, other) = (open(&store).await, open(&store).await);
    let key = key("charge");
    let parked = claim(&checkpoints, &key, CHARGE).await;
    let waiting = {
        let (other, key) = (other.clone(), key.clone());
        tokio::spawn(async move { claim(&other, &key, CHARGE).await })
    };
    settle().await;
    assert!(!waiting.is_finished());
    parked.release().await.unwrap();
    let next = waiting.await.unwrap();
    assert_eq!(next.why(), Miss::Absent);
    next.release().await.unwrap();
}

#[tokio::test]
async fn a_dropped_claim_is_in_doubt_or_free_as_its_policy_says() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let (charge, plain) = (key("charge"), key("plain"));
    drop(claim(&checkpoints, &charge, CHARGE).await);
    drop(claim(&checkpoints, &plain, StepPolicy::new()).await);
    flushed(&store).await;
    let left = checkpoints.inspect(&charge).await.unwrap().unwrap();
    let CheckpointState::Claimed { in_doubt, never_again, .. } = left.state else {
        panic!("{left:?}")
    };
    assert!(in_doubt && never_again && left.owner == checkpoints.owner());
    assert_eq!(checkpoints.inspect(&plain).await.unwrap(), None);
    let refused = checkpoints.begin(&charge, CHARGE).await.unwrap_err();
    assert!(matches!(&refused, CheckpointError::InDoubt { owner, .. } if *owner == left.owner));
    assert_eq!(refused.kind(), resurge_store::ErrorKind::Indeterminate);
    assert_eq!(refused.step(), Some(charge.id()));
    // The policy of whoever asks decides.
    let again = claim(&checkpoints, &charge, StepPolicy::new()).await;
    assert_eq!(again.why(), Miss::InDoubt);
    again.release().await.unwrap();
}

/// A process that dies runs no destructor: its claim stays, and is known to be of the dead.
#[tokio::test]
async fn a_claim_of_the_dead_is_taken_over_at_once_where_that_is_allowed() {
    let (store, clock) = memory();
    let before = open(&store).await;
    let key = key("step");
    std::mem::forget(claim(&before, &key, StepPolicy::new()).await);
    let store = restarted(&store, &clock);
    let after = open(&store).await;
    assert!(after.owner() > before.owner());
    let taken = claim(&after, &key, StepPolicy::new()).await;
    assert_eq!(taken.why(), Miss::InDoubt);
    assert_eq!(after.stats().taken_over, 1);
    taken.release().await.unwrap();
    assert_eq!(clock.sleepers(), 0, "no lease was waited for");
}

#[tokio::test]
async fn a_purged_run_gives_its_result_and_stores_nothing() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    let got: Result<u32, _> = checkpoints
        .run(&key, FOREVER, || async {
            assert!(checkpoints.forget(&key).await.unwrap());
            Ok::<_, std::io::Error>(7)
        })
        .await;
    assert_eq!(got.unwrap(), 7);
    assert_eq!(checkpoints.inspect(&key).await.unwrap(), None);
    assert_eq!(checkpoints.stats().not_stored, 1);
}

/// Who asks after a purge gets nothing from before it.
#[tokio::test]
async fn nobody_joins_a_run_from_before_a_purge() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    let old = claim(&checkpoints, &key, StepPolicy::new()).await;
    checkpoints.purge(&resurge_checkpoint::Filter::all()).await.unwrap();
    let new = claim(&checkpoints, &key, StepPolicy::new()).await;
    assert_eq!(new.why(), Miss::Absent);
    drop(old);
    flushed(&store).await;
    assert!(checkpoints.inspect(&key).await.unwrap().is_some(), "the new claim stays");
    new.release().await.unwrap();
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_nothing() {
    let (store, _) = memory();
    let (checkpoints, other) = (open(&store).await, open(&store).await);
    let key = key("step");
    let held = claim(&checkpoints, &key, StepPolicy::new()).await;
    for handle in [&checkpoints, &other] {
        let (handle, key) = (handle.clone(), key.clone());
        let waiting = tokio::spawn(async move { handle.begin(&key, StepPolicy::new()).await });
        settle().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
    }
    held.release().await.unwrap();
    assert_eq!(checkpoints.inspect(&key).await.unwrap(), None);
    claim(&other, &key, StepPolicy::new()).await.release().await.unwrap();
}

#[tokio::test]
async fn a_result_that_does_not_fit_is_named_at_once() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("report");
    let run = || async { Ok::<_, std::io::Error>("x".repeat(17 << 20)) };
    let failed = checkpoints.run(&key, FOREVER, run).await.unwrap_err();
    let Some(CheckpointError::TooLarge { step, bytes, limit }) = failed.checkpoint() else {
        panic!("{failed}")
    };
    assert!(*step == *key.id() && *bytes > 17 << 20 && *limit < 16 << 20, "{failed}");
    assert!(failed.to_string().starts_with("the result of step `report` has 17825797 bytes"));

    let mut claim = claim(&checkpoints, &key, StepPolicy::new()).await;
    let mut batch = Batch::new();
    let limit = *limit;
    assert!(claim.stage_done(&mut batch, vec![0; limit + 1], FOREVER).is_err());
    assert!(batch.is_empty());
    claim.stage_done(&mut batch, vec![0; limit], Duration::from_secs(1)).unwrap();
    store.commit(batch, Durability::Durable).await.unwrap();
    claim.settled();
    assert_eq!(checkpoints.get_bytes(&key).await.unwrap().unwrap().len(), limit);
}

#[tokio::test]
async fn a_step_that_panics_is_taken_over() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let first = {
        let (checkpoints, key, gate) = (checkpoints.clone(), key.clone(), gate.clone());
        let body = || async move {
            gate.notified().await;
            if in_the_middle() { panic!("in the middle") } else { Ok::<u8, std::io::Error>(0) }
        };
        tokio::spawn(async move { checkpoints.run(&key, FOREVER, body).await.unwrap() })
    };
    settle().await;
    let body = || async { Ok::<u8, std::io::Error>(2) };
    let second = {
        let (checkpoints, key) = (checkpoints.clone(), key.clone());
        tokio::spawn(async move { checkpoints.run(&key, FOREVER, body).await.unwrap() })
    };
    settle().await;
    gate.notify_one();
    assert!(first.await.unwrap_err().is_panic());
    assert_eq!(second.await.unwrap(), 2);
    assert_eq!((checkpoints.stats().dropped, checkpoints.stats().stored), (1, 1));
}

/// True; the compiler does not know.
fn in_the_middle() -> bool {
    std::hint::black_box(true)
}

/// Its claim is on the way, and the step has not begun: nothing is in doubt.
#[tokio::test]
async fn a_caller_that_stops_while_it_claims_leaves_nothing() {
    let faults = FaultStore::new(resurge_store::MemoryStore::in_memory());
    let store = resurge_store::Store::new(faults.clone());
    let checkpoints = open(&store).await;
    let key = key("charge");
    faults.hold();
    let claiming = {
        let (checkpoints, key) = (checkpoints.clone(), key.clone());
        tokio::spawn(async move { checkpoints.begin(&key, CHARGE).await })
    };
    until("the claim is on its way", || faults.held() == 1).await.unwrap();
    claiming.abort();
    assert!(claiming.await.unwrap_err().is_cancelled());
    faults.release();
    flushed(&store).await;
    assert_eq!(checkpoints.inspect(&key).await.unwrap(), None);
    assert_eq!(checkpoints.stats().started, 0);
}

/// A step that said that it failed is not in doubt, also when the commit that says so is not made.
#[tokio::test]
async fn a_staged_release_that_is_not_committed_releases() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("charge");
    let mut failed = claim(&checkpoints, &key, CHARGE).await;
    failed.stage_release(&mut Batch::new());
    drop(failed);
    flushed(&store).await;
    assert_eq!(checkpoints.inspect(&key).await.unwrap(), None);
}

/// Nothing changes in the store when a claim is dropped that stays in doubt: who waits is told all the
/// same.
#[tokio::test]
async fn who_waits_is_told_that_the_other_one_is_gone() {
    let (store, _) = memory();
    let (checkpoints, other) = (open(&store).await, open(&store).await);
    let key = key("charge");
    let held = claim(&checkpoints, &key, CHARGE).await;
    let waiting: Vec<_> = [&checkpoints, &other]
        .map(|handle| {
            let (handle, key) = (handle.clone(), key.clone());
            tokio::spawn(async move { handle.begin(&key, CHARGE).await })
        })
        .into();
    settle().await;
    drop(held);
    for caller in waiting {
        let refused = caller.await.unwrap();
        assert!(matches!(refused, Err(CheckpointError::InDoubt { .. })), "{refused:?}");
    }
}
