//! What a memoising store of step results must do, as checks that a bug can fail.

use std::collections::BTreeSet;

use resurge_checkpoint::{Begin, CheckpointError, Conflicted, Filter, RunError, StepPolicy};
use resurge_store::{Batch, Durability, ErrorKind, Timestamp};

use super::{Call, Effect, FOREVER, Subject, World, flushed, global, ms, settle, until, workflow};

pub(crate) type Checked = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    OncePerInput,
    Scopes,
    Version,
    Ttl,
    TtlAcrossRestart,
    FailureIsNotStored,
    Concurrent,
    ConcurrentHandles,
    TakenOverFromFailed,
    TakenOverFromDropped,
    InDoubtRefused,
    InDoubtAgain,
    Purged,
    LateResult,
}

pub(crate) const CHECKS: [Check; 14] = [
    Check::OncePerInput,
    Check::Scopes,
    Check::Version,
    Check::Ttl,
    Check::TtlAcrossRestart,
    Check::FailureIsNotStored,
    Check::Concurrent,
    Check::ConcurrentHandles,
    Check::TakenOverFromFailed,
    Check::TakenOverFromDropped,
    Check::InDoubtRefused,
    Check::InDoubtAgain,
    Check::Purged,
    Check::LateResult,
];

pub(crate) async fn check(which: Check, world: &mut World) -> Checked {
    match which {
        Check::OncePerInput => once_per_input(world).await,
        Check::Scopes => scopes(world).await,
        Check::Version => version(world).await,
        Check::Ttl => ttl(world).await,
        Check::TtlAcrossRestart => ttl_across_restart(world).await,
        Check::FailureIsNotStored => failure_is_not_stored(world).await,
        Check::Concurrent => concurrent(world).await,
        Check::ConcurrentHandles => concurrent_handles(world).await,
        Check::TakenOverFromFailed => taken_over_from_failed(world).await,
        Check::TakenOverFromDropped => taken_over_from_dropped(world).await,
        Check::InDoubtRefused => in_doubt_refused(world).await,
        Check::InDoubtAgain => in_doubt_again(world).await,
        Check::Purged => purged(world).await,
        Check::LateResult => late_result(world).await,
    }
}

/// Runs `call`; whose result counts.
async fn result(subject: &Subject, call: &Call, effect: &Effect) -> Result<String, String> {
    let input = call.input.clone();
    subject.run(call, || effect.succeed(&input)).await.map_err(|e| format!("{call:?}: {e}"))
}

/// DA2: counts 1, 1, 2 over fresh handles and over restarts. DA6: another input runs.
async fn once_per_input(world: &mut World) -> Checked {
    let effect = Effect::new();
    for (life, (input, runs)) in [("Alice", 1), ("Alice", 1), ("Bob", 2)].into_iter().enumerate() {
        let subject = world.open().await;
        let name = result(&subject, &global(input), &effect).await?;
        ensure!(name == format!("{input}, run {runs}"), "life {life}: {name}");
        ensure!(effect.begun() == runs, "{input}, life {life}: {} runs", effect.begun());
        drop(subject);
        world.restart().await;
    }
    Ok(())
}

/// DA3: three executions run a step of workflow scope three times, one of global scope once; within
/// one execution either runs once.
async fn scopes(world: &mut World) -> Checked {
    let (local, shared) = (Effect::new(), Effect::new());
    let subject = world.open().await;
    for execution in ["one", "two", "three"] {
        for _ in 0..2 {
            result(&subject, &workflow(execution, "x"), &local).await?;
            result(&subject, &global("x"), &shared).await?;
        }
    }
    ensure!(local.begun() == 3, "workflow scope: {} runs", local.begun());
    ensure!(shared.begun() == 1, "global scope: {} runs", shared.begun());
    Ok(())
}

/// DA6: a new version of a step does not find the results of the old one; the old one still does.
async fn version(world: &mut World) -> Checked {
    let effect = Effect::new();
    let subject = world.open().await;
    let old = Call { version: 1, ..workflow("w", "x") };
    let new = Call { version: 2, ..old.clone() };
    let (a, b) = (result(&subject, &old, &effect).await?, result(&subject, &new, &effect).await?);
    ensure!(a != b, "the new version found `{a}`");
    ensure!(result(&subject, &old, &effect).await? == a, "the old version's result is gone");
    Ok(())
}

/// DA5: within its time it is found, after that it is not; zero is for ever.
async fn ttl(world: &mut World) -> Checked {
    let (short, forever) = (Effect::new(), Effect::new());
    let subject = world.open().await;
    let brief = Call { ttl: ms(50), ..global("brief") };
    let kept = Call { ttl: FOREVER, ..global("kept") };
    for (wait, runs) in [(0, 1), (49, 1), (1, 2), (100, 3)] {
        world.clock.advance(ms(wait));
        result(&subject, &brief, &short).await?;
        result(&subject, &kept, &forever).await?;
        ensure!(short.begun() == runs, "after {wait}ms: {} runs of {runs}", short.begun());
    }
    world.clock.advance(ms(1 << 42));
    result(&subject, &kept, &forever).await?;
    ensure!(forever.begun() == 1, "without an end: {} runs", forever.begun());
    Ok(())
}

/// DA5: the end is wall time, and the same after a restart.
async fn ttl_across_restart(world: &mut World) -> Checked {
    let effect = Effect::new();
    let call = Call { ttl: ms(50), ..global("x") };
    for (wait, runs) in [(0, 1), (30, 1), (30, 2)] {
        world.clock.advance(ms(wait));
        let subject = world.open().await;
        result(&subject, &call, &effect).await?;
        ensure!(effect.begun() == runs, "{wait}ms later: {} runs of {runs}", effect.begun());
        drop(subject);
        world.restart().await;
    }
    let wall = Timestamp::from_millis(4_000_000_000_000);
    world.clock.set_wall(wall);
    result(&world.open().await, &call, &effect).await?;
    ensure!(effect.begun() == 3, "wall time decides: {} runs", effect.begun());
    Ok(())
}

/// D1: a failed step leaves nothing; the next call runs it, and its success stays.
async fn failure_is_not_stored(world: &mut World) -> Checked {
    let effect = Effect::new();
    let call = workflow("w", "x");
    for n in 1..=2 {
        let subject = world.open().await;
        let failed = subject.run(&call, || effect.fail()).await;
        let Err(RunError::Step { error, .. }) = failed else {
            return Err(format!("failed and returned {failed:?}"));
        };
        ensure!(error.0 == format!("failure {n}"), "an old failure: {error}");
        let left = subject.checkpoints.inspect(&call.key()).await;
        ensure!(matches!(left, Ok(None)), "left behind: {left:?}");
        drop(subject);
        world.restart().await;
    }
    let subject = world.open().await;
    let third = result(&subject, &call, &effect).await?;
    ensure!(third == "x, run 3", "{third}");
    let kept = subject.run(&call, || effect.fail()).await;
    ensure!(kept.as_deref().ok() == Some("x, run 3"), "{kept:?}");
    Ok(())
}

/// DA4: 200 callers at once, one execution, one result.
async fn concurrent(world: &mut World) -> Checked {
    let subject = world.open().await;
    at_once(vec![subject; 200]).await
}

/// DA4: the same through 8 handles that share nothing but the store.
async fn concurrent_handles(world: &mut World) -> Checked {
    let mut subjects = Vec::new();
    for _ in 0..8 {
        let subject = world.open().await;
        subjects.extend(vec![subject; 5]);
    }
    at_once(subjects).await
}

async fn at_once(subjects: Vec<Subject>) -> Checked {
    let effect = Effect::gated();
    let callers: Vec<_> = subjects
        .into_iter()
        .map(|subject| {
            let effect = effect.clone();
            tokio::spawn(async move { result(&subject, &global("x"), &effect).await })
        })
        .collect();
    until("a run begins", || effect.begun() > 0).await?;
    settle().await;
    let begun = effect.begun();
    for _ in 0..callers.len() {
        effect.let_one();
        settle().await;
    }
    let mut results = BTreeSet::new();
    for caller in callers {
        if begun > 1 {
            caller.abort();
            continue;
        }
        results.insert(caller.await.map_err(|e| e.to_string())??);
    }
    ensure!(begun == 1, "{begun} runs at once");
    ensure!(effect.begun() == 1, "{} runs", effect.begun());
    ensure!(results.len() == 1, "different results: {results:?}");
    Ok(())
}

/// When the one who executes fails, one of those who wait runs it again.
async fn taken_over_from_failed(world: &mut World) -> Checked {
    let effect = Effect::gated();
    let (subject, other) = (world.open().await, world.open().await);
    let first = {
        let (subject, effect) = (subject.clone(), effect.clone());
        tokio::spawn(async move { subject.run(&global("x"), || effect.fail()).await })
    };
    until("the first run begins", || effect.begun() == 1).await?;
    let waiting: Vec<_> = [subject.clone(), subject.clone(), other]
        .into_iter()
        .map(|subject| {
            let effect = effect.clone();
            tokio::spawn(async move { result(&subject, &global("x"), &effect).await })
        })
        .collect();
    settle().await;
    ensure!(effect.begun() == 1, "{} runs while the first one works", effect.begun());
    effect.let_one();
    let failed = first.await.map_err(|e| e.to_string())?;
    ensure!(failed.is_err(), "failed and returned {failed:?}");
    until("somebody takes over", || effect.begun() == 2).await?;
    settle().await;
    ensure!(effect.begun() == 2, "{} took over", effect.begun() - 1);
    effect.let_one();
    for caller in waiting {
        let got = caller.await.map_err(|e| e.to_string())??;
        ensure!(got == "x, run 2", "{got}");
    }
    Ok(())
}

/// The same when it is dropped half-way.
async fn taken_over_from_dropped(world: &mut World) -> Checked {
    let effect = Effect::gated();
    let (subject, other) = (world.open().await, world.open().await);
    let call = |subject: Subject| {
        let effect = effect.clone();
        tokio::spawn(async move { result(&subject, &global("x"), &effect).await })
    };
    let first = call(subject.clone());
    until("the first run begins", || effect.begun() == 1).await?;
    let waiting = [call(subject), call(other)];
    settle().await;
    ensure!(effect.begun() == 1, "{} runs while the first one works", effect.begun());
    first.abort();
    until("somebody takes over", || effect.begun() == 2).await?;
    effect.let_one();
    // A permit may have gone to the run that was dropped.
    settle().await;
    effect.let_one();
    for caller in waiting {
        let got = caller.await.map_err(|e| e.to_string())??;
        ensure!(got == "x, run 1", "{got}");
    }
    ensure!(effect.begun() == 2, "{} runs", effect.begun());
    Ok(())
}

/// Begins `call` and dies in the middle.
async fn die_within(world: &mut World, call: &Call, effect: &Effect) -> Checked {
    let subject = world.open().await;
    let running = {
        let (call, effect) = (call.clone(), effect.clone());
        tokio::spawn(async move { result(&subject, &call, &effect).await })
    };
    let begun = effect.begun();
    until("the run begins", || effect.begun() > begun).await?;
    running.abort();
    ensure!(running.await.is_err(), "it was not aborted");
    world.restart().await;
    Ok(())
}

/// A step with side effects for everybody is not run again when in doubt, until somebody decides.
async fn in_doubt_refused(world: &mut World) -> Checked {
    let effect = Effect::gated();
    let charge = Call { policy: StepPolicy::new().side_effects(), ..global("x") };
    die_within(world, &charge, &effect).await?;
    for life in 0..2 {
        let subject = world.open().await;
        effect.let_one();
        let refused = subject.run(&charge, || effect.succeed("x")).await;
        let in_doubt = matches!(
            &refused,
            Err(RunError::Checkpoint(CheckpointError::InDoubt { step, .. })) if *step == *charge.key().id()
        );
        ensure!(in_doubt, "life {life}: {refused:?}");
        ensure!(effect.begun() == 1, "life {life}: it ran again");
        drop(subject);
        world.restart().await;
    }
    let subject = world.open().await;
    let key = charge.key();
    subject
        .checkpoints
        .record(&key, FOREVER, &"it did".to_owned())
        .await
        .map_err(|e| e.to_string())?;
    let known = subject.run(&charge, || effect.succeed("x")).await;
    ensure!(known.as_deref().ok() == Some("it did"), "{known:?}");
    Ok(())
}

/// A step that may run again does, and is told that it may have run before.
async fn in_doubt_again(world: &mut World) -> Checked {
    let effect = Effect::gated();
    let call = Call { policy: StepPolicy::new().side_effects(), ..workflow("w", "x") };
    die_within(world, &call, &effect).await?;
    let subject = world.open().await;
    effect.let_one();
    let got = result(&subject, &call, &effect).await?;
    ensure!(got == "x, run 1" && effect.begun() == 2, "{got}, {} begun", effect.begun());
    let stats = subject.checkpoints.stats();
    ensure!(stats.started == 1, "{stats:?}");
    Ok(())
}

/// DA5, purge: what is removed runs again, what is not stays.
async fn purged(world: &mut World) -> Checked {
    let effect = Effect::new();
    let subject = world.open().await;
    let calls = [
        global("a"),
        workflow("w", "a"),
        workflow("ww", "a"),
        Call { step: "other", ..workflow("w", "a") },
    ];
    for call in &calls {
        result(&subject, call, &effect).await?;
    }
    let filter = Filter::scope(calls[1].scope.clone()).step("step");
    let removed = subject.checkpoints.purge(&filter).await.map_err(|e| e.to_string())?;
    ensure!(removed.results == 1, "{removed:?}");
    for (n, call) in calls.iter().enumerate() {
        let before = effect.begun();
        result(&subject, call, &effect).await?;
        let ran = effect.begun() > before;
        ensure!(ran == (n == 1), "{call:?}: ran again: {ran}");
    }
    Ok(())
}

/// A run that was given up, and succeeds late, does not replace the result of another one, nor does its
/// release remove it.
async fn late_result(world: &mut World) -> Checked {
    let (slow, fast) = (world.open().await, world.open().await);
    let call = global("x");
    let key = call.key();
    let text = |e: &dyn std::error::Error| e.to_string();
    for late in ["done", "released", "dropped"] {
        let begun = slow.checkpoints.begin(&key, call.policy).await.map_err(|e| text(&e))?;
        let Begin::Claimed(mut claim) = begun else {
            return Err(format!("{late}: a result from nowhere"));
        };
        let gone = fast.checkpoints.forget(&key).await.map_err(|e| text(&e))?;
        ensure!(gone, "{late}: there was no claim");
        result(&fast, &call, &Effect::new()).await?;
        match late {
            "done" => {
                let mut batch = Batch::new();
                claim.stage_done(&mut batch, "late", FOREVER).map_err(|e| text(&e))?;
                let refused = world.store().commit(batch, Durability::Durable).await;
                let Err(error) = refused else { return Err("the late result was taken".into()) };
                ensure!(error.kind() == ErrorKind::Conflict, "{error}");
                let counts = claim.conflicted(&error).await.map_err(|e| text(&e))?;
                ensure!(matches!(counts, Conflicted::Done(_)), "{counts:?}");
            }
            "released" => claim.release().await.map_err(|e| text(&e))?,
            _ => drop(claim),
        }
        flushed(world.store()).await;
        let kept: Option<String> = fast.checkpoints.get(&key).await.map_err(|e| text(&e))?;
        ensure!(kept.as_deref() == Some("x, run 1"), "{late}: {kept:?}");
        fast.checkpoints.forget(&key).await.map_err(|e| text(&e))?;
    }
    Ok(())
}
