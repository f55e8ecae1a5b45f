//! Conditions: what they see, when they are checked, what a refusal says.

use resurge_store::{Batch, Durability, ErrorKind, Guard, Result};

use super::subject::{commit, delete, get, key, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

fn guarded(name: &str, guard: Guard) -> Result<Batch> {
    let mut batch = Batch::new();
    batch.guard(key(name)?, guard);
    Ok(batch)
}

pub(super) async fn each_guard_holds_and_refuses(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("there", "v")?).await?;
    for (name, guard, holds) in [
        ("missing", Guard::Absent, true),
        ("there", Guard::Absent, false),
        ("missing", Guard::Present, false),
        ("there", Guard::Present, true),
        ("missing", Guard::Exact("v".into()), false),
        ("there", Guard::Exact("v".into()), true),
        ("there", Guard::Exact("V".into()), false),
        ("there", Guard::Exact("vv".into()), false),
        ("there", Guard::Exact("".into()), false),
    ] {
        let mut batch = guarded(name, guard.clone())?;
        batch.put(key("touched")?, "x");
        let result = store.commit(batch, Durability::Durable).await;
        let touched = get(&*store, "touched").await?.is_some();
        ensure_eq!(touched, holds, "{guard:?} on `{name}`: whether the batch applied");
        if holds {
            result?;
            commit(&*store, delete("touched")?).await?;
        } else {
            refused(result, ErrorKind::Conflict, "a guard that does not hold")?;
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn guards_are_checked_before_own_operations(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut create = put("a", "1")?;
    create.guard(key("a")?, Guard::Absent);
    commit(&*store, create).await?;
    let mut circular = put("b", "1")?;
    circular.guard(key("b")?, Guard::Present);
    let result = store.commit(circular, Durability::Durable).await;
    refused(result, ErrorKind::Conflict, "a guard that only the batch itself would satisfy")?;
    let mut swap = put("a", "2")?;
    swap.guard(key("a")?, Guard::Exact("1".into()));
    commit(&*store, swap).await?;
    ensure_eq!(get(&*store, "a").await?, some("2"), "the swapped key");
    Ok(Verdict::Passed)
}

pub(super) async fn guards_see_commits_not_yet_acknowledged(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in [Durability::Durable, Durability::Buffered] {
        for i in 0..50 {
            let name = format!("{durability:?}-{i}");
            let create = || {
                let mut batch = put(&name, "v")?;
                batch.guard(key(&name)?, Guard::Absent);
                Ok::<_, CaseFailure>(batch)
            };
            let first = store.commit(create()?, durability);
            let second = store.commit(create()?, durability);
            let third = store.commit(guarded(&name, Guard::Exact("v".into()))?, durability);
            first.await?;
            refused(second.await, ErrorKind::Conflict, "Absent after an unacknowledged put")?;
            third.await?;
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_pipeline_of_compare_and_swaps_succeeds(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("n", "0")?).await?;
    let mut submitted = Vec::new();
    for i in 0..200_u32 {
        let mut batch = put("n", (i + 1).to_string())?;
        batch.guard(key("n")?, Guard::Exact(i.to_string().into()));
        let durability = if i % 3 == 0 { Durability::Durable } else { Durability::Buffered };
        submitted.push(store.commit(batch, durability));
    }
    for commit in submitted {
        commit.await?;
    }
    ensure_eq!(get(&*store, "n").await?, some("200"), "the end of the chain");
    Ok(Verdict::Passed)
}

pub(super) async fn guards_see_deletes_not_yet_acknowledged(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for i in 0..50 {
        commit(&*store, put("k", "old")?).await?;
        let deleted = store.commit(delete("k")?, Durability::Durable);
        let mut create = put("k", format!("new-{i}"))?;
        create.guard(key("k")?, Guard::Absent);
        let created = store.commit(create, Durability::Durable);
        deleted.await?;
        created.await?;
        ensure_eq!(get(&*store, "k").await?, some(format!("new-{i}")), "the created key");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_refused_batch_is_no_basis_for_guards(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for i in 0..50 {
        let name = format!("k{i}");
        let mut refused_one = put(&name, "from a refused batch")?;
        refused_one.guard(key("missing")?, Guard::Present);
        let first = store.commit(refused_one, Durability::Durable);
        let mut create = put(&name, "v")?;
        create.guard(key(&name)?, Guard::Absent);
        let second = store.commit(create, Durability::Durable);
        refused(first.await, ErrorKind::Conflict, "the first batch")?;
        second.await?;
        ensure_eq!(get(&*store, &name).await?, some("v"), "the key of both batches");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_conflict_names_its_key(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("b", "v")?).await?;
    let mut batch = put("untouched", "x")?;
    batch
        .guard(key("a")?, Guard::Absent)
        .guard(key("b")?, Guard::Exact("w".into()))
        .guard(key("c")?, Guard::Absent);
    let result = store.commit(batch, Durability::Durable).await;
    let error = refused(result, ErrorKind::Conflict, "one false guard of three")?;
    ensure_eq!(error.key(), Some(&key("b")?), "the key the conflict names");
    Ok(Verdict::Passed)
}

pub(super) async fn a_batch_of_guards_alone_decides(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    store.commit(guarded("k", Guard::Absent)?, Durability::Durable).await?;
    let result = store.commit(guarded("k", Guard::Present)?, Durability::Durable).await;
    refused(result, ErrorKind::Conflict, "guards without operations")?;
    Ok(Verdict::Passed)
}

pub(super) async fn an_empty_value_is_present(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("empty", "")?).await?;
    ensure_eq!(get(&*store, "empty").await?, some(""), "an empty value");
    store.commit(guarded("empty", Guard::Present)?, Durability::Durable).await?;
    store.commit(guarded("empty", Guard::Exact("".into()))?, Durability::Durable).await?;
    let result = store.commit(guarded("empty", Guard::Absent)?, Durability::Durable).await;
    refused(result, ErrorKind::Conflict, "Absent on an empty value")?;
    Ok(Verdict::Passed)
}
