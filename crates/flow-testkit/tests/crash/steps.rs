//! One thing at a time: retries, sleeps, signals, children, derived values, deferred steps.

use std::time::Duration;

use resurge_flow::{Ctx, Either, FlowResult, Retry, StepError};
use resurge_flow_testkit::{Effects, Failure, Life};
use resurge_store::{Clock, VirtualClock};

use crate::{DAY, HOUR, Step, enumerate};

async fn retried(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    let first = ctx.step("first", || async { Step::Ok(effects.ran("first").min(1)) }).await?;
    let flaky = ctx
        .step_with("flaky", |step| {
            let effects = effects.clone();
            async move {
                effects.ran("flaky");
                match step.attempt() {
                    1 | 2 => Err(StepError::transient("not yet")),
                    attempt => Ok(attempt),
                }
            }
        })
        .retry(Retry::exponential(Duration::from_secs(60)).max_attempts(5))
        .await?;
    let last = ctx.step("last", || async { Step::Ok(effects.ran("last").min(1)) }).await?;
    Ok(format!("{first} {flaky} {last}"))
}

#[test]
fn retries_are_not_begun_anew() {
    let points = enumerate("retries", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow =
            life.flows().register("retried", move |ctx, ()| retried(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.finish(&run).await
    });
    assert!(points > 100, "{points}");
}

async fn waits(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    ctx.step("before", || async { Step::Ok(effects.ran("before").min(1)) }).await?;
    ctx.sleep("a while", 30 * HOUR).await?;
    let word: String = ctx.signal("first").await?;
    ctx.step("between", || async { Step::Ok(effects.ran("between").min(1)) }).await?;
    let none: Option<String> = ctx.signal_within("never", HOUR).await?;
    let second: String = ctx.signal("second").await?;
    ctx.step("after", || async { Step::Ok(effects.ran("after").min(1)) }).await?;
    Ok(format!("{word} {second} {none:?}"))
}

#[test]
fn sleeps_and_signals_are_taken_once() {
    enumerate("waits", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow = life.flows().register("waits", move |ctx, ()| waits(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.signal(&run, "first", "one").await?;
        life.advance(31 * HOUR).await;
        life.signal(&run, "second", "two").await?;
        life.finish(&run).await
    });
}

/// Takes three of one name; which came twice could be seen.
async fn collects(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    let mut words = Vec::new();
    for _ in 0..3 {
        words.push(ctx.signal::<String>("word").await?);
        ctx.step("word", || async { Step::Ok(effects.ran("word").min(1)) }).await?;
    }
    let more: Option<String> = ctx.signal_within("word", HOUR).await?;
    Ok(format!("{words:?} {more:?}"))
}

#[test]
fn a_signal_with_an_id_arrives_once_whatever_crashes() {
    enumerate("signal-ids", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow =
            life.flows().register("collects", move |ctx, ()| collects(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        for (id, word) in [("1", "a"), ("2", "b"), ("1", "again"), ("3", "c"), ("2", "again")] {
            life.signal_once(&run, "word", id, word).await?;
        }
        let result = life.finish(&run).await?;
        assert_eq!(result, r#"["a", "b", "c"] None"#);
        life.signal_once(&run, "word", "3", "after the end").await?;
        Ok(result)
    });
}

async fn small(ctx: Ctx, n: u32, effects: Effects) -> FlowResult<u32> {
    let more = ctx.step("small", || async {
        effects.ran("small");
        Step::Ok(n * 10)
    });
    let more = more.await?;
    ctx.sleep("small sleep", HOUR).await?;
    Ok(more)
}

#[test]
fn children_start_once_and_their_results_arrive() {
    enumerate("children", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let child = life.flows().register("small", move |ctx, n| small(ctx, n, effects.clone()))?;
        let effects = life.effects().clone();
        let parent = life.flows().register("parent", move |ctx: Ctx, n: u32| {
            let (child, effects) = (child.clone(), effects.clone());
            async move {
                let one = ctx.child("one", &child, &n).await?;
                let (two, three) = tokio::try_join!(
                    ctx.child("several", &child, &one),
                    ctx.child("several", &child, &(one + 1)),
                )?;
                ctx.step("sum", || async { Step::Ok(effects.ran("sum").min(1)) }).await?;
                Ok(one + two + three)
            }
        })?;
        life.start().await?;
        let run = life.begin(&parent, "run", 1).await?;
        Ok(life.finish(&run).await?.to_string())
    });
}

/// Derived and recorded values are the same in every execution, and context values stay.
async fn values(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    let (random, uuid) = (ctx.random()?, ctx.uuid()?);
    let now = ctx.now().await?;
    ctx.set("seen", &(random, uuid.to_string(), now))?;
    let recorded = ctx
        .step("record", || async {
            effects.ran("record");
            ctx.set("inside", &(7, random))?;
            Step::Ok((random, uuid.to_string(), now))
        })
        .await?;
    ctx.sleep("an hour", HOUR).await?;
    let seen: Option<(u64, String, resurge_store::Timestamp)> = ctx.get("seen")?;
    let inside: Option<(u32, u64)> = ctx.get("inside")?;
    let changed = ctx.patched("change")?;
    let checked = ctx
        .step("check", || async {
            effects.ran("check");
            Step::Ok((
                recorded == (random, uuid.to_string(), now),
                seen.as_ref() == Some(&recorded),
            ))
        })
        .await?;
    ctx.unset("seen")?;
    let again = ctx.random()? != random;
    ctx.step("end", || async { Step::Ok(effects.ran("end").min(1)) }).await?;
    let gone = ctx.get::<u32>("seen")?.is_none();
    Ok(format!("{checked:?} {again} {gone} {changed} {:?}", inside == Some((7, random))))
}

#[test]
fn recorded_and_derived_values_are_the_same_in_every_execution() {
    enumerate("values", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow = life.flows().register("values", move |ctx, ()| values(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        let result = life.finish(&run).await?;
        assert_eq!(result, "(true, true) true true true true");
        Ok(result)
    });
}

/// Steps that are cheap to do again: any number of them may be lost, in order, and come again.
async fn deferred(ctx: Ctx, clock: VirtualClock, effects: Effects) -> FlowResult<String> {
    let mut sum = 0;
    for _ in 0..4 {
        sum += ctx
            .step("cheap", || async {
                // Long enough for a commit of its own.
                clock.sleep(Duration::from_millis(1)).await;
                effects.ran("cheap");
                Step::Ok(1)
            })
            .deferred()
            .await?;
    }
    let paid = ctx.step("dear", || async {
        effects.ran("dear");
        Step::Ok(sum)
    });
    let paid = paid.await?;
    let cheap = ctx.step("cheap", || async { Step::Ok(effects.ran("cheap").min(1)) }).deferred();
    Ok(format!("{paid} {}", cheap.await?))
}

#[test]
fn deferred_steps_come_again_and_nothing_else_does() {
    enumerate("deferred", 2, |life: Life| async move {
        let (effects, clock) = (life.effects().clone(), life.clock().clone());
        let flow = life
            .flows()
            .register("deferred", move |ctx, ()| deferred(ctx, clock.clone(), effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.finish(&run).await
    });
}

/// Who wins is decided once.
async fn raced(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    let late = ctx.select(
        "late",
        ctx.step("slow", || async {
            effects.ran("slow");
            Step::Ok("slow".to_owned())
        })
        .into_future(),
        ctx.sleep("bell", HOUR),
    );
    let late = match late.await? {
        Either::First(word) => word?,
        Either::Second(rung) => rung.map(|()| "bell".to_owned())?,
    };
    let signal = ctx.timeout("answer", DAY, ctx.signal::<String>("answer")).await?;
    ctx.step("end", || async { Step::Ok(effects.ran("end").min(1)) }).await?;
    Ok(format!("{late} {:?}", signal.transpose()?))
}

#[test]
fn a_race_is_decided_once() {
    enumerate("races", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow = life.flows().register("raced", move |ctx, ()| raced(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.finish(&run).await
    });
}

/// Undone after it was cancelled: what is shielded runs to its end.
async fn undone(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    ctx.step("do", || async { Step::Ok(effects.ran("do").min(1)) }).await?;
    let waited = ctx.sleep("long", 1000 * DAY).await;
    let Err(error) = waited else { return Ok("not cancelled".to_owned()) };
    let shielded = ctx.shielded();
    shielded.step("undo", || async { Step::Ok(effects.ran("undo").min(1)) }).await?;
    shielded.sleep("cool-off", HOUR).await?;
    shielded.step("tell", || async { Step::Ok(effects.ran("tell").min(1)) }).await?;
    Err(error)
}

#[test]
fn a_cancelled_run_is_undone_once() {
    enumerate("cancel", 2, |life: Life| async move {
        let effects = life.effects().clone();
        let flow = life.flows().register("undone", move |ctx, ()| undone(ctx, effects.clone()))?;
        life.start().await?;
        let run = life.begin(&flow, "run", ()).await?;
        life.advance(DAY).await;
        match run.cancel().await {
            Ok(()) | Err(resurge_flow::FlowError::Ended { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let end = life.finish(&run).await.unwrap_err();
        let end = end.downcast::<resurge_flow::FlowError>()?;
        match *end {
            resurge_flow::FlowError::Cancelled { .. } => Ok("cancelled".to_owned()),
            other => Err::<String, Failure>(other.into()),
        }
    });
}
