//! What others tell a run: signals, cancel, deadline, pause.

use resurge_flow::{
    Ctx, FlowError, FlowOptions, FlowResult, Flows, FlowsOptions, RunHandle, RunState, StepError,
    StepErrorKind,
};
use resurge_store::Clock;

use crate::world::{World, crash_everywhere, ms, ok, secs};

fn evicting() -> FlowsOptions {
    FlowsOptions { evict_after: ms(0), ..FlowsOptions::default() }
}

// ------------------------------------------------------------------ signals

async fn three_signals(ctx: Ctx, (): (), w: World) -> FlowResult<Vec<u32>> {
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(ctx.signal::<u32>("number").await?);
        w.counted(&ctx, "after").await?;
    }
    Ok(got)
}

#[test]
fn signals_are_taken_once_each_in_the_order_sent_before_or_after_they_are_asked_for() {
    for evict_after in [ms(0), secs(5)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        w.life(async |flows| {
            let flow = w.register(&flows, "three", three_signals);
            // Before the flows are started, and before they are asked for.
            let run = flow.start("r", ()).await.unwrap();
            run.signal("number", &1).await.unwrap();
            run.signal("other", &9).await.unwrap();
            run.signal("number", &2).await.unwrap();
            flows.start().await.unwrap();
            w.quiet().await;
            assert_eq!(run.state().await.unwrap(), RunState::Waiting);
            run.signal("number", &3).await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), [1, 2, 3]);
            let error = run.signal("number", &4).await.unwrap_err();
            assert_eq!(error.to_string(), "run `r` has ended: succeeded");
            let error = flow.run("nobody").signal("number", &4).await.unwrap_err();
            assert!(matches!(error, FlowError::NotFound { .. }), "{error}");
            assert!(inbox(&w).await.is_empty());
        });
    }
}

async fn inbox(w: &World) -> Vec<Vec<u8>> {
    let namespace = resurge_store::Namespace::new("resurge/flow/inbox").unwrap();
    let page = w.plain().scan(namespace.all(), resurge_store::ScanOptions::new()).await.unwrap();
    page.entries.iter().map(|entry| entry.key.bytes().to_vec()).collect()
}

#[test]
fn signals_are_lost_by_no_crash_and_taken_twice_after_none() {
    let script = async |w: &World, flows: &Flows, again: bool| -> Result<Vec<u32>, FlowError> {
        let flow = w.register(flows, "three", three_signals);
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        for n in [1, 2, 3] {
            // Whoever got no answer sends it again.
            if w.effects.of(&format!("sent {n}")) == 0 {
                run.signal("number", &n).await?;
                w.effects.ran(&format!("sent {n}"));
            }
            w.quiet().await;
        }
        let _ = again;
        w.run(run.result()).await
    };
    for evict_after in [ms(0), secs(5)] {
        let options = FlowsOptions { evict_after, ..FlowsOptions::default() };
        crash_everywhere(&options, script, |_, nth, got| {
            assert_eq!(got, [1, 2, 3], "killed at commit {nth}");
        });
    }
}

#[test]
fn a_message_whose_sender_died_is_found_by_the_next_start() {
    // Somebody else on the store, with no flows of his own: the run is not told.
    for message in ["signal", "cancel"] {
        let w = World::with(evicting());
        w.life(async |flows| {
            let flow = w.register(&flows, "three", three_signals);
            flows.start().await.unwrap();
            flow.start("r", ()).await.unwrap();
            w.quiet().await;
        });
        w.life(async |flows| {
            let run: RunHandle<Vec<u32>> = flows.run("r");
            match message {
                "signal" => run.signal("number", &1).await.unwrap(),
                _ => run.cancel().await.unwrap(),
            }
        });
        w.life(async |flows| {
            let flow = w.register(&flows, "three", three_signals);
            flows.start().await.unwrap();
            w.quiet().await;
            if message == "signal" {
                assert_eq!(w.effects.of("after"), 1);
            } else {
                assert_eq!(flow.run("r").state().await.unwrap(), RunState::Cancelled);
            }
        });
    }
}

#[test]
fn a_signal_of_another_type_is_an_error_that_names_it() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "typed", async |ctx: Ctx, (), _| {
            let error = ctx.signal::<u32>("number").await.unwrap_err();
            assert_eq!(error.kind(), StepErrorKind::Codec);
            Ok(error.to_string())
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        run.signal("number", "seven").await.unwrap();
        let text = w.run(run.result()).await.unwrap();
        assert!(text.contains("`number` of run `r`"), "{text}");
    });
}

#[test]
fn a_signal_is_waited_for_only_so_long_also_across_a_crash() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<(Option<u32>, u64)> {
        let began = w.clock.now().as_millis();
        let first = ctx.signal_within::<u32>("number", secs(100)).await?;
        w.note(format!("{}", w.clock.now().as_millis() - began));
        Ok((first, w.clock.now().as_millis() - ctx.started_at().as_millis()))
    }
    for evict_after in [ms(0), secs(5)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        w.life(async |flows| {
            let flow = w.register(&flows, "within", flow);
            flows.start().await.unwrap();
            let run = flow.start("in time", ()).await.unwrap();
            w.pass(secs(60)).await;
            run.signal("number", &5).await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), (Some(5), 60_000));
            flow.start("late", ()).await.unwrap();
            w.pass(secs(60)).await;
        });
        w.life(async |flows| {
            let flow = w.register(&flows, "within", flow);
            flows.start().await.unwrap();
            assert_eq!(w.run(flow.run("late").result()).await.unwrap(), (None, 100_000));
        });
    }
}

// ------------------------------------------------------------------ cancel

/// Waits in some way, and undoes what it did when it is cancelled.
async fn undoes(ctx: Ctx, how: String, w: World) -> FlowResult<u32> {
    w.counted(&ctx, "reserve").await?;
    let waited = match &*how {
        "sleep" => ctx.sleep("wait", secs(1_000_000)).await,
        "signal" => ctx.signal::<()>("never").await,
        "retry" => {
            ctx.step("wait", || async { Err::<(), _>(StepError::transient("busy")) })
                .retry(resurge_flow::Retry::fixed(secs(1_000_000)))
                .await
        }
        "select" => {
            let (a, b) = (ctx.sleep("a", secs(1_000_000)), ctx.signal::<()>("b"));
            ctx.select("wait", a, b).await.map(|_| ())
        }
        _ => {
            ctx.step_with("wait", |step| {
                let w = w.clone();
                async move {
                    w.effects.ran("body");
                    step.cancelled().await;
                    assert!(step.is_cancelled());
                    w.effects.ran("body saw it");
                    Err::<(), _>(StepError::transient("stopped"))
                }
            })
            .retry(resurge_flow::Retry::fixed(secs(1)))
            .await
        }
    };
    let error = waited.unwrap_err();
    assert!(ctx.is_cancelled());
    // Nothing more begins, but what is shielded, with its retries.
    let refused = w.counted(&ctx, "refused").await.unwrap_err();
    assert!(refused.is_cancelled());
    let shielded = ctx.shielded();
    shielded
        .step("undo", || async {
            if w.effects.ran("undo") == 1 { Err(StepError::transient("not yet")) } else { Ok(()) }
        })
        .retry(resurge_flow::Retry::fixed(secs(1)).max_attempts(3))
        .await?;
    shielded.sleep("a moment", secs(1)).await?;
    Err(error)
}

#[test]
fn a_cancelled_run_stops_waiting_and_undoes_what_it_did() {
    for evict_after in [ms(0), secs(5)] {
        for how in ["sleep", "signal", "retry", "select", "body"] {
            let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
            w.life(async |flows| {
                let flow = w.register(&flows, "undoes", undoes);
                flows.start().await.unwrap();
                let run = flow.start("r", how.to_owned()).await.unwrap();
                // Long enough to leave memory.
                w.pass(secs(10)).await;
                run.cancel().await.unwrap();
                // Asked twice it is cancelled once.
                run.cancel().await.unwrap();
                let before = w.clock.now();
                let error = w.run(run.result()).await.unwrap_err();
                if how == "body" {
                    // It returned an error of its own.
                    assert!(matches!(error, FlowError::Failed { .. }), "{how}: {error}");
                    assert_eq!((w.effects.of("body"), w.effects.of("body saw it")), (1, 1));
                } else {
                    assert!(matches!(error, FlowError::Cancelled { .. }), "{how}: {error}");
                    assert_eq!(run.state().await.unwrap(), RunState::Cancelled, "{how}");
                }
                assert!(w.clock.now().saturating_since(before) < secs(10), "{how}");
                assert_eq!(w.effects.of("refused"), 0, "{how}");
                assert_eq!((w.effects.of("reserve"), w.effects.of("undo")), (1, 2), "{how}");
                let late = run.cancel().await.unwrap_err();
                assert!(matches!(late, FlowError::Ended { .. }), "{how}: {late}");
                let mut cancels = 0;
                for record in flows.history("r").await.unwrap() {
                    cancels += u32::from(matches!(
                        record,
                        resurge_flow::record::Record::CancelRequested(_)
                    ));
                }
                assert_eq!(cancels, 1, "{how}");
            });
        }
    }
}

#[test]
fn a_cancellation_is_lost_by_no_crash() {
    for how in ["sleep", "signal", "retry", "select"] {
        let script = async |w: &World, flows: &Flows, _: bool| -> Result<String, FlowError> {
            let flow = w.register(flows, "undoes", undoes);
            flows.start().await?;
            let run = flow.start("r", how.to_owned()).await?;
            w.quiet().await;
            match run.cancel().await {
                Ok(()) | Err(FlowError::Ended { .. }) => {}
                Err(error) => return Err(error),
            }
            match w.run(flow.run("r").result()).await {
                Err(FlowError::Cancelled { error, .. }) => Ok(error.message),
                Err(error) => Err(error),
                Ok(_) => Ok("it succeeded".to_owned()),
            }
        };
        crash_everywhere(&evicting(), script, |w, nth, message| {
            assert_eq!(message, "the run was cancelled", "{how}, killed at commit {nth}");
            assert!((2..=3).contains(&w.effects.of("undo")), "{how}, killed at commit {nth}");
            assert_eq!(w.effects.of("refused"), 0, "{how}, killed at commit {nth}");
        });
    }
}

#[test]
fn a_body_that_a_crash_interrupted_after_the_cancellation_does_not_begin_again() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<()> {
        ctx.step("stubborn", || async {
            w.effects.ran("stubborn");
            w.clock.sleep(secs(1000)).await;
            ok(())
        })
        .await
    }
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "stubborn", flow);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.quiet().await;
        run.cancel().await.unwrap();
        w.quiet().await;
        assert_eq!(run.state().await.unwrap(), RunState::Running);
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "stubborn", flow);
        flows.start().await.unwrap();
        let error = w.run(flow.run("r").result()).await.unwrap_err();
        assert!(matches!(error, FlowError::Cancelled { .. }), "{error}");
        assert_eq!(w.effects.of("stubborn"), 1);
    });
}

#[test]
fn a_run_cancelled_before_it_begins_begins_nothing() {
    let w = World::new();
    w.life(async |flows| {
        let flow =
            w.register(&flows, "one", async |ctx: Ctx, (), w: World| w.counted(&ctx, "x").await);
        let run = flow.start("r", ()).await.unwrap();
        run.cancel().await.unwrap();
        flows.start().await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert!(matches!(error, FlowError::Cancelled { .. }), "{error}");
        assert_eq!(w.effects.of("x"), 0);
    });
}

// ------------------------------------------------------------------ deadline

#[test]
fn a_run_past_its_deadline_fails_wherever_it_waits() {
    for evict_after in [ms(0), secs(5)] {
        for (restart, how) in
            [(false, "sleep"), (true, "sleep"), (false, "signal"), (true, "signal")]
        {
            let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
            let register = |flows: &Flows| {
                let w = w.clone();
                let options = FlowOptions::default().deadline(secs(100));
                flows
                    .register_with("limited", options, move |ctx: Ctx, how: String| {
                        let w = w.clone();
                        async move {
                            assert!(ctx.deadline().is_some() || ctx.recovering());
                            match &*how {
                                "sleep" => ctx.sleep("wait", secs(300)).await?,
                                _ => ctx.signal::<()>("go").await?,
                            }
                            w.counted(&ctx, "after").await
                        }
                    })
                    .unwrap()
            };
            w.life(async |flows| {
                let flow = register(&flows);
                flows.start().await.unwrap();
                flow.start("r", how.to_owned()).await.unwrap();
                w.pass(secs(50)).await;
                if !restart {
                    w.run(flow.run("r").result()).await.unwrap_err();
                    let now = w.clock.now().as_millis();
                    assert_eq!(now, 1_700_000_000_000 + 100_000);
                }
            });
            w.life(async |flows| {
                let flow = register(&flows);
                flows.start().await.unwrap();
                let error = w.run(flow.run("r").result()).await.unwrap_err();
                assert_eq!(w.clock.now().as_millis(), 1_700_000_000_000 + 100_000);
                let FlowError::Failed { error, .. } = error else { panic!("{error}") };
                assert_eq!(error.kind, StepErrorKind::DeadlineExceeded);
                assert_eq!(w.effects.of("after"), 0);
                // Resumed it is given the time it needs.
                let run = flow.run("r").resume().await.unwrap();
                w.quiet().await;
                assert_ne!(run.state().await.unwrap(), RunState::Failed);
                if how == "signal" {
                    run.signal("go", &()).await.unwrap();
                }
                assert_eq!(w.run(run.result()).await.unwrap(), 1);
            });
        }
    }
}

#[test]
fn a_run_that_fails_undoing_things_goes_on_undoing_them() {
    let w = World::new();
    w.life(async |flows| {
        let world = w.clone();
        let options = FlowOptions::default().deadline(secs(100));
        let flow = flows
            .register_with("limited", options, move |ctx: Ctx, (): ()| {
                let w = world.clone();
                async move {
                    let waited = ctx.sleep("wait", secs(300)).await;
                    assert!(waited.is_err() && ctx.is_cancelled());
                    ctx.shielded()
                        .step("undo", || async {
                            match w.effects.ran("undo") {
                                1 => Err(StepError::permanent("stuck")),
                                n => Ok(n),
                            }
                        })
                        .await
                }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 2);
    });
}

/// The deadline passes while a body is at work: nothing waits that it would cancel. What the code did
/// because the next step was refused is not done by the resumed run, so its records must not be there.
#[test]
fn what_a_run_did_because_its_time_was_over_is_forgotten_when_it_is_resumed() {
    let w = World::new();
    w.life(async |flows| {
        let world = w.clone();
        let options = FlowOptions::default().deadline(secs(100));
        let flow = flows
            .register_with("limited", options, move |ctx: Ctx, (): ()| {
                let w = world.clone();
                async move {
                    w.slow(&ctx, "long", 300_000).await?;
                    match w.counted(&ctx, "next").await {
                        Err(error) if error.is_cancelled() => {
                            w.counted(&ctx.shielded(), "undo").await?;
                            Err(error)
                        }
                        next => next,
                    }
                }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
        assert_eq!(["long", "next", "undo"].map(|name| w.effects.of(name)), [1, 0, 1]);
        assert_eq!(w.run(run.resume().await.unwrap().result()).await.unwrap(), 1);
        assert_eq!(["long", "next", "undo"].map(|name| w.effects.of(name)), [1, 1, 1]);
    });
}

// ------------------------------------------------------------------ pause

#[test]
fn a_paused_run_begins_nothing_until_it_is_unpaused_also_after_a_restart() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
        let one = w.slow(&ctx, "one", 100).await?;
        Ok(one + w.counted(&ctx, "two").await?)
    }
    for evict_after in [ms(0), secs(5)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        w.life(async |flows| {
            let flow = w.register(&flows, "two", flow);
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.pass(ms(10)).await;
            run.pause().await.unwrap();
            run.pause().await.unwrap();
            w.pass(secs(20)).await;
            // The body at work ended and is recorded.
            assert_eq!(run.state().await.unwrap(), RunState::Paused);
            assert_eq!((w.effects.of("one"), w.effects.of("two")), (1, 0));
        });
        w.life(async |flows| {
            let flow = w.register(&flows, "two", flow);
            flows.start().await.unwrap();
            w.pass(secs(20)).await;
            let run = flow.run("r");
            assert_eq!(run.state().await.unwrap(), RunState::Paused);
            assert_eq!((w.effects.of("one"), w.effects.of("two")), (1, 0));
            run.unpause().await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), 2);
            assert_eq!((w.effects.of("one"), w.effects.of("two")), (1, 1));
            let error = run.pause().await.unwrap_err();
            assert!(matches!(error, FlowError::Ended { .. }), "{error}");
        });
    }
}

#[test]
fn a_paused_run_that_sleeps_takes_note_of_the_time_and_a_paused_one_can_be_cancelled() {
    let w = World::with(evicting());
    w.life(async |flows| {
        let flow = w.register(&flows, "sleeps", async |ctx: Ctx, (), w: World| {
            ctx.sleep("night", secs(100)).await?;
            w.counted(&ctx, "morning").await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        let other = flow.start("s", ()).await.unwrap();
        w.quiet().await;
        run.pause().await.unwrap();
        other.pause().await.unwrap();
        w.pass(secs(200)).await;
        assert_eq!(run.state().await.unwrap(), RunState::Paused);
        assert_eq!(w.effects.of("morning"), 0);
        let now = w.clock.now();
        run.unpause().await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 1);
        assert_eq!(w.clock.now(), now, "its night was over");
        other.cancel().await.unwrap();
        let error = w.run(other.result()).await.unwrap_err();
        assert!(matches!(error, FlowError::Cancelled { .. }), "{error}");
    });
}
