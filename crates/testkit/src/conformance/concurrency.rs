//! Many at once: nothing is lost, nothing is done twice.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use resurge_store::{Durability, ErrorKind, Guard, Result, StateStore};
use tokio::task::JoinSet;

use super::subject::{commit, get, key, put, some};
use super::{CaseFailure, Subject, Verdict};

fn number(bytes: Option<&Bytes>) -> Result<u64, CaseFailure> {
    let Some(bytes) = bytes else { return Ok(0) };
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| CaseFailure::new(format!("{bytes:?} is not what was written")))
}

/// Runs `n` tasks to their end and returns what they returned.
async fn all<T, F, Fut>(n: u64, task: F) -> Result<Vec<T>, CaseFailure>
where
    T: Send + 'static,
    F: Fn(u64) -> Fut,
    Fut: Future<Output = Result<T, CaseFailure>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for i in 0..n {
        tasks.spawn(task(i));
    }
    let mut results = Vec::new();
    while let Some(done) = tasks.join_next().await {
        results.push(done.map_err(|e| CaseFailure::new(format!("a task failed: {e}")))??);
    }
    Ok(results)
}

async fn increment(store: &dyn StateStore, durability: Durability) -> Result<(), CaseFailure> {
    loop {
        let stored = get(store, "counter").await?;
        let mut batch = put("counter", (number(stored.as_ref())? + 1).to_string())?;
        batch.guard(key("counter")?, Guard::of(stored));
        match store.commit(batch, durability).await {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            Err(e) => return Err(e.into()),
        }
    }
}

pub(super) async fn guarded_increments_lose_nothing(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let shared = &store;
    all(8, |task| {
        let store = Arc::clone(shared);
        async move {
            for i in 0..25 {
                let durable = (task + i) % 2 == 0;
                let durability = if durable { Durability::Durable } else { Durability::Buffered };
                increment(&*store, durability).await?;
            }
            Ok(())
        }
    })
    .await?;
    ensure_eq!(get(&*store, "counter").await?, some("200"), "8 times 25 increments");
    Ok(Verdict::Passed)
}

pub(super) async fn one_creator_wins(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for round in 0..20 {
        let shared = &store;
        let name = format!("claim-{round}");
        let name = &name;
        let winners = all(6, |task| {
            let (store, name) = (Arc::clone(shared), name.clone());
            async move {
                let mut claim = put(&name, task.to_string())?;
                claim.guard(key(&name)?, Guard::Absent);
                match store.commit(claim, Durability::Durable).await {
                    Ok(_) => Ok(Some(task)),
                    Err(e) if e.kind() == ErrorKind::Conflict => Ok(None),
                    Err(e) => Err(e.into()),
                }
            }
        });
        let winners: Vec<u64> = winners.await?.into_iter().flatten().collect();
        let holder = number(get(&*store, name).await?.as_ref())?;
        ensure_eq!(winners, vec![holder], "the winners of claim {round}");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn writers_do_not_disturb_each_other(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let shared = &store;
    let seqs = all(8, |task| {
        let store = Arc::clone(shared);
        async move {
            let mut seqs = Vec::new();
            for i in 0..40 {
                let batch = put(format!("{task}-{i}"), format!("{task}/{i}"))?;
                seqs.push(store.commit(batch, Durability::Durable).await?);
            }
            ensure!(seqs.is_sorted(), "one writer's commits changed order: {seqs:?}");
            Ok(seqs)
        }
    });
    let mut seqs: Vec<_> = seqs.await?.into_iter().flatten().collect();
    seqs.sort_unstable();
    seqs.dedup();
    ensure_eq!(seqs.len(), 320, "distinct sequence numbers of 320 commits");
    for task in 0..8 {
        for i in 0..40 {
            let found = get(&*store, format!("{task}-{i}")).await?;
            ensure_eq!(found, some(format!("{task}/{i}")), "commit {i} of writer {task}");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn unavailable_means_nothing_was_written(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let value = Bytes::from(vec![7_u8; 8 << 20]);
    let mut submitted = Vec::new();
    for i in 0..10 {
        let batch = put(format!("{i}"), value.clone())?;
        submitted.push(store.commit(batch, Durability::Durable));
    }
    let mut refused = Vec::new();
    for (i, commit) in submitted.into_iter().enumerate() {
        match commit.await {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Unavailable => refused.push(i),
            Err(e) => return Err(e.into()),
        }
    }
    ensure!(!refused.contains(&0), "a single batch was refused although nothing was pending");
    for i in 0..10 {
        let there = get(&*store, format!("{i}")).await?.is_some();
        ensure_eq!(there, !refused.contains(&i), "whether commit {i} was written");
    }
    for i in refused {
        commit(&*store, put(format!("{i}"), value.clone())?).await?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn readers_never_see_time_go_back(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    const CHANGES: u64 = 50;
    let store = subject.open().await?;
    let (shared, reading) = (&store, &Arc::new(AtomicU64::new(4)));
    all(5, |task| {
        let (store, reading) = (Arc::clone(shared), Arc::clone(reading));
        async move {
            if task == 0 {
                let mut i = 0_u64;
                while reading.load(Ordering::Acquire) > 0 {
                    i += 1;
                    let durability = if i.is_multiple_of(2) {
                        Durability::Durable
                    } else {
                        Durability::Buffered
                    };
                    store.commit(put("n", i.to_string())?, durability).await?;
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
            let (mut seen, mut changes) = (0, 0);
            while changes < CHANGES {
                let now = number(get(&*store, "n").await?.as_ref())?;
                ensure!(now >= seen, "{now} was read after {seen}");
                changes += u64::from(now > seen);
                seen = now;
                tokio::task::yield_now().await;
            }
            reading.fetch_sub(1, Ordering::AcqRel);
            Ok(())
        }
    })
    .await?;
    Ok(Verdict::Passed)
}
