//! Sync, close and what a backend says about itself.

use resurge_store::{Durability, ErrorKind, MAX_BATCH_BYTES, MAX_VALUE_BYTES, Result, ScanOptions};

use super::subject::{commit, get, ns, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

pub(super) async fn sync_works_on_an_idle_store(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    store.sync().await?;
    commit(&*store, put("k", "v")?).await?;
    store.sync().await?;
    store.sync().await?;
    ensure_eq!(get(&*store, "k").await?, some("v"), "a key after three syncs");
    Ok(Verdict::Passed)
}

pub(super) async fn close_refuses_what_follows(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("k", "v")?).await?;
    store.close().await?;
    refused(get(&*store, "k").await, ErrorKind::Closed, "get after close")?;
    let scan = store.scan(ns()?.all(), ScanOptions::new()).await;
    refused(scan, ErrorKind::Closed, "scan after close")?;
    for durability in [Durability::Durable, Durability::Buffered] {
        let late = store.commit(put("k", "late")?, durability).await;
        refused(late, ErrorKind::Closed, "commit after close")?;
    }
    refused(store.sync().await, ErrorKind::Closed, "sync after close")?;
    Ok(Verdict::Passed)
}

pub(super) async fn close_is_idempotent(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let (first, second) = (store.close(), store.close());
    second.await?;
    first.await?;
    store.close().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn close_keeps_what_was_submitted(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut submitted = Vec::new();
    for i in 0..50 {
        let durability = if i % 2 == 0 { Durability::Durable } else { Durability::Buffered };
        submitted.push(store.commit(put(format!("{i}"), "v")?, durability));
    }
    let closed = store.close();
    for commit in submitted {
        commit.await?;
    }
    closed.await?;
    let Some(store) = subject.reopen(store).await? else {
        // Acknowledged, and gone with the backend: that is all there is to see.
        return Ok(Verdict::Passed);
    };
    for i in 0..50 {
        ensure_eq!(get(&*store, format!("{i}")).await?, some("v"), "commit {i} before the close");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn info_names_the_backend_and_honest_limits(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let info = store.info();
    ensure!(!info.backend.is_empty(), "the backend has no name");
    ensure_eq!(info.max_value_bytes, MAX_VALUE_BYTES, "the largest value");
    ensure_eq!(info.max_batch_bytes, MAX_BATCH_BYTES, "the largest batch");
    store.close().await?;
    ensure_eq!(store.info(), info, "info after closing");
    Ok(Verdict::Passed)
}
