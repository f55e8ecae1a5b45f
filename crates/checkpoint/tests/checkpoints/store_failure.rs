//! DA9: a failing store fails the call before the step runs, or runs it and says so.

use std::sync::atomic::{AtomicU64, Ordering};

use resurge_checkpoint::{
    CheckpointError, CheckpointKey, Checkpoints, RunError, StepPolicy, StoreFailure,
};
use resurge_store::{ErrorKind, MemoryStore, Store, VirtualClock};
use resurge_testkit::{Call, Fault, FaultStore};

use super::support::{FOREVER, settle, until};
use super::{CHARGE, key, open};

const OPEN: StepPolicy = StepPolicy::new().on_store_failure(StoreFailure::FailOpen);

fn faulty() -> (FaultStore, Store, VirtualClock) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let clock = VirtualClock::new();
    (faults.clone(), Store::new(faults).with_clock(clock.clone()), clock)
}

/// Runs a step that counts.
async fn run(
    checkpoints: &Checkpoints,
    key: &CheckpointKey,
    policy: StepPolicy,
    effects: &AtomicU64,
) -> Result<u64, RunError<std::io::Error>> {
    let body = || async { Ok(effects.fetch_add(1, Ordering::SeqCst) + 1) };
    checkpoints.run_with(key, FOREVER, policy, body).await
}

#[tokio::test]
async fn da9_closed_nothing_runs() {
    let (faults, store, _) = faulty();
    let checkpoints = open(&store).await;
    let effects = AtomicU64::new(0);
    for call in [Call::Get, Call::Commit] {
        for kind in
            [ErrorKind::Unavailable, ErrorKind::Closed, ErrorKind::Full, ErrorKind::Indeterminate]
        {
            faults.fail_always(call, Fault::before(kind));
            let key = key("step");
            let failed = run(&checkpoints, &key, StepPolicy::new(), &effects).await.unwrap_err();
            faults.heal();
            let Some(CheckpointError::Store { step, source }) = failed.checkpoint() else {
                panic!("{call:?} {kind}: {failed}")
            };
            assert_eq!((step, source.kind()), (key.id(), kind));
            assert!(failed.to_string().starts_with("step `step` did not run: "), "{failed}");
        }
    }
    assert_eq!(effects.load(Ordering::SeqCst), 0);
    assert_eq!(run(&checkpoints, &key("step"), StepPolicy::new(), &effects).await.unwrap(), 1);
}

#[tokio::test]
async fn da9_open_it_runs_and_says_so() {
    let (faults, store, _) = faulty();
    let checkpoints = open(&store).await;
    let effects = AtomicU64::new(0);
    for (n, call) in [(1, Call::Get), (2, Call::Commit)] {
        faults.fail_always(call, Fault::before(ErrorKind::Unavailable));
        assert_eq!(run(&checkpoints, &key("step"), OPEN, &effects).await.unwrap(), n);
        faults.heal();
        let stats = checkpoints.stats();
        assert_eq!((stats.unprotected, stats.not_stored, stats.stored), (n, n, 0), "{call:?}");
    }
    assert_eq!(run(&checkpoints, &key("step"), OPEN, &effects).await.unwrap(), 3);
    assert_eq!(run(&checkpoints, &key("step"), OPEN, &effects).await.unwrap(), 3);
}

/// Also without the store, callers in one handle share one run.
#[tokio::test]
async fn unprotected_runs_are_shared() {
    let (faults, store, _) = faulty();
    let checkpoints = open(&store).await;
    faults.fail_always(Call::Get, Fault::before(ErrorKind::Unavailable));
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (checkpoints, gate) = (checkpoints.clone(), gate.clone());
            tokio::spawn(async move {
                let body = || async {
                    gate.notified().await;
                    Ok::<_, std::io::Error>(1)
                };
                checkpoints.run_with(&key("step"), FOREVER, OPEN, body).await.unwrap()
            })
        })
        .collect();
    settle().await;
    gate.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(checkpoints.stats().started, 1);
}

#[tokio::test]
async fn a_result_that_is_not_stored_is_no_success() {
    let (faults, store, _) = faulty();
    let checkpoints = open(&store).await;
    let effects = AtomicU64::new(0);
    // The claim is the first commit, the result the second.
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Full));
    let failed = run(&checkpoints, &key("charge"), CHARGE, &effects).await.unwrap_err();
    assert!(matches!(failed.checkpoint(), Some(CheckpointError::NotStored { .. })), "{failed}");
    assert_eq!(effects.load(Ordering::SeqCst), 1);
    // It happened: in doubt, not again.
    let refused = run(&checkpoints, &key("charge"), CHARGE, &effects).await.unwrap_err();
    assert!(matches!(refused.checkpoint(), Some(CheckpointError::InDoubt { .. })), "{refused}");
    assert_eq!(effects.load(Ordering::SeqCst), 1);
    assert_eq!(checkpoints.stats().not_stored, 1);
}

#[tokio::test]
async fn open_a_result_that_is_not_stored_is_returned() {
    let (faults, store, _) = faulty();
    let checkpoints = open(&store).await;
    let effects = AtomicU64::new(0);
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Full));
    assert_eq!(run(&checkpoints, &key("step"), OPEN, &effects).await.unwrap(), 1);
    assert_eq!(checkpoints.stats().not_stored, 1);
    settle().await;
    assert_eq!(run(&checkpoints, &key("step"), OPEN, &effects).await.unwrap(), 2);
}

/// The step has run: a store that is busy for a while does not make that unknown.
#[tokio::test]
async fn a_busy_store_is_waited_for_with_the_result() {
    let (faults, store, clock) = faulty();
    let checkpoints = open(&store).await;
    for (refusals, stored) in [(8, true), (9, false)] {
        let key = key(&format!("step-{refusals}"));
        for n in 0..refusals {
            faults.fail(Call::Commit, 2 + n, Fault::before(ErrorKind::Unavailable));
        }
        let running = {
            let (checkpoints, key) = (checkpoints.clone(), key.clone());
            let body = || async { Ok::<_, std::io::Error>(1) };
            tokio::spawn(async move { checkpoints.run(&key, FOREVER, body).await })
        };
        for _ in 0..8 {
            until("it pauses", || clock.sleepers() == 1).await.unwrap();
            assert!(clock.advance_to_next());
        }
        assert_eq!(running.await.unwrap().is_ok(), stored, "{refusals} refusals");
        faults.heal();
    }
}

/// A conflict is no failure of the store: whoever was first counts.
#[tokio::test]
async fn a_commit_of_unknown_outcome_is_looked_up_by_the_next_call() {
    let (faults, store, _) = faulty();
    let checkpoints = open(&store).await;
    let effects = AtomicU64::new(0);
    faults.fail(Call::Commit, 2, Fault::after(ErrorKind::Indeterminate));
    let failed = run(&checkpoints, &key("charge"), CHARGE, &effects).await.unwrap_err();
    assert!(matches!(failed.checkpoint(), Some(CheckpointError::NotStored { .. })), "{failed}");
    assert_eq!(
        run(&checkpoints, &key("charge"), CHARGE, &effects).await.unwrap(),
        1,
        "it is there"
    );
}
