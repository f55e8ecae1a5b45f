//! Failures of the store: waited out, told, or the end of the log.

mod support;

use std::time::Duration;

use resurge_store::{Batch, Durability, ErrorKind, Store, VirtualClock};
use resurge_testkit::{Call, Fault};
use resurge_wal::{Lsn, Wal, WalError, WalOptions};
use support::{all, faulty, open, options, records};

/// Lets time go on for as long as it is alive.
fn run_time(clock: VirtualClock) -> impl Drop {
    struct Running(tokio::task::JoinHandle<()>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    Running(tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    }))
}

fn big(i: usize) -> String {
    format!("{i} {}", "x".repeat(300))
}

#[tokio::test]
async fn unavailable_pages_are_written_later_in_order_and_nobody_notices() {
    for refused in 1..=6 {
        for in_a_row in 1..=3 {
            let (store, faults, clock) = faulty();
            let wal = open(&store).await;
            for i in 0..in_a_row {
                faults.fail(Call::Commit, refused + i, Fault::before(ErrorKind::Unavailable));
            }
            let time = run_time(clock);
            // Every record fills a page, so two are in flight at a time.
            let appends: Vec<_> = (0..6).map(|i| wal.append(&big(i))).collect();
            for (i, append) in appends.into_iter().enumerate() {
                assert_eq!(append.await.unwrap(), Lsn(i as u64 + 1), "{refused} {in_a_row}");
            }
            drop(time);
            let expected: Vec<_> = (0..6).map(|i| (i as u64 + 1, big(i))).collect();
            assert_eq!(all(&wal).await, expected, "{refused} {in_a_row}");
            assert!(wal.verify().await.unwrap().is_intact());
            assert!(faults.calls(Call::Commit) > 7, "nothing was submitted again");
        }
    }
}

#[tokio::test]
async fn a_page_is_resubmitted_unchanged_and_only_after_its_successors_were_refused() {
    let (store, faults, clock) = faulty();
    let wal = open(&store).await;
    faults.hold();
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    let first = wal.append(&big(1));
    let second = wal.append(&big(2));
    let third = wal.append(&big(3));
    assert_eq!(faults.held(), 2, "two pages may be in flight");
    // The first one is refused; the second one's outcome is still open.
    faults.release_next(1);
    while faults.held() > 1 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(10));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(faults.calls(Call::Commit), 3, "submitted again too early");
    faults.release();
    let time = run_time(clock);
    assert_eq!(first.await.unwrap(), Lsn(1));
    assert_eq!(second.await.unwrap(), Lsn(2));
    assert_eq!(third.await.unwrap(), Lsn(3));
    drop(time);
    assert_eq!(all(&wal).await.len(), 3);
}

#[tokio::test]
async fn waiting_for_the_store_backs_off_on_the_clock() {
    let (store, faults, clock) = faulty();
    let wal = open(&store).await;
    faults.fail_always(Call::Commit, Fault::before(ErrorKind::Unavailable));
    let append = wal.append(&"a".to_owned());
    let mut waits = Vec::new();
    for _ in 0..13 {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        let before = resurge_store::Clock::monotonic(&clock);
        assert!(clock.advance_to_next());
        let waited = resurge_store::Clock::monotonic(&clock).saturating_since(before);
        waits.push(waited.as_millis());
        while clock.sleepers() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000]);
    faults.heal();
    let time = run_time(clock);
    append.await.unwrap();
    drop(time);
}

#[tokio::test]
async fn closing_gives_up_what_the_store_keeps_refusing() {
    let (store, faults, _clock) = faulty();
    let wal = open(&store).await;
    faults.fail_always(Call::Commit, Fault::before(ErrorKind::Unavailable));
    let first = wal.append(&big(1));
    let second = wal.append(&big(2));
    let third = wal.append(&"queued".to_owned());
    tokio::task::yield_now().await;
    wal.close().await.unwrap();
    let told = first.await.unwrap_err();
    assert!(matches!(&told, WalError::Store(e) if e.kind() == ErrorKind::Unavailable), "{told}");
    assert!(matches!(second.await, Err(WalError::Predecessor(_))));
    assert!(matches!(third.await, Err(WalError::Predecessor(_))));
    faults.heal();
    assert_eq!(all(&wal).await, []);
    assert!(matches!(wal.append(&big(4)).await, Err(WalError::Closed { cause: None, .. })));
    assert!(matches!(wal.stage().await.unwrap_err(), WalError::Closed { cause: None, .. }));
}

#[tokio::test]
async fn a_full_disk_is_told_to_everybody_behind_it_and_the_log_goes_on() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    wal.append(&"a".to_owned()).await.unwrap();
    faults.hold();
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Full));
    let appends: Vec<_> = (0..4).map(|i| wal.append(&big(i))).collect();
    faults.release();
    for (i, append) in appends.into_iter().enumerate() {
        let e = append.await.unwrap_err();
        match e {
            WalError::Store(e) if i == 0 => assert_eq!(e.kind(), ErrorKind::Full),
            WalError::Predecessor(e) if i > 0 => assert_eq!(e.kind(), ErrorKind::Full),
            other => panic!("{i}: {other}"),
        }
    }
    assert_eq!(wal.append(&"b".to_owned()).await.unwrap(), Lsn(2));
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn an_unknown_outcome_closes_the_log_until_it_is_opened_again() {
    for applied in [false, true] {
        let (store, faults, _) = faulty();
        let wal = open(&store).await;
        wal.append(&"a".to_owned()).await.unwrap();
        faults.hold();
        let fault = if applied { Fault::after } else { Fault::before };
        faults.fail(Call::Commit, 1, fault(ErrorKind::Indeterminate));
        let unknown = wal.append(&big(1));
        let behind = wal.append(&big(2));
        let queued = wal.append(&"c".to_owned());
        faults.release();
        let e = unknown.await.unwrap_err();
        assert!(matches!(&e, WalError::Store(e) if e.kind() == ErrorKind::Indeterminate), "{e}");
        drop(behind.await.unwrap_err());
        assert!(matches!(queued.await, Err(WalError::Closed { cause: Some(_), .. })));
        let refused = wal.append(&"d".to_owned());
        assert!(refused.refused().is_some() && refused.lsn().is_none());
        let e = refused.await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Closed);
        assert!(matches!(wal.truncate_before(Lsn(1)).await, Err(WalError::Closed { .. })));
        assert!(matches!(wal.close().await, Err(WalError::Closed { cause: Some(_), .. })));
        // Reading goes on, and a new handle knows what happened.
        let wal = open(&store).await;
        let found = all(&wal).await;
        assert_eq!(found.first(), Some(&(1, "a".to_owned())));
        assert_eq!(found.len() > 1, applied);
        assert_eq!(wal.append(&"e".to_owned()).await.unwrap().0, found.len() as u64 + 1);
    }
}

#[tokio::test]
async fn a_closed_store_closes_the_log() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.poison();
    let e = wal.append(&"a".to_owned()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Closed);
    assert!(matches!(wal.append(&"b".to_owned()).await, Err(WalError::Closed { .. })));
    assert!(matches!(wal.ready().await, Err(WalError::Closed { .. })));
}

#[tokio::test]
async fn a_head_that_cannot_be_read_again_closes_the_log() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Full));
    faults.fail(Call::Get, 1, Fault::before(ErrorKind::Corrupt));
    drop(wal.append(&"a".to_owned()).await.unwrap_err());
    assert!(matches!(wal.append(&"b".to_owned()).await, Err(WalError::Closed { .. })));
}

#[tokio::test]
async fn the_backlog_is_bounded_and_can_be_awaited() {
    let (store, faults, _) = faulty();
    let limited = WalOptions { max_queued_bytes: 2_000, ..options() };
    let (wal, _) = Wal::<String>::open(&store, "log", limited).await.unwrap();
    faults.hold();
    let mut taken = Vec::new();
    let refused = loop {
        let append = wal.append(&big(taken.len()));
        if append.refused().is_some() {
            break append;
        }
        taken.push(append);
    };
    assert_eq!(taken.len(), 6);
    let e = refused.await.unwrap_err();
    assert!(matches!(e, WalError::Backlog { limit: 2_000, .. }), "{e}");
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    let ready = tokio::spawn({
        let wal = wal.clone();
        async move { wal.ready().await }
    });
    tokio::task::yield_now().await;
    assert!(!ready.is_finished());
    faults.release();
    ready.await.unwrap().unwrap();
    assert_eq!(wal.append(&"a".to_owned()).await.unwrap(), Lsn(7));
    for append in taken {
        append.await.unwrap();
    }
    // One append is always taken when nothing waits.
    assert_eq!(wal.append(&"x".repeat(4_000)).await.unwrap(), Lsn(8));
}

#[tokio::test]
async fn what_cannot_be_encoded_or_is_too_large_is_refused_and_changes_nothing() {
    #[derive(Debug, serde::Deserialize)]
    struct Awkward;
    impl serde::Serialize for Awkward {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("will not"))
        }
    }
    let store = Store::memory();
    let (wal, _) = Wal::<Awkward>::open(&store, "awkward", options()).await.unwrap();
    assert!(matches!(wal.append(&Awkward).await, Err(WalError::Encode(_))));
    assert_eq!(wal.next_lsn(), Lsn(1));

    let wal = open(&store).await;
    let e = wal.append_all(&["x".repeat(9 << 20), "x".repeat(9 << 20)]).await.unwrap_err();
    assert!(matches!(e, WalError::TooLarge { .. }), "{e}");
    assert!(matches!(wal.append(&"x".repeat(17 << 20)).await, Err(WalError::Encode(_))));
    assert_eq!(wal.append(&"x".repeat((16 << 20) - 100)).await.unwrap(), Lsn(1));
    assert_eq!(all(&wal).await.len(), 1);
}

#[tokio::test]
async fn the_larger_option_puts_more_in_flight() {
    for (limit, expected) in [(1, 1), (2, 2), (5, 5)] {
        let (store, faults, _) = faulty();
        let more = WalOptions { max_in_flight: limit, ..options() };
        let (wal, _) = Wal::<String>::open(&store, "log", more).await.unwrap();
        faults.hold();
        let appends: Vec<_> = (0..10).map(|i| wal.append(&big(i))).collect();
        assert_eq!(faults.held(), expected);
        faults.release();
        for append in appends {
            append.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_page_closes_at_its_size() {
    for page_bytes in [256, 1 << 12] {
        let (store, faults, _) = faulty();
        let sized = WalOptions { page_bytes, ..options() };
        let (wal, _) = Wal::<String>::open(&store, "log", sized).await.unwrap();
        faults.hold();
        let record = "x".repeat(42); // 52 bytes with everything
        let appends: Vec<_> = (0..100).map(|_| wal.append(&record)).collect();
        faults.release();
        for append in appends {
            append.await.unwrap();
        }
        let report = wal.verify().await.unwrap();
        let a_page = (page_bytes - 38) / 52;
        // One record went alone, the rest in full pages.
        assert_eq!(report.pages, 1 + 99_usize.div_ceil(a_page) as u64);
    }
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let store = Store::memory();
    for wrong in [
        WalOptions { page_bytes: 255, ..options() },
        WalOptions { page_bytes: (8 << 20) + 1, ..options() },
        WalOptions { max_in_flight: 0, ..options() },
    ] {
        let e = Wal::<String>::open(&store, "log", wrong).await.unwrap_err();
        assert!(matches!(e, WalError::Invalid(_)), "{e}");
    }
    for name in ["", "a\0b", &"x".repeat(513)] {
        let e = Wal::<String>::open(&store, name, options()).await.unwrap_err();
        assert!(matches!(e, WalError::Invalid(_)), "{e}");
    }
    Wal::<String>::open(&store, &"x".repeat(512), options()).await.unwrap();
}

#[test]
fn a_stopped_runtime_ends_the_log_and_everybody_is_told() {
    let (store, faults, _) = faulty();
    let first = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let wal = first.block_on(open(&store));
    faults.hold();
    let (flying, queued) = first.block_on(async {
        let flying = wal.append(&"a".to_owned());
        let queued = wal.append(&"b".to_owned());
        tokio::task::yield_now().await;
        (flying, queued)
    });
    drop(first);
    let second = tokio::runtime::Builder::new_current_thread().build().unwrap();
    second.block_on(async {
        let e = flying.await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Indeterminate);
        assert!(matches!(queued.await, Err(WalError::Closed { cause: Some(_), .. })));
        assert!(matches!(wal.append(&"c".to_owned()).await, Err(WalError::Closed { .. })));
        faults.release();
        let wal = open(&store).await;
        wal.append(&"d".to_owned()).await.unwrap();
        assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "d")]));
    });
}

#[tokio::test]
async fn a_late_commit_of_a_dropped_stage_counts_and_the_log_goes_on_behind_it() {
    let store = Store::memory();
    let wal = open(&store).await;
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"late".to_owned()).unwrap();
    let mut batch = Batch::new();
    drop(stage.write(&mut batch).unwrap());
    store.commit(batch, Durability::Durable).await.unwrap();
    assert!(matches!(wal.append(&"a".to_owned()).await, Err(WalError::Store(_))));
    assert_eq!(wal.append(&"b".to_owned()).await.unwrap(), Lsn(2));
    assert_eq!(all(&wal).await, records(&[(1, "late"), (2, "b")]));
}
