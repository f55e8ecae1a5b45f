//! What the targets share: intact files and values, and bytes of the fuzzer's laid over them.
//!
//! An input is `[file or value u8][offset u16][bytes]`; what it says lies over the intact bytes, or,
//! where the first byte is odd, replaces everything from the offset on. Each target then opens what
//! came out and panics when something is believed that nobody wrote.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use resurge_commit_log::{Frame, Log, LogOptions, Preparation};
use resurge_snapshot::{SnapshotOptions, Snapshots};
use resurge_store::{
    Batch, Durability, Entry, KeyRange, Namespace, ScanOptions, SeededEntropy, StateStore, Store,
};
use resurge_store_sled::{IndexKind, Maintenance, SledOptions, SledStore};
use resurge_testkit::SimVfs;
use resurge_wal::{Lsn, Wal, WalOptions};

/// The fuzzer's bytes over the intact ones; the first byte also chooses what is harmed.
pub fn harmed(intact: &[u8], input: &[u8]) -> Vec<u8> {
    let [how, high, low, bytes @ ..] = input else { return intact.to_vec() };
    let mut out = intact.to_vec();
    let offset = usize::from(u16::from_be_bytes([*high, *low])).min(out.len());
    if how % 2 == 1 {
        out.truncate(offset);
    }
    for (i, byte) in bytes.iter().enumerate() {
        match out.get_mut(offset + i) {
            Some(there) => *there = *byte,
            None => out.push(*byte),
        }
    }
    out
}

fn chosen<T>(of: &[T], input: &[u8]) -> Option<usize> {
    if of.is_empty() { None } else { Some(usize::from(input.first()? / 2) % of.len()) }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

const LOG: &str = "/log";

fn log_options() -> LogOptions {
    LogOptions::new(*b"a fuzzed log, 16").segment_sizes(8192, 8192).preparation(Preparation::Inline)
}

/// A log of a few segments, as a kill leaves it.
fn intact_log() -> &'static SimVfs {
    static DISK: OnceLock<SimVfs> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = SimVfs::new();
        let opened = Log::open(Arc::new(disk.clone()), Path::new(LOG), log_options(), 0);
        let (mut log, mut frame) = (opened.unwrap().0, Frame::new());
        for n in 0..40_u8 {
            frame.push(&vec![n; usize::from(n) * 7]).unwrap();
            log.append(&mut frame).unwrap();
            log.sync().unwrap();
        }
        drop(log);
        disk.kill()
    })
}

/// Segments and frames: what opens is the beginning of what was written.
pub fn frame(input: &[u8]) {
    let disk = intact_log().fork();
    let files = disk.files();
    let Some(file) = chosen(&files, input).map(|i| &files[i]) else { return };
    let intact = disk.contents(file).unwrap();
    disk.damage(file, &harmed(&intact, input)).unwrap();
    let opened = Log::open(Arc::new(disk.clone()), Path::new(LOG), log_options(), 0);
    let Ok((log, _)) = opened else { return };
    let Ok(mut replay) = log.replay(log.first_seq()) else { return };
    while let Ok(Some((seq, bytes))) = replay.next_entry() {
        let n = u8::try_from(seq - 1).unwrap();
        assert!(bytes.len() == usize::from(n) * 7 && bytes.iter().all(|b| *b == n), "entry {seq}");
    }
}

const STATE: &str = "/state";

fn store_options(disk: &SimVfs) -> SledOptions {
    SledOptions::new()
        .vfs(Arc::new(disk.clone()))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .index(IndexKind::Memory)
        .maintenance(Maintenance::Inline)
        .segment_sizes(8192, 8192)
        .image_after(u64::MAX)
        .ballast(0)
}

async fn all(store: &dyn StateStore) -> Option<Vec<Entry>> {
    Some(store.scan(KeyRange::everything(), ScanOptions::new()).await.ok()?.entries)
}

/// A store with two images, and every state it went through.
fn intact_store() -> &'static (SimVfs, Vec<Vec<Entry>>) {
    static STORE: OnceLock<(SimVfs, Vec<Vec<Entry>>)> = OnceLock::new();
    STORE.get_or_init(|| {
        block_on(async {
            let disk = SimVfs::new();
            let opened = SledStore::open(STATE, store_options(&disk)).await;
            let (store, ns) = (opened.unwrap().0, Namespace::new("fuzzed").unwrap());
            let mut states = vec![Vec::new()];
            for n in 0..24_u8 {
                let mut batch = Batch::new();
                batch.put(ns.key([n % 7]).unwrap(), vec![n; usize::from(n) * 9]);
                batch.delete(ns.key([n % 5]).unwrap());
                store.commit(batch, Durability::Durable).await.unwrap();
                states.push(all(&store).await.unwrap());
                if n == 8 || n == 16 {
                    store.image_now().await.unwrap();
                }
            }
            store.close().await.unwrap();
            drop(store);
            (disk.kill(), states)
        })
    })
}

/// Any file whose path contains `part`: what opens is a state the store went through.
pub fn store(part: &str, input: &[u8]) {
    let (disk, states) = intact_store();
    let disk = disk.fork();
    let mut files = disk.files();
    files.retain(|file| file.to_string_lossy().contains(part));
    let Some(file) = chosen(&files, input).map(|i| &files[i]) else { return };
    let intact = disk.contents(file).unwrap();
    disk.damage(file, &harmed(&intact, input)).unwrap();
    block_on(async {
        if let Ok((store, _)) = SledStore::open(STATE, store_options(&disk)).await
            && let Some(found) = all(&store).await
        {
            assert!(states.contains(&found), "a state the store was never in");
        }
    });
}

/// The values of a namespace in memory, one of them harmed.
async fn harmed_values(store: &Store, entries: &[Entry], input: &[u8]) {
    let mut batch = Batch::new();
    let harm = chosen(entries, input);
    for (i, entry) in entries.iter().enumerate() {
        let harmed = (harm == Some(i)).then(|| harmed(&entry.value, input));
        batch.put(entry.key.clone(), harmed.map_or(entry.value.clone(), Bytes::from));
    }
    store.commit(batch, Durability::Buffered).await.unwrap();
}

/// Pages and head of a write-ahead log: what is read is the beginning of what was written.
pub fn wal_page(input: &[u8]) {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    let options = || WalOptions { page_bytes: 256, ..WalOptions::default() };
    let record = |n: u64| (n, "x".repeat(usize::try_from(n % 50).unwrap()));
    let entries = ENTRIES.get_or_init(|| {
        block_on(async {
            let store = Store::memory();
            let (wal, _) = Wal::<(u64, String)>::open(&store, "w", options()).await.unwrap();
            for n in 1..=20 {
                wal.append(&record(n)).await.unwrap();
            }
            all(&**store.backend()).await.unwrap()
        })
    });
    block_on(async {
        let store = Store::memory();
        harmed_values(&store, entries, input).await;
        let opened = Wal::<(u64, String)>::open(&store, "w", options()).await;
        let Ok((wal, _)) = opened else { return };
        let Ok(mut replay) = wal.replay(Lsn::START).await else { return };
        while let Ok(Some((lsn, read))) = replay.next().await {
            assert_eq!(read, record(lsn.0), "record {lsn}");
        }
    });
}

/// Manifests and chunks of snapshots: what is loaded was taken.
pub fn snapshot(input: &[u8]) {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    let options = || SnapshotOptions::<Vec<u64>>::new().chunk_bytes(64).max_bytes(1 << 16);
    let state = |n: u64| (0..n * 20).collect::<Vec<_>>();
    let entries = ENTRIES.get_or_init(|| {
        block_on(async {
            let store = Store::memory();
            let snapshots = Snapshots::open(&store, "s", options()).await.unwrap();
            for n in 1..=3 {
                snapshots.take(state(n), n).await.unwrap();
            }
            all(&**store.backend()).await.unwrap()
        })
    });
    block_on(async {
        let store = Store::memory();
        harmed_values(&store, entries, input).await;
        let Ok(snapshots) = Snapshots::open(&store, "s", options()).await else { return };
        let Ok(latest) = snapshots.load_latest().await else { return };
        if let Some(loaded) = latest.loaded {
            assert_eq!(loaded.state, state(loaded.info.position), "{}", loaded.info.id);
        }
    });
}
