//! Sessions in stores: coming back and saving, with 1, 8 and 64 in flight.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resurge_session_token::{SessionManager, Token};
use resurge_store::{Batch, Durability, Key, Namespace, Store};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use tokio::runtime::{Builder, Runtime};
use tower_sessions::session::Id;
use tower_sessions::{MemoryStore, Session, SessionStore};
use tower_sessions_sled_store::SledStore as TheirSledStore;

use crate::drive::{Figure, Laps, tasks};
use crate::state::{Result, State};
use crate::tokens::KEY;

const IN_FLIGHT: [usize; 3] = [1, 8, 64];
/// About what a session with its state is in the store.
const RECORD: usize = 420;

struct Bench {
    time: Duration,
    /// With one in flight, so that its allocations are seen.
    one: Runtime,
    many: Runtime,
}

impl Bench {
    /// One line: the operation with each number in flight.
    fn row<F, Fut>(&self, name: &str, task: F) -> Result<()>
    where
        F: Fn(Laps) -> Fut,
        Fut: Future<Output = Result<Laps>> + Send + 'static,
    {
        self.row_of(name, &IN_FLIGHT, task)
    }

    fn row_of<F, Fut>(&self, name: &str, in_flight: &[usize], task: F) -> Result<()>
    where
        F: Fn(Laps) -> Fut,
        Fut: Future<Output = Result<Laps>> + Send + 'static,
    {
        print!("  {name:<30}");
        for n in in_flight.iter().copied() {
            let runtime = if n == 1 { &self.one } else { &self.many };
            let figure: Figure = runtime.block_on(tasks(n, self.time, &task))?;
            if n == 1 {
                let (p50, p99) = (figure.within(0.5), figure.within(0.99));
                print!(" {p50:>9.1} {p99:>9.1} {:>7.1}", figure.allocations);
            } else {
                print!(" {:>11.0}", figure.per_second);
            }
        }
        println!();
        Ok(())
    }

    fn ours(&self, store: &Store) -> Result<()> {
        let ns = Namespace::new("floor")?;
        for durability in [Durability::Buffered, Durability::Durable] {
            let next = std::sync::atomic::AtomicU32::new(0);
            self.row(&format!("floor: one commit, {durability:?}"), |laps| {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let key = ns.key(n.to_be_bytes());
                let store = store.clone();
                async move { commits(&store, key?, durability, laps).await }
            })?;
        }
        let sessions = SessionManager::builder(store.clone()).key(1, &KEY);
        let sessions = sessions.max_entries(None).cleanup_interval(None).build()?;
        self.row("peek", |laps| peeks(sessions.clone(), laps))?;
        self.row("recover", |laps| recovers(sessions.clone(), laps))?;
        self.row("save, changed", |laps| saves(sessions.clone(), laps, true))?;
        self.row("save, the same", |laps| saves(sessions.clone(), laps, false))?;
        self.row("create", |laps| creates(sessions.clone(), laps))
    }

    fn on_disk(&self, dir: &Path, kind: IndexKind) -> Result<()> {
        let options = SledOptions::new().index(kind);
        let (store, _) = self.many.block_on(SledStore::open(dir.join("ours"), options))?;
        let store = Store::new(store);
        self.ours(&store)?;
        Ok(self.many.block_on(store.close())?)
    }

    fn theirs<S: SessionStore>(&self, store: S, flush: Option<&sled::Db>) -> Result<()> {
        let store = Arc::new(store);
        self.row("get", |laps| gets(Arc::clone(&store), laps))?;
        self.row("save, changed", |laps| inserts(Arc::clone(&store), laps, None))?;
        if let Some(db) = flush {
            // Alone: with 8 or 64 of them in flight a run hung for more than a minute.
            let task = |laps| inserts(Arc::clone(&store), laps, Some(db.clone()));
            self.row_of("save, changed, flush_async", &IN_FLIGHT[..1], task)?;
        }
        self.row("create", |laps| begins(Arc::clone(&store), laps))
    }
}

pub fn run(quick: bool) -> Result<()> {
    let time = Duration::from_millis(if quick { 200 } else { 2_000 });
    let bench = Bench {
        time,
        one: Builder::new_current_thread().enable_all().build()?,
        many: Builder::new_multi_thread().enable_all().build()?,
    };
    println!(
        "{:<32} {:>9} {:>9} {:>7} {:>11} {:>11}",
        "in flight", "1: p50 us", "p99 us", "allocs", "8: a second", "64: a second"
    );
    let dir = tempfile::Builder::new().prefix(".bench-").tempdir_in(".")?;
    println!("resurge, Store::memory (no disk)");
    bench.ours(&Store::memory())?;
    for (what, kind) in [("memory", IndexKind::Memory), ("sled", IndexKind::Sled)] {
        println!("resurge, on disk, index in {what} (Durable)");
        bench.on_disk(&dir.path().join(what), kind)?;
    }
    println!("tower-sessions, MemoryStore (no disk)");
    bench.theirs(MemoryStore::default(), None)?;
    println!("tower-sessions, its store over sled (sled's flush is no fsync)");
    let db = sled::open(dir.path().join("theirs"))?;
    bench.theirs(TheirSledStore::new(db.open_tree("sessions")?), Some(&db))
}

async fn commits(store: &Store, key: Key, how: Durability, mut laps: Laps) -> Result<Laps> {
    let value = bytes::Bytes::from(vec![7; RECORD]);
    while laps.go_on() {
        let mut batch = Batch::new();
        batch.put(key.clone(), value.clone());
        laps.time(async { store.commit(batch, how).await }).await?;
    }
    Ok(laps)
}

/// A session with a state.
pub async fn fresh(sessions: &SessionManager) -> Result<Token> {
    let token = sessions.create("user-4711").await?;
    Ok(sessions.save(&token, &State::new(0)).await?.token)
}

async fn peeks(sessions: SessionManager, mut laps: Laps) -> Result<Laps> {
    let token = fresh(&sessions).await?;
    while laps.go_on() {
        let text = token.expose();
        laps.time(async { sessions.peek::<State>(&Token::from(text)).await }).await?;
    }
    Ok(laps)
}

pub async fn recovers(sessions: SessionManager, mut laps: Laps) -> Result<Laps> {
    let mut token = fresh(&sessions).await?;
    while laps.go_on() {
        let text = token.expose();
        let back = laps.time(async { sessions.recover::<State>(&Token::from(text)).await });
        token = back.await?.token;
    }
    Ok(laps)
}

pub async fn saves(sessions: SessionManager, mut laps: Laps, changed: bool) -> Result<Laps> {
    let token = fresh(&sessions).await?;
    let mut state = State::new(0);
    while laps.go_on() {
        state.turn += u32::from(changed);
        let text = token.expose();
        laps.time(async { sessions.save(&Token::from(text), &state).await }).await?;
    }
    Ok(laps)
}

async fn creates(sessions: SessionManager, mut laps: Laps) -> Result<Laps> {
    while laps.go_on() {
        laps.time(sessions.create("user-4711")).await?;
    }
    Ok(laps)
}

async fn begun<S: SessionStore>(store: &Arc<S>) -> Result<String> {
    let session = Session::new(None, Arc::clone(store), None);
    session.insert("state", State::new(0)).await?;
    session.save().await?;
    Ok(session.id().as_ref().map(Id::to_string).unwrap_or_default())
}

pub async fn gets<S: SessionStore>(store: Arc<S>, mut laps: Laps) -> Result<Laps> {
    let id = begun(&store).await?;
    while laps.go_on() {
        let got = laps.time(async {
            let session = Session::new(Some(id.parse()?), Arc::clone(&store), None);
            Result::Ok(session.get::<State>("state").await?)
        });
        got.await?.ok_or("not there")?;
    }
    Ok(laps)
}

async fn inserts<S: SessionStore>(
    store: Arc<S>,
    mut laps: Laps,
    flush: Option<sled::Db>,
) -> Result<Laps> {
    let id = begun(&store).await?;
    let mut state = State::new(0);
    while laps.go_on() {
        state.turn += 1;
        let saved = laps.time(async {
            let session = Session::new(Some(id.parse()?), Arc::clone(&store), None);
            session.insert("state", &state).await?;
            session.save().await?;
            if let Some(db) = &flush {
                db.flush_async().await?;
            }
            Result::Ok(())
        });
        saved.await?;
    }
    Ok(laps)
}

async fn begins<S: SessionStore>(store: Arc<S>, mut laps: Laps) -> Result<Laps> {
    while laps.go_on() {
        laps.time(begun(&store)).await?;
    }
    Ok(laps)
}
