//! Staging: into another batch, beside appends, dropped at every point, several logs at once.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use resurge_store::{Batch, Durability, ErrorKind, Guard, Key, Namespace, Store};
use resurge_testkit::{Call, Fault};
use resurge_wal::{Lsn, Tickets, Wal, WalError, WalOptions};
use support::{all, faulty, open, options, records};

fn key() -> Key {
    Namespace::new("app").unwrap().key("other").unwrap()
}

#[tokio::test]
async fn records_and_the_rest_of_the_batch_are_one_commit() {
    let store = Store::memory();
    let wal = open(&store).await;
    wal.append(&"a".to_owned()).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"b".to_owned()).unwrap();
    stage.push(&"c".to_owned()).unwrap();
    let mut batch = Batch::new();
    batch.put(key(), "x");
    let staged = stage.write(&mut batch).unwrap();
    assert_eq!(staged.lsns(), Lsn(2)..Lsn(4));
    let commit = store.commit(batch, Durability::Durable);
    staged.submitted(commit, Durability::Durable).await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(3));
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b"), (3, "c")]));
    assert!(store.get(&key()).await.unwrap().is_some());
    assert_eq!(wal.append(&"d".to_owned()).await.unwrap(), Lsn(4));
}

#[tokio::test]
async fn a_stage_dropped_at_any_point_before_submitted_leaves_the_log_unchanged() {
    let store = Store::memory();
    let wal = open(&store).await;
    wal.append(&"a".to_owned()).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"never".to_owned()).unwrap();
    drop(stage);
    assert_eq!(wal.next_lsn(), Lsn(2));

    let mut stage = wal.stage().await.unwrap();
    stage.push(&"never".to_owned()).unwrap();
    let mut batch = Batch::new();
    let staged = stage.write(&mut batch).unwrap();
    assert_eq!(wal.next_lsn(), Lsn(3));
    drop(staged);
    assert_eq!(wal.next_lsn(), Lsn(2));

    assert_eq!(wal.append(&"b".to_owned()).await.unwrap(), Lsn(2));
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b")]));
    // What was written for it can no longer be committed.
    let late = store.commit(batch, Durability::Durable).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    let reopened = open(&store).await;
    assert_eq!(all(&reopened).await, records(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn appends_queue_behind_a_staged_page_and_follow_it() {
    let store = Store::memory();
    let wal = open(&store).await;
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"a".to_owned()).unwrap();
    let mut batch = Batch::new();
    let staged = stage.write(&mut batch).unwrap();
    let behind = wal.append(&"b".to_owned());
    assert_eq!(behind.lsn(), Some(Lsn(2)));
    tokio::task::yield_now().await;
    assert_eq!(all(&wal).await, []);
    let commit = store.commit(batch, Durability::Durable);
    staged.submitted(commit, Durability::Durable).await.unwrap();
    assert_eq!(behind.await.unwrap(), Lsn(2));
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn appends_queued_behind_a_dropped_stage_keep_their_numbers() {
    let store = Store::memory();
    let wal = open(&store).await;
    wal.append(&"a".to_owned()).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"never".to_owned()).unwrap();
    stage.push(&"never".to_owned()).unwrap();
    let staged = stage.write(&mut Batch::new()).unwrap();
    let behind = wal.append(&"b".to_owned());
    drop(staged);
    assert_eq!(behind.await.unwrap(), Lsn(4));
    wal.append(&"c".to_owned()).await.unwrap();
    let expected = records(&[(1, "a"), (4, "b"), (5, "c")]);
    assert_eq!(all(&wal).await, expected);
    let report = wal.verify().await.unwrap();
    assert!(report.is_intact());
    assert_eq!((report.records, report.skipped), (3, 2));
    let wal = open(&store).await;
    assert_eq!(all(&wal).await, expected);
    // Reading may begin in the hole.
    let mut replay = wal.replay(Lsn(3)).await.unwrap();
    assert_eq!(replay.next().await.unwrap(), Some((Lsn(4), "b".to_owned())));
}

#[tokio::test]
async fn a_stage_follows_what_was_appended_before_it() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.hold();
    let before: Vec<_> = (0..20).map(|i| wal.append(&format!("record {i:030}"))).collect();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"staged".to_owned()).unwrap();
    let mut batch = Batch::new();
    let staged = stage.write(&mut batch).unwrap();
    assert_eq!(staged.lsns(), Lsn(21)..Lsn(22));
    let commit = staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable);
    let after = wal.append(&"after".to_owned());
    faults.release();
    commit.await.unwrap();
    for append in before {
        append.await.unwrap();
    }
    assert_eq!(after.await.unwrap(), Lsn(22));
    assert_eq!(all(&wal).await.len(), 22);
}

#[tokio::test]
async fn a_stage_whose_batch_conflicts_fails_what_follows_it_and_the_log_goes_on() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    wal.append(&"a".to_owned()).await.unwrap();
    faults.hold();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"refused".to_owned()).unwrap();
    let mut batch = Batch::new();
    batch.guard(key(), Guard::Present);
    let staged = stage.write(&mut batch).unwrap();
    let commit = staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable);
    let follows = wal.append(&"decided upon it".to_owned());
    faults.release();
    let refused = commit.await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Conflict, Some(&key())));
    let e = follows.await.unwrap_err();
    assert!(matches!(&e, WalError::Predecessor(cause) if cause.key() == Some(&key())), "{e}");
    assert_eq!(wal.append(&"b".to_owned()).await.unwrap(), Lsn(2));
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn pages_in_flight_behind_a_failed_stage_fail_with_it() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.hold();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"refused".to_owned()).unwrap();
    let mut batch = Batch::new();
    batch.guard(key(), Guard::Present);
    let staged = stage.write(&mut batch).unwrap();
    let commit = staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable);
    // Full pages are submitted while the stage is in flight.
    let big = "x".repeat(300);
    let follow: Vec<_> = (0..4).map(|_| wal.append(&big)).collect();
    let mut second = wal.stage().await.unwrap();
    second.push(&"also".to_owned()).unwrap();
    let mut batch = Batch::new();
    let second = second.write(&mut batch).unwrap();
    faults.release();
    commit.await.unwrap_err();
    for append in follow {
        assert!(matches!(append.await, Err(WalError::Predecessor(_))));
    }
    // It was sealed on top of what failed: void, whatever is done with it.
    let second = second.submitted(store.commit(batch, Durability::Durable), Durability::Durable);
    // So nothing has to wait for its outcome, or hangs on it.
    let append = wal.append(&"a".to_owned());
    assert_eq!(append.await.unwrap(), Lsn(1));
    assert_eq!(second.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(all(&wal).await, records(&[(1, "a")]));
}

#[tokio::test]
async fn a_void_stage_stays_void_even_when_the_same_record_is_appended_again() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.hold();
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Full));
    let failed = wal.append(&"a".to_owned());
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"void".to_owned()).unwrap();
    let mut batch = Batch::new();
    let staged = stage.write(&mut batch).unwrap();
    faults.release();
    failed.await.unwrap_err();
    drop(staged);
    // The page it was sealed upon is there now, byte for byte, but it is not that page.
    assert_eq!(wal.append(&"a".to_owned()).await.unwrap(), Lsn(1));
    let late = store.commit(batch, Durability::Durable).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert_eq!(all(&wal).await, records(&[(1, "a")]));
}

#[tokio::test]
async fn commit_in_one_call_waits_out_an_unavailable_store() {
    let (store, faults, clock) = faulty();
    let wal = open(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"a".to_owned()).unwrap();
    let mut batch = Batch::new();
    batch.put(key(), "x");
    let commit = stage.commit(batch, Durability::Durable).unwrap();
    let behind = wal.append(&"b".to_owned());
    let time = tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    });
    commit.await.unwrap();
    assert_eq!(behind.await.unwrap(), Lsn(2));
    time.abort();
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b")]));
    assert!(store.get(&key()).await.unwrap().is_some());
}

#[tokio::test]
async fn an_unavailable_stage_is_its_owners_business() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"a".to_owned()).unwrap();
    let mut batch = Batch::new();
    let staged = stage.write(&mut batch).unwrap();
    let commit = staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable);
    let behind = wal.append(&"b".to_owned());
    assert_eq!(commit.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(matches!(behind.await, Err(WalError::Predecessor(_))));
    assert_eq!(wal.append(&"c".to_owned()).await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn a_buffered_stage_is_readable_but_not_durable_until_synced() {
    let store = Store::memory();
    let wal = open(&store).await;
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"a".to_owned()).unwrap();
    stage.commit(Batch::new(), Durability::Buffered).unwrap().await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(0));
    assert_eq!(all(&wal).await, records(&[(1, "a")]));
    wal.sync().await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(1));
}

#[tokio::test]
async fn an_empty_stage_leaves_the_log_alone() {
    let store = Store::memory();
    let wal = open(&store).await;
    let stage = wal.stage().await.unwrap();
    assert!(stage.is_empty());
    let mut batch = Batch::new();
    let staged = stage.write(&mut batch).unwrap();
    assert!(batch.is_empty() && staged.lsns().is_empty());
    let commit = staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable);
    commit.await.unwrap();
    assert_eq!(wal.append(&"a".to_owned()).await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn there_is_one_stage_at_a_time_and_the_next_chains_on_what_was_submitted() {
    let (store, faults, _) = faulty();
    let wal = open(&store).await;
    faults.hold();
    let mut first = wal.stage().await.unwrap();
    first.push(&"a".to_owned()).unwrap();
    let waiting = tokio::spawn({
        let wal = wal.clone();
        async move { wal.stage().await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let first = first.commit(Batch::new(), Durability::Durable).unwrap();
    // Not durable yet, and the next one does not have to wait for that.
    let mut second = waiting.await.unwrap();
    second.push(&"b".to_owned()).unwrap();
    let second = second.commit(Batch::new(), Durability::Durable).unwrap();
    assert_eq!(second.lsns(), Lsn(2)..Lsn(3));
    faults.release();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(all(&wal).await, records(&[(1, "a"), (2, "b")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_logs_staged_together_by_many_do_not_deadlock() {
    let store = Store::memory();
    let mut logs = Vec::new();
    for name in ["c", "a", "b"] {
        logs.push(Wal::<u64>::open(&store, name, WalOptions::default()).await.unwrap().0);
    }
    let tasks: Vec<_> = (0..8_usize)
        .map(|task| {
            let (store, mut logs) = (store.clone(), logs.clone());
            logs.rotate_left(task % 3);
            tokio::spawn(async move {
                for i in 0..20 {
                    let wanted = logs.iter().fold(Tickets::new(), Tickets::of);
                    let mut tickets = wanted.acquire().await.unwrap();
                    let mut batch = Batch::new();
                    let mut staged = Vec::new();
                    for wal in &logs {
                        let mut stage = tickets.stage(wal).unwrap();
                        stage.push(&i).unwrap();
                        staged.push(stage.write(&mut batch).unwrap());
                    }
                    let mut commit = store.commit(batch, Durability::Durable);
                    for staged in staged {
                        commit = Box::pin(staged.submitted(commit, Durability::Durable));
                    }
                    commit.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for wal in &logs {
        let report = wal.verify().await.unwrap();
        assert_eq!((report.records, report.is_intact()), (160, true));
    }
}

#[tokio::test]
async fn a_ticket_is_used_once_and_only_when_acquired() {
    let store = Store::memory();
    let wal = open(&store).await;
    assert!(matches!(Tickets::new().of(&wal).stage(&wal), Err(WalError::Invalid(_))));
    let mut tickets = Tickets::new().of(&wal).of(&wal).acquire().await.unwrap();
    drop(tickets.stage(&wal).unwrap());
    assert!(matches!(tickets.stage(&wal), Err(WalError::Invalid(_))));
}

#[tokio::test]
async fn a_stage_has_the_limits_of_a_page() {
    let store = Store::memory();
    let (wal, _) = Wal::<String>::open(&store, "log", options()).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    let big = "x".repeat(9 << 20);
    stage.push(&big).unwrap();
    assert!(matches!(stage.push(&big), Err(WalError::TooLarge { .. })));
    assert_eq!(stage.len(), 1);
    stage.commit(Batch::new(), Durability::Durable).unwrap().await.unwrap();
    assert_eq!(all(&wal).await.len(), 1);
}

/// A staged commit that nobody polls.
async fn left_alone(wal: &Wal<String>, record: &str) -> resurge_wal::StagedCommit {
    let mut stage = wal.stage().await.unwrap();
    stage.push(&record.to_owned()).unwrap();
    stage.commit(Batch::new(), Durability::Durable).unwrap()
}

#[tokio::test]
async fn a_commit_that_nobody_awaits_holds_nobody_up() {
    let store = Store::memory();
    let wal = open(&store).await;
    let commit = left_alone(&wal, "a").await;
    // Behind it, with it, and after it.
    assert_eq!(wal.append(&"b".to_owned()).await.unwrap(), Lsn(2));
    commit.await.unwrap();
    drop(left_alone(&wal, "c").await);
    wal.wait_durable(Lsn(3)).await.unwrap();
    let commit = left_alone(&wal, "d").await;
    wal.wait_durable(Lsn(4)).await.unwrap();
    let last = left_alone(&wal, "e").await;
    wal.close().await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(5));
    commit.await.unwrap();
    last.await.unwrap();
    let all = all(&open(&store).await).await;
    assert_eq!(all, records(&[(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]));
}

#[tokio::test]
async fn a_commit_that_was_polled_is_told_when_a_driver_takes_over() {
    let store = Store::memory();
    let wal = open(&store).await;
    let commit = tokio::spawn(left_alone(&wal, "a").await);
    tokio::task::yield_now().await;
    let (appended, told) = tokio::join!(wal.append(&"b".to_owned()), commit);
    appended.unwrap();
    told.unwrap().unwrap();
}

#[tokio::test]
async fn a_commit_of_its_own_waits_out_an_unavailable_store() {
    let (store, faults, clock) = faulty();
    let wal = open(&store).await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    let mut commit = std::pin::pin!(left_alone(&wal, "a").await);
    // The driver that took over waits a while, then submits it again.
    let committed = loop {
        tokio::select! {
            biased;
            committed = &mut commit => break committed,
            () = tokio::task::yield_now() => clock.advance(Duration::from_millis(1)),
        }
    };
    committed.unwrap();
    assert_eq!(all(&wal).await, records(&[(1, "a")]));
}

#[tokio::test]
async fn a_log_made_without_a_look_is_refused_where_there_is_one() {
    let store = Store::memory();
    let first = Wal::<String>::create(&store, "runs", WalOptions::default()).unwrap();
    let second = Wal::<String>::create(&store, "runs", WalOptions::default()).unwrap();
    left_alone(&first, "a").await.await.unwrap();
    let refused = left_alone(&second, "x").await.await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(matches!(second.append(&"x".to_owned()).await, Err(WalError::Fenced { .. })));
    left_alone(&first, "b").await.await.unwrap();
    assert_eq!(all(&first).await, records(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn a_page_without_a_head_is_not_written_over() {
    let store = Store::memory();
    let first = Wal::<String>::create(&store, "runs", WalOptions::default()).unwrap();
    left_alone(&first, "a").await.await.unwrap();
    let mut batch = Batch::new();
    batch.delete(Namespace::new("resurge/wal").unwrap().key("runs\0h").unwrap());
    store.commit(batch, Durability::Durable).await.unwrap();
    let second = Wal::<String>::create(&store, "runs", WalOptions::default()).unwrap();
    let refused = left_alone(&second, "x").await.await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}
