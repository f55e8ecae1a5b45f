//! The smallest and the largest, and what is beyond.

use resurge_store::{
    Batch, Durability, ErrorKind, MAX_BATCH_BYTES, MAX_KEY_LEN, MAX_NAMESPACE_LEN, MAX_VALUE_BYTES,
    Namespace, Result, ScanOptions,
};

use super::subject::{commit, get, key, ns, pairs, patterned, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

pub(super) async fn the_smallest_and_largest_keys_work(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = Batch::new();
    let mut keys = Vec::new();
    for ns in [Namespace::new("n")?, Namespace::new(&"n".repeat(MAX_NAMESPACE_LEN))?] {
        for len in [0, 1, MAX_KEY_LEN - 1, MAX_KEY_LEN] {
            keys.push(ns.key(vec![0xff; len])?);
        }
    }
    for key in &keys {
        batch.put(key.clone(), key.raw().clone());
    }
    commit(&*store, batch).await?;
    for key in &keys {
        ensure_eq!(store.get(key).await?, Some(key.raw().clone()), "{key}");
    }
    let all = resurge_store::KeyRange::everything();
    let found = pairs(&*store, all, &ScanOptions::new().max_entries(1)).await?;
    ensure_eq!(found.len(), keys.len(), "the number of keys");
    Ok(Verdict::Passed)
}

pub(super) async fn a_value_of_16_mib_works(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let value = patterned(MAX_VALUE_BYTES);
    commit(&*store, put("large", value.clone())?).await?;
    ensure!(get(&*store, "large").await?.as_ref() == Some(&value), "get returns other bytes");
    let page = store.scan(ns()?.all(), ScanOptions::new()).await?;
    let scanned = page.entries.first().map(|e| &e.value);
    ensure!(scanned == Some(&value), "a scan returns other bytes");
    Ok(Verdict::Passed)
}

pub(super) async fn several_large_values_in_one_batch_work(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let value = patterned(5_000_011);
    let mut batch = Batch::new();
    for i in 0..5 {
        batch.put(key(format!("{i}"))?, value.clone());
    }
    commit(&*store, batch).await?;
    for i in 0..5 {
        ensure!(get(&*store, format!("{i}")).await?.as_ref() == Some(&value), "value {i} differs");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_value_over_the_limit_is_invalid(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = put("beside", "v")?;
    batch.put(key("over-the-limit")?, patterned(MAX_VALUE_BYTES + 1));
    let result = store.commit(batch, Durability::Durable).await;
    let error = refused(result, ErrorKind::Invalid, "a value over the limit")?.to_string();
    ensure!(error.contains("over-the-limit"), "the error does not name the key: {error}");
    ensure!(error.contains(&MAX_VALUE_BYTES.to_string()), "nor the limit: {error}");
    ensure_eq!(get(&*store, "beside").await?, None, "another key of the batch");
    commit(&*store, put("beside", "v")?).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_batch_over_the_limit_is_invalid(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let value = patterned(MAX_VALUE_BYTES);
    let mut batch = Batch::new();
    for i in 0..4 {
        batch.put(key(format!("{i}"))?, value.clone());
    }
    let result = store.commit(batch, Durability::Durable).await;
    let error = refused(result, ErrorKind::Invalid, "a batch over the limit")?.to_string();
    ensure!(error.contains(&MAX_BATCH_BYTES.to_string()), "the limit is not named: {error}");
    ensure_eq!(get(&*store, "0").await?, None, "a key of the batch");
    commit(&*store, put("0", "v")?).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn every_byte_value_survives(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = Batch::new();
    for byte in 0..=u8::MAX {
        batch.put(key([byte, 0, byte])?, vec![byte; 3]);
    }
    commit(&*store, batch).await?;
    for byte in 0..=u8::MAX {
        ensure_eq!(get(&*store, [byte, 0, byte]).await?, some(vec![byte; 3]), "byte {byte}");
    }
    Ok(Verdict::Passed)
}
