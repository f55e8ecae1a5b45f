//! What is taken is what is loaded, whatever it is and however it is cut.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use resurge_snapshot::{SnapshotError, SnapshotOptions, Snapshots};
use resurge_store::{Codec, ErrorKind, Store};

use super::{entries, open, options, state};

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_state_in_any_chunks(
        states in vec(btree_map("[a-z]{0,9}", vec(any::<i64>(), 0..9), 0..9), 1..4),
        chunk_bytes in 1_usize..200,
        json in any::<bool>(),
    ) {
        run(async {
            let store = Store::memory();
            let codec = if json { Codec::Json } else { Codec::Cbor };
            let options = SnapshotOptions::new().chunk_bytes(chunk_bytes).codec(codec);
            let snapshots = Snapshots::open(&store, "any", options).await.unwrap();
            for (position, state) in states.iter().enumerate() {
                snapshots.take(state.clone(), position as u64).await.unwrap();
            }
            // Neither the codec nor the chunks are remembered by the reader.
            let again = Snapshots::open(&store, "any", SnapshotOptions::new()).await.unwrap();
            let latest = again.load_latest().await.unwrap();
            assert!(latest.skipped.is_empty());
            let loaded = latest.loaded.unwrap();
            assert_eq!(Some(&loaded.state), states.last());
            assert_eq!(loaded.info.codec, codec);
            assert!(u64::from(loaded.info.chunks) == loaded.info.bytes.div_ceil(chunk_bytes as u64));
            for info in again.list().await.unwrap().snapshots {
                let index = usize::try_from(info.position).unwrap();
                assert_eq!(again.load(info.id).await.unwrap().state, states[index]);
                again.verify(info.id).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn nothing_yet_is_no_error() {
    let latest = open(&Store::memory()).await.load_latest().await.unwrap();
    assert!(latest.loaded.is_none() && latest.skipped.is_empty());
}

/// Larger than one stored value may be, and than one page of a scan.
#[tokio::test]
async fn a_state_larger_than_any_value() {
    let store = Store::memory();
    let snapshots = Snapshots::open(&store, "big", SnapshotOptions::new()).await.unwrap();
    let big = vec!["y".repeat(1_000_000); 20];
    let taken = snapshots.take(big.clone(), 1).await.unwrap();
    assert!(taken.bytes > 20_000_000 && taken.chunks > 70);
    assert_eq!(snapshots.load_latest().await.unwrap().loaded.unwrap().state, big);
}

#[tokio::test]
async fn too_large_a_state_is_neither_written_nor_read() {
    let store = Store::memory();
    let small = Snapshots::open(&store, "test", options().max_bytes(50)).await.unwrap();
    let error = small.take(state(40), 1).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Encode(_)), "{error}");
    let left = entries(&store).await;
    assert!(left.iter().all(|entry| entry.key.bytes() == b"\x04test\x00"), "{left:?}");
    small.take(state(2), 1).await.unwrap();

    open(&store).await.take(state(40), 2).await.unwrap();
    let error = small.load_latest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("max_bytes"), "{error}");
}

#[tokio::test]
async fn a_state_that_does_not_serialise_is_an_error() {
    #[derive(serde::Deserialize)]
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let store = Store::memory();
    let snapshots = Snapshots::open(&store, "r", SnapshotOptions::new()).await.unwrap();
    let error = snapshots.take(Refuses, 1).await.unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
    assert!(snapshots.list().await.unwrap().snapshots.is_empty());
}
