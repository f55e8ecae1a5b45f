//! A crash after every commit: the last acknowledged snapshot or a later whole one, and no rubbish.

use resurge_snapshot::{SnapshotOptions, Snapshots};
use resurge_store::Store;

use super::observed::Observed;
use super::{State, entries, options, state};

fn keep_two() -> SnapshotOptions<State> {
    options().retain(2).chunk_bytes(100_000)
}

/// Every chunk belongs to a manifest and nothing is marked.
async fn assert_tidy(store: &Store, snapshots: &Snapshots<State>, case: &str) {
    let listing = snapshots.list().await.unwrap();
    assert!(listing.damaged.is_empty(), "{case}");
    let expected: usize = listing.snapshots.iter().map(|info| 1 + info.chunks as usize).sum();
    let head = 1;
    let found = entries(store).await.len();
    assert!(found == expected || found == expected + head, "{case}: {found} keys");
}

#[tokio::test]
async fn after_every_commit() {
    let (observed, store) = Observed::new();
    let snapshots = Snapshots::open(&store, "test", keep_two()).await.unwrap();
    // Large enough for several commits of chunks each.
    let large = |n: usize| vec!["x".repeat(700_000); n];
    let mut acknowledged = vec![(0, 0)];
    for n in 1..=5 {
        snapshots.take(large(n), n as u64).await.unwrap();
        acknowledged.push((observed.commits.lock().len(), n));
    }
    let commits = observed.commits.lock().len();
    assert!(commits > 20, "{commits} commits");
    for crash in 0..=commits {
        let case = format!("crash after commit {crash} of {commits}");
        let store = observed.after(crash).await;
        let snapshots = Snapshots::open(&store, "test", keep_two()).await.unwrap();
        let latest = snapshots.load_latest().await.unwrap();
        assert!(latest.skipped.is_empty(), "{case}: {:?}", latest.skipped);
        let promised = acknowledged.iter().rev().find(|(at, _)| *at <= crash).unwrap().1;
        let found = latest.loaded.map_or(0, |loaded| {
            assert_eq!(loaded.state.len() as u64, loaded.info.position, "{case}");
            loaded.state.len()
        });
        assert!(found >= promised, "{case}: {found} found, {promised} acknowledged");
        assert_tidy(&store, &snapshots, &case).await;
        // It goes on, and retention still counts right.
        for position in 6..9 {
            snapshots.take(state(2), position).await.unwrap();
        }
        assert_eq!(snapshots.list().await.unwrap().snapshots.len(), 2, "{case}");
        assert_tidy(&store, &snapshots, &case).await;
    }
}

/// A dropped call leaves nothing behind for longer than until the next one.
#[tokio::test]
async fn a_dropped_call_is_cleaned_by_the_next() {
    let store = Store::memory();
    let snapshots = Snapshots::open(&store, "test", keep_two()).await.unwrap();
    snapshots.take(state(3), 1).await.unwrap();
    let prepared = snapshots.prepare(state(50), 2).await.unwrap();
    let keys = entries(&store).await.len();
    drop(prepared);
    assert_eq!(entries(&store).await.len(), keys, "dropping alone removes nothing");
    snapshots.take(state(4), 3).await.unwrap();
    assert_tidy(&store, &snapshots, "after the next call").await;
    assert_eq!(snapshots.list().await.unwrap().snapshots.len(), 2);
}
