//! Failed runs go on where they failed.

use resurge_flow::{
    Ctx, FlowError, FlowOptions, FlowResult, Flows, FlowsOptions, RunState, StepError,
};
use resurge_store::Clock;
use tokio::{join, try_join};

use crate::world::{World, crash_everywhere, ms, ok, secs};

/// A step that fails the first `failures` times.
async fn fails(ctx: &Ctx, w: &World, name: &'static str, failures: u32) -> FlowResult<u32> {
    ctx.step_with(name, |step| {
        let n = w.effects.ran(name);
        w.note(format!("{name} {n} {}", step.recovering()));
        async move {
            if n <= failures { Err(StepError::permanent(format!("{name} failed"))) } else { Ok(n) }
        }
    })
    .await
}

/// a -> b -> c, and one that does not depend on them; all are driven to their ends.
async fn chain_and_one(ctx: Ctx, failures: u32, w: World) -> FlowResult<u32> {
    let (chain, alone) = join!(
        async {
            w.slow(&ctx, "a", 10).await?;
            fails(&ctx, &w, "b", failures).await?;
            w.counted(&ctx, "c").await
        },
        w.slow(&ctx, "alone", 50),
    );
    alone?;
    chain
}

fn ran(w: &World) -> [u32; 4] {
    ["a", "b", "c", "alone"].map(|name| w.effects.of(name))
}

#[test]
fn a_resumed_run_repeats_only_what_failed_and_what_depends_on_it() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "dag", chain_and_one);
        flows.start().await.unwrap();
        let run = flow.start("r", 1).await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert_eq!(error.to_string(), "run `r` failed at step `b`: b failed");
        assert_eq!(ran(&w), [1, 1, 0, 1]);
        assert_eq!(run.state().await.unwrap(), RunState::Failed);
        let resumed = run.resume().await.unwrap();
        assert_eq!(w.run(resumed.result()).await.unwrap(), 1);
        assert_eq!(ran(&w), [1, 2, 1, 1]);
        assert_eq!(w.notes(), ["b 1 false", "b 2 true"]);
    });
}

#[test]
fn it_may_fail_again_and_is_resumed_again_until_it_is_not_failed() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "dag", chain_and_one);
        flows.start().await.unwrap();
        let run = flow.start("r", 2).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        let error = w.run(run.resume().await.unwrap().result()).await.unwrap_err();
        assert!(matches!(error, FlowError::Failed { .. }), "{error}");
        assert_eq!(ran(&w), [1, 2, 0, 1]);
        w.run(run.resume().await.unwrap().result()).await.unwrap();
        assert_eq!(ran(&w), [1, 3, 1, 1]);
        let error = run.resume().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "run `r` is not failed but succeeded; only failed runs can be resumed"
        );
        let error = flow.run("nobody").resume().await.unwrap_err();
        assert!(matches!(error, FlowError::NotFound { .. }), "{error}");
    });
}

#[test]
fn of_four_who_resume_at_once_one_does() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "slow", async |ctx: Ctx, (), w: World| {
            ctx.step("slow", || async {
                let n = w.effects.ran("slow");
                w.clock.sleep(secs(1)).await;
                if n == 1 { Err(StepError::permanent("no")) } else { Ok(n) }
            })
            .await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        let resumes = join!(run.resume(), run.resume(), run.resume(), run.resume());
        let resumes: [_; 4] = resumes.into();
        let (won, lost): (Vec<_>, Vec<_>) = resumes.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 3));
        for lost in lost {
            let error = lost.unwrap_err();
            assert!(matches!(error, FlowError::AlreadyRunning { .. }), "{error}");
        }
        assert_eq!(w.run(won.into_iter().next().unwrap().unwrap().result()).await.unwrap(), 2);
        assert_eq!(w.effects.of("slow"), 2);
    });
}

#[test]
fn who_sees_the_failure_in_the_store_first_can_resume_it() {
    // The run's task has not heard that its end is durable when the resume begins.
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "fails", async |ctx: Ctx, (), w: World| {
            fails(&ctx, &w, "x", 1).await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        let other = flow.run("r");
        w.faults.delay_acks(w.clock.clone(), secs(1));
        while other.state().await.unwrap() != RunState::Failed {
            tokio::task::yield_now().await;
        }
        w.faults.heal();
        let resumed = other.resume().await.unwrap();
        assert_eq!(w.run(resumed.result()).await.unwrap(), 2);
        let first = w.run(run.result()).await;
        assert!(matches!(first, Err(FlowError::Failed { .. })), "{first:?}");
    });
}

#[test]
fn failures_that_the_flow_caught_stay() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "catches", async |ctx: Ctx, (), w: World| {
            let caught = fails(&ctx, &w, "caught", 1).await.is_err();
            let after = w.counted(&ctx, "after").await?;
            fails(&ctx, &w, "fails", 1).await?;
            Ok((caught, after))
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), (true, 1));
        assert_eq!(w.notes(), ["caught 1 false", "fails 1 false", "fails 2 true"]);
    });
}

#[test]
fn two_branches_that_failed_are_both_repeated_when_the_error_names_both() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "two", async |ctx: Ctx, (), w: World| {
            try_join!(fails(&ctx, &w, "x", 1), fails(&ctx, &w, "y", 1))
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        // `try_join` gives up `y` when it sees `x` fail: only what the error names runs again, and
        // what was given up runs again because it never completed, or fails and is resumed.
        w.run(run.result()).await.unwrap_err();
        let mut resumes = 0;
        while run.state().await.unwrap() == RunState::Failed {
            resumes += 1;
            let _ = w.run(run.resume().await.unwrap().result()).await;
        }
        assert!((1..=2).contains(&resumes), "{resumes}");
        assert_eq!((w.effects.of("x"), w.effects.of("y")), (2, 2));
    });
}

#[test]
fn a_flow_can_be_registered_as_not_resumable() {
    let w = World::new();
    w.life(async |flows| {
        let world = w.clone();
        let options = FlowOptions::default().resumable(false);
        let flow = flows
            .register_with("once", options, move |ctx: Ctx, (): ()| {
                let w = world.clone();
                async move { fails(&ctx, &w, "x", 1).await }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        let error = run.resume().await.unwrap_err();
        assert_eq!(error.to_string(), "run `r` of flow `once` is not resumable");
        assert_eq!(w.effects.of("x"), 1);
    });
}

#[test]
fn a_failure_of_no_step_repeats_what_comes_after_the_last_completion() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "own", async |ctx: Ctx, (), w: World| {
            let x = w.counted(&ctx, "x").await?;
            w.note(format!("{}", ctx.recovering()));
            if w.effects.ran("checked") == 1 {
                return Err(StepError::permanent("not good enough"));
            }
            Ok(x + w.counted(&ctx, "y").await?)
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert_eq!(error.to_string(), "run `r` failed: not good enough");
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 2);
        assert_eq!((w.effects.of("x"), w.effects.of("y")), (1, 1));
        assert_eq!(w.notes(), ["false", "true"]);
    });
}

#[test]
fn attempts_are_counted_anew_after_a_resume() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "tries", async |ctx: Ctx, (), w: World| {
            ctx.step_with("x", |step| {
                w.note(step.attempt().to_string());
                let n = w.effects.ran("x");
                async move { if n < 4 { Err(StepError::transient("no")) } else { Ok(n) } }
            })
            .retry(resurge_flow::Retry::fixed(secs(1)).max_attempts(2))
            .await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 4);
        assert_eq!(w.notes(), ["1", "2", "1", "2"]);
    });
}

#[test]
fn a_crash_during_a_resume_loses_nothing() {
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<u32, FlowError> {
        let flow = w.register(flows, "dag", chain_and_one);
        flows.start().await?;
        let run = flow.start("r", 2).await?;
        loop {
            match w.run(flow.run("r").result()).await {
                Err(FlowError::Failed { .. }) => drop(run.resume().await?),
                other => return other,
            }
        }
    };
    for evict_after in [ms(0), secs(5)] {
        let options = FlowsOptions { evict_after, ..FlowsOptions::default() };
        let crashes = crash_everywhere(&options, script, |w, nth, c| {
            assert_eq!(c, w.effects.of("c"), "killed at commit {nth}");
            let ran = ran(w);
            let once_more =
                ran.iter().zip([1, 3, 1, 1]).map(|(ran, least)| ran - least).sum::<u32>();
            // What was at work, or not yet durable, when the process died: two branches at most.
            assert!(once_more <= 2, "killed at commit {nth}: {ran:?}");
        });
        assert!(crashes >= 9, "{crashes}");
    }
}

#[test]
fn a_signal_that_came_early_is_there_after_a_resume() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "asks late", async |ctx: Ctx, (), w: World| {
            ctx.signal::<()>("begin").await?;
            fails(&ctx, &w, "x", 1).await?;
            ctx.signal::<u32>("number").await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        run.signal("number", &7).await.unwrap();
        run.signal("begin", &()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 7);
    });
}

#[test]
fn a_resume_before_the_flows_are_started_is_done_then() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "dag", chain_and_one);
        flows.start().await.unwrap();
        let run = flow.start("r", 1).await.unwrap();
        w.run(run.result()).await.unwrap_err();
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "dag", chain_and_one);
        let resumed = flow.run("r").resume().await.unwrap();
        w.quiet().await;
        assert_eq!(ran(&w), [1, 1, 0, 1]);
        flows.start().await.unwrap();
        w.run(resumed.result()).await.unwrap();
        assert_eq!(ran(&w), [1, 2, 1, 1]);
        ok(()).unwrap();
    });
}
