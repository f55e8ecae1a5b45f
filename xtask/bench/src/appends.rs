//! Durable appends of 256 bytes through each layer, beside the floors of the same run.

use std::io;
use std::path::Path;

use bytes::Bytes;
use resurge_commit_log::{CommitLog, LogOptions};
use resurge_journal::{JournalOptions, Journaled, PlainMachine};
use resurge_store::Store;
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use resurge_wal::{Wal, WalOptions};

use crate::drive::{Rate, in_flight_on_current, runtime};
use crate::floor::RECORD;
use crate::{Result, Scale, disk, floor};

type Figure = fn(&Path, usize, Scale) -> io::Result<Rate>;

const LAYERS: [(&str, Figure); 5] = [
    ("commit log", commit_log),
    ("WAL, memory index", wal_memory),
    ("WAL, sled index", wal_sled),
    ("journal, memory index", journal_memory),
    ("journal, sled index", journal_sled),
];

pub(crate) fn run(scale: Scale) -> Result<()> {
    println!("durable appends of {RECORD} bytes; (a) is (b) at 1");
    println!("{:>24} {:>9} {:>12} {:>8} {:>8}", "", "in flight", "appends/s", "of (a)", "of (c)");
    for n in [1, 8, 64, 512] {
        let dir = disk::scratch()?;
        let a = floor::raw(dir.path(), 1, scale.figure)?;
        let b = floor::raw(dir.path(), n, scale.figure)?;
        let c = floor::attainable(dir.path(), n, scale.figure)?;
        let row = |what: &str, rate: Rate| {
            println!("{what:>24} {n:>9} {rate:>12} {:>8.2} {:>8.2}", rate.ratio(a), rate.ratio(c));
        };
        row("(b) hard limit", b);
        row("(c) attainable", c);
        for (what, figure) in LAYERS {
            let dir = disk::scratch()?;
            row(what, figure(dir.path(), n, scale)?);
        }
    }
    Ok(())
}

fn commit_log(dir: &Path, n: usize, scale: Scale) -> io::Result<Rate> {
    let options = LogOptions::new(*b"resurge-bench-01");
    let (log, _) = CommitLog::open(dir.join("log"), options).map_err(io::Error::other)?;
    runtime()?.block_on(async move {
        let appends = log.clone();
        let rate = in_flight_on_current(n, scale.figure, move |_| {
            let append = appends.append([0xA5; RECORD]);
            async move { append.await.map(|_| ()) }
        })
        .await?;
        log.close().await.map_err(io::Error::other)?;
        Ok(rate)
    })
}

fn wal_memory(dir: &Path, n: usize, scale: Scale) -> io::Result<Rate> {
    wal(dir, n, scale, IndexKind::Memory)
}

fn wal_sled(dir: &Path, n: usize, scale: Scale) -> io::Result<Rate> {
    wal(dir, n, scale, IndexKind::Sled)
}

fn wal(dir: &Path, n: usize, scale: Scale, kind: IndexKind) -> io::Result<Rate> {
    let path = dir.join("state");
    runtime()?.block_on(async move {
        let store = open(path, kind).await?;
        let opened = Wal::<Bytes>::open(&store, "bench", WalOptions::default()).await;
        let (wal, _) = opened.map_err(io::Error::other)?;
        let record = Bytes::from_static(&[0xA5; RECORD]);
        let rate = in_flight_on_current(n, scale.figure, move |_| {
            let append = wal.append(&record);
            async move { append.await.map(|_| ()) }
        })
        .await?;
        store.close().await.map_err(io::Error::other)?;
        Ok(rate)
    })
}

async fn open(path: std::path::PathBuf, kind: IndexKind) -> io::Result<Store> {
    let opened = SledStore::open(path, SledOptions::new().index(kind)).await;
    Ok(Store::new(opened.map_err(io::Error::other)?.0))
}

/// The cheapest state there is: what is measured is the journal.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Count(u64);

impl PlainMachine for Count {
    type Event = Bytes;
    fn apply(&mut self, _: &Bytes) {
        self.0 += 1;
    }
}

fn journal_memory(dir: &Path, n: usize, scale: Scale) -> io::Result<Rate> {
    journal(dir, n, scale, IndexKind::Memory)
}

fn journal_sled(dir: &Path, n: usize, scale: Scale) -> io::Result<Rate> {
    journal(dir, n, scale, IndexKind::Sled)
}

fn journal(dir: &Path, n: usize, scale: Scale, kind: IndexKind) -> io::Result<Rate> {
    let path = dir.join("state");
    runtime()?.block_on(async move {
        let store = open(path, kind).await?;
        let opened = Journaled::<Count>::open(&store, "bench", JournalOptions::default()).await;
        let (journal, _) = opened.map_err(io::Error::other)?;
        let record = Bytes::from_static(&[0xA5; RECORD]);
        let rate = in_flight_on_current(n, scale.figure, move |_| {
            let (journal, record) = (journal.clone(), record.clone());
            async move { journal.record(record).await.map(|_| ()) }
        })
        .await?;
        store.close().await.map_err(io::Error::other)?;
        Ok(rate)
    })
}
