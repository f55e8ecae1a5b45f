//! Ten thousand runs that sleep or wait for a signal: what they cost at a start and in memory, and
//! that nothing polls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use resurge_flow::{Ctx, FlowRef, FlowResult, Flows, FlowsOptions, StepError};
use resurge_store::Store;
use resurge_store_sled::{IndexKind, SledOptions};

use super::{children, name, open};
use crate::drive::{Stopwatch, runtime};
use crate::{Result, disk};

const RUNS: u64 = 10_000;
/// Long after the benchmark.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);
/// Over which processor time is counted.
const QUIET: Duration = Duration::from_secs(3);

pub(super) fn run(kind: IndexKind) -> Result<()> {
    let dir = disk::scratch()?;
    let path = dir.path().join("state");
    let path = path.to_string_lossy();
    children::output(&["wait", name(kind), &path])?;
    print!("{}", children::output(&["waiting", name(kind), &path])?);
    print!("{}", children::output(&["resident", name(kind), &path])?);
    Ok(())
}

/// One step, then half of them sleep and the others wait for a signal.
async fn waits(ctx: Ctx, n: u64, there: Arc<AtomicU64>) -> FlowResult<u64> {
    let n = ctx.step("begin", || async { Ok::<_, StepError>(n) }).await?;
    there.fetch_add(1, Ordering::Relaxed);
    if n % 2 == 0 {
        ctx.sleep("cool-off", LONG).await?;
    } else {
        ctx.signal::<u64>("approved").await?;
    }
    Ok(n)
}

fn flows(
    store: &Store,
    options: FlowsOptions,
) -> Result<(Flows, FlowRef<u64, u64>, Arc<AtomicU64>)> {
    let flows = Flows::open(store, options)?;
    let there = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&there);
    let runs = flows.register("waits", move |ctx, n| waits(ctx, n, Arc::clone(&counted)))?;
    Ok((flows, runs, there))
}

async fn until(store: &Store, there: &AtomicU64, count: u64) {
    while there.load(Ordering::Relaxed) < count {
        store.clock().sleep(Duration::from_millis(5)).await;
    }
    // What was begun last goes to rest.
    store.clock().sleep(Duration::from_millis(500)).await;
}

/// Begins the runs.
pub(super) fn begin(kind: IndexKind, path: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let store = open(path, SledOptions::new().index(kind)).await?;
        let (flows, runs, there) = flows(&store, FlowsOptions::default())?;
        flows.start().await?;
        let starts: Vec<_> = (0..RUNS)
            .map(|i| {
                let runs = runs.clone();
                tokio::spawn(async move { runs.start(format!("order-{i}"), i).await.map(drop) })
            })
            .collect();
        for start in starts {
            start.await??;
        }
        until(&store, &there, RUNS).await;
        flows.shutdown().await;
        store.close().await?;
        Ok(())
    })
}

/// Starts over with them out of memory.
pub(super) fn evicted(kind: IndexKind, path: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let watch = Stopwatch::start();
        let store = open(path, SledOptions::new().index(kind)).await?;
        let opened = watch.elapsed();
        let (flows, _, _) = flows(&store, FlowsOptions::default())?;
        let before = disk::memory().unwrap_or_default();
        let watch = Stopwatch::start();
        let report = flows.start().await?;
        let started = watch.elapsed();
        let each = disk::memory().unwrap_or_default().saturating_sub(before) / RUNS;
        let ticks = disk::ticks().unwrap_or_default();
        store.clock().sleep(QUIET).await;
        let ticks = disk::ticks().unwrap_or_default() - ticks;
        println!(
            "{:>7}: {} waiting runs, started in {started:.2?} (store opened in {opened:.2?}); each takes \
             {each} bytes out of memory; all of them {} ms of processor time in {QUIET:?}",
            name(kind),
            report.waiting,
            ticks * 10,
        );
        flows.shutdown().await;
        store.close().await?;
        Ok(())
    })
}

/// The same with them in memory.
pub(super) fn resident(kind: IndexKind, path: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let store = open(path, SledOptions::new().index(kind)).await?;
        let options =
            FlowsOptions { start_paused: true, evict_after: LONG, ..FlowsOptions::default() };
        let (flows, _, there) = flows(&store, options)?;
        let before = disk::memory().unwrap_or_default();
        flows.start().await?;
        let watch = Stopwatch::start();
        flows.release_all();
        while there.load(Ordering::Relaxed) < RUNS {
            store.clock().sleep(Duration::from_millis(5)).await;
        }
        let replayed = watch.elapsed();
        until(&store, &there, RUNS).await;
        let each = disk::memory().unwrap_or_default().saturating_sub(before) / RUNS;
        let ticks = disk::ticks().unwrap_or_default();
        store.clock().sleep(QUIET).await;
        let ticks = disk::ticks().unwrap_or_default() - ticks;
        println!(
            "{:>7}: all of them replayed in {replayed:.2?}; each takes {each} bytes in memory; {} ms of \
             processor time in {QUIET:?}",
            name(kind),
            ticks * 10,
        );
        flows.shutdown().await;
        store.close().await?;
        Ok(())
    })
}
