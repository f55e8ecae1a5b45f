//! Steps of every kind, killed after every commit: a step that was told is there, with its effect once;
//! one in flight has it once more at most, and not at all where that is forbidden.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_checkpoint::{
    Begin, CheckpointError, CheckpointKey, CheckpointOptions, Checkpoints, Conflicted, Filter,
    RunError, Scope, StepPolicy,
};
use resurge_store::{Batch, Durability, Key, Namespace, Store};
use resurge_testkit::sim::{Failure, Recovered, Report, Sim, SimFailure, Simulation};

use super::planted::{Bug, plant};
use super::{FOREVER, StepFailed};

/// What happened outside of the store, in order.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The effect of a step.
    Effect(&'static str),
    /// Somebody got this result.
    Result(&'static str, String),
    /// A purge of it was asked for.
    Purging(&'static str),
    /// The counter in the store was raised, together with its checkpoint.
    Counted,
}

const PLAIN: [&str; 3] = ["one", "two", "three"];
const FLAKY: &str = "flaky";
const CHARGE: [&str; 2] = ["charge", "charge-too"];
const PURGED: &str = "purged";
const COUNTED: &str = "counted";

fn key(step: &'static str) -> Result<CheckpointKey, CheckpointError> {
    let scope = if step == PLAIN[1] { Scope::Workflow("run-7".into()) } else { Scope::Global };
    CheckpointKey::builder(scope, step).input(&step).build()
}

fn policy(step: &'static str) -> StepPolicy {
    if CHARGE.contains(&step) { StepPolicy::new().side_effects() } else { StepPolicy::new() }
}

fn counter() -> Result<Key, Failure> {
    Ok(Namespace::new("app")?.key("counter")?)
}

async fn counted(store: &Store) -> Result<u8, Failure> {
    Ok(store.get(&counter()?).await?.map_or(0, |value| value[0]))
}

async fn open(store: &Store) -> Result<Checkpoints, Failure> {
    Ok(Checkpoints::open(store, CheckpointOptions::new()).await?)
}

/// Runs a step whose effect `outside` hears of.
async fn run(
    checkpoints: &Checkpoints,
    step: &'static str,
    outside: impl Fn() -> u64,
    fails: bool,
) -> Result<String, RunError<StepFailed>> {
    let body = || async {
        tokio::task::yield_now().await;
        let n = outside();
        tokio::task::yield_now().await;
        if fails { Err(StepFailed("not yet".to_owned())) } else { Ok(format!("{step} {n}")) }
    };
    checkpoints.run_with(&key(step)?, FOREVER, policy(step), body).await
}

/// Raises the counter once: the effect and its checkpoint are one commit.
async fn count_once(store: &Store, checkpoints: &Checkpoints) -> Result<(), Failure> {
    let Begin::Claimed(claim) = checkpoints.begin(&key(COUNTED)?, policy(COUNTED)).await? else {
        return Ok(());
    };
    let mut claim = claim;
    loop {
        let value = counted(store).await?;
        let mut batch = Batch::new();
        batch.put(counter()?, vec![value + 1]);
        claim.stage_done(&mut batch, "counted", FOREVER)?;
        let Err(error) = store.commit(batch, Durability::Durable).await else {
            claim.settled();
            return Ok(());
        };
        claim = match claim.conflicted(&error).await? {
            Conflicted::StageAgain(claim) => claim,
            Conflicted::NotOurs(_) => return Err(error.into()),
            Conflicted::Done(_) | Conflicted::Forgotten => return Ok(()),
        };
    }
}

async fn scenario(bug: Bug, sim: Sim<Told>) -> Result<(), Failure> {
    let store = plant(bug, sim.store()).with_clock(sim.clock().clone());
    let effects: Arc<Mutex<BTreeMap<&'static str, u64>>> = Arc::default();
    let outside = |step: &'static str| {
        let (sim, effects) = (sim.clone(), Arc::clone(&effects));
        move || {
            sim.ack(Told::Effect(step));
            let mut effects = effects.lock();
            let n = effects.entry(step).or_default();
            *n += 1;
            *n
        }
    };
    let handles = [open(&store).await?, open(&store).await?];
    // Each step is asked for by several at once, through two handles.
    let mut callers = Vec::new();
    for step in PLAIN.into_iter().chain(CHARGE).chain([PURGED]) {
        for handle in handles.iter().chain(&handles[..1]) {
            let (sim, handle, outside) = (sim.clone(), handle.clone(), outside(step));
            callers.push(tokio::spawn(async move {
                let got = run(&handle, step, outside, false).await?;
                sim.ack(Told::Result(step, got));
                Ok::<_, Failure>(())
            }));
        }
    }
    for caller in callers {
        caller.await??;
    }
    drop(run(&handles[0], FLAKY, outside(FLAKY), true).await);
    let got = run(&handles[1], FLAKY, outside(FLAKY), false).await?;
    sim.ack(Told::Result(FLAKY, got));
    count_once(&store, &handles[0]).await?;
    sim.ack(Told::Counted);
    sim.ack(Told::Purging(PURGED));
    handles[1].purge(&Filter::scope(Scope::Global).step(PURGED)).await?;
    run(&handles[0], PURGED, outside(PURGED), false).await?;
    Ok(())
}

fn unless(holds: bool, what: impl Into<String>) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

async fn recover(recovered: Recovered<Told>) -> Result<(), Failure> {
    let store = recovered.store();
    let checkpoints = open(store).await?;
    let effects_of = |step| {
        let is = |told: &&Told| matches!(told, Told::Effect(s) if *s == step);
        recovered.acks().iter().filter(is).count() as u64
    };
    let purging = recovered.acks().iter().any(|told| matches!(told, Told::Purging(_)));
    for step in PLAIN.into_iter().chain(CHARGE).chain([FLAKY, PURGED]) {
        let before = effects_of(step);
        let again = Arc::new(Mutex::new(0));
        let outside = || {
            *again.lock() += 1;
            before + *again.lock()
        };
        let (first, second) = (
            run(&checkpoints, step, outside, false).await,
            run(&checkpoints, step, outside, false).await,
        );
        let again = *again.lock();
        let told = recovered.acks().iter().find_map(|told| match told {
            Told::Result(s, result) if *s == step => Some(result),
            _ => None,
        });
        let what = format!("{step}: {before} effects before, {again} after, told {told:?}");
        if let Some(told) = told.filter(|_| step != PURGED || !purging) {
            unless(again == 0, format!("ran again: {what}"))?;
            recovered
                .survived(&Told::Result(step, told.clone()), first.as_ref().ok() == Some(told))?;
        }
        match (first, second) {
            (Ok(first), Ok(second)) => {
                unless(first == second, format!("{first}, then {second}: {what}"))?;
            }
            (Err(first), Err(second)) => {
                let doubt = |e: &RunError<StepFailed>| {
                    matches!(e.checkpoint(), Some(CheckpointError::InDoubt { .. }))
                };
                let refused = CHARGE.contains(&step) && doubt(&first) && doubt(&second);
                unless(refused, format!("{first}: {what}"))?;
            }
            (first, second) => return Err(format!("{first:?}, {second:?}: {what}").into()),
        }
        unless(again <= 1, format!("ran twice: {what}"))?;
        if CHARGE.contains(&step) {
            unless(before + again <= 1, format!("charged twice: {what}"))?;
        }
    }
    let count_was_told = recovered.acks().iter().any(|told| matches!(told, Told::Counted));
    if count_was_told {
        recovered.survived(&Told::Counted, counted(store).await? == 1)?;
    }
    count_once(store, &checkpoints).await?;
    let counter = counted(store).await?;
    unless(counter == 1, format!("the counter in the store is {counter}"))?;
    Ok(())
}

pub(crate) fn simulate(bug: Bug, seed: u64, second: usize) -> Result<Report, SimFailure> {
    let simulation = Simulation::new().seed(seed).second_crashes(second);
    simulation.run(move |sim| scenario(bug, sim), recover)
}
