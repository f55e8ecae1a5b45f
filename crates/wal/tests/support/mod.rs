//! What several tests of logs need: opening, reading everything, a store that can be tampered with.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub(crate) mod damaged;
pub(crate) mod planted;

use bytes::Bytes;
use resurge_store::{
    Batch, Durability, Entry, Key, MemoryStore, Namespace, ScanOptions, Store, VirtualClock,
};
use resurge_testkit::FaultStore;
use resurge_wal::{Lsn, Policy, Wal, WalError, WalOptions};

pub(crate) const LOG: &str = "log";

/// Small pages, so that few records make many.
pub(crate) fn options() -> WalOptions {
    WalOptions { page_bytes: 256, ..WalOptions::default() }
}

pub(crate) async fn open(store: &Store) -> Wal<String> {
    Wal::open(store, LOG, options()).await.unwrap().0
}

pub(crate) fn salvage() -> WalOptions {
    WalOptions { policy: Policy::Salvage, ..options() }
}

/// Everything that a replay from the oldest record returns, and how it ended.
pub(crate) async fn read(wal: &Wal<String>) -> (Vec<(u64, String)>, Result<(), WalError>) {
    let mut found = Vec::new();
    let mut replay = match wal.replay(Lsn::START).await {
        Ok(replay) => replay,
        Err(e) => return (found, Err(e)),
    };
    loop {
        match replay.next().await {
            Ok(Some((lsn, record))) => found.push((lsn.0, record)),
            Ok(None) => return (found, Ok(())),
            Err(e) => return (found, Err(e)),
        }
    }
}

pub(crate) async fn all(wal: &Wal<String>) -> Vec<(u64, String)> {
    let (found, end) = read(wal).await;
    end.unwrap();
    found
}

pub(crate) fn records(these: &[(u64, &str)]) -> Vec<(u64, String)> {
    these.iter().map(|(lsn, record)| (*lsn, (*record).to_owned())).collect()
}

/// A memory store behind a script of faults, in virtual time.
pub(crate) fn faulty() -> (Store, FaultStore, VirtualClock) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let clock = VirtualClock::new();
    (Store::new(faults.clone()).with_clock(clock.clone()), faults, clock)
}

/// Everything stored for logs.
pub(crate) async fn entries(store: &Store) -> Vec<Entry> {
    let namespace = Namespace::new("resurge/wal").unwrap();
    let options = ScanOptions::new().max_entries(100_000).max_bytes(usize::MAX);
    store.scan(namespace.all(), options).await.unwrap().entries
}

/// A new store that holds exactly these.
pub(crate) async fn store_of(entries: &[Entry]) -> Store {
    let store = Store::memory();
    let mut batch = Batch::new();
    for entry in entries {
        batch.put(entry.key.clone(), entry.value.clone());
    }
    store.commit(batch, Durability::Durable).await.unwrap();
    store
}

pub(crate) async fn overwrite(store: &Store, key: &Key, value: Bytes) {
    let mut batch = Batch::new();
    batch.put(key.clone(), value);
    store.commit(batch, Durability::Durable).await.unwrap();
}

/// The first record of a page, from its key; `None` for a head.
pub(crate) fn page_first(key: &Key) -> Option<u64> {
    let at = key.bytes().iter().position(|b| *b == 0)?;
    let (kind, first) = key.bytes().get(at + 1..)?.split_first()?;
    (*kind == b'p').then(|| u64::from_be_bytes(first.try_into().unwrap()))
}
