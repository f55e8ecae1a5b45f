//! Runs that fail and are resumed, with crashes before, during and after.

use resurge_flow::{Ctx, FlowResult, StepError};
use resurge_flow_testkit::{Effects, Life};

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
