//! What a user of a journal could see.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod concurrent;
mod damage;
mod large;
mod model;
mod poison;
mod scenarios;
mod schema;
mod stage;
mod timing;

use std::collections::BTreeMap;

use resurge_journal::{JournalError, JournalOptions, Journaled, Lsn, PlainMachine, RecoveryReport};
use resurge_store::{Batch, Durability, Entry, KeyRange, ScanOptions, Store};
use serde::{Deserialize, Serialize};

/// Holds every event, and a number that depends on their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) events: Vec<u64>,
    pub(crate) order: u64,
}

impl PlainMachine for Ledger {
    type Event = u64;

    fn apply(&mut self, event: &u64) {
        self.events.push(*event);
        self.order = self.order.wrapping_mul(31).wrapping_add(*event);
    }
}

fn ledger(events: impl IntoIterator<Item = u64>) -> Ledger {
    let mut ledger = Ledger::default();
    events.into_iter().for_each(|event| ledger.apply(&event));
    ledger
}

/// No snapshots unless asked for; small chunks.
fn options() -> JournalOptions {
    JournalOptions {
        snapshot_interval: None,
        snapshot_events: None,
        retain: 3,
        chunk_bytes: 16,
        ..JournalOptions::default()
    }
}

type Opened = (Journaled<Ledger>, RecoveryReport);

async fn open_as(store: &Store, options: JournalOptions) -> Result<Opened, JournalError> {
    Journaled::open(store, "test", options).await
}

async fn open(store: &Store) -> Opened {
    open_as(store, options()).await.unwrap()
}

async fn state(journal: &Journaled<Ledger>) -> Ledger {
    journal.read(Ledger::clone).await.unwrap()
}

async fn record(journal: &Journaled<Ledger>, events: impl IntoIterator<Item = u64>) {
    for event in events {
        journal.record(event).await.unwrap();
    }
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

/// The chunks of the snapshots, by id.
async fn chunks(store: &Store) -> BTreeMap<u64, Vec<Entry>> {
    let mut found: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
    for entry in entries(store).await {
        if entry.key.namespace().name() != "resurge/snapshot" {
            continue;
        }
        if let Some(rest) = entry.key.bytes().strip_prefix(b"\x0cjournal/test\x03") {
            let id = u64::from_be_bytes(rest[..8].try_into().unwrap());
            found.entry(id).or_default().push(entry);
        }
    }
    found
}

async fn pages(store: &Store) -> Vec<Entry> {
    let mut found = entries(store).await;
    found.retain(|entry| entry.key.namespace().name() == "resurge/wal");
    found
}

async fn put(store: &Store, entry: &Entry, value: Vec<u8>) {
    let mut batch = Batch::new();
    batch.put(entry.key.clone(), value);
    store.commit(batch, Durability::Durable).await.unwrap();
}

/// Flips a bit in the middle.
async fn damage(store: &Store, entry: &Entry) {
    let mut value = entry.value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    put(store, entry, value).await;
}

/// Lets other tasks run until `done`.
async fn until(mut done: impl FnMut() -> bool) {
    let mut turns = 0_u64;
    while !done() {
        turns += 1;
        assert!(turns < 20_000_000, "it never happened");
        tokio::task::yield_now().await;
    }
}

fn last_snapshot(journal: &Journaled<Ledger>) -> Option<Lsn> {
    journal.stats().unwrap().last_snapshot.map(|info| Lsn(info.position))
}
