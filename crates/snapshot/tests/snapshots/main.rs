//! What a user of snapshots could see, on the store in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod arbitrary_bytes;
mod concurrent;
mod crash;
mod damage;
mod damage_sweep;
mod observed;
mod retention;
mod roundtrip;
mod schema;

use resurge_snapshot::{SnapshotOptions, Snapshots};
use resurge_store::{Batch, Durability, Entry, KeyRange, ScanOptions, Store};

type State = Vec<String>;

fn state(n: usize) -> State {
    (0..n).map(|i| format!("item {i}")).collect()
}

/// Chunks so small that every state has several.
fn options() -> SnapshotOptions<State> {
    SnapshotOptions::new().chunk_bytes(16)
}

async fn open(store: &Store) -> Snapshots<State> {
    Snapshots::open(store, "test", options()).await.unwrap()
}

async fn entries(store: &Store) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut range = Some(KeyRange::everything());
    while let Some(rest) = range {
        let page = store.scan(rest, ScanOptions::new()).await.unwrap();
        entries.extend(page.entries);
        range = page.next;
    }
    entries
}

/// The entries of snapshot `id` of the given kind: 1 marker, 2 manifest, 3 chunk.
async fn of_kind(store: &Store, id: u64, kind: u8) -> Vec<Entry> {
    let mut prefix = b"\x04test".to_vec();
    prefix.push(kind);
    prefix.extend(id.to_be_bytes());
    let mut found = entries(store).await;
    found.retain(|entry| entry.key.bytes().starts_with(&prefix));
    found
}

async fn put(store: &Store, entry: &Entry) {
    let mut batch = Batch::new();
    batch.put(entry.key.clone(), entry.value.clone());
    store.commit(batch, Durability::Durable).await.unwrap();
}

async fn remove(store: &Store, entry: &Entry) {
    let mut batch = Batch::new();
    batch.delete(entry.key.clone());
    store.commit(batch, Durability::Durable).await.unwrap();
}
