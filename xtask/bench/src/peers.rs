//! redb and SQLite beside ours: one durable record of 256 bytes under a new key, same disk, same run.
//!
//! Both get what they need to do well: a thread that collects what has arrived into one transaction, as
//! in floor (c). SQLite runs in WAL mode with `synchronous=FULL`, redb with immediate durability.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use resurge_store::{Batch, Durability, Namespace, Store};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use tokio::sync::oneshot;

use crate::drive::{Rate, in_flight, in_flight_on_current, runtime};
use crate::floor::RECORD;
use crate::{Result, Scale, disk, floor};

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("records");

pub(crate) fn run(scale: Scale) -> Result<()> {
    println!("durable puts of {RECORD} bytes under a new key, {:?} each", scale.figure);
    println!("{:>24} {:>9} {:>12} {:>8}", "", "in flight", "puts/s", "of (c)");
    for n in [1, 8, 64, 512] {
        let dir = disk::scratch()?;
        let c = floor::attainable(dir.path(), n, scale.figure)?;
        let row = |what: &str, rate: Rate| {
            println!("{what:>24} {n:>9} {rate:>12} {:>8.2}", rate.ratio(c));
        };
        row("(c) attainable", c);
        row("store, memory index", ours(dir.path(), n, scale.figure, IndexKind::Memory)?);
        row("store, sled index", ours(dir.path(), n, scale.figure, IndexKind::Sled)?);
        let mut redb = Redb::open(&dir.path().join("redb"))?;
        row("redb", grouped(n, scale.figure, move |keys| redb.put(keys))?);
        let mut sqlite = Sqlite::open(&dir.path().join("sqlite"))?;
        row("SQLite, WAL, FULL", grouped(n, scale.figure, move |keys| sqlite.put(keys))?);
    }
    Ok(())
}

fn ours(dir: &Path, n: usize, time: Duration, kind: IndexKind) -> io::Result<Rate> {
    let path = dir.join(format!("{kind:?}"));
    runtime()?.block_on(async move {
        let opened = SledStore::open(path, SledOptions::new().index(kind)).await;
        let store = Store::new(opened.map_err(io::Error::other)?.0);
        let ns = Namespace::new("bench").map_err(io::Error::other)?;
        let commits = store.clone();
        let rate = in_flight_on_current(n, time, move |i| {
            let mut batch = Batch::new();
            if let Ok(key) = ns.key(i.to_be_bytes()) {
                batch.put(key, &[0xA5; RECORD][..]);
            }
            let committed = commits.commit(batch, Durability::Durable);
            async move { committed.await.map(|_| ()) }
        })
        .await?;
        store.close().await.map_err(io::Error::other)?;
        Ok(rate)
    })
}

struct Redb(redb::Database);

impl Redb {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(redb::Database::create(path)?))
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(redb::Durability::Immediate)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for key in keys {
                table.insert(key, &[0xA5; RECORD][..])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(path: &Path) -> Result<Self> {
        let connection = rusqlite::Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE records (key INTEGER PRIMARY KEY, value BLOB)")?;
        Ok(Self(connection))
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO records VALUES (?1, ?2)")?;
            for key in keys {
                insert.execute((i64::try_from(*key)?, &[0xA5; RECORD][..]))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Queue {
    keys: Vec<u64>,
    waiters: Vec<oneshot::Sender<()>>,
    stop: bool,
}

/// `n` tasks, one thread that puts what has arrived, a oneshot per record.
fn grouped(
    n: usize,
    time: Duration,
    mut put: impl FnMut(&[u64]) -> Result<()> + Send + 'static,
) -> Result<Rate> {
    let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
    let committer = thread::spawn({
        let shared = Arc::clone(&shared);
        move || -> Result<()> {
            loop {
                let mut taken = {
                    let mut queue = shared.0.lock();
                    while queue.waiters.is_empty() {
                        if queue.stop {
                            return Ok(());
                        }
                        shared.1.wait(&mut queue);
                    }
                    let stop = queue.stop;
                    std::mem::replace(&mut *queue, Queue { stop, ..Queue::default() })
                };
                put(&taken.keys)?;
                for waiter in taken.waiters.drain(..) {
                    let _gone = waiter.send(());
                }
            }
        }
    });
    let rate = in_flight(n, time, {
        let shared = Arc::clone(&shared);
        move |i| {
            let shared = Arc::clone(&shared);
            async move {
                let (sender, done) = oneshot::channel();
                {
                    let mut queue = shared.0.lock();
                    queue.keys.push(i);
                    queue.waiters.push(sender);
                }
                shared.1.notify_one();
                done.await.map_err(|_| io::Error::other("the committer stopped"))
            }
        }
    })?;
    shared.0.lock().stop = true;
    shared.1.notify_one();
    committer.join().map_err(|_| io::Error::other("the committer panicked"))??;
    Ok(rate)
}
