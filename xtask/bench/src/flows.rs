//! Workflows of three durable steps: how many a second, how long each takes, what they cost on disk
//! and in memory; recovery of interrupted ones; ten thousand that wait.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
use resurge_store::Store;
use resurge_store_sled::{IndexKind, SledOptions, SledStore};

use crate::drive::{Rate, Stopwatch, runtime};
use crate::{Result, Scale, disk, floor};

mod children;
mod counted;
mod interrupted;
mod waiting;

pub(crate) use children::{CHILD, child};
use counted::Counted;

const STEPS: u64 = 3;
const KINDS: [IndexKind; 2] = [IndexKind::Memory, IndexKind::Sled];

pub(crate) fn run(scale: Scale) -> Result<()> {
    println!("workflows of {STEPS} trivial durable steps, {:?} each", scale.sustained);
    println!(
        "a workflow takes one commit for its start, one a step, and ends with the last step's; (c) / 4 \
         is the floor for that"
    );
    println!(
        "{:>7} {:>9} {:>11} {:>11} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>8}",
        "index",
        "in flight",
        "workflows/s",
        "steps/s",
        "of (c)/4",
        "p50 ms",
        "p99 ms",
        "syncs",
        "cpu us",
        "bytes",
        "peak MiB"
    );
    for kind in KINDS {
        for n in [1, 64, 512] {
            // In a process of its own, so that its memory is its own.
            print!(
                "{}",
                children::output(&["throughput", name(kind), &n.to_string(), scale.name])?
            );
        }
    }
    for kind in KINDS {
        interrupted::run(kind)?;
    }
    for kind in KINDS {
        waiting::run(kind)?;
    }
    Ok(())
}

fn name(kind: IndexKind) -> &'static str {
    match kind {
        IndexKind::Sled => "sled",
        IndexKind::Memory => "memory",
    }
}

async fn three(ctx: Ctx, n: u64) -> FlowResult<u64> {
    let a = ctx.step("reserve", || async { Ok::<_, StepError>(n + 1) }).await?;
    let b = ctx.step("charge", || async { Ok::<_, StepError>(a + 1) }).await?;
    ctx.step("ship", || async { Ok::<_, StepError>(b + 1) }).await
}

async fn open(path: &Path, options: SledOptions) -> Result<Store> {
    let (store, _) = SledStore::open(path.to_owned(), options).await?;
    Ok(Store::new(store))
}

/// One line of the table.
fn throughput(kind: IndexKind, n: usize, scale: Scale) -> Result<()> {
    let dir = disk::scratch()?;
    let c = floor::attainable(dir.path(), n, scale.figure)?;
    std::fs::remove_file(dir.path().join("floor"))?;
    let syncs = Arc::new(AtomicU64::new(0));
    let options = SledOptions::new().index(kind).vfs(Arc::new(Counted(Arc::clone(&syncs))));
    let path = dir.path().join("state");
    runtime()?.block_on(async {
        let store = open(&path, options).await?;
        let flows = Flows::open(&store, FlowsOptions::default())?;
        let threes = flows.register("three", three)?;
        flows.start().await?;
        // What a first use costs is not what is measured.
        for i in 0..n as u64 {
            threes.start(format!("warm-{i}"), i).await?.result().await?;
        }
        let synced = syncs.load(Ordering::Relaxed);
        let before = disk::bytes_below(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let ticks = disk::ticks().unwrap_or_default();
        let watch = Stopwatch::start();
        let tasks: Vec<_> = (0..n)
            .map(|_| {
                let (threes, stop, next) = (threes.clone(), Arc::clone(&stop), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let one = Stopwatch::start();
                        let run = threes.start(format!("order-{i:010}"), i).await?;
                        if run.result().await? != i + STEPS {
                            return Err("a workflow returned something else".into());
                        }
                        took.push(one.elapsed());
                    }
                    Result::Ok(took)
                })
            })
            .collect();
        store.clock().sleep(scale.sustained).await;
        stop.store(true, Ordering::Relaxed);
        let mut took: Vec<Duration> = Vec::new();
        for task in tasks {
            took.extend(task.await??);
        }
        let done = took.len() as u64;
        let rate = watch.rate(done);
        let synced = syncs.load(Ordering::Relaxed) - synced;
        let ticks = disk::ticks().unwrap_or_default().saturating_sub(ticks);
        let peak = disk::peak_memory().unwrap_or_default() >> 20;
        flows.shutdown().await;
        store.close().await?;
        let bytes = disk::bytes_below(&path)?.saturating_sub(before);
        took.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "a ratio is a float")]
        let syncs_each = synced as f64 / done.max(1) as f64;
        println!(
            "{:>7} {n:>9} {:>11} {:>11} {:>9.2} {:>8.2} {:>8.2} {syncs_each:>7.2} {:>7} {:>7} {peak:>8}",
            name(kind),
            rate,
            Rate(rate.0 * 3.0),
            rate.ratio(Rate(c.0 / 4.0)),
            milliseconds(&took, 50),
            milliseconds(&took, 99),
            ticks * 10_000 / done.max(1),
            bytes / done.max(1),
        );
        Ok(())
    })
}

/// A percentile of sorted times.
fn milliseconds(took: &[Duration], percent: usize) -> f64 {
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}
