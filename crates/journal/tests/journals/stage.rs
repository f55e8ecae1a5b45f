//! Events that share a commit with something else.

use resurge_journal::{JournalError, Lsn};
use resurge_store::{Batch, Durability, ErrorKind, Guard, Key, Namespace, Store};

use super::{Ledger, ledger, open, record, state};

fn key() -> Key {
    Namespace::new("app").unwrap().key("receipt").unwrap()
}

#[tokio::test]
async fn an_event_and_another_write_in_one_commit() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, [1]).await;
    let mut batch = Batch::new();
    batch.put(key(), "paid");
    let stage = journal.stage().await.unwrap();
    let (committed, order) = {
        let (staged, order) = stage
            .decide(|ledger| Ok::<_, JournalError>(([2, 3], ledger.order)), &mut batch)
            .unwrap();
        assert_eq!(staged.lsns(), Lsn(2)..Lsn(4));
        let commit = store.commit(batch, Durability::Durable);
        (staged.submitted(commit, Durability::Durable), order)
    };
    assert_eq!(order, ledger([1]).order);
    let next = journal.record(4);
    committed.await.unwrap();
    assert_eq!(next.await.unwrap(), Lsn(4));
    assert_eq!(store.get(&key()).await.unwrap().unwrap(), "paid");
    assert_eq!(state(&journal).await, ledger(1..=4));
    drop(journal);
    assert_eq!(state(&open(&store).await.0).await, ledger(1..=4));
}

#[tokio::test]
async fn what_is_staged_and_dropped_never_happened() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, [1]).await;
    drop(journal.stage().await.unwrap());
    let mut batch = Batch::new();
    drop(journal.stage().await.unwrap().write([7], &mut batch).unwrap());
    let refused = journal.stage().await.unwrap().decide(
        |_: &Ledger| Err::<([u64; 1], ()), _>(JournalError::Invalid("no".to_owned())),
        &mut batch,
    );
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(journal.record(2).await.unwrap(), Lsn(2), "its number is given again");
    assert_eq!(state(&journal).await, ledger(1..=2));
}

/// The events were applied and others may have decided upon them, so there is no way but to reopen.
#[tokio::test]
async fn a_shared_commit_that_fails_poisons() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, [1]).await;
    let stage = journal.stage().await.unwrap();
    let committed = {
        let mut batch = Batch::new();
        batch.guard(key(), Guard::Present);
        let staged = stage.write([2], &mut batch).unwrap();
        staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable)
    };
    let error = committed.await.unwrap_err();
    assert!(matches!(error, JournalError::Staged(_)), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(journal.record(3).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(state(&open(&store).await.0).await, ledger([1]));
}

/// Buffered events are seen at once, and shown to readers only when they are durable.
#[tokio::test]
async fn buffered_events_are_synced_before_they_are_shown() {
    let faults = resurge_testkit::FaultStore::new(resurge_store::MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let (journal, _) = open(&store).await;
    let stage = journal.stage().await.unwrap();
    let committed = {
        let mut batch = Batch::new();
        let staged = stage.write([1], &mut batch).unwrap();
        staged.submitted(store.commit(batch, Durability::Buffered), Durability::Buffered)
    };
    committed.await.unwrap();
    assert_eq!(journal.stats().unwrap().durable_lsn, Lsn(0));
    let syncs = faults.calls(resurge_testkit::Call::Sync);
    assert_eq!(state(&journal).await, ledger([1]));
    assert_eq!(faults.calls(resurge_testkit::Call::Sync), syncs + 1);
    assert_eq!(journal.stats().unwrap().durable_lsn, Lsn(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stages_and_records_of_many_tasks() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let (journal, store) = (journal.clone(), store.clone());
            tokio::spawn(async move {
                for n in 0..40 {
                    let event = task * 100 + n;
                    if task % 2 == 0 {
                        journal.record(event).await.unwrap();
                        continue;
                    }
                    let stage = journal.stage().await.unwrap();
                    let committed = {
                        let mut batch = Batch::new();
                        let staged = stage.write([event], &mut batch).unwrap();
                        let commit = store.commit(batch, Durability::Durable);
                        staged.submitted(commit, Durability::Durable)
                    };
                    committed.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let live = state(&journal).await;
    assert_eq!(live.events.len(), 320);
    drop(journal);
    assert_eq!(state(&open(&store).await.0).await, live);
}
