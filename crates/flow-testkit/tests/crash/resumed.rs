//! Runs that fail and are resumed, with crashes before, during and after.

use resurge_flow::{Ctx, FlowResult, Graph, StepError, StepInfo};
use resurge_flow_testkit::{Effects, Life};
use resurge_store::{Clock, VirtualClock};

use crate::{HOUR, Step, enumerate};

/// Fails at its second step until resumed, and at its third until resumed there.
async fn failing(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    ctx.step("first", || async { Step::Ok(effects.ran("first").min(1)) }).await?;
    ctx.set("note", "kept")?;
    let (side, charged) = tokio::join!(
        ctx.step("side", || async { Step::Ok(effects.ran("side").min(1)) }).into_future(),
        ctx.step_with("charge", |step| {
            let (ctx, effects) = (ctx.clone(), effects.clone());
            async move {
                effects.ran("charge");
                if step.recovering() {
                    return ctx.get::<String>("found");
                }
                // Set by a failing attempt: it stays.
                ctx.set("found", "in the failure")?;
                Err(StepError::permanent("declined"))
            }
        })
        .into_future(),
    );
    let (_, charged) = (side?, charged?);
    ctx.sleep("pause", HOUR).await?;
    let shipped = ctx
        .step_with("ship", |step| {
            let effects = effects.clone();
            async move {
                effects.ran("ship");
                if step.recovering() { Ok(7) } else { Err(StepError::permanent("no van")) }
            }
        })
        .await?;
    let note: Option<String> = ctx.get("note")?;
    ctx.step("last", || async { Step::Ok(effects.ran("last").min(1)) }).await?;
    Ok(format!("{charged:?} {shipped} {note:?}"))
}

#[test]
fn a_failed_run_is_resumed_at_its_failure_whatever_crashes() {
    enumerate("resume", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow =
            life.flows().register("failing", move |ctx, ()| failing(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        let result = life.finish_resuming(&run, 2).await?;
        assert_eq!(result, "Some(\"in the failure\") 7 Some(\"kept\")");
        // Each was run once more because it was resumed, and at most once more for each crash.
        for (step, least) in [("charge", 2), ("ship", 2), ("first", 1), ("side", 1), ("last", 1)] {
            let ran = usize::try_from(life.effects().count(step))?;
            assert!((least..=least + life.crashes()).contains(&ran), "{step} ran {ran} times");
        }
        Ok(result)
    });
}

/// A failure that the code catches stays one.
async fn caught(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    let refused = ctx
        .step("try", || async {
            effects.ran("try");
            Err::<u32, _>(StepError::permanent("no").with_code("refused"))
        })
        .await;
    let code = refused.err().and_then(|e| e.code().map(str::to_owned));
    ctx.step("instead", || async { Step::Ok(effects.ran("instead").min(1)) }).await?;
    let late = ctx
        .step_with("late", |step| {
            let effects = effects.clone();
            async move {
                effects.ran("late");
                if step.recovering() { Ok(1) } else { Err(StepError::permanent("late")) }
            }
        })
        .await?;
    Ok(format!("{code:?} {late}"))
}

#[test]
fn a_failure_that_was_caught_stays_caught() {
    enumerate("caught", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow = life.flows().register("caught", move |ctx, ()| caught(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.finish_resuming(&run, 1).await
    });
}

/// What the code did about a failure, before it gave up, is void when the run is resumed.
async fn gives_up(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    ctx.step("before", || async { Step::Ok(effects.ran("before").min(1)) }).await?;
    let charged = ctx
        .step_with("charge", |step| {
            let effects = effects.clone();
            async move {
                effects.ran("charge");
                if step.recovering() { Ok(5) } else { Err(StepError::permanent("declined")) }
            }
        })
        .await;
    if let Err(error) = charged {
        ctx.set("apologised", &true)?;
        ctx.step("apologise", || async { Step::Ok(effects.ran("apologise").min(1)) }).await?;
        return Err(error);
    }
    ctx.step("ship", || async { Step::Ok(effects.ran("ship").min(1)) }).await?;
    Ok(format!("{}", charged?))
}

#[test]
fn what_came_after_a_failure_is_void_when_it_is_resumed() {
    enumerate("void", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow =
            life.flows().register("gives-up", move |ctx, ()| gives_up(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.finish_resuming(&run, 1).await
    });
}

/// a -> b -> c beside an independent one; b fails until it is resumed.
async fn branches(ctx: Ctx, effects: Effects) -> FlowResult<u32> {
    let count = |name: &'static str, value: u32| {
        effects.ran(name);
        Step::Ok(value)
    };
    let ran = &count;
    let mut graph = Graph::builder();
    graph.step("a", &[], |_| async { ran("a", 1) });
    graph.step("b", &["a"], |done| async move {
        ran("b", 0)?;
        if StepInfo::current().is_some_and(|step| step.recovering()) {
            return Ok(done.get::<u32>("a")? + 1);
        }
        Err(StepError::permanent("b fails"))
    });
    graph.step("c", &["b"], |done| async move { ran("c", done.get::<u32>("b")? + 1) });
    graph.step("independent", &[], |_| async { ran("independent", 10) });
    let done = ctx.graph("graph", graph.build().map_err(StepError::from)?).await?;
    Ok(done.get::<u32>("c")? + done.get::<u32>("independent")?)
}

#[test]
fn a_graph_resumes_its_failed_node_and_keeps_the_others() {
    enumerate("graph", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow =
            life.flows().register("branches", move |ctx, ()| branches(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        let result = life.finish_resuming(&run, 1).await?;
        if life.crashes() == 0 {
            let once = [("a", 1), ("b", 2), ("c", 1), ("independent", 1)];
            life.effects().exactly(&once)?;
        }
        Ok(result.to_string())
    });
}

/// A part that takes longer than it may until the run is resumed.
async fn late(ctx: Ctx, effects: Effects, clock: VirtualClock) -> FlowResult<String> {
    let part = ctx.process("part", |ctx| async move {
        ctx.step("quick", || async { Step::Ok(effects.ran("quick").min(1)) }).await?;
        let slow = ctx.step_with("slow", |step| {
            let (effects, clock) = (effects.clone(), clock.clone());
            async move {
                effects.ran("slow");
                let time = if step.recovering() { HOUR } else { 30 * HOUR };
                clock.sleep(time).await;
                Step::Ok(step.recovering())
            }
        });
        let slow = slow.await?;
        ctx.sleep("pause", HOUR).await?;
        ctx.step("last", || async { Step::Ok(effects.ran("last").min(1)) }).await?;
        Ok(slow)
    });
    // Time enough for all of it several times: what a crash costs counts, too.
    Ok(format!("{}", ctx.time_limit("limit", 20 * HOUR, part).await?))
}

#[test]
fn a_part_that_took_too_long_is_done_again_whatever_crashes() {
    enumerate("late", 2, |life: Life| async move {
        let (effects, clock) = (life.effects().clone(), life.clock().clone());
        let code = move |ctx, ()| late(ctx, effects.clone(), clock.clone());
        let flow = life.flows().register("late", code)?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        let result = life.finish_resuming(&run, 1).await?;
        assert_eq!(result, "true");
        for (step, least) in [("quick", 1), ("slow", 2), ("last", 1)] {
            let ran = usize::try_from(life.effects().count(step))?;
            assert!((least..=least + life.crashes()).contains(&ran), "{step} ran {ran} times");
        }
        Ok(result)
    });
}

/// A step fails until the run was resumed twice; each time signals are taken after that beside it.
async fn taken(ctx: Ctx, effects: Effects, clock: VirtualClock) -> FlowResult<String> {
    let (failed, words) = tokio::join!(
        ctx.step_with("fails", |_| {
            let ctx = ctx.clone();
            async move {
                let times: u32 = ctx.get("times")?.unwrap_or(0);
                ctx.set("times", &(times + 1))?;
                if times < 2 { Err(StepError::permanent("not yet")) } else { Ok(()) }
            }
        })
        .into_future(),
        async {
            // It is done when the step has failed.
            ctx.sleep("pause", HOUR).await?;
            ctx.step("beside", || {
                let (effects, clock) = (effects.clone(), clock.clone());
                async move {
                    effects.ran("beside");
                    clock.sleep(HOUR).await;
                    Step::Ok(())
                }
            })
            .await?;
            let first: String = ctx.signal("word").await?;
            let second: String = ctx.signal("word").await?;
            Step::Ok(format!("{first} {second}"))
        },
    );
    failed?;
    let words = words?;
    let more: Option<String> = ctx.signal_within("word", HOUR).await?;
    Ok(format!("{words} {more:?}"))
}

#[test]
fn a_signal_whose_taking_a_resume_voids_is_there_again_whatever_crashes() {
    enumerate("taken", 2, |life: Life| async move {
        let (effects, clock) = (life.effects().clone(), life.clock().clone());
        let code = move |ctx, ()| taken(ctx, effects.clone(), clock.clone());
        let flow = life.flows().register("taken", code)?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        for (id, word) in [("1", "a"), ("2", "b"), ("1", "again")] {
            life.signal_once(&run, "word", id, word).await?;
        }
        let result = life.finish_resuming(&run, 2).await?;
        assert_eq!(result, "a b None");
        Ok(result)
    });
}

/// A part that fails in time, is too slow when it is done again, and then is done in time.
async fn fails_in_time(ctx: Ctx, effects: Effects, clock: VirtualClock) -> FlowResult<u32> {
    let part = ctx.process("part", |ctx| async move {
        ctx.step("quick", || async { Step::Ok(effects.ran("quick").min(1)) }).await?;
        ctx.step_with("load", |_| {
            let (ctx, effects, clock) = (ctx.clone(), effects.clone(), clock.clone());
            async move {
                effects.ran("load");
                let failed: bool = ctx.get("failed")?.unwrap_or(false);
                if !failed {
                    ctx.set("failed", &true)?;
                    return Err(StepError::permanent("no"));
                }
                let slow = effects.count("slow") == 0;
                if slow {
                    effects.ran("slow");
                    clock.sleep(1000 * HOUR).await;
                }
                Ok(7)
            }
        })
        .await
    });
    ctx.time_limit("limit", 20 * HOUR, part).await
}

#[test]
fn a_part_that_failed_in_time_has_a_limit_again_whatever_crashes() {
    enumerate("fails-in-time", 2, |life: Life| async move {
        let (effects, clock) = (life.effects().clone(), life.clock().clone());
        let code = move |ctx, ()| fails_in_time(ctx, effects.clone(), clock.clone());
        let flow = life.flows().register("fails-in-time", code)?;
        life.start().await?;
        let begun = life.clock().now();
        let run = life.begin(&flow, "run", ()).await?;
        let result = life.finish_resuming(&run, 2).await?;
        assert_eq!(result, 7);
        // Nobody waited for what was given up.
        assert!(life.clock().now().saturating_since(begun) < 100 * HOUR);
        Ok(result.to_string())
    });
}
