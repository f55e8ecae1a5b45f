//! Removing ranges and sweeping expired records on this backend.

use std::time::Duration;

use resurge_store::{
    Batch, Durability, Namespace, Record, Result, ScanOptions, Store, VirtualClock,
};

use super::subject::{commit, key, ns, pairs};
use super::{CaseFailure, Subject, Verdict};

pub(super) async fn remove_range_removes_the_range_and_nothing_else(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = Store::from_arc(subject.open().await?);
    let neighbour = Namespace::new("conformance-neighbour")?.key("k")?;
    let mut batch = Batch::new();
    batch.put(neighbour.clone(), "v");
    // More than one page of deletes.
    for i in 0..2_345_u32 {
        batch.put(key(i.to_be_bytes())?, "v");
    }
    commit(&**store.backend(), batch).await?;
    let (from, to) = (10_u32.to_be_bytes(), 2_300_u32.to_be_bytes());
    let range = ns()?.range(&from[..]..&to[..]);
    let removed = store.remove_range(range.clone()).await?;
    ensure_eq!(removed, 2_290, "the number of keys removed");
    let left = pairs(&**store.backend(), ns()?.all(), &ScanOptions::new()).await?;
    ensure_eq!(left.len(), 55, "the keys left");
    ensure!(store.get(&key(9_u32.to_be_bytes())?).await?.is_some(), "the key below is gone");
    ensure!(store.get(&key(to)?).await?.is_some(), "the key at the end is gone");
    ensure!(store.get(&neighbour).await?.is_some(), "another namespace's key is gone");
    ensure_eq!(store.remove_range(range).await?, 0, "keys removed by a second call");
    Ok(Verdict::Passed)
}

pub(super) async fn sweep_deletes_expired_records_only(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let clock = VirtualClock::new();
    let store = Store::from_arc(subject.open().await?).with_clock(clock.clone());
    let mut batch = Batch::new();
    for i in 0..500_u64 {
        let key = key(format!("{i:03}"))?;
        let mut record = Record::new(format!("{i}"));
        if i % 2 == 0 {
            record = record.expires_at(store.now().saturating_add(Duration::from_secs(i)));
        }
        batch.put(key.clone(), record.encode(&key));
    }
    store.commit(batch, Durability::Durable).await?;
    clock.advance(Duration::from_secs(200));
    let swept = store.sweep(ns()?.all()).await?;
    ensure_eq!((swept.scanned, swept.deleted, swept.corrupt), (500, 101, 0), "what was swept");
    let left = pairs(&**store.backend(), ns()?.all(), &ScanOptions::new().keys_only()).await?;
    ensure_eq!(left.len(), 399, "the records left");
    ensure!(store.get(&key("200")?).await?.is_none(), "the record that expired just now is left");
    ensure!(store.get(&key("202")?).await?.is_some(), "a record still valid is gone");
    ensure_eq!(store.sweep(ns()?.all()).await?.deleted, 0, "records deleted by a second sweep");
    Ok(Verdict::Passed)
}

pub(super) async fn sweep_leaves_what_is_no_record(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let clock = VirtualClock::new();
    let store = Store::from_arc(subject.open().await?).with_clock(clock.clone());
    let expired = Record::new("v").expires_at(store.now());
    let mut batch = Batch::new();
    batch.put(key("raw")?, "no record").put(key("moved")?, expired.encode(&key("elsewhere")?));
    batch.put(key("expired")?, expired.encode(&key("expired")?));
    store.commit(batch, Durability::Durable).await?;
    clock.advance(Duration::from_secs(1));
    let swept = store.sweep(ns()?.all()).await?;
    ensure_eq!((swept.scanned, swept.deleted, swept.corrupt), (3, 1, 2), "what was swept");
    ensure!(store.get(&key("raw")?).await?.is_some(), "bytes that are no record were deleted");
    ensure!(store.get(&key("moved")?).await?.is_some(), "a damaged record was deleted");
    Ok(Verdict::Passed)
}
