//! Who is in memory, who executes, and who waits: eviction, limits, starts, shutdowns, blocked runs.

use resurge_flow::{
    BlockReason, Ctx, FlowError, FlowResult, Flows, FlowsOptions, RunHandle, RunState,
};
use resurge_store::{Batch, Clock, Durability, Namespace, ScanOptions};

use crate::world::{World, ms, ok, secs};

#[test]
fn a_run_that_waits_leaves_memory_after_the_time_given_and_not_before() {
    for (evict_after, replays) in [(secs(0), 2), (secs(5), 2), (secs(50), 1)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        w.life(async |flows| {
            let flow = w.register(&flows, "sleeps", async |ctx: Ctx, (), w: World| {
                w.effects.ran("executions");
                ctx.sleep("nap", secs(20)).await?;
                w.counted(&ctx, "x").await
            });
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.pass(secs(4)).await;
            assert_eq!(w.effects.of("executions"), 1);
            assert_eq!(run.state().await.unwrap(), RunState::Sleeping);
            let began = w.clock.now();
            w.run(run.result()).await.unwrap();
            assert_eq!(w.effects.of("executions"), replays, "{evict_after:?}");
            let took = w.clock.now().saturating_since(began);
            assert!(took <= secs(17), "{took:?}");
        });
    }
}

#[test]
fn no_more_runs_execute_at_once_than_allowed_and_waiting_ones_do_not_count() {
    let w = World::with(FlowsOptions { max_running: 2, ..FlowsOptions::default() });
    w.life(async |flows| {
        let flow = w.register(&flows, "works", async |ctx: Ctx, (), w: World| {
            ctx.step("work", || async {
                let now = w.effects.ran("begun") - w.effects.of("ended");
                w.note(now.to_string());
                w.clock.sleep(secs(1)).await;
                w.effects.ran("ended");
                ok(())
            })
            .await?;
            ctx.sleep("rest", secs(100)).await
        });
        let waits =
            w.register(&flows, "waits", async |ctx: Ctx, (), _| ctx.signal::<()>("go").await);
        flows.start().await.unwrap();
        for n in 0..5 {
            waits.start(format!("w{n}"), ()).await.unwrap();
        }
        w.quiet().await;
        let mut runs = Vec::new();
        for n in 0..7 {
            runs.push(flow.start(format!("r{n}"), ()).await.unwrap());
        }
        let began = w.clock.now();
        for run in &runs {
            w.run(run.result()).await.unwrap();
        }
        // Four rounds of work, and they rest side by side.
        let took = w.clock.now().saturating_since(began);
        assert!((secs(103)..secs(106)).contains(&took), "{took:?}");
        let at_once: Vec<u32> = w.notes().iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(at_once.iter().max(), Some(&2), "{at_once:?}");
        for n in 0..5 {
            waits.run(format!("w{n}")).signal("go", &()).await.unwrap();
            w.run(waits.run(format!("w{n}")).result()).await.unwrap();
        }
    });
}

#[test]
fn a_parent_makes_room_for_its_child() {
    let w = World::with(FlowsOptions { max_running: 1, ..FlowsOptions::default() });
    w.life(async |flows| {
        let child =
            w.register(&flows, "child", async |ctx: Ctx, (), w: World| w.counted(&ctx, "x").await);
        let flow = flows
            .register("parent", move |ctx: Ctx, (): ()| {
                let child = child.clone();
                async move { ctx.child("c", &child, &()).await }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("p", ()).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 1);
    });
}

async fn one_step(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
    w.counted(&ctx, "x").await
}

#[test]
fn a_run_started_before_the_flows_are_begins_with_them() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        let run = flow.start("r", ()).await.unwrap();
        w.quiet().await;
        assert_eq!(w.effects.of("x"), 0);
        assert_eq!(run.state().await.unwrap(), RunState::Running);
        let report = flows.start().await.unwrap();
        assert_eq!((report.unfinished, report.running, report.waiting), (1, 1, 0));
        assert_eq!(w.run(run.result()).await.unwrap(), 1);
        // Again it changes nothing.
        assert_eq!(flows.start().await.unwrap().unfinished, 0);
    });
}

#[test]
fn flows_opened_paused_recover_nothing_until_told() {
    let mut w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        for id in ["a", "b", "c"] {
            flow.start(id, ()).await.unwrap();
        }
    });
    w.options.start_paused = true;
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        let report = flows.start().await.unwrap();
        assert_eq!((report.unfinished, report.running), (3, 0));
        // A signal does not begin it either; a new run begins at once.
        flow.run("a").signal("go", &()).await.unwrap();
        w.quiet().await;
        assert_eq!(w.effects.of("x"), 0);
        w.run(flow.start("new", ()).await.unwrap().result()).await.unwrap();
        assert_eq!(w.effects.of("x"), 1);
        assert!(flows.release("b"));
        assert!(!flows.release("b"));
        assert!(!flows.release("nobody"));
        w.run(flow.run("b").result()).await.unwrap();
        assert_eq!(w.effects.of("x"), 2);
        assert_eq!(flows.release_all(), 2);
        w.run(flow.run("a").result()).await.unwrap();
        w.run(flow.run("c").result()).await.unwrap();
        assert_eq!(w.effects.of("x"), 4);
    });
}

#[test]
fn a_shutdown_waits_for_the_body_at_work_and_begins_no_other() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
        w.slow(&ctx, "one", 5000).await?;
        w.counted(&ctx, "two").await
    }
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "two", flow);
        let waits =
            w.register(&flows, "waits", async |ctx: Ctx, (), _| ctx.signal::<()>("go").await);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        let waiting = waits.start("w", ()).await.unwrap();
        w.quiet().await;
        w.run(flows.shutdown()).await;
        assert!(matches!(run.result().await.unwrap_err(), FlowError::Closed { .. }));
        assert!(matches!(waiting.result().await.unwrap_err(), FlowError::Closed { .. }));
        assert_eq!((w.effects.of("one"), w.effects.of("two")), (1, 0));
        assert!(matches!(flow.start("s", ()).await.unwrap_err(), FlowError::Closed { .. }));
        assert!(matches!(flows.start().await.unwrap_err(), FlowError::Closed { .. }));
        flows.shutdown().await;
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "two", flow);
        flows.start().await.unwrap();
        assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 1);
        // The result of the body that was waited for is kept.
        assert_eq!((w.effects.of("one"), w.effects.of("two")), (1, 1));
    });
}

#[test]
fn a_shutdown_drops_bodies_that_outlast_the_grace() {
    for restless in [false, true] {
        let options = FlowsOptions { shutdown_grace: secs(3), ..FlowsOptions::default() };
        let w = World::with(options);
        w.life(async |flows| {
            let flow = w.register(&flows, "slow", move |ctx: Ctx, (): (), w: World| async move {
                ctx.step("slow", || async {
                    w.effects.ran("slow");
                    if restless {
                        // Always awake.
                        loop {
                            tokio::task::yield_now().await;
                        }
                    }
                    w.clock.sleep(secs(1000)).await;
                    ok(())
                })
                .await
            });
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.quiet().await;
            let began = w.clock.now();
            w.run(flows.shutdown()).await;
            assert_eq!(w.clock.now().saturating_since(began), secs(3));
            assert!(matches!(run.result().await.unwrap_err(), FlowError::Closed { .. }));
            assert_eq!(run.state().await.unwrap(), RunState::Running);
        });
    }
}

#[test]
fn a_run_of_a_flow_nobody_registered_waits_for_it() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        flow.start("r", ()).await.unwrap();
    });
    w.life(async |flows| {
        flows.start().await.unwrap();
        let run: RunHandle<u32> = flows.run("r");
        let error = w.run(run.result()).await.unwrap_err();
        let FlowError::Blocked { reason, .. } = &error else { panic!("{error}") };
        assert_eq!(*reason, BlockReason::Unregistered { flow: "one".to_owned() });
        assert_eq!(run.state().await.unwrap(), RunState::Blocked);
        let flow = w.register(&flows, "one", one_step);
        assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 1);
    });
}

#[test]
fn a_run_that_was_blocked_and_runs_again_says_so() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w
            .register(&flows, "slow", async |ctx: Ctx, (), w: World| w.slow(&ctx, "x", 1000).await);
        flow.start("r", ()).await.unwrap();
    });
    w.life(async |flows| {
        flows.start().await.unwrap();
        w.quiet().await;
        let flow = w
            .register(&flows, "slow", async |ctx: Ctx, (), w: World| w.slow(&ctx, "x", 1000).await);
        w.quiet().await;
        assert_eq!(w.effects.of("x"), 1);
        assert_eq!(flow.run("r").state().await.unwrap(), RunState::Running);
        w.run(flow.run("r").result()).await.unwrap();
    });
}

#[test]
fn an_input_that_cannot_be_read_blocks_the_run_and_nothing_else() {
    let w = World::new();
    w.life(async |flows| {
        let flow = flows.register("typed", async |_: Ctx, n: u32| Ok(n)).unwrap();
        flow.start("r", 5).await.unwrap();
    });
    w.life(async |flows| {
        let flow = flows.register("typed", async |_: Ctx, text: String| Ok(text)).unwrap();
        flows.start().await.unwrap();
        let error = w.run(flow.run("r").result()).await.unwrap_err();
        let FlowError::Blocked { reason, .. } = &error else { panic!("{error}") };
        assert!(matches!(reason, BlockReason::Input(_)), "{reason}");
        assert!(reason.to_string().contains("run `r`"), "{reason}");
        let run = flow.start("s", "fine".to_owned()).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), "fine");
    });
    w.life(async |flows| {
        let flow = flows.register("typed", async |_: Ctx, n: u32| Ok(n)).unwrap();
        flows.start().await.unwrap();
        assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 5);
    });
}

#[test]
fn a_damaged_journal_blocks_its_run_and_nothing_else() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", async |ctx: Ctx, (), w: World| {
            w.counted(&ctx, "x").await?;
            ctx.signal::<()>("go").await
        });
        flows.start().await.unwrap();
        flow.start("damaged", ()).await.unwrap();
        flow.start("sound", ()).await.unwrap();
        w.quiet().await;
    });
    let namespace = Namespace::new("resurge/wal").unwrap();
    w.life(async |_| {
        let page = w.plain().scan(namespace.all(), ScanOptions::new()).await.unwrap();
        let mut batch = Batch::new();
        let mut hit = 0;
        for entry in page.entries {
            let key = entry.key.bytes();
            if key.windows(12).any(|part| part == b"flow/damaged") && entry.value.len() > 100 {
                let mut value = entry.value.to_vec();
                let middle = value.len() / 2;
                value[middle] ^= 1;
                batch.put(entry.key, value);
                hit += 1;
            }
        }
        assert!(hit > 0, "no page of the journal was found");
        w.plain().commit(batch, Durability::Durable).await.unwrap();
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "one", async |ctx: Ctx, (), w: World| {
            w.counted(&ctx, "x").await?;
            ctx.signal::<()>("go").await
        });
        flows.start().await.unwrap();
        for id in ["damaged", "sound"] {
            flow.run(id).signal("go", &()).await.unwrap();
        }
        w.run(flow.run("sound").result()).await.unwrap();
        let error = w.run(flow.run("damaged").result()).await.unwrap_err();
        let FlowError::Blocked { reason, .. } = &error else { panic!("{error}") };
        assert!(matches!(reason, BlockReason::Journal(_)), "{reason}");
        assert_eq!(flow.run("damaged").state().await.unwrap(), RunState::Blocked);
        assert_eq!(w.effects.of("x"), 2);
    });
}

#[test]
fn many_who_start_the_same_run_at_once_get_one_and_its_result() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        flows.start().await.unwrap();
        let starts: Vec<_> = (0..16)
            .map(|_| {
                let flow = flow.clone();
                tokio::spawn(async move { flow.start("r", ()).await.unwrap().result().await })
            })
            .collect();
        for start in starts {
            assert_eq!(w.run(start).await.unwrap().unwrap(), 1);
        }
        assert_eq!(w.effects.of("x"), 1);
    });
}

#[test]
fn an_id_that_was_deleted_can_be_started_again_at_once() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        flows.start().await.unwrap();
        for n in 1..=20 {
            let run = flow.start("r", ()).await.unwrap();
            // Seen in the store, before the run's own task may have heard of it.
            while run.state().await.unwrap() != RunState::Succeeded {
                tokio::task::yield_now().await;
            }
            flows.delete("r").await.unwrap();
            assert_eq!(w.effects.of("x"), n);
        }
    });
}

#[test]
fn a_start_that_failed_can_be_repeated() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        flow.start("r", ()).await.unwrap();
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "one", one_step);
        let fault = resurge_testkit::Fault::before(resurge_store::ErrorKind::Unavailable);
        w.faults.fail(resurge_testkit::Call::Scan, 1, fault);
        assert!(matches!(flows.start().await.unwrap_err(), FlowError::Store { .. }));
        let report = flows.start().await.unwrap();
        assert_eq!(report.unfinished, 1);
        assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 1);
    });
}

#[test]
fn names_and_options_are_checked() {
    let w = World::new();
    w.life(async |flows: Flows| {
        let flow = w.register(&flows, "one", one_step);
        let taken = flows.register("one", async |_: Ctx, (): ()| Ok(())).unwrap_err();
        assert!(matches!(taken, FlowError::AlreadyRegistered(_)), "{taken}");
        for id in ["", &"x".repeat(201), "a\0b"] {
            assert!(matches!(flow.start(id, ()).await.unwrap_err(), FlowError::Invalid(_)));
        }
        let options = [
            FlowsOptions { max_running: 0, ..FlowsOptions::default() },
            FlowsOptions { max_value_bytes: 0, ..FlowsOptions::default() },
            FlowsOptions { max_value_bytes: (8 << 20) + 1, ..FlowsOptions::default() },
            FlowsOptions { sweep_every: ms(0), ..FlowsOptions::default() },
        ];
        for options in options {
            let error = Flows::open(flows.store(), options).unwrap_err();
            assert!(matches!(error, FlowError::Invalid(_)), "{error}");
        }
    });
}
