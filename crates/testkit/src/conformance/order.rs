//! Submission and order: calls, not polls.

use resurge_store::{CommitSeq, Durability, ErrorKind, Guard, Result};

use super::subject::{get, key, put, refused, some};
use super::{CaseFailure, Subject, Verdict};

const BOTH: [Durability; 2] = [Durability::Durable, Durability::Buffered];

pub(super) async fn a_commit_is_submitted_when_called(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in BOTH {
        let name = format!("{durability:?}");
        let unpolled = store.commit(put(&name, "v")?, durability);
        store.sync().await?;
        ensure_eq!(get(&*store, &name).await?, some("v"), "an unpolled {durability:?} commit");
        unpolled.await?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_dropped_future_still_commits(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in BOTH {
        for i in 0..50 {
            drop(store.commit(put(format!("{durability:?}-{i}"), "v")?, durability));
        }
        store.sync().await?;
        for i in 0..50 {
            let found = get(&*store, format!("{durability:?}-{i}")).await?;
            ensure_eq!(found, some("v"), "dropped {durability:?} commit {i}");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn calls_commit_in_call_order(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for durability in BOTH {
        let mut submitted = Vec::new();
        for i in 0..200 {
            submitted.push(store.commit(put("same", format!("{i}"))?, durability));
        }
        // Awaited backwards: polls must not matter.
        let mut later: Option<CommitSeq> = None;
        for commit in submitted.into_iter().rev() {
            let seq = commit.await?;
            let in_order = later.is_none_or(|later| seq < later);
            ensure!(in_order, "{durability:?}: {seq} was called before {later:?}");
            later = Some(seq);
        }
        ensure_eq!(get(&*store, "same").await?, some("199"), "the last of 200 {durability:?} puts");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn both_durabilities_keep_one_order(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for round in 0..20 {
        let mut submitted = Vec::new();
        for i in 0..10 {
            let durability =
                if (round + i) % 2 == 0 { Durability::Durable } else { Durability::Buffered };
            submitted.push(store.commit(put("same", format!("{round}-{i}"))?, durability));
        }
        let mut last = CommitSeq(0);
        for commit in submitted {
            let seq = commit.await?;
            ensure!(seq > last, "mixed durabilities: {seq} follows {last}");
            last = seq;
        }
        let expected = some(format!("{round}-9"));
        ensure_eq!(get(&*store, "same").await?, expected, "the last of mixed puts");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn sequence_numbers_strictly_increase(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut last = CommitSeq(0);
    for i in 0..50 {
        for durability in BOTH {
            let seq = store.commit(put("k", format!("{i}"))?, durability).await?;
            ensure!(seq > last, "{durability:?} commit {i} got {seq} after {last}");
            last = seq;
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_conflict_does_not_disturb_its_neighbours(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for i in 0..50 {
        let before = store.commit(put("before", format!("{i}"))?, Durability::Durable);
        let mut doomed = put("before", "doomed")?;
        doomed.guard(key("missing")?, Guard::Present);
        let doomed = store.commit(doomed, Durability::Durable);
        let after = store.commit(put("after", format!("{i}"))?, Durability::Durable);
        let before = before.await?;
        refused(doomed.await, ErrorKind::Conflict, "the one between")?;
        ensure!(after.await? > before, "the order of its neighbours");
        ensure_eq!(get(&*store, "before").await?, some(format!("{i}")), "the one before");
        ensure_eq!(get(&*store, "after").await?, some(format!("{i}")), "the one after");
    }
    Ok(Verdict::Passed)
}
