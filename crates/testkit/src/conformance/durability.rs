//! What is acknowledged: readable at once, and there after a reopen.

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, Guard, KeyRange, Result, ScanOptions};

use super::subject::{commit, delete, get, key, ns, pairs, patterned, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

const KEEPS_NOTHING: Verdict = Verdict::NotApplicable("the backend keeps nothing to reopen");

pub(super) async fn what_is_acknowledged_is_readable(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in [Durability::Durable, Durability::Buffered] {
        for i in 0..50 {
            store.commit(put("k", format!("{durability:?}-{i}"))?, durability).await?;
            let expected = some(format!("{durability:?}-{i}"));
            ensure_eq!(get(&*store, "k").await?, expected, "an acknowledged commit");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn sync_covers_what_was_submitted(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut submitted = Vec::new();
    for i in 0..20 {
        submitted.push(store.commit(put(format!("{i}"), "v")?, Durability::Buffered));
    }
    store.sync().await?;
    for i in 0..20 {
        ensure_eq!(get(&*store, format!("{i}")).await?, some("v"), "commit {i} after sync");
    }
    for commit in submitted {
        commit.await?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn everything_is_there_after_a_reopen(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let mut store = subject.open().await?;
    for round in 0..3 {
        for i in 0..30 {
            let durability = if i % 2 == 0 { Durability::Durable } else { Durability::Buffered };
            let mut batch = put(format!("{round}-{i:02}"), format!("value {i}"))?;
            batch.put(key(format!("shared-{}", i % 7))?, format!("{round}-{i}"));
            store.commit(batch, durability).await?;
        }
        let everything = KeyRange::everything();
        let before = pairs(&*store, everything.clone(), &ScanOptions::new()).await?;
        let Some(again) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
        let after = pairs(&*again, everything, &ScanOptions::new()).await?;
        ensure_eq!(after, before, "all entries after reopen {round}");
        store = again;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn deletes_are_there_after_a_reopen(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for i in 0..20 {
        commit(&*store, put(format!("{i}"), "v")?).await?;
    }
    let Some(store) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
    for i in 0..10 {
        commit(&*store, delete(format!("{i}"))?).await?;
    }
    let Some(store) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
    for i in 0..20 {
        let expected = (i >= 10).then(|| Bytes::from("v"));
        ensure_eq!(get(&*store, format!("{i}")).await?, expected, "key {i} after the reopen");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn what_was_dropped_unclosed_is_there_after_a_reopen(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for i in 0..20 {
        commit(&*store, put(format!("{i}"), "v")?).await?;
    }
    let Some(store) = subject.reopen_unclosed(store).await? else { return Ok(KEEPS_NOTHING) };
    for i in 0..20 {
        ensure_eq!(get(&*store, format!("{i}")).await?, some("v"), "key {i} after the reopen");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn large_values_are_there_after_a_reopen(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = Batch::new();
    let sizes = [0_usize, 1, 4095, 4096, 4097, 65_537, 1_000_003];
    for size in sizes {
        batch.put(key(format!("{size:07}"))?, patterned(size));
    }
    commit(&*store, batch).await?;
    let Some(store) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
    for size in sizes {
        let found = get(&*store, format!("{size:07}")).await?;
        ensure!(
            found == Some(patterned(size)),
            "the value of {size} bytes differs after the reopen"
        );
    }
    // Overwriting a large value with a small one leaves nothing of it behind.
    commit(&*store, put("1000003", "small")?).await?;
    let Some(store) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
    ensure_eq!(get(&*store, "1000003").await?, some("small"), "the overwritten large value");
    let all = pairs(&*store, ns()?.all(), &ScanOptions::new().keys_only()).await?;
    ensure_eq!(all.len(), sizes.len(), "the number of keys");
    Ok(Verdict::Passed)
}

pub(super) async fn sequence_numbers_go_on_after_a_reopen(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut last = store.commit(put("k", "0")?, Durability::Durable).await?;
    let mut store = store;
    for i in 0..3 {
        let Some(again) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
        let seq = again.commit(put("k", format!("{i}"))?, Durability::Durable).await?;
        ensure!(seq > last, "after reopen {i}: {seq} follows {last}");
        last = seq;
        store = again;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn guards_hold_after_a_reopen(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("k", "v")?).await?;
    let Some(store) = subject.reopen(store).await? else { return Ok(KEEPS_NOTHING) };
    let mut create = put("k", "again")?;
    create.guard(key("k")?, Guard::Absent);
    let result = store.commit(create, Durability::Durable).await;
    refused(result, ErrorKind::Conflict, "Absent on a key from before the reopen")?;
    let mut swap = put("k", "w")?;
    swap.guard(key("k")?, Guard::Exact("v".into()));
    commit(&*store, swap).await?;
    ensure_eq!(get(&*store, "k").await?, some("w"), "the swapped key");
    Ok(Verdict::Passed)
}
