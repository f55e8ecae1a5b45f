//! Many writers, snapshots between them.

use std::collections::BTreeSet;

use resurge_journal::{JournalError, JournalOptions};
use resurge_store::Store;

use super::{ledger, open, open_as, options, state};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_while_snapshots_are_taken_every_few_events() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 150;
    let store = Store::memory();
    let busy = JournalOptions { snapshot_events: Some(7), retain: 2, ..options() };
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let (journal, _) = open_as(&store, busy.clone()).await.unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut told = Vec::new();
                for n in 0..EACH {
                    let event = (round * WRITERS + writer) * EACH + n;
                    told.push((journal.record(event).await.unwrap(), event));
                }
                told
            })
        });
        let writers: Vec<_> = writers.collect();
        for writer in writers {
            let told = writer.await.unwrap();
            assert!(told.is_sorted(), "a writer's own events keep their order");
            acknowledged.extend(told);
        }
        let stats = journal.stats().unwrap();
        assert_eq!(stats.snapshot_failures, 0);
        assert!(stats.last_snapshot.is_some());
        // The last snapshot may still be under way; dropped like this it is a crash in its middle.
    }
    acknowledged.sort_unstable();
    let numbers: BTreeSet<_> = acknowledged.iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(numbers.len() as u64, 3 * WRITERS * EACH, "no number is given twice");
    let (journal, report) = open(&store).await;
    assert_eq!(state(&journal).await, ledger(acknowledged.into_iter().map(|(_, event)| event)));
    assert!(report.snapshot.is_some());
    let first = journal.stats().unwrap().first_lsn;
    assert!(first.0 > 1, "the log was truncated");
    assert!(first <= report.snapshot_lsn.next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_holds_however_many_ask_at_once() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    let askers = (0..64).map(|asker| {
        let journal = journal.clone();
        tokio::spawn(async move {
            let booked = journal.decide(|ledger| match ledger.events.len() {
                taken if taken < 10 => Ok(([asker], taken)),
                _ => Err(JournalError::Invalid("sold out".to_owned())),
            });
            booked.await.ok()
        })
    });
    let askers: Vec<_> = askers.collect();
    let mut seats = Vec::new();
    for asker in askers {
        seats.extend(asker.await.unwrap());
    }
    seats.sort_unstable();
    assert_eq!(seats, (0..10).collect::<Vec<_>>());
    drop(journal);
    assert_eq!(state(&open(&store).await.0).await.events.len(), 10);
}

/// Back-pressure: far more bytes than may wait, from one task that never awaits in between.
#[tokio::test]
async fn callers_wait_for_room() {
    let store = Store::memory();
    let tight = JournalOptions { max_queued_bytes: 64, ..options() };
    let (journal, _) = open_as(&store, tight).await.unwrap();
    let writers: Vec<_> = (0..500)
        .map(|event| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.record(event).await.unwrap() })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(state(&journal).await.events.len(), 500);
}
