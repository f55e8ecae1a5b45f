//! Crash points of graphs, fan-out, callbacks and resources, with failures that are resumed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use resurge_flow::{Callback, Ctx, FlowOptions, FlowResult, Graph, Resource, StepError, StepInfo};
use resurge_flow_testkit::{CrashPoints, Effects, Failure, Life};
use resurge_testkit::evidence;

const MINUTE: Duration = Duration::from_secs(60);

/// The body of a step or callback: an effect, and a failure the first time.
fn fails_first(effects: &Effects, name: &str) -> Result<u32, StepError> {
    effects.ran(name);
    match StepInfo::current() {
        Some(step) if step.recovering() => Ok(1),
        _ => Err(StepError::permanent(format!("{name} fails first"))),
    }
}

struct Session;

impl Resource for Session {
    type Live = u32;
    type State = u32;

    async fn init(&self, _: StepInfo) -> FlowResult<u32> {
        Ok(40)
    }

    async fn suspend(&self, live: &u32) -> FlowResult<u32> {
        Ok(*live)
    }

    async fn recover(&self, state: u32, _: StepInfo) -> FlowResult<u32> {
        Ok(state)
    }
}

/// Two branches fail, at different times; the others go on beside them.
async fn build(ctx: Ctx, effects: Effects, limit: Option<usize>) -> FlowResult<u32> {
    let e = &effects;
    let session = ctx.resource("session", Session).await?;
    let s = &session;
    let mut graph = Graph::builder();
    if let Some(limit) = limit {
        graph.max_parallel(limit);
    }
    graph.step("source", &[], move |_| async move {
        e.ran("source");
        s.live().map(|live| *live)
    });
    graph.step("fails", &["source"], |_| async move { fails_first(e, "fails") });
    graph.step("skipped", &["fails"], |_| async move {
        e.ran("skipped");
        Ok::<_, StepError>(1_u32)
    });
    for name in ["left", "right"] {
        graph.process(name, &["source"], move |ctx, done| async move {
            let mut sum: u32 = done.get("source")?;
            for nth in 0..2 {
                sum += ctx
                    .step("one", || async move {
                        e.ran(format!("{name} {nth}"));
                        Ok::<_, StepError>(1)
                    })
                    .await?;
                ctx.sleep("rest", if name == "left" { MINUTE } else { 2 * MINUTE }).await?;
            }
            if name == "right" {
                sum += ctx.step("late", || async { fails_first(e, "late") }).await?;
            }
            Ok(sum)
        });
    }
    graph.step("sum", &["left", "right", "skipped"], |done| async move {
        e.ran("sum");
        let (left, right): (u32, u32) = (done.get("left")?, done.get("right")?);
        Ok::<_, StepError>(left + right + done.get::<u32>("skipped")?)
    });
    let built: u32 = ctx.graph("build", graph.build()?).await?.get("sum")?;
    let items = ctx.map("items", 0..5_u32, 2, |ctx, index, item| async move {
        let name = format!("item {index}");
        let one = ctx.step("load", || async {
            e.ran(format!("load {index}"));
            Ok::<_, StepError>(item)
        });
        let one = one.await?;
        ctx.sleep("rest", MINUTE * (5 - item)).await?;
        let two = ctx.step("store", || async {
            if item == 2 { fails_first(e, &name) } else { Ok(e.ran(&*name).min(1)) }
        });
        Ok(one + two.await?)
    });
    Ok(built + items.await?.iter().sum::<u32>())
}

fn callbacks(effects: &Effects) -> FlowOptions {
    let callback = |name: &'static str, fails: bool| {
        let effects = effects.clone();
        Callback::must(name, move |info| {
            let effects = effects.clone();
            async move {
                let effect = format!("{name} of {:?} {}", info.level(), info.name());
                if fails && info.error().is_none() {
                    return fails_first(&effects, &effect).map(drop);
                }
                effects.ran(effect);
                Ok(())
            }
        })
    };
    FlowOptions::default()
        .before_flow(callback("first", false))
        .before_process(callback("opens", true).only_for(["left"]))
        .after_process(callback("closes", false).exclude_recovering())
        .before_step(callback("asks", false).only_for(["one"]))
        .after_step(callback("tells", true).only_for(["sum"]))
        .after_flow(callback("last", false))
}

async fn script(life: Life, limit: Option<usize>) -> Result<u32, Failure> {
    let effects = life.effects().clone();
    let options = callbacks(&effects);
    let flow = life
        .flows()
        .register_with("build", options, move |ctx, ()| build(ctx, effects.clone(), limit))?;
    life.start().await?;
    let run = life.begin(&flow, "b", ()).await?;
    life.finish_resuming(&run, 8).await
}

fn enumerate(limit: Option<usize>, cuts: usize) -> usize {
    let all = CrashPoints::new().seed(7).max_cuts(cuts).second_crashes(1);
    let report = all.run(|life| script(life, limit)).unwrap();
    assert_eq!(report.diverged, 0, "{report:?}");
    assert!(report.second_crashes > 0 && report.checked_effects > report.repeated, "{report:?}");
    report.crash_points
}

#[test]
fn graphs_callbacks_and_resources_survive_a_crash_anywhere() {
    let points = enumerate(None, 1) + enumerate(Some(1), 1);
    assert!(points > 100, "{points}");
    evidence(
        "flow-crash-points-graphs",
        &format!(
            "{points} crash points of a graph, a fan-out, callbacks and a resource that fail and are resumed: the same result at each"
        ),
    );
}
