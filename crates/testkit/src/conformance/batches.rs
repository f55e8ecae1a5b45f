//! All or nothing, across namespaces, in order.

use resurge_store::{Batch, Durability, ErrorKind, Guard, Namespace, Result};

use super::subject::{commit, delete, get, key, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

pub(super) async fn a_batch_applies_to_all_its_namespaces(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let keys = ["one", "two", "three/deep"].map(|name| Namespace::new(name)?.key("same"));
    let mut batch = Batch::new();
    for key in keys.clone() {
        let key = key?;
        batch.put(key.clone(), key.raw().clone());
    }
    commit(&*store, batch).await?;
    for key in keys {
        let key = key?;
        ensure_eq!(store.get(&key).await?, Some(key.raw().clone()), "the value of {key}");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_refused_batch_changes_nothing(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("kept", "old")?).await?;
    let elsewhere = Namespace::new("elsewhere")?.key("new")?;
    for durability in [Durability::Durable, Durability::Buffered] {
        let mut batch = put("kept", "new")?;
        batch.put(elsewhere.clone(), "x").guard(key("missing")?, Guard::Present);
        refused(store.commit(batch, durability).await, ErrorKind::Conflict, "a false guard")?;
        ensure_eq!(get(&*store, "kept").await?, some("old"), "a key of a refused batch");
        ensure_eq!(store.get(&elsewhere).await?, None, "another namespace of a refused batch");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn operations_apply_in_order(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = put("last-wins", "1")?;
    batch.put(key("last-wins")?, "2");
    batch.merge(put("put-delete", "1")?).merge(delete("put-delete")?);
    batch.merge(put("delete-put", "1")?).merge(delete("delete-put")?);
    batch.merge(put("delete-put", "2")?);
    commit(&*store, batch).await?;
    ensure_eq!(get(&*store, "last-wins").await?, some("2"), "put after put");
    ensure_eq!(get(&*store, "put-delete").await?, None, "delete after put");
    ensure_eq!(get(&*store, "delete-put").await?, some("2"), "put after delete");
    Ok(Verdict::Passed)
}

pub(super) async fn an_empty_batch_commits(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut last = store.commit(put("a", "1")?, Durability::Durable).await?;
    for durability in [Durability::Durable, Durability::Buffered] {
        let seq = store.commit(Batch::new(), durability).await?;
        ensure!(seq > last, "an empty batch got {seq} after {last}");
        last = seq;
    }
    ensure_eq!(get(&*store, "a").await?, some("1"), "an untouched key");
    Ok(Verdict::Passed)
}

pub(super) async fn deleting_nothing_is_fine(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, delete("never-there")?).await?;
    ensure_eq!(get(&*store, "never-there").await?, None, "a key that was only deleted");
    commit(&*store, put("never-there", "now")?).await?;
    ensure_eq!(get(&*store, "never-there").await?, some("now"), "a put after it");
    Ok(Verdict::Passed)
}

pub(super) async fn a_batch_of_ten_thousand_operations_applies(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = Batch::new();
    for i in 0..10_000_u32 {
        batch.put(key(i.to_be_bytes())?, i.to_string());
    }
    commit(&*store, batch).await?;
    for i in (0..10_000_u32).step_by(997) {
        ensure_eq!(get(&*store, i.to_be_bytes()).await?, some(i.to_string()), "operation {i}");
    }
    Ok(Verdict::Passed)
}
