//! A crash is a dropped handle: everything that was acknowledged comes back, however often.

use std::time::Duration;

use resurge_journal::{JournalError, JournalOptions, Journaled, Lsn};
use resurge_store::{Clock, ErrorKind, Store, VirtualClock};

use super::{entries, last_snapshot, ledger, open, open_as, options, record, state, until};

/// A store in virtual time.
fn timed() -> (Store, VirtualClock) {
    let clock = VirtualClock::new();
    (Store::memory().with_clock(clock.clone()), clock)
}

#[tokio::test]
async fn five_then_a_crash_before_any_snapshot() {
    let store = Store::memory();
    let (journal, report) = open(&store).await;
    assert!(report.created);
    assert_eq!((report.snapshot, report.replayed, report.last_lsn), (None, 0, Lsn(0)));
    record(&journal, 1..=5).await;
    drop(journal);

    let (journal, report) = open(&store).await;
    assert!(!report.created);
    assert_eq!((report.snapshot, report.snapshot_lsn, report.replayed), (None, Lsn(0), 5));
    assert_eq!(report.last_lsn, Lsn(5));
    assert!(report.fell_back.is_empty() && report.salvaged.is_none());
    assert_eq!(state(&journal).await, ledger(1..=5));
}

#[tokio::test]
async fn five_a_snapshot_after_thirty_seconds_three_more_and_a_crash() {
    let (store, clock) = timed();
    let (journal, _) = open_as(&store, JournalOptions::default()).await.unwrap();
    record(&journal, 1..=5).await;
    until(|| clock.sleepers() == 1).await;
    clock.advance(Duration::from_millis(29_999));
    assert_eq!(clock.sleepers(), 1, "not yet");
    assert_eq!(last_snapshot(&journal), None);
    clock.advance(Duration::from_millis(1));
    until(|| last_snapshot(&journal).is_some()).await;
    record(&journal, 6..=8).await;
    drop(journal);

    let (journal, report) = open(&store).await;
    assert_eq!((report.snapshot_lsn, report.replayed), (Lsn(5), 3));
    assert!(report.snapshot_bytes > 0);
    assert_eq!(state(&journal).await, ledger(1..=8));
}

#[tokio::test]
async fn crash_after_crash() {
    let store = Store::memory();
    let mut expected = Vec::new();
    for round in 0..6_u64 {
        let (journal, report) = open(&store).await;
        assert_eq!(report.last_lsn.0, expected.len() as u64);
        assert_eq!(state(&journal).await, ledger(expected.iter().copied()));
        for event in round * 10..round * 10 + 4 {
            assert_eq!(journal.record(event).await.unwrap().0, expected.len() as u64 + 1);
            expected.push(event);
        }
        if round == 3 {
            journal.snapshot_now().await.unwrap();
        }
    }
    let (_, report) = open(&store).await;
    assert_eq!((report.snapshot_lsn, report.replayed), (Lsn(16), 8));
}

/// Nothing is written by opening that a second recovery would see differently.
#[tokio::test]
async fn replaying_twice_gives_the_same_state() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, 1..=9).await;
    journal.snapshot_now().await.unwrap();
    record(&journal, 10..=20).await;
    drop(journal);
    let (first, one) = open(&store).await;
    let first = state(&first).await;
    let (second, two) = open(&store).await;
    assert_eq!(state(&second).await, first);
    assert_eq!((one.snapshot, one.replayed), (two.snapshot, two.replayed));
    assert_eq!(first, ledger(1..=20));
}

#[tokio::test]
async fn without_events_no_time_makes_a_snapshot() {
    let (store, clock) = timed();
    let (journal, _) = open_as(&store, JournalOptions::default()).await.unwrap();
    let before = entries(&store).await;
    for _ in 0..5 {
        until(|| clock.sleepers() == 1).await;
        clock.advance(Duration::from_secs(30));
    }
    until(|| clock.sleepers() == 1).await;
    assert_eq!(entries(&store).await, before);
    assert_eq!(journal.snapshot_now().await.unwrap(), None);
    record(&journal, [1]).await;
    let taken = journal.snapshot_now().await.unwrap();
    assert_eq!(journal.snapshot_now().await.unwrap(), taken, "nothing new: the same one");
}

#[tokio::test]
async fn snapshots_come_by_number_of_events_and_the_interval_can_be_set() {
    let by_number = JournalOptions { snapshot_events: Some(10), ..options() };
    let store = Store::memory();
    let (journal, _) = open_as(&store, by_number).await.unwrap();
    record(&journal, 1..=9).await;
    tokio::task::yield_now().await;
    assert_eq!(last_snapshot(&journal), None);
    record(&journal, [10]).await;
    until(|| last_snapshot(&journal) == Some(Lsn(10))).await;
    assert_eq!(journal.stats().unwrap().events_since_snapshot, 0);

    let (store, clock) = timed();
    let by_time = JournalOptions { snapshot_interval: Some(Duration::from_secs(7)), ..options() };
    let (journal, _) = open_as(&store, by_time).await.unwrap();
    record(&journal, 1..=3).await;
    until(|| clock.sleepers() == 1).await;
    clock.advance(Duration::from_secs(7));
    until(|| last_snapshot(&journal) == Some(Lsn(3))).await;

    for bad in [
        JournalOptions { snapshot_events: Some(0), ..options() },
        JournalOptions { snapshot_interval: Some(Duration::ZERO), ..options() },
        JournalOptions { retain: 0, ..options() },
        JournalOptions { chunk_bytes: 0, ..options() },
    ] {
        let error = open_as(&store, bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn closing_leaves_a_snapshot_and_nothing_to_replay() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, 1..=7).await;
    let other = journal.clone();
    journal.close().await.unwrap();
    journal.close().await.unwrap();
    for error in [
        other.record(8).await.unwrap_err(),
        other.record_all([8]).await.unwrap_err(),
        other.read(|_| ()).await.unwrap_err(),
        other.decide(|_| Ok::<_, JournalError>(([8], ()))).await.unwrap_err(),
        other.snapshot_now().await.unwrap_err(),
        other.stats().unwrap_err(),
        other.stage().await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, JournalError::Closed { cause: None, .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let (journal, report) = open(&store).await;
    assert_eq!((report.snapshot_lsn, report.replayed), (Lsn(7), 0));
    assert_eq!(state(&journal).await, ledger(1..=7));
}

/// The task that takes snapshots does not keep a dropped journal alive, or the store with it.
#[tokio::test]
async fn the_snapshotter_ends_with_the_last_handle() {
    for close in [false, true] {
        let (store, clock) = timed();
        let (journal, _) = open_as(&store, JournalOptions::default()).await.unwrap();
        until(|| clock.sleepers() == 1).await;
        let clone = journal.clone();
        drop(journal);
        tokio::task::yield_now().await;
        assert_eq!(clock.sleepers(), 1);
        if close {
            clone.close().await.unwrap();
        } else {
            drop(clone);
        }
        until(|| clock.sleepers() == 0).await;
    }
}

#[derive(Debug)]
enum Refused {
    Order(u64),
    Journal,
}

impl From<JournalError> for Refused {
    fn from(_: JournalError) -> Self {
        Self::Journal
    }
}

#[tokio::test]
async fn decisions_see_the_state_and_refusals_log_nothing() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, [40]).await;
    let sum = journal
        .decide(|ledger| Ok::<_, JournalError>((vec![1, 1], ledger.events.iter().sum::<u64>())))
        .await
        .unwrap();
    assert_eq!(sum, 40);
    assert_eq!(state(&journal).await, ledger([40, 1, 1]));

    let refused = journal
        .decide(|ledger| Err::<([u64; 1], ()), _>(Refused::Order(ledger.order)))
        .await
        .unwrap_err();
    assert!(matches!(refused, Refused::Order(order) if order == ledger([40, 1, 1]).order));
    let none = journal.decide(|_| Ok::<_, JournalError>(([], "nothing to do"))).await.unwrap();
    assert_eq!(none, "nothing to do");

    assert_eq!(journal.record_all([5, 6, 7]).await.unwrap(), Lsn(4)..Lsn(7));
    assert_eq!(journal.record_all([]).await.unwrap(), Lsn(7)..Lsn(7));
    drop(journal);
    let (journal, report) = open(&store).await;
    assert_eq!(report.replayed, 6);
    assert_eq!(state(&journal).await, ledger([40, 1, 1, 5, 6, 7]));
}

#[tokio::test]
async fn the_beginning_can_be_another() {
    let store = Store::memory();
    let begin = || ledger([100]);
    let open = || Journaled::open_with(&store, "begun", begin, options());
    let (journal, _) = open().await.unwrap();
    journal.record(1).await.unwrap();
    drop(journal);
    let (journal, _) = open().await.unwrap();
    assert_eq!(state(&journal).await, ledger([100, 1]));
    assert_eq!(journal.name(), "begun");
}

#[tokio::test]
async fn the_clock_is_the_stores() {
    let (store, clock) = timed();
    let (journal, report) = open(&store).await;
    assert_eq!(report.duration, Duration::ZERO);
    clock.advance(Duration::from_secs(1));
    record(&journal, [1]).await;
    let taken = journal.snapshot_now().await.unwrap().unwrap();
    assert_eq!(taken.created_at, clock.now());
}
