//! Several who take, open and commit at once.

use resurge_snapshot::{SnapshotError, Snapshots};
use resurge_store::{Batch, Durability, ErrorKind, Guard, Namespace, Store};

use super::{entries, open, options, state};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn takers_on_two_handles_do_not_disturb_each_other() {
    let store = Store::memory();
    let keep = || options().retain(100);
    let handles = [
        Snapshots::open(&store, "test", keep()).await.unwrap(),
        Snapshots::open(&store, "test", keep()).await.unwrap(),
    ];
    let takers = (1..=20_usize).map(|n| {
        let snapshots = handles[n % 2].clone();
        tokio::spawn(async move { snapshots.take(state(n), 0).await.map(|info| (info, n)) })
    });
    let takers: Vec<_> = takers.collect();
    let mut ids = Vec::new();
    for taker in takers {
        let (info, n) = taker.await.unwrap().unwrap();
        ids.push(info.id);
        assert_eq!(handles[0].load(info.id).await.unwrap().state, state(n));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

/// An opener removes what it takes for a leftover; the taker learns of it and nothing is half there.
#[tokio::test]
async fn opening_while_one_is_taken_supersedes_it() {
    let store = Store::memory();
    let first = open(&store).await;
    let prepared = first.prepare(state(30), 1).await.unwrap();
    let second = open(&store).await;
    let mut batch = Batch::new();
    prepared.stage(&mut batch);
    let error = store.commit(batch, Durability::Durable).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = prepared.failed(error).await;
    assert!(matches!(error, SnapshotError::Superseded { .. }), "{error}");
    assert_eq!(entries(&store).await.len(), 1, "only the head");
    second.take(state(2), 1).await.unwrap();
    first.take(state(3), 2).await.unwrap();
    assert_eq!(second.list().await.unwrap().snapshots.len(), 2);
}

#[tokio::test]
async fn the_manifest_joins_another_commit_whole_or_not_at_all() {
    let store = Store::memory();
    let snapshots = open(&store).await;
    let key = Namespace::new("app").unwrap().key("covered").unwrap();

    let prepared = snapshots.prepare(state(5), 1).await.unwrap();
    let mut batch = Batch::new();
    batch.guard(key.clone(), Guard::Present).put(key.clone(), "1");
    prepared.stage(&mut batch);
    let error = store.commit(batch, Durability::Durable).await.unwrap_err();
    // The conflict is on the caller's own key, so it stays the caller's.
    assert_eq!(prepared.failed(error).await.kind(), ErrorKind::Conflict);
    assert!(snapshots.list().await.unwrap().snapshots.is_empty());
    assert_eq!(entries(&store).await.len(), 1);

    let prepared = snapshots.prepare(state(5), 1).await.unwrap();
    let mut batch = Batch::new();
    batch.put(key.clone(), "1");
    prepared.stage(&mut batch);
    assert!(snapshots.load_latest().await.unwrap().loaded.is_none(), "not before the commit");
    store.commit(batch, Durability::Durable).await.unwrap();
    // Dropped without `finish`, as by a cancelled caller: it was committed, so it stays.
    drop(prepared);
    snapshots.take(state(6), 2).await.unwrap();
    assert_eq!(snapshots.list().await.unwrap().snapshots.len(), 2);
    let reopened = open(&store).await;
    let first = reopened.list().await.unwrap().snapshots[1].id;
    assert_eq!(reopened.load(first).await.unwrap().state, state(5));
    assert_eq!(store.get(&key).await.unwrap().unwrap(), "1");
}
