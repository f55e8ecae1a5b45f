//! Workflows killed again and again: no acknowledged start is lost, every run ends as it should, no
//! step runs twice but one that was in flight at a kill.
//!
//! `resurge-crash flows --cycles 100`; the last line is
//! `cycles=100 started=25000 succeeded=25010 lost=0 wrong=0 steps=125050 repeated=6000 unopenable=0`.
//! `--plant early-start` (`deferred`, `forgetful`) makes the child misbehave, to see that it is caught.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use resurge_flow::{FlowError, Flows, FlowsOptions, RunState};
use resurge_store::Store;
use resurge_store_sled::Offline;
use resurge_testkit::Failure;
use resurge_testkit::kill::{Ended, KillLoop};

use crate::child::{UNOPENABLE, open};
use crate::parent::Settings;

mod five;
mod told;

pub(crate) use five::child;
use five::{FLOW, Said, five};
use told::Told;

/// The longest a child lives after it opened; or, for a quarter of them, from its start.
const LIFE: Duration = Duration::from_millis(400);

/// Runs all cycles, then lets everything end; a success when nothing was wrong.
pub(crate) fn main(args: &[&str]) -> Result<ExitCode, Failure> {
    let settings = Settings::parse_with(args, 100, |bug| five::Planted::parse(bug).is_some())?;
    let program = std::env::current_exe()?;
    let mut dir = tempfile::Builder::new().prefix("resurge-crash-").tempdir()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let path = dir.path().join("state");
    let mut told = Told::default();
    let looped = KillLoop::new(settings.cycles)
        .seed(settings.seed)
        .kill_within(LIFE)
        .within(settings.within)
        .run(
            |cycle| {
                let mut command = Command::new(&program);
                command.arg("flows-child").arg(&path).arg(cycle.to_string()).arg(&settings.plant);
                command
            },
            |ended| {
                hear(ended, &mut told)?;
                runtime.block_on(look(&path, ended.cycle, &mut told))?;
                told.cycles += 1;
                if told.cycles.is_multiple_of(10) {
                    println!("{}", told.line());
                }
                if told.is_clean() { Ok(()) } else { Err("see above".into()) }
            },
        )
        .map(drop)
        .and_then(|()| runtime.block_on(finish(&path, settings.cycles, &mut told)));
    if let Err(e) = &looped {
        dir.disable_cleanup(true);
        eprintln!("{e}; the state is in {}", path.display());
    }
    println!("{}", told.line());
    let clean = looped.is_ok() && told.is_clean();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a child said.
fn hear(ended: &Ended, told: &mut Told) -> Result<(), Failure> {
    for line in &ended.lines {
        told.hear(ended.cycle, line)?;
    }
    if ended.killed {
        return Ok(());
    }
    if ended.status.code() == Some(i32::from(UNOPENABLE)) {
        told.unopenable("by the child");
    }
    Err(format!("the child ended by itself: {}", ended.status).into())
}

/// Opens what a child left, and looks for every run it spoke of.
async fn look(path: &Path, cycle: u64, told: &mut Told) -> Result<(), Failure> {
    let store = match open(path, cycle) {
        Ok((store, _)) => Store::new(store),
        Err(e) => {
            told.unopenable(&e.to_string());
            return Ok(());
        }
    };
    let flows = Flows::open(&store, FlowsOptions::default())?;
    for run in told.unfinished() {
        match flows.run::<u64>(&run).state().await {
            Ok(RunState::Succeeded) => told.ended(&run),
            Ok(RunState::Running) => {}
            Ok(state) => told.wrong(&format!("run {run} is {state}")),
            Err(FlowError::NotFound { .. }) => told.lost(&run),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(store.close().await?)
}

/// Nobody kills any more: everything ends, and the store is whole.
async fn finish(path: &Path, cycle: u64, told: &mut Told) -> Result<(), Failure> {
    let (store, _) = open(path, cycle)?;
    let store = Store::new(store);
    let flows = Flows::open(&store, FlowsOptions::default())?;
    let said = Said::Kept(std::sync::Arc::default());
    let (clock, kept) = (store.clock().clone(), said.clone());
    let runs = flows.register(FLOW, move |ctx, n| five(ctx, n, kept.clone(), clock.clone()))?;
    flows.start().await?;
    // All that were ever heard of, also those that had ended before.
    for (run, n) in told.runs() {
        match runs.run(&run).result().await {
            Ok(value) if value == five::value(n) => told.succeeded += 1,
            Ok(value) => told.wrong(&format!("run {run} returned {value}")),
            Err(FlowError::NotFound { .. }) => told.lost(&run),
            Err(e) => told.wrong(&format!("run {run}: {e}")),
        }
    }
    flows.shutdown().await;
    for line in said.take() {
        told.hear(cycle, &line)?;
    }
    told.check();
    store.close().await?;
    let report = Offline::new().verify(path)?;
    if report.is_intact() {
        Ok(())
    } else {
        Err(format!("the store is damaged: {report:?}").into())
    }
}
