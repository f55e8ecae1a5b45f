//! Everything in one flow.

use std::time::Duration;

use resurge_flow::{Ctx, Either, FlowRef, FlowResult, Retry, StepError};
use resurge_flow_testkit::{CrashPoints, Effects, Failure, Life};
use resurge_store::{Clock, VirtualClock};
use resurge_testkit::evidence;

use crate::{HOUR, Step};

#[derive(Clone)]
struct World {
    effects: Effects,
    clock: VirtualClock,
    invoice: FlowRef<u32, u32>,
}

async fn invoice(ctx: Ctx, amount: u32, effects: Effects) -> FlowResult<u32> {
    let number = ctx.step("number", || async {
        effects.ran("number");
        Step::Ok(100 + amount)
    });
    let number = number.await?;
    ctx.sleep("printer", HOUR).await?;
    ctx.step("print", || async { Step::Ok(effects.ran("print").min(1)) }).await?;
    Ok(number)
}

/// Two of these run side by side, in the same scope.
async fn parcel(ctx: &Ctx, world: &World, who: &str, latency: u64) -> FlowResult<String> {
    let packed = ctx
        .step("pack", || async {
            world.clock.sleep(Duration::from_millis(latency)).await;
            world.effects.ran(format!("pack {who}"));
            Step::Ok(who.to_owned())
        })
        .await?;
    ctx.step("label", || async {
        world.clock.sleep(Duration::from_millis(10 - latency)).await;
        world.effects.ran(format!("label {who}"));
        Step::Ok(format!("{who}'s label on {packed}"))
    })
    .await
}

async fn order(ctx: Ctx, amount: u32, world: World) -> FlowResult<String> {
    let effects = &world.effects;
    // A context value, recorded time, and steps that are cheap to do again.
    ctx.set("amount", &amount)?;
    let placed = ctx.now().await?;
    for _ in 0..2 {
        let look = ctx.step("look up", || async {
            world.clock.sleep(Duration::from_millis(1)).await;
            Step::Ok(effects.ran("look up").min(1))
        });
        look.deferred().await?;
    }
    // Retries.
    let reserved = ctx
        .step_with("reserve", |step| {
            let effects = effects.clone();
            async move {
                effects.ran("reserve");
                if step.attempt() < 3 {
                    Err(StepError::transient("busy"))
                } else {
                    Ok(step.attempt())
                }
            }
        })
        .retry(Retry::exponential(Duration::from_secs(30)).max_attempts(4))
        .timeout(HOUR)
        .await?;
    // Branches with equal names.
    let (left, right) =
        tokio::try_join!(parcel(&ctx, &world, "left", 2), parcel(&ctx, &world, "right", 6))?;
    // A failing step that is resumed; what its failing attempt set stays.
    let charged = ctx
        .step_with("charge", |step| {
            let (ctx, effects) = (ctx.clone(), effects.clone());
            async move {
                effects.ran("charge");
                if step.recovering() {
                    return ctx.get::<u32>("declined");
                }
                ctx.set("declined", &1)?;
                Err(StepError::permanent("declined"))
            }
        })
        .await?;
    // A child, a sleep, a signal, a race.
    let number = ctx.child("invoice", &world.invoice, &amount).await?;
    ctx.sleep("cool-off", 10 * HOUR).await?;
    let approved: String = ctx.signal("approved").await?;
    let won = ctx.select("race", ctx.signal::<u32>("never"), ctx.sleep("patience", HOUR)).await?;
    let won = match won {
        Either::First(_) => "signal",
        Either::Second(slept) => slept.map(|()| "sleep")?,
    };
    let ctx = ctx.scope("last")?;
    let waited = ctx.now().await?.saturating_since(placed) >= 11 * HOUR;
    let shipped = ctx.step("ship", || async { Step::Ok(effects.ran("ship").min(1)) }).await?;
    let amount: Option<u32> = ctx.get("amount")?;
    Ok(format!(
        "{reserved} {left} {right} {charged:?} {number} {approved} {won} {waited} {shipped} {amount:?}"
    ))
}

async fn script(life: Life) -> Result<String, Failure> {
    let effects = life.effects().clone();
    let invoice =
        life.flows().register("invoice", move |ctx, n| invoice(ctx, n, effects.clone()))?;
    let world = World { effects: life.effects().clone(), clock: life.clock().clone(), invoice };
    let orders = life.flows().register("order", move |ctx, n| order(ctx, n, world.clone()))?;
    life.start().await?;
    let run = life.begin(&orders, "order-1", 7).await?;
    life.signal(&run, "approved", "yes").await?;
    let result = life.finish_resuming(&run, 1).await?;
    assert_eq!(
        result,
        "3 left's label on left right's label on right Some(1) 107 yes sleep true 1 Some(7)"
    );
    Ok(result)
}

#[test]
fn a_flow_that_does_everything_survives_a_crash_at_every_commit() {
    let (mut points, mut second, mut effects, mut repeated) = (0, 0, 0, 0);
    for seed in 1..=2 {
        let crashes = CrashPoints::new().seed(seed).max_cuts(4).second_crashes(1);
        let report = crashes.run(script).unwrap();
        assert!(report.commits >= 15 && report.diverged == 0, "{report:?}");
        points += report.crash_points;
        second += report.second_crashes;
        effects += report.checked_effects;
        repeated += report.repeated;
    }
    assert!(points > 400, "{points}");
    evidence(
        "flow-crash-points",
        &format!(
            "{points} crash points ({second} crashed again while recovering), the same result at each; {effects} effects, {repeated} of them once more, all in flight or not yet durable"
        ),
    );
}
