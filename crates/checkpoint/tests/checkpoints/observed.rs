//! DA10: what observers are told matches what happened, and so do the counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{KeyName, Metadata, SharedString, Unit};
use parking_lot::Mutex;
use resurge_checkpoint::{
    CheckpointEvent, CheckpointOptions, Checkpoints, Miss, Outcome, StepPolicy,
};
use resurge_store::Store;

use super::support::{FOREVER, ms, settle, until};
use super::{CHARGE, claim, key, memory};

type Told = Arc<Mutex<Vec<String>>>;

async fn observed(store: &Store) -> (Checkpoints, Told) {
    let told = Told::default();
    let listener = Arc::clone(&told);
    let observer = move |event: &CheckpointEvent<'_>| {
        let line = match event {
            CheckpointEvent::Hit { key, shared } => format!("{}: hit {shared}", key.step()),
            CheckpointEvent::Miss { key, why } => format!("{}: miss {why:?}", key.step()),
            CheckpointEvent::Started { key, why } => format!("{}: started {why:?}", key.step()),
            CheckpointEvent::Refused { key, .. } => format!("{}: refused", key.step()),
            CheckpointEvent::Unprotected { key, .. } => format!("{}: unprotected", key.step()),
            CheckpointEvent::Ended { key, outcome, took } => {
                format!("{}: {outcome:?} in {took:?}", key.step())
            }
            _ => "unknown".to_owned(),
        };
        listener.lock().push(line);
    };
    let options = CheckpointOptions::new().observer(observer);
    (Checkpoints::open(store, options).await.unwrap(), told)
}

#[tokio::test]
async fn da10_every_event_is_told_once() {
    let (store, clock) = memory();
    let (checkpoints, told) = observed(&store).await;
    let a = key("a");
    let slow = || async {
        clock.advance(ms(7));
        Ok::<_, std::io::Error>(1)
    };
    checkpoints.run(&a, ms(100), slow).await.unwrap();
    checkpoints.run(&a, ms(100), slow).await.unwrap();
    clock.advance(ms(200));
    checkpoints.run(&a, ms(100), slow).await.unwrap();
    let fails = || async { Err::<u8, _>(std::io::Error::other("no")) };
    checkpoints.run(&key("b"), FOREVER, fails).await.unwrap_err();
    drop(claim(&checkpoints, &key("c"), CHARGE).await);
    checkpoints.begin(&key("c"), CHARGE).await.unwrap_err();
    claim(&checkpoints, &key("c"), StepPolicy::new()).await.release().await.unwrap();
    let expected = [
        "a: miss Absent",
        "a: started Absent",
        "a: Stored in 7ms",
        "a: hit false",
        "a: miss Expired",
        "a: started Expired",
        "a: Stored in 7ms",
        "b: miss Absent",
        "b: started Absent",
        "b: Failed in 0ns",
        "c: miss Absent",
        "c: started Absent",
        "c: Dropped in 0ns",
        "c: refused",
        "c: miss InDoubt",
        "c: started InDoubt",
        "c: Failed in 0ns",
    ];
    assert_eq!(*told.lock(), expected);
    let stats = checkpoints.stats();
    assert_eq!((stats.hits, stats.misses, stats.started), (1, 5, 5));
    assert_eq!((stats.stored, stats.failed, stats.dropped), (2, 2, 1));
    assert_eq!((stats.refused, stats.taken_over, stats.retries), (1, 1, 0));
}

#[tokio::test]
async fn da10_who_waits_is_a_shared_hit_or_a_retry() {
    let (store, _) = memory();
    let (checkpoints, told) = observed(&store).await;
    let key = key("a");
    let first = claim(&checkpoints, &key, StepPolicy::new()).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (checkpoints, key) = (checkpoints.clone(), key.clone());
            let body = || async { Ok::<_, std::io::Error>(1) };
            tokio::spawn(async move { checkpoints.run(&key, FOREVER, body).await })
        })
        .collect();
    settle().await;
    first.release().await.unwrap();
    for caller in waiting {
        assert_eq!(caller.await.unwrap().unwrap(), 1);
    }
    until("all is told", || told.lock().len() >= 8).await.unwrap();
    let stats = checkpoints.stats();
    assert_eq!((stats.started, stats.retries), (2, 1));
    assert_eq!((stats.stored, stats.failed), (1, 1));
    assert_eq!((stats.misses, stats.hits), (2, 2));
    assert!(told.lock().contains(&format!("a: started {:?}", Miss::Retry)));
    assert!(told.lock().iter().any(|line| line.starts_with(&format!("a: {:?}", Outcome::Stored))));
}

/// Counts by name.
#[derive(Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &metrics::Key, _: &Metadata<'_>) -> metrics::Counter {
        let count = Arc::clone(self.0.lock().entry(key.name().to_owned()).or_default());
        metrics::Counter::from_arc(count)
    }
    fn register_gauge(&self, _: &metrics::Key, _: &Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(&self, _: &metrics::Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn da10_metrics_are_the_same_counts() {
    let recorder = Recorder::default();
    let counts = Arc::clone(&recorder.0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stats = metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let (store, _) = memory();
            let checkpoints = super::open(&store).await;
            let body = || async { Ok::<_, std::io::Error>(1) };
            for step in ["a", "a", "b", "a"] {
                checkpoints.run(&key(step), FOREVER, body).await.unwrap();
            }
            drop(claim(&checkpoints, &key("c"), CHARGE).await);
            checkpoints.begin(&key("c"), CHARGE).await.unwrap_err();
            claim(&checkpoints, &key("c"), StepPolicy::new()).await.release().await.unwrap();
            assert!(checkpoints.forget(&key("b")).await.unwrap());
            checkpoints.purge(&resurge_checkpoint::Filter::all()).await.unwrap();
            checkpoints.stats()
        })
    });
    let count = |name: &str| {
        let name = format!("resurge_checkpoint_{name}_total");
        counts.lock().get(&name).map_or(0, |n| n.load(Ordering::Relaxed))
    };
    assert_eq!((count("hits"), stats.hits), (2, 2));
    assert_eq!((count("misses"), stats.misses), (4, 4));
    assert_eq!((count("started"), stats.started), (4, 4));
    assert_eq!((count("stored"), stats.stored), (2, 2));
    assert_eq!((count("failed"), stats.failed + stats.dropped), (2, 2));
    assert_eq!((count("refused"), count("taken_over"), count("removed")), (1, 1, 2));
}
