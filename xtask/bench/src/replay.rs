//! Reading logs back: how fast, what they take on disk, and that memory does not grow with them.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use resurge_commit_log::{CommitLog, LogOptions};
use resurge_store::Store;
use resurge_store_sled::{SledOptions, SledStore, Verify};
use resurge_wal::{Lsn, Wal, WalOptions};

use crate::drive::{Stopwatch, runtime};
use crate::floor::RECORD;
use crate::{Result, Scale, disk};

/// The argument of the child that replays a log somebody else wrote.
pub(crate) const CHILD: &str = "replay-child";
/// Records appended together while filling.
const TOGETHER: usize = 512;

pub(crate) fn run(scale: Scale) -> Result<()> {
    let records = scale.replay_bytes / RECORD as u64;
    let payload = records * RECORD as u64;
    println!("{records} records of {RECORD} bytes, {} MiB", payload >> 20);

    let dir = disk::scratch()?;
    let on_disk = runtime()?.block_on(fill_commit_log(dir.path(), records))?;
    shown("commit log", on_disk, payload);
    let watch = Stopwatch::start();
    let (log, _) = CommitLog::open(dir.path().join("log"), options())?;
    println!("{:>16}: opened, every byte checked, in {:.2?}", "", watch.elapsed());
    let watch = Stopwatch::start();
    let mut replay = log.replay(1)?;
    let mut seen = 0_u64;
    while replay.next_entry()?.is_some() {
        seen += 1;
    }
    println!("{:>16}: {} records/s", "", watch.rate(seen));
    drop((replay, log, dir));

    let dir = disk::scratch()?;
    let path = dir.path().join("state");
    let on_disk = runtime()?.block_on(fill_wal(&path, records))?;
    shown("WAL on sled", on_disk, payload);
    // In a process of its own, so that its memory is the replay's and not the writer's.
    let child = Command::new(std::env::current_exe()?).arg(CHILD).arg(&path).output()?;
    print!("{}", String::from_utf8_lossy(&child.stdout));
    if child.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&child.stderr).into_owned().into())
    }
}

fn shown(what: &str, on_disk: u64, payload: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a ratio is a float")]
    let ratio = on_disk as f64 / payload as f64;
    println!("{what:>16}: {on_disk} bytes on disk, {ratio:.2} per payload byte");
}

fn options() -> LogOptions {
    LogOptions::new(*b"resurge-bench-01")
}

async fn fill_commit_log(dir: &Path, records: u64) -> Result<u64> {
    let path = dir.join("log");
    let (log, _) = CommitLog::open(&path, options())?;
    let mut left = records;
    while left > 0 {
        let n = left.min(TOGETHER as u64);
        let appends: Vec<_> = (0..n).map(|_| log.append([0xA5; RECORD])).collect();
        for append in appends {
            append.await?;
        }
        left -= n;
    }
    log.close().await?;
    Ok(disk::bytes_below(&path)?)
}

async fn fill_wal(path: &Path, records: u64) -> Result<u64> {
    let (store, _) = SledStore::open(path.to_owned(), SledOptions::new()).await?;
    let store = Store::new(store);
    let (wal, _) = Wal::<Bytes>::open(&store, "bench", WalOptions::default()).await?;
    let record = Bytes::from_static(&[0xA5; RECORD]);
    let mut left = records;
    while left > 0 {
        let n = left.min(TOGETHER as u64);
        let appends: Vec<_> = (0..n).map(|_| wal.append(&record)).collect();
        for append in appends {
            append.await?;
        }
        left -= n;
    }
    store.close().await?;
    Ok(disk::bytes_below(path)?)
}

/// The child: replays what is in `path`.
pub(crate) fn child(path: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let options = SledOptions::new().verify(Verify::Trust);
        let (store, _) = SledStore::open(path.to_owned(), options).await?;
        let store = Store::new(store);
        let (wal, _) = Wal::<Bytes>::open(&store, "bench", WalOptions::default()).await?;
        let before = disk::peak_memory();
        let watch = Stopwatch::start();
        let mut replay = wal.replay(Lsn::START).await?;
        let mut seen = 0_u64;
        while replay.next().await?.is_some() {
            seen += 1;
        }
        println!("{:>16}: {} records/s", "", watch.rate(seen));
        if let (Some(before), Some(after)) = (before, disk::peak_memory()) {
            let mib = |bytes: u64| bytes >> 20;
            let (before, after) = (mib(before), mib(after));
            println!("{:>16}: peak memory {before} MiB when opened, {after} MiB after", "");
        }
        store.close().await?;
        Ok(())
    })
}
