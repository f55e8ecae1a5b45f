//! Several processes on one store: claims are leases, renewed while the step runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_checkpoint::{
    Begin, CheckpointError, CheckpointOptions, CheckpointState, Checkpoints, Conflicted, Miss,
    StepPolicy,
};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, ErrorKind, Key, KeyRange, MemoryStore, Namespace,
    Page, Result, ScanOptions, StateStore, Store, StoreInfo, VirtualClock, Watch,
};
use resurge_testkit::{Call, Fault, FaultStore};
use tokio::sync::Notify;

use super::support::{FOREVER, settle, until};
use super::{CHARGE, claim, key};

/// The view of one process on a store that others use, too.
#[derive(Debug)]
struct Process(Arc<dyn StateStore>);

impl StateStore for Process {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.0.get(key)
    }
    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.0.scan(range, options)
    }
    fn commit(&self, batch: Batch, how: Durability) -> BoxFuture<'static, Result<CommitSeq>> {
        self.0.commit(batch, how)
    }
    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.0.sync()
    }
    fn watch(&self, namespace: &Namespace) -> Watch {
        self.0.watch(namespace)
    }
    fn info(&self) -> StoreInfo {
        let mut info = self.0.info();
        info.shared_between_processes = true;
        info
    }
    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.0.close()
    }
}

const LEASE: Duration = Duration::from_secs(30);

async fn process(backend: &Arc<dyn StateStore>, clock: &VirtualClock) -> (Checkpoints, Store) {
    let store = Store::new(Process(Arc::clone(backend))).with_clock(clock.clone());
    let options = CheckpointOptions::new().lease(LEASE);
    (Checkpoints::open(&store, options).await.unwrap(), store)
}

fn shared() -> (Arc<dyn StateStore>, VirtualClock) {
    (Arc::new(MemoryStore::in_memory()), VirtualClock::new())
}

/// A step that runs for several leases is not taken over, and everybody gets its result.
#[tokio::test]
async fn a_claim_is_renewed_while_the_step_runs() {
    let (memory, clock) = shared();
    // A renewal that fails is no end: the next one holds.
    let faults = FaultStore::from_arc(Arc::clone(&memory));
    faults.fail(Call::Commit, 4, Fault::before(ErrorKind::Unavailable));
    let flaky: Arc<dyn StateStore> = Arc::new(faults.clone());
    let (here, store) = process(&flaky, &clock).await;
    let (there, _) = process(&memory, &clock).await;
    let key = key("slow");
    let gate = Arc::new(Notify::new());
    let running = {
        let (here, key, gate) = (here.clone(), key.clone(), gate.clone());
        tokio::spawn(async move {
            let body = || async {
                gate.notified().await;
                Ok::<_, std::io::Error>("here".to_owned())
            };
            here.run(&key, FOREVER, body).await
        })
    };
    until("it runs", || here.stats().started == 1).await.unwrap();
    let waiting = {
        let (there, key) = (there.clone(), key.clone());
        let body = || async { Ok::<_, std::io::Error>("there".to_owned()) };
        tokio::spawn(async move { there.run(&key, FOREVER, body).await })
    };
    until("the other one waits", || clock.sleepers() == 2).await.unwrap();
    for turn in 0..12 {
        clock.advance(LEASE / 3);
        let renewed = store.now().saturating_add(LEASE);
        if turn == 1 {
            until("it is refused", || faults.calls(Call::Commit) == 4).await.unwrap();
            until("both sleep", || clock.sleepers() == 2).await.unwrap();
            continue;
        }
        let mut turns = 0_u64;
        loop {
            let info = here.inspect(&key).await.unwrap().unwrap();
            let CheckpointState::Claimed { deadline, .. } = info.state else { panic!("{info:?}") };
            if deadline == renewed {
                break;
            }
            turns += 1;
            assert!(turns < 2_000_000, "it is not renewed: {info:?}");
            tokio::task::yield_now().await;
        }
        // It sleeps until the next renewal before time goes on.
        until("both sleep", || clock.sleepers() == 2).await.unwrap();
    }
    assert!(!waiting.is_finished());
    gate.notify_one();
    assert_eq!(running.await.unwrap().unwrap(), "here");
    assert_eq!(waiting.await.unwrap().unwrap(), "here");
    assert_eq!(there.stats().started, 0);
}

#[tokio::test]
async fn a_claim_nobody_renews_is_in_doubt_when_its_lease_is_over() {
    let (memory, clock) = shared();
    let (here, _) = process(&memory, &clock).await;
    let (there, _) = process(&memory, &clock).await;
    for (step, policy) in [("plain", StepPolicy::new()), ("charge", CHARGE)] {
        let key = key(step);
        let stalled = claim(&here, &key, policy).await;
        let waiting = {
            let (there, key) = (there.clone(), key.clone());
            tokio::spawn(async move { there.begin(&key, policy).await })
        };
        until("it waits for the deadline", || clock.sleepers() == 1).await.unwrap();
        clock.advance(LEASE.saturating_sub(Duration::from_millis(1)));
        settle().await;
        assert!(!waiting.is_finished(), "{step}: taken over before the deadline");
        clock.advance(Duration::from_millis(1));
        match waiting.await.unwrap() {
            Ok(Begin::Claimed(taken)) => {
                assert_eq!((step, taken.why()), ("plain", Miss::InDoubt));
                taken.release().await.unwrap();
            }
            Err(CheckpointError::InDoubt { .. }) => assert_eq!(step, "charge"),
            other => panic!("{step}: {other:?}"),
        }
        drop(stalled);
    }
}

/// Who stalls for longer than its lease and then succeeds: whichever result is stored first counts, for
/// both.
#[tokio::test]
async fn after_a_lapse_the_first_result_counts() {
    let (memory, clock) = shared();
    let (here, store) = process(&memory, &clock).await;
    let (there, _) = process(&memory, &clock).await;
    for slow_is_first in [true, false] {
        let key = key(if slow_is_first { "slow first" } else { "slow last" });
        let mut slow = claim(&here, &key, StepPolicy::new()).await;
        clock.advance(LEASE);
        let mut fast = claim(&there, &key, StepPolicy::new()).await;
        let finish = async |claim: &mut resurge_checkpoint::Claim, result: &'static str| {
            let mut batch = Batch::new();
            claim.stage_done(&mut batch, result, FOREVER).unwrap();
            store.commit(batch, Durability::Durable).await
        };
        let refused = finish(&mut slow, "slow").await.unwrap_err();
        if slow_is_first {
            let Conflicted::StageAgain(again) = slow.conflicted(&refused).await.unwrap() else {
                panic!("lapsed, and nothing is stored")
            };
            slow = again;
            finish(&mut slow, "slow").await.unwrap();
            slow.settled();
            let refused = finish(&mut fast, "fast").await.unwrap_err();
            let counts = fast.conflicted(&refused).await.unwrap();
            assert!(matches!(&counts, Conflicted::Done(b) if b == "slow"), "{counts:?}");
        } else {
            finish(&mut fast, "fast").await.unwrap();
            fast.settled();
            let counts = slow.conflicted(&refused).await.unwrap();
            assert!(matches!(&counts, Conflicted::Done(b) if b == "fast"), "{counts:?}");
        }
        let expected = if slow_is_first { "slow" } else { "fast" };
        assert_eq!(there.get_bytes(&key).await.unwrap().unwrap(), expected);
    }
    assert_eq!(here.stats().superseded + there.stats().superseded, 2);
}

/// The lease is a knob: a shorter one is over sooner.
#[tokio::test]
async fn the_lease_decides() {
    let (memory, clock) = shared();
    let (there, _) = process(&memory, &clock).await;
    for (secs, over) in [(5, true), (50, false)] {
        let store = Store::new(Process(Arc::clone(&memory))).with_clock(clock.clone());
        let options = CheckpointOptions::new().lease(Duration::from_secs(secs));
        let here = Checkpoints::open(&store, options).await.unwrap();
        let key = key(&format!("lease {secs}"));
        let held = claim(&here, &key, StepPolicy::new()).await;
        clock.advance(Duration::from_secs(10));
        let info = there.inspect(&key).await.unwrap().unwrap();
        let CheckpointState::Claimed { in_doubt, .. } = info.state else { panic!("{info:?}") };
        assert_eq!(in_doubt, over, "{secs}s");
        held.release().await.unwrap();
    }
}
