//! A million expired sessions are removed while others come back and save. Each in a process of its own, so
//! that the peak of memory is its own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use resurge_session_token::{SessionError, SessionManager};
use resurge_store::{
    Batch, BoxFuture, Clock, CommitSeq, Durability, ErrorKind, Key, KeyRange, Namespace, Op, Page,
    ScanOptions, StateStore, Store, StoreError, StoreInfo, SystemClock, VirtualClock, Watch,
};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use tower_sessions::cookie::time::OffsetDateTime;
use tower_sessions::session::Record;
use tower_sessions::{ExpiredDeletion, SessionStore};
use tower_sessions_sled_store::SledStore as TheirSledStore;

use crate::drive::{Figure, Laps, begin, finish};
use crate::state::Result;
use crate::stores::{gets, recovers, saves};
use crate::tokens::KEY;

pub const CHILD: &str = "cleanup-child";
/// The limit of each call.
const LIMIT: u64 = 10_000;
/// So many come back again and again, and as many save.
const AT_WORK: usize = 2;

pub fn run(quick: bool) -> Result<()> {
    let (sessions, seconds) = if quick { ("50000", "1") } else { ("1000000", "5") };
    for kind in ["memory", "sled", "tower-sessions"] {
        let args = [CHILD, kind, sessions, seconds];
        let status = Command::new(std::env::current_exe()?).args(args).status()?;
        if !status.success() {
            return Err(format!("{kind}: {status}").into());
        }
    }
    Ok(())
}

pub fn child(args: &[String]) -> Result<()> {
    let [kind, sessions, seconds] = args else { return Err("kind, sessions, seconds".into()) };
    let (sessions, idle) = (sessions.parse()?, Duration::from_secs(seconds.parse()?));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match kind.as_str() {
            "memory" => ours(kind, IndexKind::Memory, sessions, idle).await,
            "sled" => ours(kind, IndexKind::Sled, sessions, idle).await,
            _ => theirs(sessions, idle).await,
        }
    })?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("VmHWM: ?");
    println!("  {peak}");
    Ok(())
}

async fn ours(kind: &str, index: IndexKind, count: u64, idle: Duration) -> Result<()> {
    println!("resurge, on disk, index in {kind}");
    let dir = tempfile::Builder::new().prefix(".bench-").tempdir_in(".")?;
    let (inner, _) =
        SledStore::open(dir.path().join("state"), SledOptions::new().index(index)).await?;
    let counts = Arc::new(Counts::default());
    let (clock, watch) = (VirtualClock::new(), SystemClock::new());
    let store =
        Store::new(Watched { inner, counts: Arc::clone(&counts) }).with_clock(clock.clone());
    let sessions = SessionManager::builder(store.clone()).key(1, &KEY);
    let sessions = sessions.max_entries(None).cleanup_interval(None).build()?;

    // Not waiting for the disk while they are made.
    counts.hurry.store(true, Ordering::Relaxed);
    let begun = watch.monotonic();
    for n in 0..count {
        // Faster than sled: it says so, and is waited for.
        while let Err(error) = sessions.create(format!("user-{}", n % 100_000)).await {
            wait_for_index(error).await?;
        }
    }
    counts.hurry.store(false, Ordering::Relaxed);
    store.sync().await?;
    let took = watch.monotonic().saturating_since(begun);
    println!("  {count} sessions made in {:.1} s", took.as_secs_f64());
    spoil_one(&store).await?;
    clock.advance(Duration::from_secs(6 * 60));

    let (recovering, saving) = at_work(&sessions, None, async {
        tokio::time::sleep(idle).await;
        Ok(())
    })
    .await?;
    show("idle", &recovering, &saving);

    let (mut calls, mut refused, mut removed, mut failed, mut most) = (0, 0, 0, 0, 0);
    let mut longest = Duration::ZERO;
    counts.reset();
    let begun = watch.monotonic();
    let cleaning = async {
        loop {
            let call = watch.monotonic();
            let report = match sessions.cleanup_expired(LIMIT).await {
                Ok(report) => report,
                Err(error) => {
                    refused += 1;
                    wait_for_index(error).await?;
                    continue;
                }
            };
            longest = longest.max(watch.monotonic().saturating_since(call));
            (calls, removed) = (calls + 1, removed + report.removed);
            (failed, most) = (failed + report.failed, most.max(report.removed));
            if !report.more {
                return Ok(());
            }
        }
    };
    let (recovering, saving) = at_work(&sessions, None, cleaning).await?;
    let took = watch.monotonic().saturating_since(begun).as_secs_f64();
    show("while cleaning", &recovering, &saving);
    let (commits, largest) = counts.read();
    println!(
        "  {removed} removed in {took:.1} s, {:.0} a second; {failed} unreadable was left; {} live",
        removed as f64 / took,
        sessions.live().await?
    );
    println!(
        "  {calls} calls of at most {most}, longest {longest:.1?}, {refused} refused; {commits} commits of at most {largest}"
    );
    sessions.close().await?;
    Ok(store.close().await?)
}

/// The store refuses what its index has no room for; everything else is an error.
async fn wait_for_index(error: SessionError) -> Result<()> {
    match error {
        SessionError::Store(e) if e.kind() == ErrorKind::Unavailable => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
        other => Err(other.into()),
    }
}

/// The first record there is holds something else.
async fn spoil_one(store: &Store) -> Result<()> {
    let records = Namespace::new("session/default")?.prefix(b"r");
    let page = store.scan(records, ScanOptions::new().max_entries(1).keys_only()).await?;
    let mut batch = Batch::new();
    page.entries.into_iter().for_each(|entry| {
        batch.put(entry.key, "what a broken program wrote");
    });
    store.commit(batch, Durability::Durable).await?;
    Ok(())
}

/// Some come back and some save as long as `meanwhile` takes.
async fn at_work(
    sessions: &SessionManager,
    theirs: Option<&Arc<TheirSledStore>>,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<(Figure, Figure)> {
    let (stop, clock) = (Arc::new(AtomicBool::new(false)), SystemClock::new());
    let back = |laps: Laps| {
        let (sessions, theirs) = (sessions.clone(), theirs.cloned());
        async move {
            match theirs {
                Some(store) => gets(store, laps).await,
                None => recovers(sessions, laps).await,
            }
        }
    };
    let recovering = begin(AT_WORK, &stop, back);
    let savers = if theirs.is_some() { 0 } else { AT_WORK };
    let saving = begin(savers, &stop, |laps| saves(sessions.clone(), laps, true));
    meanwhile.await?;
    stop.store(true, Ordering::Relaxed);
    Ok((finish(recovering, &clock).await?, finish(saving, &clock).await?))
}

fn show(when: &str, recovering: &Figure, saving: &Figure) {
    println!(
        "  {when:<15} recover {:>8.0} a second, p50 {:>7.0} us, p99 {:>7.0} us, longest {:>8.0} us; save {:>7.0} a second",
        recovering.per_second,
        recovering.within(0.5),
        recovering.within(0.99),
        recovering.within(1.0),
        saving.per_second,
    );
}

async fn theirs(count: u64, idle: Duration) -> Result<()> {
    println!("tower-sessions, its store over sled, get instead of recover");
    let dir = tempfile::Builder::new().prefix(".bench-").tempdir_in(".")?;
    let db = sled::open(dir.path().join("theirs"))?;
    let store = Arc::new(TheirSledStore::new(db.open_tree("sessions")?));
    let watch = SystemClock::new();
    let begun = watch.monotonic();
    for _ in 0..count {
        let expiry_date = OffsetDateTime::now_utc() - Duration::from_secs(60);
        let (id, data) = Default::default();
        store.create(&mut Record { id, data, expiry_date }).await?;
    }
    let took = watch.monotonic().saturating_since(begun);
    println!("  {count} sessions made in {:.1} s", took.as_secs_f64());
    // Nobody asks it anything.
    let ours =
        SessionManager::builder(Store::memory()).key(1, &KEY).cleanup_interval(None).build()?;
    let pause = async {
        tokio::time::sleep(idle).await;
        Ok(())
    };
    let (getting, none) = at_work(&ours, Some(&store), pause).await?;
    show("idle", &getting, &none);
    let begun = watch.monotonic();
    let deleting = async { Ok(store.delete_expired().await?) };
    let (getting, none) = at_work(&ours, Some(&store), deleting).await?;
    show("while cleaning", &getting, &none);
    let took = watch.monotonic().saturating_since(begun).as_secs_f64();
    println!("  all removed in {took:.1} s, {:.0} a second, in one call", count as f64 / took);
    Ok(())
}

/// What cleanup commits, and whether anybody waits for the disk.
#[derive(Debug, Default)]
struct Counts {
    hurry: AtomicBool,
    commits: AtomicU64,
    largest: AtomicU64,
}

impl Counts {
    fn reset(&self) {
        self.commits.store(0, Ordering::Relaxed);
        self.largest.store(0, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.commits.load(Ordering::Relaxed), self.largest.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Watched {
    inner: SledStore,
    counts: Arc<Counts>,
}

impl StateStore for Watched {
    fn get<'a>(
        &'a self,
        key: &'a Key,
    ) -> BoxFuture<'a, std::result::Result<Option<Bytes>, StoreError>> {
        self.inner.get(key)
    }

    fn scan(
        &self,
        range: KeyRange,
        options: ScanOptions,
    ) -> BoxFuture<'_, std::result::Result<Page, StoreError>> {
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, std::result::Result<CommitSeq, StoreError>> {
        let record = |op: &&Op| matches!(op, Op::Delete { key } if key.bytes().starts_with(b"r"));
        let records = batch.ops().iter().filter(record).count() as u64;
        if records > 0 {
            self.counts.commits.fetch_add(1, Ordering::Relaxed);
            self.counts.largest.fetch_max(records, Ordering::Relaxed);
        }
        let hurry = self.counts.hurry.load(Ordering::Relaxed);
        self.inner.commit(batch, if hurry { Durability::Buffered } else { durability })
    }

    fn sync(&self) -> BoxFuture<'static, std::result::Result<(), StoreError>> {
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, std::result::Result<(), StoreError>> {
        self.inner.close()
    }
}
