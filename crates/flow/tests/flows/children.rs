//! Child runs.

use resurge_flow::{
    Ctx, FlowError, FlowRef, FlowResult, Flows, FlowsOptions, RunHandle, RunState, StepError,
    StepErrorKind,
};
use resurge_store::{Batch, Clock, Durability, Key, Namespace};
use tokio::join;

use crate::world::{World, crash_everywhere, ms, ok, secs};

/// Registers `child`, which doubles or fails, and `parent`, which runs two of them.
fn family(w: &World, flows: &Flows) -> FlowRef<(u32, u32), (u32, u32)> {
    let child = w.register(flows, "child", child);
    let world = w.clone();
    flows
        .register("parent", move |ctx: Ctx, (a, b): (u32, u32)| {
            let (child, w) = (child.clone(), world.clone());
            async move {
                let (a, b) = join!(ctx.child("one", &child, &a), ctx.child("one", &child, &b));
                w.counted(&ctx, "joined").await?;
                Ok((a?, b?))
            }
        })
        .unwrap()
}

async fn child(ctx: Ctx, n: u32, w: World) -> FlowResult<u32> {
    ctx.sleep("a while", secs(u64::from(n))).await?;
    ctx.step_with("double", |step| {
        let ran = w.effects.ran(&format!("double {n}"));
        let recovering = step.recovering();
        async move {
            // Multiples of ten fail unless they are resumed.
            if n.is_multiple_of(10) && !recovering {
                return Err(StepError::permanent(format!("{n} at {ran}")).with_code("ten"));
            }
            Ok(n * 2)
        }
    })
    .await
}

#[test]
fn children_give_their_results_under_ids_of_their_own_whatever_crashes() {
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<(u32, u32), FlowError> {
        let flow = family(w, flows);
        flows.start().await?;
        let run = flow.start("p", (3, 5)).await?;
        w.run(run.result()).await
    };
    for evict_after in [ms(0), secs(5)] {
        let options = FlowsOptions { evict_after, ..FlowsOptions::default() };
        let crashes = crash_everywhere(&options, script, |w, nth, both| {
            assert_eq!(both, (6, 10), "killed at commit {nth}");
            for n in [3, 5] {
                let ran = w.effects.of(&format!("double {n}"));
                assert!((1..=2).contains(&ran), "killed at commit {nth}: {ran}");
            }
            w.life(async |flows| {
                for (id, doubled) in [("p/one", 6), ("p/one#1", 10)] {
                    let run: RunHandle<u32> = flows.run(id);
                    assert_eq!(run.result().await.unwrap(), doubled, "killed at commit {nth}");
                }
            });
        });
        assert!(crashes >= 10, "{crashes}");
    }
}

#[test]
fn a_failed_child_fails_its_parent_and_is_resumed_with_it() {
    for evict_after in [ms(0), secs(5)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        w.life(async |flows| {
            let flow = family(&w, &flows);
            flows.start().await.unwrap();
            let run = flow.start("p", (10, 4)).await.unwrap();
            let error = w.run(run.result()).await.unwrap_err();
            let FlowError::Failed { error, positions, .. } = error else { panic!("{error}") };
            assert_eq!((error.kind, error.code.as_deref()), (StepErrorKind::Child, Some("ten")));
            assert_eq!(error.to_string(), "10 at 1");
            assert_eq!(positions[0].to_string(), "one");
            let child: RunHandle<u32> = flows.run("p/one");
            assert_eq!(child.state().await.unwrap(), RunState::Failed);
            let resumed = run.resume().await.unwrap();
            assert_eq!(w.run(resumed.result()).await.unwrap(), (20, 8));
            assert_eq!((w.effects.of("double 10"), w.effects.of("double 4")), (2, 1));
            assert_eq!(child.state().await.unwrap(), RunState::Succeeded);
        });
    }
}

#[test]
fn a_child_that_was_resumed_on_its_own_is_not_run_again_by_its_parent() {
    let w = World::new();
    w.life(async |flows| {
        let flow = family(&w, &flows);
        flows.start().await.unwrap();
        let run = flow.start("p", (10, 4)).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        let child: RunHandle<u32> = flows.run("p/one");
        assert_eq!(w.run(child.resume().await.unwrap().result()).await.unwrap(), 20);
        // Its parent had ended: there was nobody to tell. It finds out when it is resumed.
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), (20, 8));
        assert_eq!(w.effects.of("double 10"), 2);
    });
}

#[test]
fn parents_and_children_resumed_at_once_do_not_miss_each_other() {
    for nth in 0..12 {
        let w = World::new();
        w.life(async |flows| {
            let flow = family(&w, &flows);
            flows.start().await.unwrap();
            let run = flow.start("p", (10, 4)).await.unwrap();
            w.run(run.result()).await.unwrap_err();
            let child: RunHandle<u32> = flows.run("p/one");
            let resumed = child.resume().await.unwrap();
            w.pass(secs(9)).await;
            for _ in 0..nth {
                tokio::task::yield_now().await;
            }
            assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), (20, 8));
            assert_eq!(w.run(resumed.result()).await.unwrap(), 20);
        });
    }
}

#[test]
fn a_crash_while_a_failed_family_is_resumed_loses_nothing() {
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<(u32, u32), FlowError> {
        let flow = family(w, flows);
        flows.start().await?;
        let run = flow.start("p", (10, 4)).await?;
        loop {
            match w.run(flow.run("p").result()).await {
                Err(FlowError::Failed { .. }) => drop(run.resume().await?),
                other => return other,
            }
        }
    };
    crash_everywhere(&FlowsOptions::default(), script, |w, nth, both| {
        assert_eq!(both, (20, 8), "killed at commit {nth}");
        let ran = (w.effects.of("double 10"), w.effects.of("double 4"));
        assert!(ran.0 <= 3 && ran.1 <= 2, "killed at commit {nth}: {ran:?}");
    });
}

#[test]
fn cancelling_a_parent_cancels_its_children_wherever_they_are() {
    for evict_after in [ms(0), secs(5)] {
        for crash in [false, true] {
            let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
            w.life(async |flows| {
                let flow = family(&w, &flows);
                flows.start().await.unwrap();
                flow.start("p", (1_000_003, 1_000_007)).await.unwrap();
                w.pass(secs(10)).await;
                if !crash {
                    flow.run("p").cancel().await.unwrap();
                    w.pass(secs(1)).await;
                }
            });
            w.life(async |flows| {
                let flow = family(&w, &flows);
                flows.start().await.unwrap();
                if crash {
                    flow.run("p").cancel().await.unwrap();
                }
                w.pass(secs(1)).await;
                for id in ["p", "p/one", "p/one#1"] {
                    let state = flows.run::<u32>(id).state().await.unwrap();
                    assert_eq!(state, RunState::Cancelled, "{id} {crash}");
                }
            });
        }
    }
}

#[test]
fn a_shielded_child_outlives_the_cancellation_and_its_parent_waits_for_it() {
    let w = World::new();
    w.life(async |flows| {
        let child = w.register(&flows, "child", child);
        let flow = flows
            .register("parent", move |ctx: Ctx, (): ()| {
                let child = child.clone();
                async move { ctx.shielded().child("kept", &child, &30_003).await }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("p", ()).await.unwrap();
        w.pass(secs(10)).await;
        run.cancel().await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 60_006);
    });
}

#[test]
fn a_child_whose_id_is_taken_by_somebody_else_is_an_error() {
    let w = World::new();
    w.life(async |flows| {
        let flow = family(&w, &flows);
        let theirs = w.register(&flows, "theirs", async |_: Ctx, (): (), _| Ok(1_u32));
        flows.start().await.unwrap();
        theirs.start("p/one", ()).await.unwrap().result().await.unwrap();
        let run = flow.start("p", (3, 5)).await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert!(error.to_string().contains("run `p/one` exists already"), "{error}");
    });
}

#[test]
fn the_id_of_a_child_deep_in_a_long_named_run_is_short_and_stable() {
    let w = World::new();
    w.life(async |flows| {
        let flow = family(&w, &flows);
        flows.start().await.unwrap();
        let id = "p".repeat(resurge_flow::MAX_RUN_ID_LEN);
        let run = flow.start(&id, (3, 5)).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), (6, 10));
    });
}

#[test]
fn writes_of_a_childs_last_step_are_kept_when_its_parents_record_changes_meanwhile() {
    // The parent's record changes at about the moment the child ends.
    for yields in 0..40 {
        let w = World::new();
        w.life(async |flows| {
            let child = w.register(&flows, "writes", writes);
            let flow = flows
                .register("parent", move |ctx: Ctx, (): ()| {
                    let child = child.clone();
                    async move {
                        let other = async {
                            ctx.signal::<()>("poke").await?;
                            ctx.sleep("then", secs(100)).await
                        };
                        let (a, b) = join!(ctx.child("c", &child, &()), other);
                        b?;
                        a
                    }
                })
                .unwrap();
            flows.start().await.unwrap();
            let run = flow.start("p", ()).await.unwrap();
            w.pass(secs(9)).await;
            w.clock.advance(secs(2));
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            run.signal("poke", &()).await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), 1);
            assert!(flows.store().get(&written()).await.unwrap().is_some(), "{yields}");
        });
    }
}

/// Writes something of its own in its last step.
async fn writes(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
    ctx.step_with("writes", |step| {
        let w = w.clone();
        async move {
            w.clock.sleep(secs(10)).await;
            step.write(|batch| {
                batch.put(written(), "yes");
            });
            ok(1)
        }
    })
    .await
}

fn written() -> Key {
    Namespace::new("app").unwrap().key("written").unwrap()
}

fn record_of(run: &str) -> Key {
    Namespace::new("resurge/flow/live").unwrap().key(run).unwrap()
}

async fn turns(n: usize) {
    for _ in 0..n {
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_end_that_meets_another_record_of_the_parent_loses_nothing_that_came_with_it() {
    for last_step_writes in [true, false] {
        let w = World::new();
        w.life(async |flows| {
            let (writes, sleeps) = (
                w.register(&flows, "writes", writes),
                w.register(&flows, "sleeps", async |ctx: Ctx, (): (), _| {
                    ctx.sleep("nap", secs(10)).await.map(|()| 1_u32)
                }),
            );
            let child = if last_step_writes { writes } else { sleeps };
            let flow = flows
                .register("parent", move |ctx: Ctx, (): ()| {
                    let child = child.clone();
                    async move { ctx.child("c", &child, &()).await }
                })
                .unwrap();
            flows.start().await.unwrap();
            flow.start("p", ()).await.unwrap();
            w.quiet().await;
            let stored = w.plain().get(&record_of("p")).await.unwrap().unwrap();
            let mut gone = Batch::new();
            gone.delete(record_of("p"));
            let mut back = Batch::new();
            back.put(record_of("p"), stored);
            if !last_step_writes {
                w.plain().commit(gone.clone(), Durability::Durable).await.unwrap();
            }
            // The child's end is on its way, guarded by the parent's record as it was.
            w.faults.hold();
            w.clock.advance(secs(10));
            while w.faults.held() == 0 {
                turns(1).await;
            }
            turns(200).await;
            let change = if last_step_writes { gone } else { back };
            w.plain().commit(change, Durability::Durable).await.unwrap();
            w.faults.release();
            let child: RunHandle<u32> = flows.run("p/c");
            assert_eq!(child.result().await.unwrap(), 1);
            if last_step_writes {
                assert!(w.plain().get(&written()).await.unwrap().is_some());
            } else {
                assert_eq!(w.run(flow.run("p").result()).await.unwrap(), 1, "it was told");
            }
        });
    }
}
