//! What runs in the child processes.

use std::future::pending;
use std::sync::Arc;

use resurge::{Ctx, FlowError, FlowRef, Resurge, RunHandle, StepError};
use resurge_example_driver::Effects;
use resurge_recover_example::{Chain, POINTS, example};
use tokio::sync::Semaphore;

use crate::Result;

async fn open(dir: &str) -> Result<(Resurge, FlowRef<(), ()>)> {
    let app = Resurge::open(dir).await?;
    let flow = app.register("Recover", example)?;
    app.start().await?;
    Ok((app, flow))
}

/// Waits for the end of a run that must fail, and returns why.
async fn failure(run: &RunHandle<()>) -> Result<String> {
    match run.result().await {
        Err(FlowError::Failed { error, .. }) => Ok(error.to_string()),
        Err(other) => Err(other.into()),
        Ok(()) => Err(format!("run {} was to fail", run.id()).into()),
    }
}

/// Starts the run, which fails, and waits to be killed.
#[tokio::main]
pub(crate) async fn run(dir: &str, id: &str) -> Result<()> {
    let (_app, flow) = open(dir).await?;
    let run = flow.start(id, ()).await?;
    println!("suspended: {}", failure(&run).await?);
    pending().await
}

/// Recovers the run by its id, or says why it is not to be recovered.
#[tokio::main]
pub(crate) async fn recover(dir: &str, id: &str) -> Result<()> {
    let (app, flow) = open(dir).await?;
    match flow.run(id).resume().await {
        Ok(run) => run.result().await?,
        Err(refused) => println!("refused: {refused}"),
    }
    app.shutdown().await?;
    Ok(())
}

/// Both in one process.
#[tokio::main]
pub(crate) async fn both(dir: &str, id: &str) -> Result<()> {
    let (app, flow) = open(dir).await?;
    let run = flow.start(id, ()).await?;
    failure(&run).await?;
    println!("======Recover======");
    run.resume().await?.result().await?;
    app.shutdown().await?;
    Ok(())
}

/// Four at once recover one run; its step does not end before all have their answer.
#[tokio::main]
pub(crate) async fn at_once(dir: &str, effects: &str) -> Result<()> {
    let app = Resurge::open(dir).await?;
    let (effects, gate) = (Effects::at(effects), Arc::new(Semaphore::new(0)));
    let open = Arc::clone(&gate);
    let flow = app.register("at-once", move |ctx: Ctx, ()| {
        let (effects, gate) = (effects.clone(), Arc::clone(&gate));
        async move {
            let body = || async {
                effects.leave("step")?;
                if !ctx.recovering() {
                    return Err(StepError::transient("something went wrong"));
                }
                gate.acquire().await?.forget();
                Ok(())
            };
            ctx.step("step", body).await
        }
    })?;
    app.start().await?;
    let run = flow.start("one", ()).await?;
    failure(&run).await?;

    let callers: Vec<_> = (0..4)
        .map(|_| {
            let run = run.clone();
            tokio::spawn(async move { run.resume().await })
        })
        .collect();
    let (mut resumed, mut refused) = (Vec::new(), Vec::new());
    for caller in callers {
        match caller.await? {
            Ok(run) => resumed.push(run),
            Err(error) => refused.push(error),
        }
    }
    let busy = refused.iter().filter(|e| matches!(e, FlowError::AlreadyRunning { .. })).count();
    println!("recovered by {}, refused as running already {busy}", resumed.len());
    open.add_permits(1);
    for run in resumed {
        run.result().await?;
    }
    app.shutdown().await?;
    Ok(())
}

/// The first process starts the chain, the others recover it; each fails at its own point. Waits to be
/// killed.
#[tokio::main]
pub(crate) async fn chain(dir: &str, effects: &str, process: &str) -> Result<()> {
    let process: usize = process.parse()?;
    let fails_at = process.checked_sub(1).and_then(|at| POINTS.get(at)).copied();
    let app = Resurge::open(dir).await?;
    let flow = Chain::new(Effects::at(effects), fails_at).register(&app)?;
    app.start().await?;
    let run = match process {
        1 => flow.start("chain-1", ()).await?,
        _ => match flow.run("chain-1").resume().await {
            Ok(run) => run,
            Err(refused) => {
                println!("outcome: refused: {refused}");
                return pending().await;
            }
        },
    };
    match run.result().await {
        Ok(()) => println!("outcome: succeeded"),
        Err(FlowError::Failed { error, .. }) => println!("outcome: failed: {}", error.root_cause()),
        Err(other) => return Err(other.into()),
    }
    pending().await
}
