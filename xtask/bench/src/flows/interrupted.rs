//! A thousand runs killed in their second step, recovered.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
use resurge_store_sled::{IndexKind, SledOptions};

use super::{children, name, open};
use crate::drive::{Stopwatch, runtime};
use crate::{Result, disk};

const RUNS: u64 = 1_000;

pub(super) fn run(kind: IndexKind) -> Result<()> {
    let dir = disk::scratch()?;
    let path = dir.path().join("state");
    let mut child = children::command(&["interrupt", name(kind), &path.to_string_lossy()])?
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut ready)?;
    }
    child.kill()?;
    child.wait()?;
    if ready.trim() != "ready" {
        return Err("the runs did not begin".into());
    }
    runtime()?.block_on(async {
        let watch = Stopwatch::start();
        let store = open(&path, SledOptions::new().index(kind)).await?;
        let opened = watch.elapsed();
        let watch = Stopwatch::start();
        let flows = Flows::open(&store, FlowsOptions::default())?;
        let runs = flows.register("interrupted", |ctx, n| steps(ctx, n, None))?;
        let report = flows.start().await?;
        let known = watch.elapsed();
        for i in 0..RUNS {
            if runs.run(id(i)).result().await? != i + 3 {
                return Err("a run returned something else".into());
            }
        }
        println!(
            "{:>7}: {} interrupted runs recovered, all ended after {:.2?}, known after {known:.2?}; \
             store opened in {opened:.2?}",
            name(kind),
            report.running,
            watch.elapsed()
        );
        flows.shutdown().await;
        store.close().await?;
        Ok(())
    })
}

fn id(i: u64) -> String {
    format!("order-{i}")
}

/// Three steps; with `begun`, the second one is counted there and never ends.
async fn steps(ctx: Ctx, n: u64, begun: Option<Arc<AtomicU64>>) -> FlowResult<u64> {
    let a = ctx.step("reserve", || async { Ok::<_, StepError>(n + 1) }).await?;
    let charge = ctx.step("charge", || async {
        if let Some(begun) = &begun {
            begun.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        Ok::<_, StepError>(a + 1)
    });
    let b = charge.await?;
    ctx.step("ship", || async { Ok::<_, StepError>(b + 1) }).await
}

/// Begins the runs, says so when all are in their second step, and waits to be killed.
pub(super) fn child(kind: IndexKind, path: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let store = open(path, SledOptions::new().index(kind)).await?;
        let flows = Flows::open(&store, FlowsOptions::default())?;
        let begun = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&begun);
        let runs =
            flows.register("interrupted", move |ctx, n| steps(ctx, n, Some(Arc::clone(&begun))))?;
        flows.start().await?;
        for i in 0..RUNS {
            runs.start(id(i), i).await?;
        }
        while seen.load(Ordering::Relaxed) < RUNS {
            store.clock().sleep(Duration::from_millis(5)).await;
        }
        println!("ready");
        std::future::pending().await
    })
}
