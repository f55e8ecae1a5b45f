//! Two writers, truncation, tails, and many logs.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use resurge_store::{Batch, Durability, ErrorKind, Store};
use resurge_testkit::{Call, Fault, FaultStore};
use resurge_wal::{Claim, Lsn, Wal, WalError, WalOptions, inspect};
use support::{all, entries, faulty, open, options, page_first, records, store_of};

#[tokio::test]
async fn the_second_writer_fences_the_first() {
    let store = Store::memory();
    let first = open(&store).await;
    first.append(&"a".to_owned()).await.unwrap();
    let second = open(&store).await;
    let e = first.append(&"lost".to_owned()).await.unwrap_err();
    assert!(matches!(e, WalError::Fenced { ours: 1, epoch: 2, .. }), "{e}");
    assert_eq!(e.kind(), ErrorKind::Conflict);
    // It stays fenced, for everything that writes; reading goes on.
    assert!(matches!(first.append(&"lost".to_owned()).await, Err(WalError::Fenced { .. })));
    assert!(matches!(first.stage().await, Err(WalError::Fenced { .. })));
    assert!(matches!(first.truncate_before(Lsn(2)).await, Err(WalError::Fenced { .. })));
    assert!(matches!(first.close().await, Err(WalError::Fenced { .. })));
    second.append(&"b".to_owned()).await.unwrap();
    assert_eq!(all(&first).await, records(&[(1, "a"), (2, "b")]));
    // And taking it back fences the other one.
    let third = open(&store).await;
    assert!(matches!(second.append(&"lost".to_owned()).await, Err(WalError::Fenced { .. })));
    assert_eq!(third.append(&"c".to_owned()).await.unwrap(), Lsn(3));
}

#[tokio::test]
async fn a_stage_of_a_fenced_writer_is_refused_with_its_whole_batch() {
    let store = Store::memory();
    let first = open(&store).await;
    let mut stage = first.stage().await.unwrap();
    stage.push(&"lost".to_owned()).unwrap();
    let second = open(&store).await;
    let commit = stage.commit(Batch::new(), Durability::Durable).unwrap();
    assert_eq!(commit.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(matches!(first.stage().await, Err(WalError::Fenced { .. })));
    assert_eq!(all(&second).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_writer_can_be_taken_over_from() {
    let store = Store::memory();
    let first = open(&store).await;
    let writers: Vec<_> = (0..16)
        .map(|i| {
            let wal = first.clone();
            tokio::spawn(async move {
                let mut told = Vec::new();
                loop {
                    match wal.append(&format!("{i} {}", "x".repeat(100))).await {
                        Ok(lsn) => told.push(lsn),
                        Err(e) => return (told, e),
                    }
                }
            })
        })
        .collect();
    while first.durable_lsn() < Lsn(100) {
        tokio::task::yield_now().await;
    }
    let second = open(&store).await;
    let end = second.next_lsn();
    second.append(&"mine".to_owned()).await.unwrap();
    let mut told = Vec::new();
    for writer in writers {
        let (lsns, e) = writer.await.unwrap();
        told.extend(lsns);
        let fenced = matches!(e, WalError::Fenced { .. } | WalError::Predecessor(_));
        assert!(fenced, "{e}");
    }
    told.sort();
    // Everything acknowledged is there, and nothing came after the takeover.
    assert_eq!(told, (1..end.0).map(Lsn).collect::<Vec<_>>());
    assert_eq!(all(&second).await.len() as u64, end.0);
}

#[tokio::test]
async fn a_claim_at_the_first_write_opens_without_writing() {
    let (store, faults, _) = faulty();
    let lazy = WalOptions { claim: Claim::AtFirstWrite, ..options() };
    let (first, report) = Wal::<String>::open(&store, "log", lazy.clone()).await.unwrap();
    assert!(report.created);
    let (second, report) = Wal::<String>::open(&store, "log", lazy.clone()).await.unwrap();
    assert!(report.created);
    assert_eq!(faults.calls(Call::Commit), 0);
    // Of those who saw the same state, the first to write wins.
    second.append(&"a".to_owned()).await.unwrap();
    assert!(matches!(first.append(&"b".to_owned()).await, Err(WalError::Fenced { .. })));
    let (third, report) = Wal::<String>::open(&store, "log", lazy).await.unwrap();
    assert_eq!((report.created, report.next_lsn, faults.calls(Call::Commit)), (false, Lsn(2), 2));
    second.append(&"c".to_owned()).await.unwrap();
    assert!(matches!(third.append(&"d".to_owned()).await, Err(WalError::Fenced { .. })));
    // What another writer left is not known to be durable until synced.
    let lazy = WalOptions { claim: Claim::AtFirstWrite, ..options() };
    let (fourth, _) = Wal::<String>::open(&store, "log", lazy).await.unwrap();
    assert_eq!(fourth.durable_lsn(), Lsn(0));
    fourth.sync().await.unwrap();
    assert_eq!(fourth.durable_lsn(), Lsn(2));
}

/// Ten records, two to a page.
async fn ten(store: &Store) -> Wal<String> {
    let wal = open(store).await;
    for i in 0..5 {
        let pair = [format!("{i}a"), format!("{i}b")];
        wal.append_all(&pair).await.unwrap();
    }
    wal
}

async fn pages(store: &Store) -> Vec<u64> {
    entries(store).await.iter().filter_map(|e| page_first(&e.key)).collect()
}

#[tokio::test]
async fn truncation_removes_whole_pages_and_hides_the_rest() {
    for before in 0..14 {
        let store = Store::memory();
        let wal = ten(&store).await;
        let done = wal.truncate_before(Lsn(before)).await.unwrap();
        let first = before.clamp(1, 11);
        assert_eq!((done.first_lsn, wal.first_lsn()), (Lsn(first), Lsn(first)));
        let kept: Vec<u64> = [1, 3, 5, 7, 9].into_iter().filter(|p| p + 1 >= first).collect();
        assert_eq!(pages(&store).await, kept, "before {before}");
        assert_eq!(done.pages, 5 - kept.len() as u64);
        for wal in [wal, open(&store).await] {
            let found = all(&wal).await;
            assert_eq!(found.len() as u64, 11 - first);
            assert!(found.first().is_none_or(|(lsn, _)| *lsn == first));
            let report = wal.verify().await.unwrap();
            assert!(report.is_intact(), "{report:?}");
            assert_eq!((report.first_lsn, report.records), (Lsn(first), 11 - first));
            if first > 1 {
                let e = wal.replay(Lsn(first - 1)).await.unwrap_err();
                assert!(matches!(e, WalError::Truncated { first: f, .. } if f == Lsn(first)));
            }
        }
        let wal = open(&store).await;
        assert_eq!(wal.append(&"on".to_owned()).await.unwrap(), Lsn(11));
        assert_eq!(all(&wal).await.len() as u64, 12 - first);
        // Never back.
        assert_eq!(wal.truncate_before(Lsn(1)).await.unwrap().first_lsn, Lsn(first));
    }
}

#[tokio::test]
async fn an_interrupted_truncation_is_finished_at_open() {
    // The bound moves in the first commit; the removal, which follows, never reaches the store.
    let (store, faults, _) = faulty();
    let wal = ten(&store).await;
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Closed).poisoning());
    drop(wal.truncate_before(Lsn(6)).await.unwrap_err());
    faults.heal();
    assert_eq!(pages(&store).await, [1, 3, 5, 7, 9]);
    // Readers do not see below the bound, and a verification takes no offence.
    assert_eq!(all(&wal).await.first().unwrap().0, 6);
    assert!(wal.verify().await.unwrap().is_intact());
    let (wal, report) = Wal::<String>::open(&store, "log", options()).await.unwrap();
    assert_eq!(report.finished_removal, 2);
    assert_eq!(pages(&store).await, [5, 7, 9]);
    assert_eq!(all(&wal).await.len(), 5);
    wal.append(&"on".to_owned()).await.unwrap();
    let (_, report) = Wal::<String>::open(&store, "log", options()).await.unwrap();
    assert_eq!(report.finished_removal, 0);
}

#[tokio::test]
async fn a_truncation_that_failed_half_way_is_finished_by_the_next() {
    let (store, faults, _) = faulty();
    let wal = ten(&store).await;
    faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Unavailable));
    drop(wal.truncate_before(Lsn(6)).await.unwrap_err());
    assert_eq!(pages(&store).await.len(), 5);
    wal.append(&"on".to_owned()).await.unwrap();
    // A crash now must still find what is left to do.
    let copy = store_of(&entries(&store).await).await;
    let (_, report) = Wal::<String>::open(&copy, "log", options()).await.unwrap();
    assert_eq!(report.finished_removal, 2);
    assert_eq!(wal.truncate_before(Lsn(6)).await.unwrap().pages, 2);
    assert_eq!(pages(&store).await, [5, 7, 9, 11]);
}

#[tokio::test]
async fn truncation_goes_on_beside_appends_and_a_lagging_reader_is_told() {
    let (store, faults, _) = faulty();
    let wal = ten(&store).await;
    let mut reader = wal.replay(Lsn::START).await.unwrap();
    let mut tail = wal.tail(Lsn(2)).await.unwrap();
    assert_eq!(tail.next().await.unwrap().0, Lsn(2));
    faults.hold();
    let flying = wal.append(&"flying".to_owned());
    let truncate = tokio::spawn({
        let wal = wal.clone();
        async move { wal.truncate_before(Lsn(100)).await }
    });
    tokio::task::yield_now().await;
    faults.release();
    assert_eq!(truncate.await.unwrap().unwrap().first_lsn, Lsn(11));
    assert_eq!(flying.await.unwrap(), Lsn(11));
    assert_eq!(all(&wal).await, records(&[(11, "flying")]));
    let gone = reader.next().await.unwrap_err();
    assert!(matches!(gone, WalError::Truncated { first: Lsn(11), .. }), "{gone}");
    // The tail had read its pages before, and follows without a gap.
    for lsn in 3..=11 {
        assert_eq!(tail.next().await.unwrap().0, Lsn(lsn));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_loses_nothing_and_shows_only_what_is_durable() {
    let store = Store::memory();
    let wal = open(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    let tails: Vec<_> = (0..3_u64)
        .map(|i| {
            let (wal, done) = (wal.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut tail = wal.tail(Lsn(i)).await.unwrap();
                let mut expected = i.max(1);
                loop {
                    let (lsn, record) = tail.next().await.unwrap();
                    assert_eq!((lsn.0, record.as_str()), (expected, lsn.to_string().as_str()));
                    assert!(wal.durable_lsn() >= lsn);
                    expected += 1;
                    if lsn == Lsn(500) {
                        assert!(done.load(Ordering::SeqCst));
                        return;
                    }
                }
            })
        })
        .collect();
    for lsn in 1..500_u64 {
        wal.append(&lsn.to_string()).await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    // Buffered: shown all the same, once it is durable.
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"500".to_owned()).unwrap();
    stage.commit(Batch::new(), Durability::Buffered).unwrap().await.unwrap();
    for tail in tails {
        tail.await.unwrap();
    }
}

#[tokio::test]
async fn a_tail_waits_until_what_is_only_buffered_is_durable() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    let mut tail = wal.tail(Lsn::START).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"a".to_owned()).unwrap();
    stage.commit(Batch::new(), Durability::Buffered).unwrap().await.unwrap();
    faults.hold();
    let mut next = Box::pin(tail.next());
    let early = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await;
    assert!(early.is_pending());
    assert_eq!((faults.held(), faults.calls(Call::Sync)), (1, 1));
    faults.release();
    assert_eq!(next.await.unwrap(), (Lsn(1), "a".to_owned()));
    assert_eq!(wal.durable_lsn(), Lsn(1));
}

#[tokio::test]
async fn a_tail_follows_another_handle_and_ends_with_the_store() {
    let faults = FaultStore::new(resurge_store::MemoryStore::in_memory());
    let store = Store::new(faults);
    let reader = open(&store).await;
    let mut tail = reader.tail(Lsn::START).await.unwrap();
    let writer = open(&store).await;
    writer.append(&"a".to_owned()).await.unwrap();
    assert_eq!(tail.next().await.unwrap(), (Lsn(1), "a".to_owned()));
    // A wait that is given up loses nothing.
    for _ in 0..3 {
        let mut wait = Box::pin(tail.next());
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(wait.as_mut().poll(cx))).await;
        assert!(poll.is_pending());
    }
    writer.append(&"b".to_owned()).await.unwrap();
    assert_eq!(tail.next().await.unwrap(), (Lsn(2), "b".to_owned()));
    store.close().await.unwrap();
    assert_eq!(tail.next().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn thousands_of_logs_share_a_store_without_seeing_each_other() {
    let (store, faults, _) = faulty();
    let lazy = WalOptions { claim: Claim::AtFirstWrite, ..WalOptions::default() };
    let mut logs = Vec::new();
    for i in 0..2_000 {
        let (wal, _) = Wal::<u32>::open(&store, &format!("run/{i}"), lazy.clone()).await.unwrap();
        logs.push(wal);
    }
    // Opening a log that does not exist: its head, and a look for stray pages.
    assert_eq!((faults.calls(Call::Get), faults.calls(Call::Scan)), (2_000, 2_000));
    let appends: Vec<_> = logs.iter().zip(0..).map(|(wal, i)| wal.append(&i)).collect();
    for append in appends {
        assert_eq!(append.await.unwrap(), Lsn(1));
    }
    // Idle again, and nothing was left running for any of them.
    let metrics = tokio::runtime::Handle::current().metrics();
    while metrics.num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
    for (wal, i) in logs.iter().zip(0_u32..).step_by(97) {
        let mut replay = wal.replay(Lsn::START).await.unwrap();
        assert_eq!(replay.next().await.unwrap(), Some((Lsn(1), i)));
        assert_eq!(replay.next().await.unwrap(), None);
    }
    let (gets, scans) = (faults.calls(Call::Get), faults.calls(Call::Scan));
    drop(Wal::<u32>::open(&store, "run/7", lazy).await.unwrap());
    assert_eq!((faults.calls(Call::Get) - gets, faults.calls(Call::Scan) - scans), (1, 1));
    let some = inspect::names(&store, Some("run/1997"), 10).await.unwrap();
    assert_eq!(some.first().map(String::as_str), Some("run/1998"));
    assert_eq!(inspect::names(&store, None, 5_000).await.unwrap().len(), 2_000);
}
