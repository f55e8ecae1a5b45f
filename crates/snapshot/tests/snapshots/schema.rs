//! Older schemas are migrated, newer ones refused, and a changed type is not mistaken for damage.

use resurge_snapshot::{SnapshotError, SnapshotOptions, Snapshots};
use resurge_store::{Codec, ErrorKind, Store};

type V1 = Vec<u32>;
type V2 = Vec<(String, u32)>;

async fn v1(store: &Store, states: &[V1]) {
    let options = SnapshotOptions::new().chunk_bytes(8);
    let snapshots = Snapshots::<V1>::open(store, "s", options).await.unwrap();
    for (position, state) in states.iter().enumerate() {
        snapshots.take(state.clone(), position as u64).await.unwrap();
    }
}

fn v2() -> SnapshotOptions<V2> {
    SnapshotOptions::new().schema_version(2)
}

async fn open<S>(store: &Store, options: SnapshotOptions<S>) -> Snapshots<S> {
    Snapshots::open(store, "s", options).await.unwrap()
}

#[tokio::test]
async fn an_older_state_is_migrated_and_stays_as_it_was() {
    let store = Store::memory();
    v1(&store, &[vec![1], vec![7, 8, 9]]).await;
    let options = v2().migrate(|from, old| {
        assert_eq!(from, 1);
        Ok(old.decode::<V1>()?.into_iter().map(|n| (n.to_string(), n)).collect())
    });
    let snapshots = open(&store, options).await;
    let loaded = snapshots.load_latest().await.unwrap().loaded.unwrap();
    assert_eq!(loaded.state, [("7".to_owned(), 7), ("8".to_owned(), 8), ("9".to_owned(), 9)]);
    assert_eq!(loaded.info.schema_version, 1);
    let taken = snapshots.take(loaded.state.clone(), 5).await.unwrap();
    assert_eq!(taken.schema_version, 2);
    assert_eq!(snapshots.load_latest().await.unwrap().loaded.unwrap().state, loaded.state);
}

#[tokio::test]
async fn the_bytes_of_an_older_state_can_be_had() {
    let store = Store::memory();
    v1(&store, &[vec![300; 30]]).await;
    let options =
        SnapshotOptions::<Vec<u8>>::new().schema_version(2).migrate(|_, old| Ok(old.into_bytes()?));
    let loaded = open(&store, options).await.load_latest().await.unwrap().loaded.unwrap();
    assert_eq!(loaded.state, Codec::Cbor.encode(&vec![300_u32; 30]).unwrap());
}

#[tokio::test]
async fn without_a_migration_or_when_it_fails_nothing_older_is_used() {
    let store = Store::memory();
    v1(&store, &[vec![1], vec![2]]).await;
    let error = open(&store, v2()).await.load_latest().await.unwrap_err();
    assert!(matches!(error, SnapshotError::Migration { from: 1, .. }), "{error}");
    let options = v2().migrate(|_, _| Err("no such luck".into()));
    let error = open(&store, options).await.load_latest().await.unwrap_err();
    assert!(error.to_string().contains("no such luck"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_newer_schema_is_refused_though_an_older_snapshot_would_do() {
    let store = Store::memory();
    v1(&store, &[vec![1]]).await;
    let newer = SnapshotOptions::<V1>::new().schema_version(3);
    open(&store, newer).await.take(vec![2], 9).await.unwrap();
    let error = open(&store, SnapshotOptions::<V1>::new()).await.load_latest().await.unwrap_err();
    assert!(matches!(error, SnapshotError::NewerSchema { found: 3, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains("reads up to 1"), "{error}");
}

#[tokio::test]
async fn a_type_changed_without_a_new_version_is_refused_by_name() {
    let store = Store::memory();
    v1(&store, &[vec![1], vec![2, 3]]).await;
    let options = SnapshotOptions::<V2>::new();
    let error = open(&store, options).await.load_latest().await.unwrap_err();
    assert!(matches!(error, SnapshotError::Decode { .. }), "{error}");
    // More bytes than the type needs are no such value either.
    let options = SnapshotOptions::<()>::new();
    open(&store, options).await.load_latest().await.unwrap_err();
}
