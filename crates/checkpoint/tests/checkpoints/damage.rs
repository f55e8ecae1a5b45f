//! Bytes nobody wrote: refused with an error that names the key, never a wrong result.

use resurge_checkpoint::{CheckpointError, CheckpointOptions, Filter, StepPolicy, StoreFailure};
use resurge_store::{Batch, Durability, ErrorKind, Guard, Namespace, Record, Store};
use resurge_testkit::{evidence, mangle};

use super::support::FOREVER;
use super::{CHARGE, claim, key, memory, open};

async fn put(store: &Store, key: &resurge_store::Key, value: impl Into<bytes::Bytes>) {
    let mut batch = Batch::new();
    batch.put(key.clone(), value);
    store.commit(batch, Durability::Durable).await.unwrap();
}

#[tokio::test]
async fn every_cut_and_every_flipped_bit_of_a_result_and_of_a_claim() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    let mut harmed = 0;
    checkpoints
        .record(&key, std::time::Duration::from_secs(1), &"result".to_owned())
        .await
        .unwrap();
    let result = store.get(key.stored()).await.unwrap().unwrap();
    checkpoints.forget(&key).await.unwrap();
    std::mem::forget(claim(&checkpoints, &key, CHARGE).await);
    let claimed = store.get(key.stored()).await.unwrap().unwrap();
    for whole in [result, claimed] {
        let cuts = (0..whole.len()).map(|n| whole[..n].to_vec());
        let bits = (0..whole.len() * 8).map(|n| {
            let mut flipped = whole.to_vec();
            flipped[n / 8] ^= 1 << (n % 8);
            flipped
        });
        for bad in cuts.chain(bits) {
            put(&store, key.stored(), bad.clone()).await;
            let read = checkpoints.get::<String>(&key).await.unwrap_err();
            assert_eq!(read.kind(), ErrorKind::Corrupt, "{bad:?}: {read}");
            assert!(read.to_string().contains("step `step`"), "{read}");
            let begun = checkpoints.begin(&key, StepPolicy::new()).await.unwrap_err();
            assert_eq!(begun.kind(), ErrorKind::Corrupt, "{bad:?}");
            harmed += 1;
        }
    }
    evidence("checkpoint-damage", &format!("{harmed} harmed entries, 0 believed"));
}

/// Intact envelopes around bytes nobody wrote.
#[tokio::test]
async fn mangled_payloads_are_refused_or_are_what_they_say() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    checkpoints.record(&key, FOREVER, &"result".to_owned()).await.unwrap();
    let stored = store.get(key.stored()).await.unwrap().unwrap();
    let whole = Record::decode(key.stored(), &stored).unwrap().into_payload();
    for seed in 0..3_000 {
        let bad = mangle(&whole, seed);
        put(&store, key.stored(), Record::new(bad.clone()).encode(key.stored())).await;
        if let Err(e) = checkpoints.inspect(&key).await {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{bad:?}");
        }
        drop(checkpoints.get::<String>(&key).await);
    }
}

#[tokio::test]
async fn a_damaged_entry_is_listed_and_purged_and_stops_nobody_who_fails_open() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let (bad, good) = (key("bad"), key("good"));
    checkpoints.record(&good, FOREVER, &1).await.unwrap();
    put(&store, bad.stored(), "rubbish").await;
    let stray = Namespace::new("resurge/checkpoint").unwrap().key([1, 0, 9]).unwrap();
    put(&store, &stray, "rubbish").await;
    let listing = checkpoints.list(&Filter::all()).await.unwrap();
    assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (1, 2), "{listing:?}");
    assert_eq!(checkpoints.sweep().await.unwrap().damaged, 2);
    let body = || async { Ok::<_, std::io::Error>(2) };
    let open = StepPolicy::new().on_store_failure(StoreFailure::FailOpen);
    assert_eq!(checkpoints.run_with(&bad, FOREVER, open, body).await.unwrap(), 2);
    let kept = checkpoints.purge(&Filter::all().older_than(FOREVER)).await.unwrap();
    assert_eq!(kept.damaged, 0, "of unknown age");
    let removed = checkpoints.purge(&Filter::all().step("bad")).await.unwrap();
    assert_eq!((removed.damaged, removed.results), (1, 0));
    assert_eq!(checkpoints.purge(&Filter::all()).await.unwrap().damaged, 1);
    assert_eq!(checkpoints.run(&bad, FOREVER, body).await.unwrap(), 2);
}

#[tokio::test]
async fn a_type_that_changed_is_named_and_nothing_is_run() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let key = key("step");
    checkpoints.record(&key, FOREVER, &"text".to_owned()).await.unwrap();
    let body = || async { Ok::<_, std::io::Error>(1_u32) };
    let failed = checkpoints.run(&key, FOREVER, body).await.unwrap_err();
    assert!(matches!(failed.checkpoint(), Some(CheckpointError::Decode { .. })), "{failed}");
    assert_eq!(checkpoints.stats().started, 0);
}

#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
struct OneWay(u32);

impl<'de> serde::Deserialize<'de> for OneWay {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("one way"))
    }
}

/// What cannot be read back is refused when it is made, not after the next crash.
#[tokio::test]
async fn a_result_that_is_not_read_back_is_not_stored() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    let body = || async { Ok::<_, std::io::Error>(OneWay(1)) };
    let failed = checkpoints.run(&key("step"), FOREVER, body).await.unwrap_err();
    assert!(matches!(failed.checkpoint(), Some(CheckpointError::Encode { .. })), "{failed}");
    assert_eq!(checkpoints.get_bytes(&key("step")).await.unwrap(), None);
    assert_eq!(checkpoints.stats().not_stored, 1);
}

#[tokio::test]
async fn a_damaged_number_of_owners_is_no_new_beginning() {
    let (store, _) = memory();
    drop(open(&store).await);
    let owners = Namespace::new("resurge/checkpoint").unwrap().key([0]).unwrap();
    let mut batch = Batch::new();
    batch.guard(owners.clone(), Guard::Present).put(owners.clone(), "rubbish");
    store.commit(batch, Durability::Durable).await.unwrap();
    let refused = resurge_checkpoint::Checkpoints::open(&store, CheckpointOptions::new()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
}
