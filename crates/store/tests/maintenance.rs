//! Expiry, sweeping and the removal of ranges.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use resurge_store::{
    Batch, Durability, ErrorKind, Guard, Key, Namespace, Record, ScanOptions, Store, Swept,
    VirtualClock,
};

struct World {
    clock: VirtualClock,
    store: Store,
    ns: Namespace,
}

impl World {
    fn new() -> Self {
        let clock = VirtualClock::new();
        let store = Store::memory().with_clock(clock.clone());
        Self { clock, store, ns: Namespace::new("app").unwrap() }
    }

    fn key(&self, name: impl AsRef<[u8]>) -> Key {
        self.ns.key(name).unwrap()
    }

    async fn put(&self, name: &str, ttl: Option<Duration>) {
        let mut record = Record::new("payload");
        if let Some(ttl) = ttl {
            record = record.expires_at(self.store.now().saturating_add(ttl));
        }
        let key = self.key(name);
        let mut batch = Batch::new();
        batch.put(key.clone(), record.encode(&key));
        self.store.commit(batch, Durability::Durable).await.unwrap();
    }

    async fn keys(&self) -> usize {
        let page = self.store.scan(self.ns.all(), ScanOptions::new().max_entries(10_000)).await;
        page.unwrap().entries.len()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_expired_record_is_hidden_but_its_guard_is_for_what_is_there() {
    let world = World::new();
    world.put("k", Some(SECOND)).await;
    let key = world.key("k");
    assert!(world.store.read(&key).await.unwrap().payload().is_some());
    world.clock.advance(SECOND);
    let read = world.store.read(&key).await.unwrap();
    assert_eq!(read.payload(), None);
    assert!(matches!(read.guard(), Guard::Exact(_)));
    let mut replace = Batch::new();
    replace.guard(key.clone(), read.guard()).put(key.clone(), Record::new("new").encode(&key));
    world.store.commit(replace, Durability::Durable).await.unwrap();
    assert_eq!(world.store.read(&key).await.unwrap().into_payload().unwrap(), "new");
    let absent = world.store.read(&world.key("absent")).await.unwrap();
    assert_eq!(absent.guard(), Guard::Absent);
}

#[tokio::test]
async fn reading_a_damaged_record_is_an_error_not_absence() {
    let world = World::new();
    let mut batch = Batch::new();
    batch.put(world.key("k"), "not a record");
    world.store.commit(batch, Durability::Durable).await.unwrap();
    let error = world.store.read(&world.key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.key(), Some(&world.key("k")));
}

#[tokio::test]
async fn sweep_deletes_the_expired_and_nothing_else() {
    let world = World::new();
    for i in 0..450 {
        world.put(&format!("old-{i:03}"), Some(SECOND)).await;
    }
    world.put("young", Some(3 * SECOND)).await;
    world.put("forever", None).await;
    let mut batch = Batch::new();
    batch.put(world.key("foreign"), "not a record");
    world.store.commit(batch, Durability::Durable).await.unwrap();
    world.clock.advance(2 * SECOND);
    let swept = world.store.sweep(world.ns.all()).await.unwrap();
    assert_eq!(swept, Swept { scanned: 453, deleted: 450, corrupt: 1 });
    assert_eq!(world.keys().await, 3);
    let again = world.store.sweep(world.ns.all()).await.unwrap();
    assert_eq!(again, Swept { scanned: 3, deleted: 0, corrupt: 1 });
}

#[tokio::test]
async fn remove_range_removes_all_of_it_in_bounded_commits() {
    let world = World::new();
    let mut batch = Batch::new();
    for i in 0..2_500_u16 {
        batch.put(world.key(i.to_be_bytes()), "v");
    }
    let before = world.store.commit(batch, Durability::Durable).await.unwrap();
    let range = world.ns.range(..&2_400_u16.to_be_bytes()[..]);
    assert_eq!(world.store.remove_range(range.clone()).await.unwrap(), 2_400);
    assert_eq!(world.keys().await, 100);
    let after = world.store.commit(Batch::new(), Durability::Durable).await.unwrap();
    assert_eq!(after.0 - before.0, 4, "three pages of deletes and the empty commit itself");
    assert_eq!(world.store.remove_range(range).await.unwrap(), 0);
}
