//! Recovering a journal: a snapshot of 10,000 jobs and 100,000 events after it.

use std::collections::BTreeMap;
use std::path::Path;

use resurge_journal::{JournalOptions, Journaled, PlainMachine};
use resurge_store::Store;
use resurge_store_sled::{SledOptions, SledStore};
use serde::{Deserialize, Serialize};

use crate::drive::{Stopwatch, runtime};
use crate::{Result, Scale, disk};

const JOBS: u32 = 10_000;
const EVENTS: u32 = 100_000;
const TOGETHER: u32 = 500;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Jobs(BTreeMap<u32, Job>);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Job {
    runs: u32,
    payload: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ran {
    job: u32,
    output: String,
}

impl PlainMachine for Jobs {
    type Event = Ran;
    fn apply(&mut self, event: &Ran) {
        let job = self.0.entry(event.job).or_default();
        job.runs += 1;
        job.payload.clone_from(&event.output);
    }
}

fn options() -> JournalOptions {
    JournalOptions { snapshot_interval: None, snapshot_events: None, ..JournalOptions::default() }
}

pub(crate) fn run(_: Scale) -> Result<()> {
    let dir = disk::scratch()?;
    let path = dir.path().join("state");
    runtime()?.block_on(async {
        fill(&path).await?;
        let watch = Stopwatch::start();
        let (store, opened) = SledStore::open(path, SledOptions::new()).await?;
        let store = Store::new(store);
        let (jobs, report) = Journaled::<Jobs>::open(&store, "jobs", options()).await?;
        let took = watch.elapsed();
        let count = jobs.read(|jobs| jobs.0.len()).await?;
        println!(
            "{count} jobs in the snapshot, {} events replayed: {took:.2?} in all, store {:.2?}, \
             journal {:.2?}",
            report.replayed, opened.duration, report.duration
        );
        store.close().await?;
        Ok(())
    })
}

async fn fill(path: &Path) -> Result<()> {
    let (store, _) = SledStore::open(path.to_owned(), SledOptions::new()).await?;
    let store = Store::new(store);
    let (jobs, _) = Journaled::<Jobs>::open(&store, "jobs", options()).await?;
    let output = "o".repeat(100);
    let ran = |job: u32| Ran { job, output: output.clone() };
    for first in (0..JOBS).step_by(TOGETHER as usize) {
        jobs.record_all((first..first + TOGETHER).map(ran)).await?;
    }
    jobs.snapshot_now().await?;
    for first in (0..EVENTS).step_by(TOGETHER as usize) {
        jobs.record_all((first..first + TOGETHER).map(|i| ran(i % JOBS))).await?;
    }
    // As a crash would leave it: no last snapshot.
    drop(jobs);
    store.close().await?;
    Ok(())
}
