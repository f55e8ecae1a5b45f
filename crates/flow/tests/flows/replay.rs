//! Every execution of a run sees what the first one saw.

use resurge_flow::{
    BlockReason, Ctx, Either, FlowError, FlowResult, Flows, FlowsOptions, RunHandle, RunState,
    StepError,
};
use resurge_store::Clock;
use tokio::try_join;

use crate::world::{World, crash_everywhere, ms, ok, secs};

/// Fetches, then charges, with waits that decide which branch claims which occurrence.
async fn branch(ctx: &Ctx, w: &World, of: &str, fetch: u64, charge: u64) -> FlowResult<String> {
    let fetched = ctx
        .step("fetch", || async {
            w.effects.ran(&format!("fetch {of}"));
            w.clock.sleep(ms(fetch)).await;
            ok(format!("{of} fetched"))
        })
        .await?;
    ctx.step("charge", || async {
        w.effects.ran(&format!("charge {of}"));
        w.clock.sleep(ms(charge)).await;
        ok(format!("{fetched} and charged"))
    })
    .await
}

async fn two_branches(ctx: Ctx, slow_first: bool, w: World) -> FlowResult<(String, String)> {
    let (left, right) = if slow_first { (50, 10) } else { (10, 50) };
    let both = try_join!(
        branch(&ctx, &w, "left", left, left / 2),
        branch(&ctx, &w, "right", right, right / 2),
    )?;
    // What comes last is replayed from everything before.
    ctx.sleep("afterwards", secs(1)).await?;
    Ok(both)
}

#[test]
fn joined_branches_with_the_same_step_names_get_their_own_results_after_a_crash_anywhere() {
    for slow_first in [true, false] {
        let script = async |w: &World, flows: &Flows, _: bool| -> Result<_, FlowError> {
            let flow = w.register(flows, "branches", two_branches);
            flows.start().await?;
            let run = flow.start("r", slow_first).await?;
            w.run(run.result()).await
        };
        let crashes =
            crash_everywhere(&FlowsOptions::default(), script, |w, nth, (left, right)| {
                assert_eq!(left, "left fetched and charged", "killed at commit {nth}");
                assert_eq!(right, "right fetched and charged", "killed at commit {nth}");
                for effect in ["fetch left", "charge left", "fetch right", "charge right"] {
                    let ran = w.effects.of(effect);
                    assert!(
                        (1..=2).contains(&ran),
                        "killed at commit {nth}: {effect} ran {ran} times"
                    );
                }
            });
        // The take-over, the start, three steps, the fourth with the timer's beginning, the end.
        assert!(crashes >= 6, "{crashes}");
    }
}

#[test]
fn the_journal_orders_what_is_seen_not_the_code() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "branches", two_branches);
        flows.start().await.unwrap();
        let run = flow.start("r", true).await.unwrap();
        w.run(run.result()).await.unwrap();
        let history = flows.history("r").await.unwrap();
        let completed: Vec<String> = history
            .iter()
            .filter_map(|record| match record {
                resurge_flow::record::Record::Completed(done) => Some(done.position.to_string()),
                _ => None,
            })
            .collect();
        // The right branch is the faster one: its charge is the first.
        assert_eq!(completed, ["fetch#1", "charge", "fetch", "charge#1", "afterwards"]);
    });
}

// ------------------------------------------------------------------ code that changed

type Code = fn(Ctx, (), World) -> std::pin::Pin<Box<dyn Future<Output = FlowResult<u32>> + Send>>;

macro_rules! code {
    ($ctx:ident, $w:ident, $body:expr) => {
        |$ctx: Ctx, (): (), $w: World| Box::pin(async move { $body })
    };
}

/// Runs `before` until it waits for the signal `go`, then `after`; returns what became of it.
fn change(before: Code, after: Code) -> (World, Result<u32, FlowError>) {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "changing", before);
        flows.start().await.unwrap();
        flow.start("r", ()).await.unwrap();
        w.quiet().await;
    });
    let outcome = w.life(async |flows| {
        let flow = w.register(&flows, "changing", after);
        flows.start().await.unwrap();
        let run = flow.run("r");
        run.signal("go", &()).await.unwrap();
        w.run(run.result()).await
    });
    (w, outcome)
}

/// `after` is refused; the journal is not touched; `before`, deployed again, ends the run.
fn refused(before: Code, after: Code) -> String {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "changing", before);
        flows.start().await.unwrap();
        flow.start("r", ()).await.unwrap();
        w.quiet().await;
    });
    let (journal, reason) = w.life(async |flows| {
        let journal = flows.history("r").await.unwrap();
        let flow = w.register(&flows, "changing", after);
        flows.start().await.unwrap();
        let run = flow.run("r");
        run.signal("go", &()).await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert_eq!(run.state().await.unwrap(), RunState::Blocked, "{error}");
        let FlowError::Blocked { run, reason } = error else { panic!("{error}") };
        assert_eq!(run, "r");
        assert!(matches!(reason, BlockReason::NonDeterminism { .. }), "{reason}");
        assert_eq!(flows.history("r").await.unwrap(), journal);
        (journal, reason)
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "changing", before);
        flows.start().await.unwrap();
        assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 12);
        let now = flows.history("r").await.unwrap();
        assert_eq!(now[..journal.len()], journal, "what was there is there still");
    });
    assert_eq!((w.effects.of("a"), w.effects.of("b")), (1, 1));
    reason.to_string()
}

const OLD: Code = code!(ctx, w, {
    let a = w.counted(&ctx, "a").await?;
    let b = w.counted(&ctx, "b").await?;
    ctx.signal::<()>("go").await?;
    Ok(a * 10 + b + 1)
});

#[test]
fn reordered_steps_are_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let b = w.counted(&ctx, "b").await?;
            let a = w.counted(&ctx, "a").await?;
            ctx.signal::<()>("go").await?;
            Ok(a + b)
        }),
    );
    assert_eq!(
        reason,
        "non-determinism at `a`: the journal holds step `a`, the code asks for step `b`"
    );
}

#[test]
fn a_removed_step_is_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let a = w.counted(&ctx, "a").await?;
            ctx.signal::<()>("go").await?;
            Ok(a)
        }),
    );
    assert!(reason.contains("the journal holds step `b`"), "{reason}");
    assert!(reason.contains("the code asks for signal `go`"), "{reason}");
}

#[test]
fn a_renamed_step_is_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let a = w.counted(&ctx, "a").await?;
            let b = w.counted(&ctx, "bee").await?;
            ctx.signal::<()>("go").await?;
            Ok(a + b)
        }),
    );
    assert!(
        reason.ends_with("the journal holds step `b`, the code asks for step `bee`"),
        "{reason}"
    );
}

#[test]
fn a_step_that_became_something_else_is_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let a = w.counted(&ctx, "a").await?;
            ctx.sleep("b", ms(1)).await?;
            ctx.signal::<()>("go").await?;
            Ok(a)
        }),
    );
    assert!(
        reason.ends_with("the journal holds step `b`, the code asks for sleep `b`"),
        "{reason}"
    );
}

#[test]
fn a_step_added_in_front_is_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let new = w.counted(&ctx, "new").await?;
            let a = w.counted(&ctx, "a").await?;
            Ok(new + a)
        }),
    );
    assert!(
        reason.ends_with("the journal holds step `a`, the code asks for step `new`"),
        "{reason}"
    );
}

#[test]
fn a_wait_that_is_not_asked_for_any_more_is_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let a = w.counted(&ctx, "a").await?;
            let b = w.counted(&ctx, "b").await?;
            let c = w.counted(&ctx, "c").await?;
            Ok(a + b + c)
        }),
    );
    assert!(reason.contains("the journal holds signal `go`"), "{reason}");
}

#[test]
fn a_code_that_ends_before_its_journal_is_refused() {
    let reason = refused(OLD, code!(ctx, w, w.counted(&ctx, "a").await));
    assert!(reason.ends_with("the code asks for nothing more"), "{reason}");
}

#[test]
fn a_wait_that_became_a_step_is_refused() {
    let reason = refused(
        OLD,
        code!(ctx, w, {
            let a = w.counted(&ctx, "a").await?;
            let b = w.counted(&ctx, "b").await?;
            ctx.step("go", || async { ok(()) }).await?;
            Ok(a + b)
        }),
    );
    assert!(
        reason.ends_with("the journal holds signal `go`, the code asks for step `go`"),
        "{reason}"
    );
}

#[test]
fn steps_added_at_the_end_are_fine() {
    let (w, outcome) = change(
        OLD,
        code!(ctx, w, {
            let a = w.counted(&ctx, "a").await?;
            let b = w.counted(&ctx, "b").await?;
            ctx.signal::<()>("go").await?;
            let c = w.counted(&ctx, "c").await?;
            Ok(a * 100 + b * 10 + c)
        }),
    );
    assert_eq!(outcome.unwrap(), 111);
    assert_eq!((w.effects.of("a"), w.effects.of("b"), w.effects.of("c")), (1, 1, 1));
}

const PATCHED: Code = code!(ctx, w, {
    let a = w.counted(&ctx, "a").await?;
    let b = if ctx.patched("checks")? {
        w.counted(&ctx, "check").await? * 5
    } else {
        w.counted(&ctx, "b").await?
    };
    ctx.signal::<()>("go").await?;
    // Asked again it says the same.
    let c = w.counted(&ctx, "c").await?;
    Ok(a * 10 + b + c - 1)
});

#[test]
fn patched_code_goes_on_as_it_began() {
    // A run that had passed the place keeps the old way.
    let (w, outcome) = change(OLD, PATCHED);
    assert_eq!(outcome.unwrap(), 11);
    assert_eq!((w.effects.of("b"), w.effects.of("check")), (1, 0));
    // One that gets there with the change goes the new way, also in replay.
    let (w, outcome) = change(PATCHED, PATCHED);
    assert_eq!(outcome.unwrap(), 15);
    assert_eq!((w.effects.of("b"), w.effects.of("check")), (0, 1));
    // And the old code does not know it.
    refused_by_old_code();
}

fn refused_by_old_code() {
    let (_, outcome) = change(PATCHED, OLD);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("non-determinism"), "{error}");
}

// ------------------------------------------------------------------ what is recorded or derived

async fn everything(ctx: Ctx, (): (), w: World) -> FlowResult<String> {
    let mut seen = Vec::new();
    seen.push(format!("now {}", ctx.now().await?.as_millis()));
    seen.push(format!("random {} {}", ctx.random()?, ctx.random()?));
    seen.push(format!("uuid {}", ctx.uuid()?));
    let left = ctx.scope("left")?;
    let again = ctx.scope("left")?;
    seen.push(format!("scopes {} {}", left.scope_path(), again.scope_path()));
    seen.push(format!("random {} {}", left.random()?, again.random()?));
    ctx.set("colour", "red")?;
    let inner = ctx.clone();
    ctx.step("set inside", || async {
        inner.set("size", &7_u32)?;
        ok(inner.get::<String>("colour")?)
    })
    .await?;
    ctx.set("colour", "blue")?;
    // Which of two timers comes first is decided by time, and recorded.
    let first = ctx.select("race", ctx.sleep("long", ms(20)), ctx.sleep("short", ms(10))).await?;
    seen.push(format!("winner {}", matches!(first, Either::Second(Ok(())))));
    let steps = ["x", "y", "z"].map(|name| {
        let (w, ctx) = (w.clone(), ctx.clone());
        async move {
            let wait = if name == "y" { 5 } else { 50 };
            w.slow(&ctx, name, wait).await.map(|_| name)
        }
    });
    let (index, name) = ctx.select_all("any", steps.into_iter().collect()).await?;
    seen.push(format!("any {index} {}", name?));
    let late = ctx.timeout("limit", ms(5), w.slow(&ctx, "too slow", 1000)).await?;
    seen.push(format!("late {}", late.is_none()));
    let soon = ctx.timeout("limit", secs(100), w.slow(&ctx, "soon", 5)).await?;
    seen.push(format!("soon {}", soon.is_some()));
    seen.push(format!("now {}", ctx.now().await? > ctx.started_at()));
    ctx.unset("colour")?;
    let colour = ctx.get::<String>("colour")?;
    seen.push(format!("{colour:?} {:?}", ctx.get::<u32>("size")?));
    w.note(seen.join("; "));
    ctx.sleep("end", secs(10)).await?;
    Ok(seen.join("; "))
}

#[test]
fn what_is_recorded_or_derived_is_the_same_in_every_execution() {
    let script = async |w: &World, flows: &Flows, again: bool| -> Result<_, FlowError> {
        if again {
            // Time went on meanwhile.
            w.clock.advance(secs(1));
        }
        let flow = w.register(flows, "everything", everything);
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        w.run(run.result()).await
    };
    for evict_after in [ms(0), secs(5)] {
        let options = FlowsOptions { evict_after, ..FlowsOptions::default() };
        let crashes = crash_everywhere(&options, script, |w, nth, seen| {
            // Every execution that got that far saw the same, whenever it was interrupted, from the
            // moment on at which what it saw was durable: the last is the one that counts.
            let notes = w.notes();
            assert_eq!(notes.last(), Some(&seen), "killed at commit {nth}");
            assert!(seen.contains("any 1 y; late true; soon true"), "{nth}: {seen}");
            assert!(seen.ends_with("None Some(7)"), "{nth}: {seen}");
            assert!(seen.contains("scopes left left#1"), "{nth}: {seen}");
            if nth == 0 {
                assert!(seen.contains("winner true"), "{seen}");
                assert!(notes.windows(2).all(|pair| pair[0] == pair[1]), "{notes:?}");
                assert!(evict_after > ms(0) || notes.len() > 1, "it was replayed");
            }
        });
        assert!(crashes >= 9, "{crashes}");
    }
}

#[test]
fn random_differs_between_places_and_runs() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "random", async |ctx: Ctx, (): (), _| {
            Ok((ctx.random()?, ctx.random()?, ctx.scope("s")?.random()?))
        });
        flows.start().await.unwrap();
        let one = flow.start("1", ()).await.unwrap().result().await.unwrap();
        let two = flow.start("2", ()).await.unwrap().result().await.unwrap();
        let mut all = vec![one.0, one.1, one.2, two.0, two.1, two.2];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    });
}

/// A race between steps and something that is not durable: a task of the process.
async fn not_durable(ctx: Ctx, (): (), w: World) -> FlowResult<String> {
    let early = w.effects.of("first life") == 0;
    let slow = async {
        // In the second life it is there at once, or late.
        if !early && w.effects.of("hurry") > 0 {
            return "late";
        }
        w.clock.sleep(ms(100)).await;
        "late"
    };
    let steps = async {
        w.slow(&ctx, "one", 20).await?;
        w.slow(&ctx, "two", 20).await?;
        w.slow(&ctx, "three", 1000).await
    };
    let winner = ctx.select("race", slow, steps).await?;
    let won = match winner {
        Either::First(late) => late.to_owned(),
        Either::Second(_) => "steps".to_owned(),
    };
    let two = w.counted(&ctx, "two").await?;
    ctx.signal::<()>("go").await?;
    Ok(format!("{won} {two}"))
}

#[test]
fn a_race_with_something_that_is_not_durable_is_replayed_as_it_was() {
    for hurry in [false, true] {
        let w = World::new();
        w.life(async |flows| {
            let flow = w.register(&flows, "race", not_durable);
            flows.start().await.unwrap();
            flow.start("r", ()).await.unwrap();
            w.pass(ms(300)).await;
            assert_eq!(flow.run("r").state().await.unwrap(), RunState::Waiting);
        });
        w.effects.ran("first life");
        if hurry {
            w.effects.ran("hurry");
        }
        w.life(async |flows| {
            let flow = w.register(&flows, "race", not_durable);
            flows.start().await.unwrap();
            let run = flow.run("r");
            run.signal("go", &()).await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), "late 2");
        });
        assert_eq!((w.effects.of("one"), w.effects.of("two")), (1, 2));
    }
}

#[test]
fn context_values_survive_failed_attempts_and_crashes() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<Vec<String>> {
        let inner = ctx.clone();
        ctx.step("tries", || async {
            let tries = inner.get::<u32>("tries")?.unwrap_or(0) + 1;
            inner.set("tries", &tries)?;
            w.note(format!("try {tries}"));
            if tries < 3 { Err(StepError::transient("again")) } else { Ok(()) }
        })
        .retry(resurge_flow::Retry::fixed(secs(60)))
        .await?;
        ctx.set("after", "it")?;
        let mut values = vec![format!("{:?}", ctx.get::<u32>("tries")?)];
        values.push(format!("{:?}", ctx.get::<String>("after")?));
        values.push(format!("{:?}", ctx.get::<u32>("never")?));
        // A value of another type is an error, not a default.
        values.push(ctx.get::<u32>("after").unwrap_err().to_string());
        Ok(values)
    }
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<_, FlowError> {
        let flow = w.register(flows, "values", flow);
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        w.run(run.result()).await
    };
    crash_everywhere(&FlowsOptions::default(), script, |w, nth, values| {
        assert_eq!(values[..3], ["Some(3)", "Some(\"it\")", "None"], "killed at commit {nth}");
        assert!(values[3].contains("after"), "{values:?}");
        // An attempt is repeated only if its failure was not durable.
        let notes = w.notes();
        assert!(notes.len() <= 4, "killed at commit {nth}: {notes:?}");
    });
}

#[test]
fn idempotency_keys_are_stable_over_attempts_crashes_and_resumes_and_distinct_otherwise() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<()> {
        let left = ctx.scope("left")?;
        for ctx in [&ctx, &ctx, &left] {
            let note = |step: &resurge_flow::StepInfo| {
                w.note(format!("{} {}", step.position(), step.idempotency_key()));
            };
            ctx.step_with("charge", |step| {
                note(&step);
                let tries = w.effects.ran(&step.position().to_string());
                async move { if tries < 4 { Err(StepError::transient("again")) } else { Ok(()) } }
            })
            .retry(resurge_flow::Retry::fixed(secs(1)).max_attempts(2))
            .await?;
        }
        Ok(())
    }
    let w = World::new();
    for run in ["r", "s"] {
        for life in 0..4 {
            w.life(async |flows| {
                let flow = w.register(&flows, "keys", flow);
                flows.start().await.unwrap();
                let handle: RunHandle<()> =
                    if life == 0 { flow.start(run, ()).await.unwrap() } else { flow.run(run) };
                if life > 0 && handle.state().await.unwrap() == RunState::Failed {
                    handle.resume().await.unwrap();
                }
                // Dead in the middle of it.
                w.pass(ms(500)).await;
                w.pass(ms(400)).await;
            });
        }
        w.life(async |flows| {
            let flow = w.register(&flows, "keys", flow);
            flows.start().await.unwrap();
            for _ in 0..8 {
                let _ = w.run(flow.run(run).result()).await;
                if flow.run(run).state().await.unwrap() == RunState::Succeeded {
                    break;
                }
                flow.run(run).resume().await.unwrap();
            }
            assert_eq!(flow.run(run).state().await.unwrap(), RunState::Succeeded);
        });
        for position in ["charge", "charge#1", "left/charge"] {
            assert!(w.effects.of(position) >= 4, "{position}");
        }
        if run == "r" {
            let effects = w.effects.clone();
            effects.clear();
        }
    }
    let mut notes = w.notes();
    assert!(notes.len() >= 24, "{}", notes.len());
    notes.sort();
    notes.dedup();
    // Three places in each of two runs, each with one key for all its attempts.
    assert_eq!(notes.len(), 6, "{notes:?}");
    let mut keys: Vec<&str> = notes.iter().filter_map(|note| note.rsplit(' ').next()).collect();
    assert!(keys.iter().all(|key| key.len() == 64));
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 6);
}
