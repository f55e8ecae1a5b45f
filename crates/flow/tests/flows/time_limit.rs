//! A time limit on a part of a flow: its passing is a failure that a resume forgets.

use resurge_flow::{
    Ctx, FlowError, FlowResult, Flows, FlowsOptions, RunState, StepError, StepErrorKind,
};
use resurge_store::Clock;

use crate::world::{World, crash_everywhere, ms, ok, secs};

/// A step that takes its time: `first` seconds when the run has not failed there before, then `again`.
async fn takes(
    ctx: &Ctx,
    w: &World,
    name: &'static str,
    first: u64,
    again: u64,
) -> FlowResult<u32> {
    ctx.step_with(name, |step| {
        let (w, n) = (w.clone(), w.effects.ran(name));
        w.note(format!("{name} {} {}", step.attempt(), step.recovering()));
        let time = if step.recovering() { again } else { first };
        async move {
            w.clock_sleep(secs(time)).await;
            ok(n)
        }
    })
    .await
}

/// one, then two, then three, in at most 10 seconds.
async fn limited(ctx: Ctx, (first, again): (u64, u64), w: World) -> FlowResult<u32> {
    let world = &w;
    let process = ctx.process("import", |ctx| async move {
        takes(&ctx, world, "one", 2, 2).await?;
        takes(&ctx, world, "two", first, again).await?;
        takes(&ctx, world, "three", 1, 1).await
    });
    let three = ctx.time_limit("limit", secs(10), process).await?;
    w.counted(&ctx, "after").await?;
    Ok(three)
}

fn ran(w: &World) -> [u32; 4] {
    ["one", "two", "three", "after"].map(|name| match name {
        "after" => w.effects.of("after"),
        name => w.effects.of(name),
    })
}

fn named(positions: &[&str]) -> Vec<String> {
    positions.iter().map(ToString::to_string).collect()
}

fn failure(error: &FlowError) -> (StepErrorKind, Vec<String>) {
    let FlowError::Failed { positions, error, .. } = error else { panic!("{error}") };
    (error.kind, positions.iter().map(ToString::to_string).collect())
}

#[test]
fn what_is_done_in_time_knows_nothing_of_the_limit() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "limited", limited);
        flows.start().await.unwrap();
        let begun = w.clock.now();
        let run = flow.start("r", (3, 3)).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 1);
        assert_eq!(w.clock.now().saturating_since(begun), secs(6), "nobody waits for the limit");
        assert_eq!(ran(&w), [1, 1, 1, 1]);
        assert!(
            flows.verify("r", &flows.history("r").await.unwrap()).await.unwrap().same_end.unwrap()
        );
    });
}

#[test]
fn a_resumed_run_does_what_took_too_long_again_with_all_of_its_time() {
    for restart in [false, true] {
        let w = World::new();
        let failed = async |flows: Flows, w: &World| {
            let flow = w.register(&flows, "limited", limited);
            flows.start().await.unwrap();
            let begun = w.clock.now();
            let run = flow.start("r", (60, 7)).await.unwrap();
            let (kind, positions) = failure(&w.run(run.result()).await.unwrap_err());
            assert_eq!(kind, StepErrorKind::Timeout);
            assert_eq!(positions, ["limit", "import/two"], "the limit, and what the part was at");
            assert_eq!(w.clock.now().saturating_since(begun), secs(10));
            assert_eq!(ran(w), [1, 1, 0, 0]);
            run
        };
        let resumed = async |flows: &Flows, w: &World| {
            w.pass(secs(1000)).await;
            let run = flows.run::<u32>("r");
            assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 1);
            // 7 and 1 seconds: more than was left, less than the limit.
            assert_eq!(ran(w), [1, 2, 1, 1]);
            assert_eq!(w.notes(), ["one 1 false", "two 1 false", "two 1 true", "three 1 false"]);
            let report = flows.verify("r", &flows.history("r").await.unwrap()).await.unwrap();
            assert_eq!(report.same_end, Some(true));
        };
        if restart {
            w.life(async |flows| failed(flows, &w).await);
            w.life(async |flows| {
                w.register(&flows, "limited", limited);
                flows.start().await.unwrap();
                resumed(&flows, &w).await;
            });
        } else {
            w.life(async |flows| {
                failed(flows.clone(), &w).await;
                resumed(&flows, &w).await;
            });
        }
    }
}

#[test]
fn it_may_take_too_long_again() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "limited", limited);
        flows.start().await.unwrap();
        let run = flow.start("r", (60, 60)).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        for n in 2..4 {
            let begun = w.clock.now();
            let again = run.resume().await.unwrap();
            let (kind, positions) = failure(&w.run(again.result()).await.unwrap_err());
            assert_eq!((kind, positions.len()), (StepErrorKind::Timeout, 2));
            assert_eq!(w.clock.now().saturating_since(begun), secs(10));
            assert_eq!(ran(&w), [1, n, 0, 0]);
        }
    });
}

#[test]
fn the_time_runs_on_while_the_process_is_down() {
    async fn waits(ctx: Ctx, (): (), _w: World) -> FlowResult<u32> {
        ctx.time_limit("limit", secs(10), ctx.signal("go")).await
    }
    let w = World::with(FlowsOptions { evict_after: ms(0), ..FlowsOptions::default() });
    w.life(async |flows| {
        let flow = w.register(&flows, "waits", waits);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.quiet().await;
        // It waits out of memory.
        assert_eq!(run.state().await.unwrap(), RunState::Sleeping);
        assert_eq!(flows.status().executing, 0);
    });
    w.clock.advance(secs(9));
    w.life(async |flows| {
        let flow = w.register(&flows, "waits", waits);
        flows.start().await.unwrap();
        let begun = w.clock.now();
        let run = flow.run("r");
        let (kind, positions) = failure(&w.run(run.result()).await.unwrap_err());
        assert_eq!(
            (kind, &*positions),
            (StepErrorKind::Timeout, &["limit".to_owned(), "go".to_owned()][..])
        );
        assert_eq!(w.clock.now().saturating_since(begun), secs(1));
        let run = run.resume().await.unwrap();
        w.pass(secs(9)).await;
        run.signal("go", &5_u32).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 5);
    });
}

/// A part that took too long and another way taken instead: that stays so.
async fn instead(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
    let slow = takes(&ctx, &w, "slow", 60, 60);
    let fast = match ctx.time_limit("limit", secs(10), slow).await {
        Err(error) if error.kind() == StepErrorKind::Timeout => w.counted(&ctx, "instead").await?,
        other => other?,
    };
    ctx.sleep("pause", secs(100)).await?;
    takes(&ctx, &w, "flaky", 1, 1).await?;
    ctx.step_with("last", |step| async move {
        if step.recovering() { ok(fast) } else { Err(StepError::permanent("no")) }
    })
    .await
}

#[test]
fn a_limit_that_the_flow_handled_stays_passed() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "instead", instead);
        flows.start().await.unwrap();
        flow.start("r", ()).await.unwrap();
        w.pass(secs(50)).await;
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "instead", instead);
        flows.start().await.unwrap();
        let run = flow.run("r");
        let (_, positions) = failure(&w.run(run.result()).await.unwrap_err());
        assert_eq!(positions, ["last"]);
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 1);
        assert_eq!(["slow", "instead", "flaky"].map(|name| w.effects.of(name)), [1, 1, 1]);
    });
}

#[test]
fn a_cancelled_part_is_cancelled_and_not_late() {
    let w = World::new();
    w.life(async |flows| {
        let world = w.clone();
        let flow = flows
            .register("cancelled", move |ctx: Ctx, (): ()| {
                let w = world.clone();
                async move {
                    let part = ctx.sleep("wait", secs(60));
                    let error = ctx.time_limit("limit", secs(100), part).await.unwrap_err();
                    w.note(format!("{:?} {:?}", error.kind(), error.positions()));
                    Err::<(), _>(error)
                }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.pass(secs(5)).await;
        run.cancel().await.unwrap();
        assert!(matches!(w.run(run.result()).await.unwrap_err(), FlowError::Cancelled { .. }));
        let notes = w.notes();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("Cancelled "), "{notes:?}");
    });
}

#[test]
fn no_crash_changes_who_won() {
    let options = FlowsOptions { evict_after: ms(0), ..FlowsOptions::default() };
    // 4 seconds fit in twice: what a crash costs counts, too.
    for again in [4, 60] {
        let script = async |w: &World, flows: &Flows, _again: bool| {
            let flow = w.register(flows, "limited", limited);
            flows.start().await?;
            let run = flow.start("r", (60, again)).await?;
            let first = w.run_soon(w.run(run.result())).await;
            match first {
                Err(FlowError::Failed { .. }) => {
                    let resumed = run.resume().await?;
                    Ok::<_, FlowError>(w.run(resumed.result()).await)
                }
                other => Ok(other),
            }
        };
        let crashes = crash_everywhere(&options, script, |w, nth, came_to| {
            let [one, two, three, _] = ran(w);
            match came_to {
                Ok(_) => assert!(again == 4 && three >= 1, "{nth}"),
                Err(error) => {
                    let (kind, positions) = failure(&error);
                    assert_eq!((kind, &*positions[0]), (StepErrorKind::Timeout, "limit"), "{nth}");
                    assert!(again == 60 && three == 0, "{nth}");
                }
            }
            // The second life of a run that was resumed may find it failed, and resume it again.
            assert!((1..=2).contains(&one) && (2..=4).contains(&two), "{nth}: {:?}", ran(w));
        });
        assert!(crashes >= 6, "{crashes}");
    }
}

/// Fails in time at first, then hangs unless it is given up, then is done.
async fn flaky_part(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
    let world = &w;
    let part = ctx.process("import", |ctx| async move {
        ctx.step_with("load", |_| {
            let n = world.effects.ran("load");
            async move {
                world.clock_sleep(secs(if n == 2 { 1000 } else { 1 })).await;
                if n == 1 { Err(StepError::permanent("no")) } else { ok(n) }
            }
        })
        .await
    });
    ctx.time_limit("limit", secs(10), part).await
}

#[test]
fn a_part_that_failed_in_time_has_all_of_its_time_again_and_no_more() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "flaky-part", flaky_part);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert_eq!(error.to_string(), "run `r` failed at steps [`import/load`, `limit`]: no");
        let (kind, positions) = failure(&error);
        assert_eq!((kind, positions), (StepErrorKind::Failed, named(&["import/load", "limit"])));
    });
    w.clock.advance(secs(1000));
    w.life(async |flows| {
        w.register(&flows, "flaky-part", flaky_part);
        flows.start().await.unwrap();
        let begun = w.clock.now();
        let run = flows.run::<u32>("r").resume().await.unwrap();
        let (kind, positions) = failure(&w.run(run.result()).await.unwrap_err());
        assert_eq!((kind, positions), (StepErrorKind::Timeout, named(&["limit", "import/load"])));
        assert_eq!(w.clock.now().saturating_since(begun), secs(10));
        let run = run.resume().await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 3);
        let report = flows.verify("r", &flows.history("r").await.unwrap()).await.unwrap();
        assert_eq!(report.same_end, Some(true));
    });
}

/// A part that failed in time, and the flow went on with something else.
async fn caught(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
    let part = ctx.step("part", || async {
        w.effects.ran("part");
        Err::<u32, _>(StepError::permanent("no"))
    });
    let error = ctx.time_limit("limit", secs(10), part.into_future()).await.unwrap_err();
    w.note(error.to_string());
    let fast = w.counted(&ctx, "instead").await?;
    ctx.step_with("last", |step| async move {
        if step.recovering() { ok(fast) } else { Err(StepError::permanent("no")) }
    })
    .await
}

#[test]
fn a_failure_in_time_that_the_flow_handled_stays_one() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "caught", caught);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        let (_, positions) = failure(&w.run(run.result()).await.unwrap_err());
        assert_eq!(positions, ["last"]);
    });
    w.life(async |flows| {
        w.register(&flows, "caught", caught);
        flows.start().await.unwrap();
        let run = flows.run::<u32>("r").resume().await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 1);
        assert_eq!(["part", "instead"].map(|name| w.effects.of(name)), [1, 1]);
        assert!(w.notes().iter().all(|note| note == "step `part`: no"), "{:?}", w.notes());
    });
}

/// Beside a failure, a part whose second step is begun after it: in a process or not.
async fn beside(ctx: Ctx, process: bool, w: World) -> FlowResult<u32> {
    let world = &w;
    let steps = |ctx: Ctx| async move {
        takes(&ctx, world, "one", 2, 2).await?;
        ctx.step_with("two", |_| {
            let n = world.effects.ran("two");
            async move {
                world.clock_sleep(secs(if n == 1 { 1 } else { 50 })).await;
                ok(n)
            }
        })
        .await
    };
    let part = async {
        if process { ctx.process("import", steps).await } else { steps(ctx.clone()).await }
    };
    let (failed, done) = tokio::join!(
        ctx.step_with("other", |step| async move {
            if step.recovering() { ok(0) } else { Err(StepError::permanent("no")) }
        })
        .into_future(),
        ctx.time_limit("limit", secs(10), part),
    );
    failed?;
    done
}

/// The documented limit of the promise: what another failure voids in a part that was done in time.
#[test]
fn what_another_failure_voids_in_a_part_is_done_again_without_a_limit_unless_in_a_process() {
    for (process, two, took) in [(true, 1, 0), (false, 2, 50)] {
        let w = World::new();
        w.life(async |flows| {
            let flow = w.register(&flows, "beside", beside);
            flows.start().await.unwrap();
            let run = flow.start("r", process).await.unwrap();
            let (_, positions) = failure(&w.run(run.result()).await.unwrap_err());
            assert_eq!(positions, ["other"]);
            let begun = w.clock.now();
            let run = run.resume().await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), two, "{process}");
            assert_eq!(w.effects.of("one"), 1);
            assert_eq!(w.clock.now().saturating_since(begun), secs(took), "{process}");
        });
    }
}
