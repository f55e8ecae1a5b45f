//! Manifests, chunks and markers that nobody wrote: damaged, random, and damaged inside an envelope
//! whose checksum fits. Nothing panics, and no state is loaded that was not taken.

use bytes::Bytes;
use resurge_snapshot::{SnapshotError, Snapshots};
use resurge_store::{Entry, Record, Store};
use resurge_testkit::{evidence, mangle};

use super::{entries, open, options, put, state};

const CASES: u64 = 3_000;

#[tokio::test]
async fn manifests_and_chunks() {
    let times = std::env::var("RESURGE_MANGLED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let origin = Store::memory();
    let snapshots = open(&origin).await;
    snapshots.take(state(3), 10).await.unwrap();
    snapshots.take(state(9), 20).await.unwrap();
    let written = entries(&origin).await;
    let (mut fell_back, mut refused) = (0, 0);
    for seed in 0..CASES * times {
        let entry = &written[usize::try_from(seed / 3).unwrap() % written.len()];
        let forged = seed % 3 != 0;
        let value: Bytes = if forged {
            let payload = Record::decode(&entry.key, &entry.value).unwrap().into_payload();
            Record::new(mangle(&payload, seed)).encode(&entry.key)
        } else {
            mangle(&entry.value, seed).into()
        };
        let store = Store::memory();
        for whole in &written {
            put(&store, whole).await;
        }
        put(&store, &Entry { key: entry.key.clone(), value }).await;
        let context = format!("seed {seed}, {}", entry.key);
        let opened = match Snapshots::open(&store, "test", options()).await {
            Ok(opened) => opened,
            Err(e) => {
                refused += 1;
                assert!(!e.to_string().is_empty(), "{context}");
                continue;
            }
        };
        match opened.load_latest().await {
            Ok(latest) => {
                let loaded = latest.loaded.map(|loaded| loaded.state);
                let taken = loaded == Some(state(3)) || loaded == Some(state(9));
                assert!(taken, "{context}: {loaded:?} was never taken");
                fell_back += u64::from(loaded == Some(state(3)));
            }
            // What a forged manifest may claim: that only a newer build can read it, or a larger one.
            Err(
                SnapshotError::NewerSchema { .. }
                | SnapshotError::Migration { .. }
                | SnapshotError::Invalid(_)
                | SnapshotError::Decode { .. },
            ) => refused += 1,
            Err(e) => panic!("{context}: {e}"),
        }
        // What is there can be gone through and added to, whatever it is.
        let listing = opened.list().await.unwrap();
        for info in listing.snapshots {
            drop(opened.verify(info.id).await);
        }
        if let Err(e) = opened.take(state(1), 30).await {
            // A forged manifest may claim to cover more, a forged head that no number is left.
            assert!(forged, "{context}: {e}");
        }
    }
    assert!(fell_back > CASES / 10, "{fell_back}");
    let total = CASES * times;
    evidence(
        "mangled-snapshots",
        &format!(
            "{total} mangled entries of snapshots: {fell_back} fell back, {refused} refused, 0 \
             states made up, 0 panics"
        ),
    );
}
