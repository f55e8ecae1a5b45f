//! A long cleanup: small commits, bounded calls, and everybody else goes on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_session_token::{CleanupReport, SessionManager, Token};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Key, KeyRange, MemoryStore, Namespace, Op, Page,
    Result, ScanOptions, StateStore, Store, StoreInfo, VirtualClock, Watch,
};
use resurge_testkit::evidence;
use tokio::sync::Semaphore;

/// Counts what each cleanup commit removes, and keeps its answer back until it is asked for.
#[derive(Debug)]
struct Held {
    inner: MemoryStore,
    removals: Arc<Mutex<Vec<usize>>>,
    submitted: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

fn removed_by(batch: &Batch) -> usize {
    let record = |op: &&Op| matches!(op, Op::Delete { key } if key.bytes()[0] == b'r');
    batch.ops().iter().filter(record).count()
}

impl StateStore for Held {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.inner.scan(range, options)
    }

    fn commit(&self, batch: Batch, how: Durability) -> BoxFuture<'static, Result<CommitSeq>> {
        let removed = removed_by(&batch);
        let committed = self.inner.commit(batch, how);
        if removed == 0 {
            return committed;
        }
        self.removals.lock().push(removed);
        self.submitted.add_permits(1);
        let answers = Arc::clone(&self.answers);
        Box::pin(async move {
            answers.acquire().await.unwrap().forget();
            committed.await
        })
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}

fn over(store: Store, clock: &VirtualClock) -> SessionManager {
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(store.with_clock(clock.clone())).key(1, &key);
    builder.max_entries(None).cleanup_interval(None).build().unwrap()
}

async fn create(sessions: &SessionManager, count: usize) {
    for n in 0..count {
        sessions.create(format!("user-{}", n % 100)).await.unwrap();
    }
}

async fn records(store: &Store) -> Vec<Key> {
    let (mut keys, mut rest) =
        (Vec::new(), Some(Namespace::new("session/default").unwrap().prefix(*b"r")));
    while let Some(range) = rest {
        let page = store.scan(range, ScanOptions::new().keys_only()).await.unwrap();
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        rest = page.next;
    }
    keys
}

async fn spoil(store: &Store, keys: &[Key]) {
    let mut batch = Batch::new();
    for key in keys {
        batch.put(key.clone(), "what a broken program wrote");
    }
    store.commit(batch, Durability::Durable).await.unwrap();
}

#[tokio::test]
async fn sessions_come_back_and_are_saved_while_each_commit_of_a_cleanup_is_under_way() {
    const COUNT: usize = 20_000;
    const LIMIT: u64 = 1_000;
    let (removals, clock) = (Arc::new(Mutex::new(Vec::new())), VirtualClock::new());
    let (submitted, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let store = Store::new(Held {
        inner: MemoryStore::in_memory(),
        removals: Arc::clone(&removals),
        submitted: Arc::clone(&submitted),
        answers: Arc::clone(&answers),
    });
    let sessions = over(store.clone(), &clock);
    create(&sessions, COUNT).await;
    spoil(&store, &records(&store).await[7_000..7_001]).await;
    clock.advance(Duration::from_secs(301));
    let mut token = sessions.create("alice").await.unwrap();
    sessions.save(&token, &0_u32).await.unwrap();

    let cleaner = sessions.clone();
    let cleaning = tokio::spawn(async move {
        let mut reports: Vec<CleanupReport> = Vec::new();
        while reports.last().is_none_or(|report| report.more) {
            reports.push(cleaner.cleanup_expired(LIMIT).await.unwrap());
        }
        reports
    });
    let mut rounds = 0_u32;
    let working = async {
        while !cleaning.is_finished() {
            let Ok(commit) = submitted.try_acquire() else {
                tokio::task::yield_now().await;
                continue;
            };
            commit.forget();
            // The cleanup has not been told how this commit ended, and nobody waits for it.
            rounds += 1;
            let back = sessions.recover::<u32>(&Token::from(token.expose())).await.unwrap();
            assert_eq!(back.state, rounds - 1);
            sessions.save(&back.token, &rounds).await.unwrap();
            token = back.token;
            answers.add_permits(1);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), working).await.expect("somebody is kept waiting");
    let reports = cleaning.await.unwrap();

    let removals = removals.lock().clone();
    assert!(removals.iter().all(|removed| *removed <= 200), "{removals:?}");
    assert_eq!((removals.len(), removals.iter().sum::<usize>()), (rounds as usize, COUNT - 1));
    let looked_at = |report: &CleanupReport| report.removed + report.failed;
    assert!(reports.iter().all(|report| looked_at(report) <= LIMIT), "{reports:?}");
    assert_eq!(reports.iter().map(looked_at).sum::<u64>(), COUNT as u64);
    assert_eq!(reports.iter().map(|report| report.failed).sum::<u64>(), 1);
    assert_eq!(sessions.live().await.unwrap(), 2);
    evidence(
        "session-cleanup",
        &format!(
            "{COUNT} expired sessions, {rounds} commits, a session recovered and saved within each of them"
        ),
    );
}

/// How often it is polled until it is done.
fn polls<T>(future: impl Future<Output = T>) -> (T, usize) {
    let (mut future, mut polls) = (pin!(future), 0);
    loop {
        polls += 1;
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (output, polls);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_behind_it_and_no_call_goes_over_all_of_it() {
    let clock = VirtualClock::new();
    let store = Store::memory();
    let sessions = over(store.clone(), &clock);
    create(&sessions, 1_000).await;
    let bad = records(&store).await;
    spoil(&store, &bad).await;
    clock.advance(Duration::from_secs(10));
    create(&sessions, 50).await;
    clock.advance(Duration::from_secs(301));

    let (report, polls) = polls(sessions.cleanup_expired(600));
    let report = report.unwrap();
    assert_eq!((report.failed, report.removed, report.more), (600, 0, true), "{report:?}");
    // Pages of 200; others get their turn between two.
    assert!(polls > 3, "{polls}");
    let report = sessions.cleanup_expired(600).await.unwrap();
    assert_eq!((report.failed, report.removed, report.more), (400, 50, false), "{report:?}");
    assert_eq!(records(&store).await, bad);

    // From the beginning again, also when a clock that was set back leaves nothing behind the place.
    let report = sessions.cleanup_expired(600).await.unwrap();
    assert_eq!((report.failed, report.more), (600, true), "{report:?}");
    clock.set_wall(clock_start());
    let report = sessions.cleanup_expired(600).await.unwrap();
    assert_eq!((report.failed, report.more), (0, false), "{report:?}");
}

#[tokio::test]
async fn the_background_goes_on_soon_when_there_was_more_than_a_run_takes() {
    const PER_RUN: u64 = 10_000;
    let (clock, store) = (VirtualClock::new(), Store::memory());
    create(&over(store.clone(), &clock), 10_500).await;
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(store.with_clock(clock.clone())).key(1, &key);
    let sessions = builder.cleanup_interval(Duration::from_secs(600)).build().unwrap();
    let sleeps = async || {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
    };
    for (pause, cleaned) in [(661, PER_RUN), (2, 10_500), (2, 10_500)] {
        sleeps().await;
        clock.advance(Duration::from_secs(pause));
        sleeps().await;
        assert_eq!(sessions.stats().cleaned, cleaned);
    }
    // Everything is gone; the next run comes after the interval.
    sessions.create("alice").await.unwrap();
    clock.advance(Duration::from_secs(400));
    sleeps().await;
    assert_eq!(sessions.stats().cleaned, 10_500);
}

fn clock_start() -> resurge_store::Timestamp {
    use resurge_store::Clock;
    VirtualClock::new().now()
}
