//! What the index costs: a rebuild, the proof at open, and commits sustained over it.
//!
//! `cargo run --release -p resurge-store-sled --example index_throughput -- [seconds] [keys]`
//!
//! The log here is one plain file with one `fdatasync` per group, so that the figures are about the
//! index. Run it on the disk you want to know about: it works in a directory under the current one.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, CommitSeq, Durability, DurableMeans, Engine, Group, GroupCommit, GroupOptions, Guard,
    Key, KeyRange, Namespace, Page, Result, ScanOptions, StateStore, StoreInfo,
};
use resurge_store_sled::{
    Drainer, Index, IndexFactory, Overlay, OverlayOptions, SledIndexFactory, SledIndexOptions,
};

const IN_FLIGHT: u64 = 64;
const VALUE: [u8; 100] = [7; 100];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(10), |s| s.parse())?;
    let keys = arguments.next().map_or(Ok(1_000_000), |s| s.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    rebuild(&dir.path().join("rebuild"), keys)?;
    for load in [Load::NewAndHot, Load::TwoNew, Load::GuardedNew] {
        for ids in [Ids::Sequential, Ids::Random] {
            sustained(&dir.path().join(format!("{load:?}-{ids:?}")), load, ids, seconds)?;
        }
    }
    Ok(())
}

/// Sorted entries in, then the proof.
fn rebuild(path: &Path, keys: u64) -> Result<(), Box<dyn Error>> {
    let factory = SledIndexFactory::new(path, SledIndexOptions::default());
    let index = factory.open()?.index;
    let ns = Namespace::new("app/jobs")?;
    let start = Instant::now();
    index.begin([1; 16])?;
    for first in (0..keys).step_by(10_000) {
        let ids = first..keys.min(first + 10_000);
        let entry = |id| Ok((ns.key(format!("{id:016x}"))?, Bytes::from_static(&VALUE)));
        index.load(&ids.map(entry).collect::<Result<Vec<_>>>()?)?;
    }
    let meta = index.finish(CommitSeq(1))?;
    println!("load  {keys} keys in {:.2?}", start.elapsed());
    index.close(Duration::from_secs(10))?;

    let start = Instant::now();
    let index = factory.open()?.index;
    let opened = start.elapsed();
    let start = Instant::now();
    let proved = index.prove()? == meta.digest;
    println!("open  in {opened:.2?}, prove in {:.2?}: {proved}", start.elapsed());
    index.close(Duration::from_secs(10))?;
    factory.destroy()?;
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Load {
    /// One new key and one of 64 that are overwritten all the time.
    NewAndHot,
    /// Two new keys.
    TwoNew,
    /// One new key that must be absent, and one of 64.
    GuardedNew,
}

#[derive(Clone, Copy, Debug)]
enum Ids {
    Sequential,
    Random,
}

fn sustained(path: &Path, load: Load, ids: Ids, seconds: u64) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(path)?;
    let factory = SledIndexFactory::new(path.join("index"), SledIndexOptions::default());
    let index = factory.open()?.index;
    index.begin([1; 16])?;
    index.finish(CommitSeq(0))?;
    let failed = Box::new(|e: &_| eprintln!("{e}"));
    let options = OverlayOptions::default();
    let overlay = Arc::new(Overlay::new(Arc::clone(&index), CommitSeq(0), options, failed));
    let engine = FileLog {
        file: Mutex::new(File::create(path.join("log"))?),
        logged: AtomicU64::new(0),
        drainer: Drainer::start(Arc::clone(&overlay))?,
        overlay: Arc::clone(&overlay),
        index: Arc::clone(&index),
    };
    let store = Arc::new(GroupCommit::new(engine, GroupOptions::default())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let start = Instant::now();
    let until = start + Duration::from_secs(seconds);
    let commits = runtime.block_on(async {
        let tasks: Vec<_> = (0..IN_FLIGHT)
            .map(|task| tokio::spawn(commits(Arc::clone(&store), load, ids, task, until)))
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await??;
        }
        Ok::<_, Box<dyn Error>>(total)
    })?;
    let took = start.elapsed();
    let lag = overlay.status();
    println!(
        "{load:?} {ids:?}: {:.0} commits/s over {took:.1?}; at the end {} keys, {} MiB behind",
        f64::from(commits) / took.as_secs_f64(),
        lag.keys,
        lag.bytes >> 20,
    );
    let start = Instant::now();
    runtime.block_on(store.close())?;
    println!("    closed in {:.2?}; {:?}", start.elapsed(), index.alarms());
    std::fs::remove_dir_all(path)?;
    Ok(())
}

async fn commits(
    store: Arc<GroupCommit<FileLog>>,
    load: Load,
    ids: Ids,
    task: u64,
    until: Instant,
) -> Result<u32> {
    let ns = Namespace::new("app/jobs")?;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(task + 1);
    let mut done = 0_u32;
    let mut id = |n: u32| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match ids {
            Ids::Sequential => ns.key(format!("job-{task:02}-{n:012}")),
            Ids::Random => ns.key(format!("{random:016x}")),
        }
    };
    while Instant::now() < until {
        let mut batch = Batch::new();
        let new = id(2 * done)?;
        if matches!(load, Load::GuardedNew) {
            batch.guard(new.clone(), Guard::Absent);
        }
        batch.put(new, Bytes::from_static(&VALUE));
        let second = match load {
            Load::TwoNew => id(2 * done + 1)?,
            _ => ns.key(format!("hot-{task}"))?,
        };
        batch.put(second, Bytes::from_static(&VALUE));
        store.commit(batch, Durability::Durable).await?;
        done += 1;
    }
    Ok(done)
}

#[derive(Debug)]
struct FileLog {
    file: Mutex<File>,
    logged: AtomicU64,
    overlay: Arc<Overlay>,
    drainer: Drainer,
    index: Arc<dyn Index>,
}

impl Engine for FileLog {
    fn last_seq(&self) -> CommitSeq {
        self.overlay.published()
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.overlay.get(key)
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        self.overlay.scan(range, options)
    }

    fn log(&self, group: &Group) -> Result<()> {
        self.overlay.reserve(Overlay::size_of(group), Duration::from_secs(10))?;
        let mut frame = Vec::new();
        for op in group.batches.iter().flat_map(Batch::ops) {
            frame.extend_from_slice(op.key().raw());
            frame.extend_from_slice(op.value().map_or(&[], |v| v.as_ref()));
        }
        frame.extend_from_slice(&crc32c::crc32c(&frame).to_be_bytes());
        self.logged.store(group.last().0, Ordering::Release);
        self.file.lock().write_all(&frame).map_err(closed)
    }

    fn sync(&self) -> Result<()> {
        self.file.lock().sync_data().map_err(closed)?;
        self.overlay.made_durable(CommitSeq(self.logged.load(Ordering::Acquire)));
        Ok(())
    }

    fn publish(&self, group: &Arc<Group>) -> Result<()> {
        self.overlay.publish(group);
        Ok(())
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("file", DurableMeans::PowerLoss)
    }

    fn close(&self) -> Result<()> {
        self.drainer.drain_all(Duration::from_secs(60))?;
        self.drainer.stop(Duration::from_secs(1))?;
        Ok(self.index.close(Duration::from_secs(10))?)
    }
}

fn closed(error: std::io::Error) -> resurge_store::StoreError {
    resurge_store::StoreError::with_source(resurge_store::ErrorKind::Closed, "log", error)
}
