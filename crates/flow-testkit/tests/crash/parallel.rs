//! Branches that use the same names, many runs at once, runs that leave memory.

use std::time::Duration;

use resurge_flow::{Ctx, FlowResult, FlowsOptions, Scope};
use resurge_flow_testkit::{CrashPoints, Effects, Life};
use resurge_store::{Clock, VirtualClock};

use crate::{HOUR, Step, enumerate};

/// A branch: `fetch`, then `charge`, whose bodies take as long as they like.
async fn branch(
    ctx: &Ctx,
    who: &'static str,
    latency: [u64; 2],
    clock: &VirtualClock,
    effects: &Effects,
) -> FlowResult<String> {
    let fetched = ctx
        .step("fetch", || async {
            clock.sleep(Duration::from_millis(latency[0])).await;
            effects.ran(format!("fetch {who}"));
            Step::Ok(who.to_owned())
        })
        .await?;
    ctx.step("charge", || async {
        clock.sleep(Duration::from_millis(latency[1])).await;
        effects.ran(format!("charge {who}"));
        Step::Ok(format!("{who} charged for {fetched}"))
    })
    .await
}

#[test]
fn joined_branches_with_equal_names_keep_their_results() {
    for (name, left, right) in [("join-left", [1, 9], [5, 1]), ("join-right", [7, 1], [2, 2])] {
        enumerate(name, 2, |life: Life| async move {
            let (effects, clock) = (life.effects().clone(), life.clock().clone());
            let flow = life.flows().register("joined", move |ctx: Ctx, ()| {
                let (effects, clock) = (effects.clone(), clock.clone());
                async move {
                    let (left, right) = tokio::try_join!(
                        branch(&ctx, "left", left, &clock, &effects),
                        branch(&ctx, "right", right, &clock, &effects),
                    )?;
                    ctx.step("end", || async { Step::Ok(effects.ran("end").min(1)) }).await?;
                    Ok(format!("{left}, {right}"))
                }
            })?;
            life.start().await?;
            let run = life.begin(&flow, "run", ()).await?;
            let result = life.finish(&run).await?;
            assert_eq!(result, "left charged for left, right charged for right");
            // What was charged under one key is charged under it again.
            Ok(result)
        });
    }
}

#[test]
fn runs_side_by_side_that_leave_memory_while_they_wait() {
    let options = FlowsOptions {
        evict_after: Duration::ZERO,
        max_running: 2,
        sweep_every: 10_000_000 * HOUR,
        ..FlowsOptions::default()
    };
    let mut points = 0;
    for seed in 1..=2 {
        let crashes = CrashPoints::new().seed(seed).max_cuts(3).second_crashes(1);
        let report = crashes.options(options.clone()).run(|life: Life| async move {
            let effects = life.effects().clone();
            let flow = life.flows().register("evicted", move |ctx: Ctx, n: u32| {
                let effects = effects.clone();
                async move {
                    ctx.step("before", || async { Step::Ok(effects.ran("before").min(1)) }).await?;
                    ctx.sleep("wait", n * HOUR).await?;
                    let word: u32 = ctx.signal("word").await?;
                    ctx.step("after", || async { Step::Ok(effects.ran("after").min(1)) }).await?;
                    Ok(n * word)
                }
            })?;
            life.start().await?;
            let mut runs = Vec::new();
            for n in 1..=3 {
                let run = life.begin(&flow, &format!("run-{n}"), n).await?;
                life.signal(&run, "word", &(n + 1)).await?;
                runs.push(run);
            }
            let mut results = Vec::new();
            for run in &runs {
                results.push(life.finish(run).await?);
            }
            assert_eq!(results, [2, 6, 12]);
            Ok(results)
        });
        points += report.unwrap().crash_points;
    }
    assert!(points > 300, "{points}");
}

/// A memoised step is one effect for all runs, whoever dies while it runs.
#[test]
fn a_memoised_step_is_shared_by_runs() {
    enumerate("memoised", 2, |life: Life| async move {
        let (effects, clock) = (life.effects().clone(), life.clock().clone());
        let flow = life.flows().register("memoised", move |ctx: Ctx, n: u32| {
            let (effects, clock) = (effects.clone(), clock.clone());
            async move {
                let weather = ctx
                    .step("weather", || async {
                        clock.sleep(Duration::from_millis(5)).await;
                        effects.ran("weather");
                        Step::Ok(20_u32)
                    })
                    .memoize(Scope::Global, 1000 * HOUR)
                    .await?;
                ctx.step("own", || async { Step::Ok(effects.ran("own").min(1)) }).await?;
                ctx.sleep("wait", HOUR).await?;
                Ok(weather + n)
            }
        })?;
        life.start().await?;
        let one = life.begin(&flow, "run-1", 1).await?;
        let two = life.begin(&flow, "run-2", 2).await?;
        let results = (life.finish(&one).await?, life.finish(&two).await?);
        let times = usize::try_from(life.effects().count("weather"))?;
        assert!((1..=1 + life.crashes()).contains(&times), "ran {times} times");
        Ok(format!("{results:?}"))
    });
}
