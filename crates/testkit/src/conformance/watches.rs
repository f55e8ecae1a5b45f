//! Waiting for changes: none is lost, none is made up.

use std::sync::Arc;

use resurge_store::{Batch, Durability, ErrorKind, Guard, Namespace, Result};

use super::subject::{commit, delete, get, key, ns, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

const BOTH: [Durability; 2] = [Durability::Durable, Durability::Buffered];

pub(super) async fn a_watch_is_armed_when_made(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in BOTH {
        let mut watch = store.watch(&ns()?);
        store.commit(put("k", "v")?, durability).await?;
        // Not asked before the change, and still it is seen.
        watch.changed().await?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_watch_wakes_who_waits(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in BOTH {
        let mut watch = store.watch(&ns()?);
        let waiting = tokio::spawn(async move { watch.changed().await });
        tokio::task::yield_now().await;
        store.commit(put("k", "v")?, durability).await?;
        let woken =
            waiting.await.map_err(|e| CaseFailure::new(format!("the waiter failed: {e}")))?;
        woken?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn many_changes_wake_once(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut watch = store.watch(&ns()?);
    for i in 0..10 {
        commit(&*store, put("k", format!("{i}"))?).await?;
    }
    watch.changed().await?;
    ensure!(!watch.has_changed()?, "ten changes before one wait woke more than once");
    commit(&*store, put("k", "again")?).await?;
    watch.changed().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_watch_sees_its_namespace_only(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let (own, longer) = (Namespace::new("watched")?, Namespace::new("watched/more")?);
    let mut watch = store.watch(&own);
    let mut others = Batch::new();
    others.put(longer.key("k")?, "v").put(Namespace::new("watche")?.key("d")?, "v");
    commit(&*store, others).await?;
    ensure!(!watch.has_changed()?, "changes in other namespaces fired");
    let mut both = Batch::new();
    both.put(longer.key("k")?, "v").put(own.key("k")?, "v");
    commit(&*store, both).await?;
    watch.changed().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_delete_fires(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("k", "v")?).await?;
    let mut watch = store.watch(&ns()?);
    commit(&*store, delete("k")?).await?;
    watch.changed().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_refused_batch_does_not_fire(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let watch = store.watch(&ns()?);
    let mut batch = put("k", "v")?;
    batch.guard(key("missing")?, Guard::Present);
    let result = store.commit(batch, Durability::Durable).await;
    refused(result, ErrorKind::Conflict, "a false guard")?;
    store.sync().await?;
    ensure!(!watch.has_changed()?, "a refused batch fired");
    Ok(Verdict::Passed)
}

pub(super) async fn what_fired_is_readable(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut watch = store.watch(&ns()?);
    let reader = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            // Watch, read, wait: the loop everybody writes. It must come to the last value.
            let mut seen = 0;
            while seen < 200 {
                let value = get(&*store, "n").await?.unwrap_or_default();
                let now = std::str::from_utf8(&value).ok().and_then(|n| n.parse().ok());
                let now = now.unwrap_or(0);
                ensure!(now >= seen, "{now} was read after {seen}");
                seen = now;
                if seen < 200 {
                    watch.changed().await?;
                }
            }
            Ok(())
        })
    };
    for i in 1..=200 {
        let durability = if i % 4 == 0 { Durability::Durable } else { Durability::Buffered };
        store.commit(put("n", format!("{i}"))?, durability).await?;
    }
    reader.await.map_err(|e| CaseFailure::new(format!("the reader failed: {e}")))??;
    Ok(Verdict::Passed)
}

pub(super) async fn each_watch_sees_each_change(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut first = store.watch(&ns()?);
    commit(&*store, put("k", "1")?).await?;
    let mut second = store.watch(&ns()?);
    ensure!(!second.has_changed()?, "a watch fired for a change before it");
    commit(&*store, put("k", "2")?).await?;
    first.changed().await?;
    second.changed().await?;
    drop(first);
    commit(&*store, put("k", "3")?).await?;
    second.changed().await?;
    ensure_eq!(get(&*store, "k").await?, some("3"), "the value");
    Ok(Verdict::Passed)
}

pub(super) async fn closing_ends_watches(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut before = store.watch(&ns()?);
    store.close().await?;
    refused(before.changed().await, ErrorKind::Closed, "a watch of a closed store")?;
    let mut after = store.watch(&ns()?);
    refused(after.changed().await, ErrorKind::Closed, "a watch made after closing")?;
    Ok(Verdict::Passed)
}
