//! A failed log: the state in memory is discarded, nobody builds on it, opening again brings it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use resurge_journal::{JournalError, Journaled, PlainMachine};
use resurge_store::{Batch, ErrorKind, MemoryStore, Store};
use resurge_testkit::{Call, Fault, FaultStore};
use serde::{Deserialize, Serialize};

use super::{Ledger, ledger, open, options, record, state, until};

async fn faulty() -> (FaultStore, Store, Journaled<Ledger>) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let (journal, _) = open(&store).await;
    record(&journal, 1..=3).await;
    (faults, store, journal)
}

async fn assert_closed(journal: &Journaled<Ledger>) {
    for error in [
        journal.record(9).await.unwrap_err(),
        journal.read(|_| ()).await.unwrap_err(),
        journal.snapshot_now().await.unwrap_err(),
        journal.close().await.unwrap_err(),
        journal.stage().await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, JournalError::Closed { cause: Some(_), .. }), "{error}");
    }
}

#[tokio::test]
async fn every_failure_but_unavailable_poisons() {
    for (fault, kind, kept) in [
        (Fault::before(ErrorKind::Full), ErrorKind::Full, false),
        (Fault::before(ErrorKind::Indeterminate), ErrorKind::Indeterminate, false),
        (Fault::after(ErrorKind::Indeterminate), ErrorKind::Indeterminate, true),
        (Fault::before(ErrorKind::Corrupt), ErrorKind::Corrupt, false),
        (Fault::before(ErrorKind::Closed), ErrorKind::Closed, false),
    ] {
        let (faults, store, journal) = faulty().await;
        faults.fail(Call::Commit, 1, fault);
        let error = journal.record(4).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(matches!(error, JournalError::Log(_)));
        assert_closed(&journal).await;
        let (journal, _) = open(&store).await;
        assert_eq!(state(&journal).await, ledger(if kept { 1..=4 } else { 1..=3 }), "{kind}");
    }
}

#[tokio::test]
async fn unavailable_is_waited_out() {
    let (faults, store, journal) = faulty().await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Unavailable));
    record(&journal, 4..=6).await;
    drop(journal);
    assert_eq!(state(&open(&store).await.0).await, ledger(1..=6));
}

/// All who wait are told; who reads what failed is told, too; nothing stays of it.
#[tokio::test]
async fn calls_in_flight_learn_of_it() {
    let (faults, store, journal) = faulty().await;
    faults.hold();
    let mut writers = Vec::new();
    for event in 4..=6 {
        let handle = journal.clone();
        writers.push(tokio::spawn(async move { handle.record(event).await }));
        until(|| journal.stats().unwrap().last_lsn.0 == event).await;
    }
    let reader = tokio::spawn({
        let journal = journal.clone();
        async move { journal.read(Ledger::clone).await }
    });
    until(|| faults.held() > 0).await;
    tokio::task::yield_now().await;
    faults.drop_held();
    let first = writers.remove(0).await.unwrap().unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Indeterminate);
    for writer in writers {
        let error = writer.await.unwrap().unwrap_err();
        assert!(matches!(error, JournalError::Log(_) | JournalError::Closed { .. }), "{error}");
    }
    reader.await.unwrap().unwrap_err();
    assert_closed(&journal).await;
    faults.release();
    assert_eq!(state(&open(&store).await.0).await, ledger(1..=3));
}

/// The caller of the failed event went away, so nobody was told. What follows must not build on it.
#[tokio::test]
async fn nothing_is_logged_upon_an_event_that_failed_unseen() {
    let kinds = [ErrorKind::Full, ErrorKind::Conflict, ErrorKind::Indeterminate];
    for (fault, staged) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let (faults, store, journal) = faulty().await;
        faults.fail(Call::Commit, 1, Fault::before(fault));
        let calls = faults.calls(Call::Commit);
        {
            let mut write = std::pin::pin!(journal.record(4));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(write.as_mut().poll(&mut cx).is_pending());
        }
        faults.wait_for_calls(Call::Commit, calls + 1).await;
        let order = |ledger: &Ledger| Ok::<_, JournalError>(([ledger.order], ()));
        if staged {
            let error = match journal.stage().await {
                Ok(stage) => stage.decide(order, &mut Batch::new()).map(drop).unwrap_err(),
                Err(error) => error,
            };
            assert!(matches!(error, JournalError::Log(_)), "{error}");
        } else {
            journal.decide(order).await.unwrap_err();
        }
        assert_closed(&journal).await;
        assert_eq!(state(&open(&store).await.0).await, ledger(1..=3), "{fault}");
    }
}

#[tokio::test]
async fn a_second_opener_takes_over() {
    let (_, store, first) = faulty().await;
    let (second, _) = open(&store).await;
    record(&second, [4]).await;
    let error = first.record(5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_closed(&first).await;
    record(&second, [6]).await;
    assert_eq!(state(&second).await, ledger([1, 2, 3, 4, 6]));
}

#[tokio::test]
async fn a_snapshot_that_fails_poisons_nothing() {
    let (faults, store, journal) = faulty().await;
    for nth in 1..=3 {
        faults.fail(Call::Commit, nth, Fault::before(ErrorKind::Full));
        let error = journal.snapshot_now().await.unwrap_err();
        assert!(matches!(error, JournalError::Snapshot(_)), "{error}");
        assert_eq!(error.kind(), ErrorKind::Full);
        faults.heal();
        record(&journal, [3 + nth]).await;
        let stats = journal.stats().unwrap();
        assert_eq!(stats.snapshot_failures, nth);
        assert_eq!(stats.events_since_snapshot, 3 + nth, "they are still to be covered");
    }
    journal.snapshot_now().await.unwrap();
    drop(journal);
    let (journal, report) = open(&store).await;
    assert_eq!(report.replayed, 0);
    assert_eq!(state(&journal).await, ledger(1..=6));
}

/// After a failure the snapshotter tries again a second later, not at once and not never.
#[tokio::test]
async fn the_snapshotter_tries_again() {
    let clock = resurge_store::VirtualClock::new();
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(clock.clone());
    let few = resurge_journal::JournalOptions { snapshot_events: Some(2), ..options() };
    let (journal, _) = super::open_as(&store, few).await.unwrap();
    record(&journal, [1]).await;
    // The second event's page, then the first commit of the snapshot.
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Full));
    record(&journal, [2]).await;
    until(|| journal.stats().unwrap().snapshot_failures == 1).await;
    until(|| clock.sleepers() == 1).await;
    record(&journal, [3]).await;
    assert_eq!(super::last_snapshot(&journal), None);
    clock.advance(std::time::Duration::from_secs(1));
    until(|| super::last_snapshot(&journal).is_some()).await;
}

static BOOM: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Bomb(u64);

impl PlainMachine for Bomb {
    type Event = u64;

    fn apply(&mut self, event: &u64) {
        self.0 += event;
        assert!(!BOOM.load(Ordering::SeqCst), "boom");
    }
}

#[tokio::test]
async fn a_panic_in_apply_poisons() {
    let store = Store::memory();
    let open = || Journaled::<Bomb>::open(&store, "bomb", options());
    let (journal, _) = open().await.unwrap();
    journal.record(1).await.unwrap();
    BOOM.store(true, Ordering::SeqCst);
    let handle = journal.clone();
    tokio::spawn(async move { handle.record(1).await }).await.unwrap_err();
    BOOM.store(false, Ordering::SeqCst);
    let error = journal.read(|bomb| bomb.0).await.unwrap_err();
    assert!(matches!(error, JournalError::Closed { cause: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(journal.close().await.is_err());
    // The event was logged before it was applied.
    let (journal, _) = open().await.unwrap();
    assert_eq!(journal.read(|bomb| bomb.0).await.unwrap(), 2);
}

/// A decision that panics has changed nothing.
#[tokio::test]
async fn a_panic_in_a_decision_poisons_nothing() {
    let (_, _, journal) = faulty().await;
    let handle = Arc::new(journal.clone());
    let panicked = tokio::spawn(async move {
        handle.decide(|_| -> Result<([u64; 0], ()), JournalError> { panic!("no") }).await
    });
    panicked.await.unwrap_err();
    record(&journal, [4]).await;
    assert_eq!(state(&journal).await, ledger(1..=4));
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Texts(Vec<String>);

impl PlainMachine for Texts {
    type Event = String;

    fn apply(&mut self, event: &String) {
        self.0.push(event.clone());
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_refused_and_nothing_else() {
    let store = Store::memory();
    let (journal, _) = Journaled::<Texts>::open(&store, "texts", options()).await.unwrap();
    let error = journal.record("x".repeat(17 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let half = 9 << 20;
    let error = journal.record_all(["x".repeat(half), "x".repeat(half)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let small = "small".to_owned();
    assert_eq!(journal.record(small.clone()).await.unwrap().0, 1);
    assert_eq!(journal.read(|texts| texts.0.clone()).await.unwrap(), [small]);
}
