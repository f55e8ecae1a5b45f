//! What every test of a whole store needs.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use resurge_store::{
    Batch, CommitSeq, Durability, Key, KeyRange, Namespace, Result, ScanOptions, StateStore,
};
use resurge_store_sled::{IndexKind, OpenReport, SledOptions, SledStore};

pub(crate) const KINDS: [IndexKind; 2] = [IndexKind::Memory, IndexKind::Sled];

pub(crate) struct Dir {
    pub(crate) tmp: tempfile::TempDir,
}

impl Dir {
    pub(crate) fn new() -> Self {
        Self { tmp: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.tmp.path().join("state")
    }

    pub(crate) fn sub(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// Small files, no ballast, no reserve: many stores fit on a test machine.
pub(crate) fn options(kind: IndexKind) -> SledOptions {
    SledOptions::new()
        .index(kind)
        .segment_sizes(64 << 10, 256 << 10)
        .ballast(0)
        .free_space_reserve(0)
        .cache_bytes(16 << 20)
}

pub(crate) fn open(path: &Path, options: SledOptions) -> (SledStore, OpenReport) {
    SledStore::open_blocking(path, options).unwrap()
}

pub(crate) fn key(name: impl AsRef<str>) -> Key {
    Namespace::new("app").unwrap().key(name.as_ref()).unwrap()
}

pub(crate) fn put(
    store: &SledStore,
    name: impl AsRef<str>,
    value: impl Into<Bytes>,
) -> Result<CommitSeq> {
    let mut batch = Batch::new();
    batch.put(key(name), value);
    wait(store.commit(batch, Durability::Durable))
}

pub(crate) fn get(store: &SledStore, name: impl AsRef<str>) -> Option<Bytes> {
    wait(store.get(&key(name))).unwrap()
}

/// Everything the store holds.
pub(crate) fn dump(store: &SledStore) -> Vec<(Key, Bytes)> {
    let mut all = Vec::new();
    let mut range = Some(KeyRange::everything());
    while let Some(rest) = range {
        let page = wait(store.scan(rest, ScanOptions::new())).unwrap();
        all.extend(page.entries.into_iter().map(|e| (e.key, e.value)));
        range = page.next;
    }
    all
}

/// Closes it in good order.
pub(crate) fn close(store: &SledStore) {
    wait(store.close()).unwrap();
}

/// A copy of the directory as a `kill -9` at this moment would leave it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
