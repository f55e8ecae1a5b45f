//! How many are kept, which, and removing by hand.

use std::sync::atomic::Ordering::SeqCst;

use resurge_snapshot::{SnapshotError, SnapshotId, SnapshotOptions, Snapshots};
use resurge_store::{ErrorKind, Store, Timestamp, VirtualClock};

use super::observed::Observed;
use super::{State, entries, of_kind, open, options, put, state};

async fn ids(snapshots: &Snapshots<State>) -> Vec<u64> {
    snapshots.list().await.unwrap().snapshots.iter().map(|info| info.id.0).collect()
}

#[tokio::test]
async fn the_newest_few_are_kept_with_all_their_chunks_and_no_others() {
    for (retain, expected) in [(1, vec![7]), (3, vec![7, 6, 5]), (9, vec![7, 6, 5, 4, 3, 2, 1])] {
        let store = Store::memory();
        let snapshots = Snapshots::open(&store, "test", options().retain(retain)).await.unwrap();
        for n in 1..=7 {
            snapshots.take(state(n), 0).await.unwrap();
        }
        assert_eq!(ids(&snapshots).await, expected);
        for id in 1..=7 {
            let chunks = of_kind(&store, id, 3).await.len();
            assert_eq!(chunks > 0, expected.contains(&id), "snapshot {id} has {chunks} chunks");
        }
    }
}

#[tokio::test]
async fn five_are_kept_by_default() {
    let snapshots = Snapshots::open(&Store::memory(), "n", SnapshotOptions::new()).await.unwrap();
    for n in 0..8_u64 {
        snapshots.take(n, n).await.unwrap();
    }
    let kept: Vec<_> =
        snapshots.list().await.unwrap().snapshots.iter().map(|info| info.position).collect();
    assert_eq!(kept, [7, 6, 5, 4, 3]);
    assert_eq!(snapshots.oldest_position().await.unwrap(), Some(3));
}

/// A damaged snapshot protects nobody: with two to keep, two whole ones stay.
#[tokio::test]
async fn damaged_ones_do_not_count_and_go_with_the_old() {
    let store = Store::memory();
    let snapshots = Snapshots::open(&store, "test", options().retain(2)).await.unwrap();
    for n in 1..=2 {
        snapshots.take(state(n), n as u64).await.unwrap();
    }
    let mut chunk = of_kind(&store, 2, 3).await.remove(0);
    chunk.value = chunk.value.slice(1..);
    put(&store, &chunk).await;
    snapshots.verify(SnapshotId(2)).await.unwrap_err();
    snapshots.take(state(3), 3).await.unwrap();
    assert_eq!(ids(&snapshots).await, [3, 2, 1]);
    assert_eq!(snapshots.oldest_position().await.unwrap(), Some(1));
    let mut manifest = of_kind(&store, 1, 2).await.remove(0);
    manifest.value = manifest.value.slice(1..);
    put(&store, &manifest).await;
    assert_eq!(snapshots.list().await.unwrap().damaged.len(), 1);
    snapshots.take(state(4), 4).await.unwrap();
    assert_eq!(ids(&snapshots).await, [4, 3]);
    let listing = snapshots.list().await.unwrap();
    assert!(listing.damaged.is_empty());
    let expected: u32 = listing.snapshots.iter().map(|info| 1 + info.chunks).sum();
    assert_eq!(entries(&store).await.len(), 1 + expected as usize);
}

#[tokio::test]
async fn deleting_removes_one_whole() {
    let store = Store::memory();
    let snapshots = open(&store).await;
    for n in 1..=3 {
        snapshots.take(state(n), n as u64).await.unwrap();
    }
    snapshots.delete(SnapshotId(2)).await.unwrap();
    assert_eq!(ids(&snapshots).await, [3, 1]);
    assert!(of_kind(&store, 2, 3).await.is_empty());
    let error = snapshots.delete(SnapshotId(2)).await.unwrap_err();
    assert!(matches!(error, SnapshotError::NotFound { id: SnapshotId(2) }));
    assert!(matches!(snapshots.load(SnapshotId(2)).await, Err(SnapshotError::NotFound { .. })));
    assert!(matches!(snapshots.verify(SnapshotId(2)).await, Err(SnapshotError::NotFound { .. })));
    snapshots.delete(SnapshotId(3)).await.unwrap();
    assert_eq!(snapshots.take(state(1), 9).await.unwrap().id.0, 4, "an id is never used again");
}

#[tokio::test]
async fn an_older_state_is_refused_and_leaves_nothing() {
    let store = Store::memory();
    let snapshots = open(&store).await;
    snapshots.take(state(3), 10).await.unwrap();
    let before = entries(&store).await;
    let error = snapshots.take(state(2), 9).await.unwrap_err();
    assert!(matches!(error, SnapshotError::OutOfOrder { position: 9, newest: 10 }));
    assert_eq!(entries(&store).await, before);
    snapshots.take(state(2), 10).await.unwrap();
    let loaded = snapshots.load_latest().await.unwrap().loaded.unwrap();
    assert_eq!(loaded.state, state(2), "between equals the later one");
}

#[tokio::test]
async fn the_manifest_tells_about_the_state() {
    let wall = Timestamp::from_millis(1_700_000_000_123);
    let store = Store::memory().with_clock(VirtualClock::starting_at(wall));
    let counted = options().items(|state| state.len() as u64).schema_version(7);
    let snapshots = Snapshots::open(&store, "test", counted).await.unwrap();
    let taken = snapshots.take(state(12), 99).await.unwrap();
    assert_eq!((taken.items, taken.position, taken.schema_version), (Some(12), 99, 7));
    assert_eq!(taken.created_at, wall);
    assert_eq!(u64::from(taken.chunks), taken.bytes.div_ceil(16));
    assert_eq!(snapshots.list().await.unwrap().snapshots, [taken]);
}

#[tokio::test]
async fn names_and_options_out_of_range_are_refused() {
    let store = Store::memory();
    for name in [String::new(), "n".repeat(201)] {
        let error = Snapshots::open(&store, &name, options()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for options in [options().retain(0), options().chunk_bytes(0), options().chunk_bytes(1 << 30)] {
        let error = Snapshots::open(&store, "test", options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    // Neither is a prefix of the other, and both are at the limits.
    let (a, b) = ("a".repeat(200), "a");
    let long = Snapshots::open(&store, &a, options()).await.unwrap();
    let short = Snapshots::open(&store, b, options()).await.unwrap();
    long.take(state(1), 0).await.unwrap();
    assert!(short.load_latest().await.unwrap().loaded.is_none());
}

#[tokio::test]
async fn a_store_without_room_is_waited_for() {
    let (observed, store) = Observed::new();
    let snapshots = open(&store).await;
    observed.refuse.store(3, SeqCst);
    snapshots.take(state(9), 1).await.unwrap();
    assert_eq!(observed.refuse.load(SeqCst), 0);
    observed.refuse.store(u32::MAX, SeqCst);
    let error = snapshots.take(state(9), 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "but not for ever");
    observed.refuse.store(0, SeqCst);
    snapshots.take(state(9), 2).await.unwrap();
}

/// Nothing older is removed before the new one was read back.
#[tokio::test]
async fn one_that_arrives_damaged_replaces_nothing() {
    let (observed, store) = Observed::new();
    let snapshots = Snapshots::open(&store, "test", options().retain(1)).await.unwrap();
    snapshots.take(state(3), 1).await.unwrap();
    observed.rotten.store(true, SeqCst);
    let error = snapshots.take(state(4), 2).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { id: SnapshotId(2), .. }), "{error}");
    observed.rotten.store(false, SeqCst);
    assert_eq!(snapshots.oldest_position().await.unwrap(), Some(1));
    let latest = snapshots.load_latest().await.unwrap();
    assert_eq!(latest.loaded.unwrap().state, state(3));
    snapshots.take(state(5), 2).await.unwrap();
    assert_eq!(ids(&snapshots).await, [3]);
}
