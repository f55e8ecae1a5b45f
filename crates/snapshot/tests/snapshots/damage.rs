//! Whatever is damaged, dropped or swapped: the older snapshot is used, and the report names the other.

use bytes::Bytes;
use resurge_snapshot::{SnapshotError, SnapshotId};
use resurge_store::{Entry, ErrorKind, Store};

use super::observed::Observed;
use super::{entries, of_kind, open, put, remove, state};

/// A store with two snapshots: number 1 of 3 items, number 2 of 9.
async fn two() -> Store {
    let store = Store::memory();
    let snapshots = open(&store).await;
    snapshots.take(state(3), 10).await.unwrap();
    snapshots.take(state(9), 20).await.unwrap();
    store
}

async fn assert_falls_back(store: &Store, case: &str) {
    let snapshots = open(store).await;
    let latest = snapshots.load_latest().await.unwrap();
    let loaded = latest.loaded.unwrap();
    assert_eq!((loaded.state, loaded.info.position), (state(3), 10), "{case}");
    let skipped: Vec<_> = latest.skipped.iter().map(|damaged| damaged.id.0).collect();
    assert_eq!(skipped, [2], "{case}");
    assert!(!latest.skipped[0].what.is_empty(), "{case}");
    assert_eq!(snapshots.oldest_position().await.unwrap(), Some(10), "{case}");
}

fn with(entry: &Entry, value: impl Into<Bytes>) -> Entry {
    Entry { key: entry.key.clone(), value: value.into() }
}

fn flipped(entry: &Entry, at: usize) -> Entry {
    let mut value = entry.value.to_vec();
    value[at] ^= 0x10;
    with(entry, value)
}

#[tokio::test]
async fn every_byte_of_every_chunk() {
    let store = two().await;
    let chunks = of_kind(&store, 2, 3).await;
    assert!(chunks.len() > 3);
    let mut flips = 0;
    for chunk in &chunks {
        for at in 0..chunk.value.len() {
            put(&store, &flipped(chunk, at)).await;
            assert_falls_back(&store, &format!("{} byte {at}", chunk.key)).await;
            flips += 1;
        }
        put(&store, chunk).await;
    }
    let latest = open(&store).await.load_latest().await.unwrap();
    assert_eq!(latest.loaded.unwrap().state, state(9), "restored, it is whole again");
    resurge_testkit::evidence(
        "snapshot-chunk-flips",
        &format!("{flips} flipped chunk bytes, all detected"),
    );
}

#[tokio::test]
async fn every_byte_of_the_manifest() {
    let store = two().await;
    let manifest = of_kind(&store, 2, 2).await.remove(0);
    for at in 0..manifest.value.len() {
        put(&store, &flipped(&manifest, at)).await;
        let snapshots = open(&store).await;
        let latest = snapshots.load_latest().await.unwrap();
        assert_eq!(latest.loaded.unwrap().state, state(3), "byte {at}");
        assert_eq!(latest.skipped.len(), 1, "byte {at}");
        let error = snapshots.load(SnapshotId(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn every_chunk_dropped_cut_swapped_or_doubled() {
    let store = two().await;
    let chunks = of_kind(&store, 2, 3).await;
    for (i, chunk) in chunks.iter().enumerate() {
        remove(&store, chunk).await;
        assert_falls_back(&store, &format!("chunk {i} dropped")).await;
        put(&store, &with(chunk, chunk.value.slice(..chunk.value.len() - 1))).await;
        assert_falls_back(&store, &format!("chunk {i} cut")).await;
        put(&store, &with(chunk, Bytes::new())).await;
        assert_falls_back(&store, &format!("chunk {i} empty")).await;
        let other = &chunks[(i + 1) % chunks.len()];
        put(&store, &with(chunk, other.value.clone())).await;
        put(&store, &with(other, chunk.value.clone())).await;
        assert_falls_back(&store, &format!("chunk {i} swapped")).await;
        put(&store, chunk).await;
        put(&store, other).await;
    }
    let last = chunks.last().unwrap();
    let mut key = last.key.bytes().to_vec();
    *key.last_mut().unwrap() += 1;
    let extra = Entry { key: last.key.namespace().key(&key).unwrap(), value: last.value.clone() };
    put(&store, &extra).await;
    assert_falls_back(&store, "a chunk too many").await;
}

/// Chunks that are intact for their place, and of another state: only the digest of the whole tells.
#[tokio::test]
async fn an_intact_chunk_of_another_state() {
    let store = two().await;
    let elsewhere = Store::memory();
    let others = open(&elsewhere).await;
    others.take(state(3), 10).await.unwrap();
    let mut other = state(9);
    other[4] = "stem 4".to_owned();
    others.take(other, 20).await.unwrap();
    let (ours, theirs) = (of_kind(&store, 2, 3).await, of_kind(&elsewhere, 2, 3).await);
    assert_eq!(ours.len(), theirs.len());
    let mut differing = 0;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.key, theirs.key);
        if ours.value != theirs.value {
            differing += 1;
            put(&store, theirs).await;
            assert_falls_back(&store, "another state's chunk").await;
            put(&store, ours).await;
        }
    }
    assert!(differing > 0);
}

#[tokio::test]
async fn when_all_are_damaged_nothing_is_made_up() {
    let store = two().await;
    for id in [1, 2] {
        let chunk = of_kind(&store, id, 3).await.remove(0);
        put(&store, &flipped(&chunk, 9)).await;
    }
    let snapshots = open(&store).await;
    let latest = snapshots.load_latest().await.unwrap();
    assert_eq!((latest.loaded, latest.skipped.len()), (None, 2));
    assert_eq!(snapshots.oldest_position().await.unwrap(), None);
    for id in [1, 2].map(SnapshotId) {
        assert!(matches!(snapshots.load(id).await, Err(SnapshotError::Damaged { .. })));
        assert!(matches!(snapshots.verify(id).await, Err(SnapshotError::Damaged { .. })));
    }
}

/// "The store does not answer" is no damage: falling back would use an old state for no reason.
#[tokio::test]
async fn a_store_that_fails_is_an_error_and_no_damage() {
    let (observed, store) = Observed::new();
    let snapshots = open(&store).await;
    snapshots.take(state(3), 1).await.unwrap();
    snapshots.take(state(9), 2).await.unwrap();
    let order = std::sync::atomic::Ordering::SeqCst;
    for scans in 0..2 {
        observed.scans.store(scans, order);
        let error = snapshots.load_latest().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "after {scans} scans");
    }
    observed.scans.store(u32::MAX, order);
    assert!(snapshots.load_latest().await.unwrap().skipped.is_empty());
}

#[tokio::test]
async fn a_damaged_head_is_counted_again() {
    let store = two().await;
    let head = entries(&store).await.remove(0);
    assert_eq!(head.key.bytes(), b"\x04test\x00");
    for damaged in [flipped(&head, 6), with(&head, "")] {
        put(&store, &damaged).await;
        let before = open(&store).await.list().await.unwrap().snapshots[0].id;
        let taken = open(&store).await.take(state(2), 30).await.unwrap();
        assert_eq!(taken.id.0, before.0 + 1);
    }
    remove(&store, &head).await;
    assert_eq!(open(&store).await.take(state(2), 30).await.unwrap().id.0, 5);
}
