//! Rotating keys under a store full of sealed values.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use resurge_seal::{
    Context, Decision, FailureClass, KeyId, KeyRing, KeyState, Reencrypt, Resealable, SealError,
    SealedRecords, Sealer, SensitivePolicy, Stored, Unread, Visitor,
};
use resurge_store::{
    Batch, Durability, ErrorKind, Guard, Key, KeyRange, MemoryStore, Namespace, Record,
    ScanOptions, Store, Timestamp,
};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Sim, Simulation};
use resurge_testkit::{Call, Fault, FaultStore};
use support::{Counters, key};

fn ns() -> Namespace {
    Namespace::new("app").unwrap()
}

fn context_of(key: &Key) -> Option<(String, String, String)> {
    let name = std::str::from_utf8(key.bytes()).ok()?;
    (!name.starts_with("other")).then(|| ("app".into(), "ctx".into(), name.into()))
}

fn place() -> impl Resealable {
    SealedRecords::new("values", ns().all(), context_of)
}

async fn open(store: &Store, keys: &[u8]) -> Result<KeyRing, SealError> {
    let mut builder = KeyRing::builder();
    for n in keys {
        builder = builder.key(u32::from(*n), &key(*n))?;
    }
    builder.open(store, "main").await
}

fn sealed(ring: &KeyRing, name: &str, value: &str) -> Result<(Key, Bytes), Failure> {
    let sealer = Sealer::new(ring.clone(), SensitivePolicy::new());
    let key = ns().key(name)?;
    let stored =
        sealer.protect(&Context::new("app", "ctx", name), Decision::Seal, value.as_bytes())?;
    let record = Record::new(stored).encode(&key);
    Ok((key, record))
}

async fn put(store: &Store, ring: &KeyRing, name: &str, value: &str) -> Result<(), Failure> {
    let (key, record) = sealed(ring, name, value)?;
    let mut batch = Batch::new();
    batch.put(key, record);
    store.commit(batch, Durability::Durable).await?;
    Ok(())
}

async fn value(store: &Store, ring: &KeyRing, name: &str) -> Result<String, Failure> {
    let key = ns().key(name)?;
    let payload = store.read(&key).await?.into_payload().ok_or("gone")?;
    let sealer = Sealer::new(ring.clone(), SensitivePolicy::new());
    let plain = sealer.reveal(&Context::new("app", "ctx", name), Decision::Seal, &payload)?;
    Ok(String::from_utf8(plain.to_vec())?)
}

fn name(n: usize) -> String {
    format!("v{n:05}")
}

#[tokio::test]
async fn scenario_42_a_thousand_records_killed_at_four_hundred() {
    const RECORDS: usize = 1000;
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let ring = open(&store, &[1]).await.unwrap();
    for n in 0..RECORDS {
        put(&store, &ring, &name(n), &format!("value {n}")).await.unwrap();
    }
    ring.add(2, &key(2)).await.unwrap();
    ring.promote(2).await.unwrap();
    let job = |store: &Store, ring: &KeyRing| Reencrypt::new(store, ring).over(place()).batch(40);
    let count = job(&store, &ring).count().await.unwrap();
    assert_eq!((count.of(1), count.of(2)), (1000, 0));
    let refused = ring.destroy(1, "rotated", &count).await.unwrap_err();
    assert!(refused.to_string().contains("1000 values"), "{refused}");

    // Ten batches are committed, then the process is gone.
    faults.fail(Call::Commit, 11, Fault::before(ErrorKind::Closed).poisoning());
    assert!(job(&store, &ring).run().await.is_err());
    faults.heal();
    let store = Store::new(faults.clone());
    let ring = open(&store, &[1, 2]).await.unwrap();
    let halfway = job(&store, &ring).count().await.unwrap();
    assert_eq!((halfway.of(1), halfway.of(2)), (600, 400));
    assert!(matches!(ring.destroy(1, "rotated", &halfway).await, Err(SealError::InUse { .. })));

    let report = job(&store, &ring).run().await.unwrap();
    assert!(report.resumed && report.is_complete());
    assert_eq!((report.records, report.rewritten, report.resealed), (600, 600, 600));
    assert_eq!(report.by_key[&KeyId(1)].rewritable, 600);

    let count = job(&store, &ring).count().await.unwrap();
    assert_eq!((count.of(1), count.of(2)), (0, 1000));
    ring.destroy(1, "rotated", &count).await.unwrap();
    for n in 0..RECORDS {
        assert_eq!(value(&store, &ring, &name(n)).await.unwrap(), format!("value {n}"));
    }
    // Again: nothing to do, from the start.
    let again = job(&store, &ring).run().await.unwrap();
    assert!(!again.resumed);
    assert_eq!((again.records, again.rewritten), (1000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_42_writers_during_the_job_lose_nothing() {
    const RECORDS: usize = 100;
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    for n in 0..RECORDS {
        put(&store, &ring, &name(n), "0").await.unwrap();
    }
    ring.promote(2).await.unwrap();
    // Each writer counts up with compare-and-swap, so a lost write shows in the sum.
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, ring) = (store.clone(), ring.clone());
            tokio::spawn(async move {
                for round in 0..150 {
                    let name = name((round * 7 + writer * 13) % RECORDS);
                    loop {
                        let key = ns().key(&name).unwrap();
                        let guard = store.read(&key).await.unwrap().guard();
                        let Guard::Exact(seen) = &guard else { panic!("gone") };
                        let payload = Record::decode(&key, seen).unwrap().into_payload();
                        let sealer = Sealer::new(ring.clone(), SensitivePolicy::new());
                        let context = Context::new("app", "ctx", &name);
                        let plain = sealer.reveal(&context, Decision::Seal, &payload).unwrap();
                        let n: u64 = std::str::from_utf8(&plain).unwrap().parse().unwrap();
                        let (key, record) = sealed(&ring, &name, &(n + 1).to_string()).unwrap();
                        let mut batch = Batch::new();
                        batch.guard(key.clone(), guard).put(key, record);
                        match store.commit(batch, Durability::Durable).await {
                            Ok(_) => break,
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict),
                        }
                    }
                }
            })
        })
        .collect();
    let report = Reencrypt::new(&store, &ring).over(place()).batch(10).run().await.unwrap();
    assert!(report.is_complete(), "{report}");
    for writer in writers {
        writer.await.unwrap();
    }
    let mut sum = 0;
    for n in 0..RECORDS {
        sum += value(&store, &ring, &name(n)).await.unwrap().parse::<u64>().unwrap();
    }
    assert_eq!(sum, 600);
    assert_eq!(Reencrypt::new(&store, &ring).over(place()).count().await.unwrap().of(1), 0);
}

/// Changes a record each time the job is about to replace it.
#[derive(Debug)]
struct Meddler {
    store: Store,
    ring: KeyRing,
    times: std::sync::atomic::AtomicU64,
}

impl Resealable for Meddler {
    fn name(&self) -> &'static str {
        "meddled"
    }

    fn range(&self) -> KeyRange {
        ns().all()
    }

    fn rewrite(
        &self,
        key: &Key,
        value: &Bytes,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Bytes>, Unread> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.times.load(SeqCst) > 0 && key.bytes() == b"v00001" {
            self.times.fetch_sub(1, SeqCst);
            let name = "v00001";
            let (key, record) = sealed(&self.ring, name, "meddled").unwrap();
            let mut batch = Batch::new();
            batch.put(key, record);
            // Submitted when called.
            drop(self.store.commit(batch, Durability::Durable));
        }
        place().rewrite(key, value, visitor)
    }
}

#[tokio::test]
async fn records_that_change_meanwhile_are_read_again() {
    for (times, rewritten, left) in [(1, 3, 0), (3, 3, 0), (1000, 2, 1)] {
        let store = Store::memory();
        let old = open(&store, &[1]).await.unwrap();
        let ring = open(&store, &[1, 2]).await.unwrap();
        for n in 0..3 {
            put(&store, &ring, &name(n), "x").await.unwrap();
        }
        ring.promote(2).await.unwrap();
        // A process that has not heard of the new key.
        let (store2, times) = (store.clone(), times.into());
        let meddler = Meddler { store: store2, ring: old, times };
        let report = Reencrypt::new(&store, &ring).over(meddler).run().await.unwrap();
        assert_eq!((report.rewritten, report.left), (rewritten, left), "{report}");
        assert!(report.conflicts > 0);
        assert_eq!(report.is_complete(), left == 0);
        assert_eq!(value(&store, &ring, "v00001").await.unwrap(), "meddled");
        assert_eq!(value(&store, &ring, "v00002").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn failures_are_told_apart_and_left_alone() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2, 3]).await.unwrap();
    for n in 0..4 {
        put(&store, &ring, &name(n), "x").await.unwrap();
    }
    let nine = KeyRing::from_bytes(9, &key(9)).unwrap();
    put(&store, &nine, "w-unknown", "x").await.unwrap();
    ring.promote(3).await.unwrap();
    put(&store, &ring, "w-revoked", "x").await.unwrap();
    ring.promote(2).await.unwrap();
    ring.revoke(3, "x").await.unwrap();
    let raw = |name: &str, value: Bytes| {
        let key = ns().key(name).unwrap();
        let mut batch = Batch::new();
        batch.put(key, value);
        store.commit(batch, Durability::Durable)
    };
    let record =
        |name: &str, payload: &[u8]| Record::new(payload.to_vec()).encode(&ns().key(name).unwrap());
    raw("x-no-record", "?".into()).await.unwrap();
    raw("x-no-stored", record("x-no-stored", b"\x07?")).await.unwrap();
    raw("x-empty", record("x-empty", b"")).await.unwrap();
    let moved = store.read(&ns().key(name(0)).unwrap()).await.unwrap().into_payload().unwrap();
    raw("x-moved", record("x-moved", &moved)).await.unwrap();
    raw("y-plain", record("y-plain", &Stored::Plain("x".into()).encode())).await.unwrap();
    raw("other-1", "anything".into()).await.unwrap();
    let all = async || store.scan(ns().all(), ScanOptions::default()).await.unwrap().entries;

    let before = all().await;
    let job = Reencrypt::new(&store, &ring).over(place());
    let dry = job.dry_run().await.unwrap();
    assert_eq!(all().await, before, "a dry run writes nothing");
    assert_eq!(dry.resealed, 4);
    assert_eq!(dry.rewritten, 0);
    assert_eq!((dry.missing_key, dry.corrupt, dry.not_ours), (2, 4, 1), "{dry}");
    assert_eq!(dry.by_key[&KeyId(1)].rewritable, 5);
    assert_eq!(dry.by_key[&KeyId(9)].rewritable, 1);

    let report = job.run().await.unwrap();
    assert_eq!((report.rewritten, report.resealed), (4, 4));
    assert_eq!((report.missing_key, report.corrupt, report.not_ours), (2, 4, 1), "{report}");
    assert!(!report.is_complete());
    for failure in &report.failures {
        let name = String::from_utf8_lossy(failure.key.bytes()).into_owned();
        let expected =
            if name.starts_with('w') { FailureClass::MissingKey } else { FailureClass::Corrupt };
        assert_eq!(failure.class, expected, "{name}: {}", failure.message);
        assert_eq!(failure.place, "values");
    }
    let after = all().await;
    for (before, after) in before.iter().zip(&after) {
        let changed = before.key.bytes().starts_with(b"v");
        assert_eq!(before != after, changed, "{}", before.key);
    }
    // What it could not move is seen by the count.
    let count = job.count().await.unwrap();
    assert_eq!((count.of(1), count.of(2), count.of(9), count.unreadable()), (1, 4, 1, 3));
    // The key turns up: the next run finds it.
    ring.verify_only(3).await.unwrap();
    assert_eq!(job.run().await.unwrap().resealed, 1);
}

#[tokio::test]
async fn expiry_and_plain_values_are_left_as_they_are() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    let (key, record) = sealed(&ring, "v", "x").unwrap();
    let at = Timestamp::from_millis(u64::MAX);
    let payload = Record::decode(&key, &record).unwrap().into_payload();
    let mut batch = Batch::new();
    batch.put(key.clone(), Record::new(payload).expires_at(at).encode(&key));
    store.commit(batch, Durability::Durable).await.unwrap();
    ring.promote(2).await.unwrap();
    Reencrypt::new(&store, &ring).over(place()).run().await.unwrap();
    let read = store.read(&key).await.unwrap();
    assert_eq!(read.record().unwrap().expiry(), Some(at));
    assert_eq!(value(&store, &ring, "v").await.unwrap(), "x");
}

#[tokio::test]
async fn padding_survives() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    let sealer = Sealer::new(ring.clone(), SensitivePolicy::new().pad_to(64));
    let context = Context::new("app", "ctx", "v");
    let stored = sealer.protect(&context, Decision::Seal, b"hunter2").unwrap();
    let key = ns().key("v").unwrap();
    let mut batch = Batch::new();
    batch.put(key.clone(), Record::new(stored.clone()).encode(&key));
    store.commit(batch, Durability::Durable).await.unwrap();
    ring.promote(2).await.unwrap();
    Reencrypt::new(&store, &ring).over(place()).run().await.unwrap();
    let new = store.read(&key).await.unwrap().into_payload().unwrap();
    assert_ne!(new, stored);
    assert_eq!(new.len(), stored.len());
    assert_eq!(value(&store, &ring, "v").await.unwrap(), "hunter2");
}

/// Pages of a log: several values in each, and no page may change.
#[derive(Debug)]
struct Pages;

impl Resealable for Pages {
    fn name(&self) -> &'static str {
        "pages"
    }

    fn range(&self) -> KeyRange {
        ns().prefix("page")
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        _: &Key,
        value: &Bytes,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Bytes>, Unread> {
        for envelope in value.chunks(80) {
            drop(visitor.envelope(&Context::new("r", "s", "n"), envelope));
        }
        Ok(None)
    }
}

#[tokio::test]
async fn what_cannot_be_rewritten_is_counted_until_it_is_gone() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    let two = ring.seal(&Context::new("r", "s", "n"), b"ab").unwrap().repeat(3);
    let page = ns().key("page-1").unwrap();
    let mut batch = Batch::new();
    batch.put(page.clone(), two.clone());
    store.commit(batch, Durability::Durable).await.unwrap();
    put(&store, &ring, "v", "x").await.unwrap();
    ring.promote(2).await.unwrap();

    let values = SealedRecords::new("values", ns().prefix("v"), context_of);
    let job = Reencrypt::new(&store, &ring).over(Pages).over(values);
    let report = job.run().await.unwrap();
    assert_eq!((report.rewritten, report.resealed), (1, 1));
    assert_eq!(report.by_key[&KeyId(1)].fixed, 3);
    assert_eq!(store.get(&page).await.unwrap().unwrap(), two);
    let count = job.count().await.unwrap();
    assert_eq!((count.of(1), count.by_key()[&KeyId(1)].fixed), (3, 3));
    assert_eq!(count.to_string(), "key 1: 0 and 3 fixed, key 2: 1 and 0 fixed");
    assert!(matches!(ring.destroy(1, "r", &count).await, Err(SealError::InUse { .. })));
    // Retention takes the page.
    store.remove_range(ns().prefix("page")).await.unwrap();
    ring.destroy(1, "r", &job.count().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_new_target_starts_again() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let ring = open(&store, &[1, 2, 3]).await.unwrap();
    for n in 0..20 {
        put(&store, &ring, &name(n), "x").await.unwrap();
    }
    ring.promote(2).await.unwrap();
    let job = Reencrypt::new(&store, &ring).over(place()).batch(5);
    faults.fail(Call::Commit, 3, Fault::before(ErrorKind::Unavailable));
    assert_eq!(job.run().await.unwrap_err().kind(), ErrorKind::Unavailable);
    ring.promote(3).await.unwrap();
    let report = job.run().await.unwrap();
    assert!(!report.resumed);
    assert_eq!(report.rewritten, 20);
    assert_eq!(
        (report.by_key[&KeyId(1)].rewritable, report.by_key[&KeyId(2)].rewritable),
        (10, 10)
    );
}

#[tokio::test]
async fn knobs_and_limits() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    for n in 0..10 {
        put(&store, &ring, &name(n), "x").await.unwrap();
    }
    ring.promote(2).await.unwrap();
    for bad in [String::new(), "x".repeat(201)] {
        let nameless = SealedRecords::new(bad, ns().all(), context_of);
        assert!(Reencrypt::new(&store, &ring).over(nameless).run().await.is_err());
    }
    let twice = Reencrypt::new(&store, &ring).over(place()).over(place());
    assert!(matches!(twice.run().await, Err(SealError::Invalid(_))));
    // Between four batches there are three rests.
    let clock = resurge_store::VirtualClock::new();
    let paused = store.clone().with_clock(clock.clone());
    let pause = std::time::Duration::from_secs(1);
    let job = Reencrypt::new(&paused, &ring).over(place()).batch(3).pause(pause);
    let run = tokio::spawn(async move { job.run().await });
    for _ in 0..3 {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!run.is_finished());
        clock.advance(pause);
    }
    assert_eq!(run.await.unwrap().unwrap().rewritten, 10);
    ring.revoke(2, "x").await.unwrap();
    assert!(Reencrypt::new(&store, &ring).over(place()).run().await.is_err(), "no target");
}

#[test]
fn rewritten_records_are_counted() {
    let counters = Counters::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    metrics::with_local_recorder(&counters, || {
        runtime.block_on(async {
            let store = Store::memory();
            let ring = open(&store, &[1, 2]).await.unwrap();
            for n in 0..5 {
                put(&store, &ring, &name(n), "x").await.unwrap();
            }
            ring.promote(2).await.unwrap();
            Reencrypt::new(&store, &ring).over(place()).run().await.unwrap();
        });
    });
    assert_eq!(counters.get("resurge_seal_resealed_total"), 5);
}

/// Adds a key, promotes it, seals everything anew and destroys the old one; what it says is done.
async fn rotate(store: &Store) -> Result<(), Failure> {
    let ring = open(store, &[1, 2]).await?;
    ring.promote(2).await?;
    let job = Reencrypt::new(store, &ring).over(place()).batch(2);
    job.run().await?;
    ring.destroy(1, "rotated", &job.count().await?).await?;
    Ok(())
}

#[test]
fn a_rotation_survives_a_crash_after_every_commit() {
    let report = Simulation::new()
        .second_crashes(3)
        .run(
            |sim: Sim<usize>| async move {
                let ring = open(sim.store(), &[1]).await?;
                for n in 0..5 {
                    put(sim.store(), &ring, &name(n), &format!("value {n}")).await?;
                    sim.ack(n);
                }
                rotate(sim.store()).await
            },
            |recovered: Recovered<usize>| async move {
                let store = recovered.store();
                // Whatever was left, the next start finishes it.
                rotate(store).await?;
                let ring = open(store, &[1, 2]).await?;
                assert_eq!(ring.state(1), Some(KeyState::Destroyed));
                for n in recovered.acks() {
                    let found = value(store, &ring, &name(*n)).await;
                    recovered.survived(n, found? == format!("value {n}"))?;
                }
                Ok(())
            },
        )
        .unwrap();
    evidence("seal-rotation", &report.to_string());
    assert!(report.to_string().ends_with("0 lost acknowledgements"));
}
