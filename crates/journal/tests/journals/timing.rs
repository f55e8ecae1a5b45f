//! What is shown is durable: calls wait for the log exactly as long as they must.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use resurge_journal::{JournalError, Journaled};
use resurge_store::{ErrorKind, MemoryStore, Store};
use resurge_testkit::{Call, Fault, FaultStore};

use super::{Ledger, ledger, open, record, state};

fn pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

async fn held() -> (FaultStore, Journaled<Ledger>, Store) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let (journal, _) = open(&store).await;
    record(&journal, 1..=2).await;
    faults.hold();
    (faults, journal, store)
}

#[tokio::test]
async fn nobody_is_told_before_the_log_is_durable() {
    let (faults, journal, _store) = held().await;
    let mut write = pin!(journal.record(3));
    assert!(pending(write.as_mut()));
    let mut read = pin!(journal.read(Ledger::clone));
    assert!(pending(read.as_mut()), "what it saw is not durable");
    let mut decision = pin!(journal.decide(|seen| {
        assert_eq!(seen, &ledger(1..=3), "the next decision sees what is submitted");
        Ok::<_, JournalError>(([4], seen.order))
    }));
    assert!(pending(decision.as_mut()));
    let mut idle = pin!(journal.decide(|seen| { Ok::<_, JournalError>(([], seen.events.len())) }));
    assert!(pending(idle.as_mut()), "a decision without events is a read");
    let mut refused =
        pin!(journal.decide(|_| Err::<([u64; 0], ()), _>(JournalError::Invalid("no".to_owned()))));
    assert!(pending(refused.as_mut()), "what it was refused for is not durable");
    assert!(pending(write.as_mut()) && pending(read.as_mut()) && pending(decision.as_mut()));

    faults.release();
    assert_eq!(write.await.unwrap().0, 3);
    assert_eq!(read.await.unwrap(), ledger(1..=3));
    assert_eq!(decision.await.unwrap(), ledger(1..=3).order);
    assert_eq!(idle.await.unwrap(), 4);
    assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn reading_what_is_durable_does_not_wait() {
    let (faults, journal, store) = held().await;
    assert_eq!(state(&journal).await, ledger(1..=2));
    faults.release();
    drop(store);
}

/// A dropped call has logged its event, or not; never half, and the next ones go on.
#[tokio::test]
async fn dropped_calls_undo_nothing() {
    let (faults, journal, store) = held().await;
    {
        let mut write = pin!(journal.record(3));
        assert!(pending(write.as_mut()));
    }
    drop(journal.record(99)); // never polled: never happened
    faults.release();
    record(&journal, [4]).await;
    assert_eq!(state(&journal).await, ledger(1..=4));
    drop(journal);
    assert_eq!(state(&open(&store).await.0).await, ledger(1..=4));
}

/// A snapshot of a state that is not durable yet waits for the log.
#[tokio::test]
async fn no_snapshot_ahead_of_the_log() {
    let (faults, journal, store) = held().await;
    let writer = tokio::spawn({
        let journal = journal.clone();
        async move { journal.record(3).await }
    });
    super::until(|| journal.stats().unwrap().last_lsn.0 == 3).await;
    let snapshot = tokio::spawn({
        let journal = journal.clone();
        async move { journal.snapshot_now().await }
    });
    super::until(|| faults.held() >= 2).await;
    // The event's page is dropped, as by a crash; whatever the snapshot wrote after it goes on.
    faults.drop_held();
    faults.release();
    let lost = writer.await.unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Indeterminate);
    snapshot.await.unwrap().unwrap_err();
    assert_eq!(journal.record(4).await.unwrap_err().kind(), ErrorKind::Closed);
    let (journal, report) = open(&store).await;
    assert_eq!(report.snapshot, None);
    assert_eq!(state(&journal).await, ledger(1..=2));
}

/// The event fails alone, nobody awaits it, and everything the snapshot writes succeeds.
#[tokio::test]
async fn no_snapshot_of_an_event_that_failed_unseen() {
    let (faults, journal, store) = held().await;
    faults.release();
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Full));
    let calls = faults.calls(Call::Commit);
    {
        let mut write = pin!(journal.record(3));
        assert!(pending(write.as_mut()));
    }
    faults.wait_for_calls(Call::Commit, calls + 1).await;
    let error = journal.snapshot_now().await.unwrap_err();
    assert!(matches!(error, JournalError::Log(_)), "{error}");
    let (journal, report) = open(&store).await;
    assert_eq!(report.snapshot, None);
    assert_eq!(state(&journal).await, ledger(1..=2));
}
