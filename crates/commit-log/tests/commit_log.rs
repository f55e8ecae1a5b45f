//! The async handle: groups, back-pressure, errors, closing.
#![expect(clippy::unwrap_used, reason = "a failing helper fails the test")]

mod memory;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use memory::{Memory, Op};
use resurge_commit_log::{CommitLog, LogError, LogOptions, MAX_ENTRY, Preparation, Result};

fn options() -> LogOptions {
    LogOptions::new([5; 16]).segment_sizes(8192, 65536).preparation(Preparation::Inline)
}

fn open_with(vfs: &Memory, options: LogOptions) -> CommitLog {
    CommitLog::open_with(Arc::new(vfs.clone()), Path::new("/log"), options, 0).unwrap().0
}

fn open(vfs: &Memory) -> CommitLog {
    open_with(vfs, options())
}

/// Holds every sync back until it is released.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    fn install(&self, vfs: &Memory) {
        let gate = self.clone();
        vfs.hold(move |op| {
            if matches!(op, Op::Sync(file) if file.strip_suffix(".log").is_some()) {
                let mut state = gate.0.0.lock().unwrap();
                state.1 += 1;
                gate.0.1.notify_all();
                while state.0 {
                    state = gate.0.1.wait(state).unwrap();
                }
            }
        });
    }

    fn shut(&self, shut: bool) {
        self.0.0.lock().unwrap().0 = shut;
        self.0.1.notify_all();
    }

    /// Waits until `n` syncs have begun since the last call.
    fn reached(&self, n: usize) {
        let mut state = self.0.0.lock().unwrap();
        while state.1 < n {
            state = self.0.1.wait(state).unwrap();
        }
        state.1 = 0;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_get_their_own_sequences_and_all_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions::new([5; 16]).segment_sizes(8192, 65536);
    let (log, _) = CommitLog::open(dir.path(), options.clone()).unwrap();
    let tasks = (0..50_u64).map(|task| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut acked = Vec::new();
            for n in 0..40_u64 {
                let entry = (task * 1000 + n).to_be_bytes();
                let seq = log.append(entry).await.unwrap();
                assert!(log.durable_seq() >= seq, "resolved before it was durable");
                acked.push((seq, entry.to_vec()));
            }
            assert!(acked.is_sorted());
            acked
        })
    });
    let mut acked = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        acked.extend(task.await.unwrap());
    }
    acked.sort();
    let found = |log: &CommitLog| {
        let entries = log.replay(1).unwrap().map(|e| e.map(|(seq, b)| (seq, b.to_vec())));
        entries.collect::<Result<Vec<_>>>().unwrap()
    };
    assert!(found(&log) == acked);
    log.close().await.unwrap();
    drop(log);
    let (log, opened) = CommitLog::open(dir.path(), options).unwrap();
    assert_eq!(opened.last_seq, 2000);
    assert!(found(&log) == acked);
}

#[tokio::test]
async fn what_arrives_during_a_sync_is_one_group() {
    let vfs = Memory::default();
    let log = open(&vfs);
    log.append("asks for the next segment").await.unwrap();
    vfs.take_ops();
    let gate = Gate::default();
    gate.shut(true);
    gate.install(&vfs);
    let first = log.append("1");
    gate.reached(1);
    let rest = (0..100).map(|_| log.append("n")).collect::<Vec<_>>();
    gate.shut(false);
    assert_eq!(first.await.unwrap(), 2);
    for (seq, append) in (3..).zip(rest) {
        assert_eq!(append.await.unwrap(), seq);
    }
    let ops = vfs.take_ops();
    let (writes, syncs) = ops.iter().fold((0, 0), |(w, s), op| match op {
        Op::Write(..) => (w + 1, s),
        Op::Sync(_) => (w, s + 1),
        _ => (w, s),
    });
    assert_eq!((writes, syncs), (2, 2), "{ops:?}");
}

#[tokio::test]
async fn submitted_when_called_and_dropping_the_future_undoes_nothing() {
    let vfs = Memory::default();
    let log = open(&vfs);
    drop(log.append("one"));
    let two = log.append("two");
    assert_eq!(log.append("three").await.unwrap(), 3);
    assert_eq!(two.await.unwrap(), 2, "never polled before");
}

#[tokio::test]
async fn nothing_resolves_before_the_sync() {
    let vfs = Memory::default();
    let log = open(&vfs);
    let gate = Gate::default();
    gate.shut(true);
    gate.install(&vfs);
    let mut append = Box::pin(log.append("x"));
    gate.reached(1); // written, not synced
    let mut context = Context::from_waker(Waker::noop());
    assert!(append.as_mut().poll(&mut context).is_pending());
    assert_eq!((log.durable_seq(), log.replay(1).unwrap().count()), (0, 0));
    gate.shut(false);
    assert_eq!(append.await.unwrap(), 1);
}

#[tokio::test]
async fn too_much_waiting_is_refused_and_nothing_of_it_written() {
    let vfs = Memory::default();
    let log = open_with(&vfs, options().max_pending_bytes(1000));
    let gate = Gate::default();
    gate.shut(true);
    gate.install(&vfs);
    // Larger than the bound, but nothing waits.
    let first = log.append([1; 2000]);
    gate.reached(1);
    let refused = log.append("x").await;
    assert!(matches!(refused, Err(LogError::Unavailable { pending: 2004 })), "{refused:?}");
    gate.shut(false);
    assert_eq!(first.await.unwrap(), 1);
    // What was acknowledged does not count any more.
    assert_eq!(log.append([1; 990]).await.unwrap(), 2);
    assert_eq!(log.replay(1).unwrap().count(), 2);
    let refused = log.append(vec![0; MAX_ENTRY + 1]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { .. })));
}

#[tokio::test]
async fn a_failed_sync_fails_the_group_and_poisons() {
    let vfs = Memory::default();
    let log = open(&vfs);
    log.append("kept").await.unwrap();
    vfs.fail(|op| matches!(op, Op::Sync(_)).then_some(ErrorKind::Other));
    assert!(matches!(log.append("lost").await, Err(LogError::Io { .. })));
    vfs.heal();
    assert!(matches!(log.append("after").await, Err(LogError::Poisoned { .. })));
    assert_eq!(log.durable_seq(), 1);
    assert_eq!(log.replay(1).unwrap().count(), 1);
    assert!(matches!(log.close().await, Err(LogError::Poisoned { .. })));
}

#[tokio::test]
async fn a_full_disk_fails_the_group_and_goes_on_later() {
    let vfs = Memory::default();
    let log = open(&vfs);
    vfs.free(0);
    log.append([0; 3000]).await.unwrap();
    assert!(matches!(log.append([0; 3000]).await, Err(LogError::Full { .. })));
    log.append([0; 100]).await.unwrap();
    vfs.free(u64::MAX);
    assert_eq!(log.append([0; 3000]).await.unwrap(), 3);
}

#[tokio::test]
async fn closing_drains_and_unlocks() {
    let vfs = Memory::default();
    let log = open(&vfs);
    let appends = (0..20).map(|_| log.append("x")).collect::<Vec<_>>();
    let close = log.close();
    assert!(matches!(log.append("late").await, Err(LogError::Closed)));
    close.await.unwrap();
    for append in appends {
        append.await.unwrap();
    }
    log.close().await.unwrap();
    let again = open(&vfs); // not locked any more, though `log` lives
    assert_eq!(again.durable_seq(), 20);
    assert_eq!(log.replay(1).unwrap().count(), 20, "reading still works");
}

#[test]
fn dropping_the_last_handle_writes_what_was_submitted() {
    let vfs = Memory::default();
    let log = open(&vfs);
    let clone = log.clone();
    drop(log);
    drop((0..20).map(|_| clone.append("x")).collect::<Vec<_>>());
    drop(clone);
    assert_eq!(open(&vfs).durable_seq(), 20);
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn only_the_last_waker_of_a_future_is_woken_and_a_panicking_one_harms_nobody() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics, as part of a test");
        }
    }
    let vfs = Memory::default();
    let log = open(&vfs);
    let gate = Gate::default();
    gate.shut(true);
    gate.install(&vfs);
    let mut first = Box::pin(log.append("x"));
    let mut second = Box::pin(log.append("x"));
    gate.reached(1);
    let (old, new) = (Arc::new(Counter(0.into())), Arc::new(Counter(0.into())));
    let poll = |future: &mut std::pin::Pin<Box<_>>, waker: Waker| {
        let future: &mut std::pin::Pin<Box<resurge_commit_log::Append>> = future;
        assert!(matches!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
    };
    poll(&mut first, Arc::clone(&old).into());
    poll(&mut first, Arc::clone(&new).into());
    poll(&mut second, Arc::new(Panics).into());
    gate.shut(false);
    let third = log.append("x");
    assert_eq!(third.await.unwrap(), 3);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
    assert_eq!((old.0.load(Ordering::SeqCst), new.0.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test]
async fn the_front_can_be_cut_while_the_log_is_used() {
    let vfs = Memory::default();
    let log = open(&vfs);
    for _ in 0..20 {
        log.append([0; 3000]).await.unwrap();
    }
    let second = log.reader().segments().get(1).unwrap().first_seq;
    assert_eq!(log.cut_before(second).unwrap(), 1);
    assert!(matches!(log.replay(1).map(|_| ()), Err(LogError::Cut { .. })));
    assert_eq!(log.append("x").await.unwrap(), 21);
    assert_eq!(log.replay(second).unwrap().count() as u64, 22 - second);
}
