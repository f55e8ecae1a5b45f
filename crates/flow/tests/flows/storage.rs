//! The store fails; steps do not.

use resurge_flow::record::Record;
use resurge_flow::{Ctx, FlowError, FlowResult, FlowsOptions, RunState, StepErrorKind};
use resurge_store::ErrorKind;
use resurge_testkit::{Call, Fault};
use serde::{Serialize, Serializer};

use crate::world::{World, ms, ok, secs};

async fn two(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
    w.slow(&ctx, "one", 10).await?;
    w.counted(&ctx, "two").await
}

#[test]
fn a_store_that_fails_stops_the_run_where_it_is_and_fails_no_step() {
    for kind in [ErrorKind::Closed, ErrorKind::Indeterminate, ErrorKind::Corrupt] {
        let w = World::new();
        w.life(async |flows| {
            let flow = w.register(&flows, "two", two);
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.quiet().await;
            w.faults.fail(Call::Commit, 1, Fault::before(kind).poisoning());
            let error = w.run(run.result()).await.unwrap_err();
            let told = matches!(error, FlowError::Store { .. } | FlowError::Journal { .. });
            assert!(told, "{kind:?}: {error}");
            assert!(error.to_string().contains("run `r`"), "{error}");
        });
        w.faults.heal();
        w.life(async |flows| {
            let flow = w.register(&flows, "two", two);
            flows.start().await.unwrap();
            assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 1, "{kind:?}");
            for record in flows.history("r").await.unwrap() {
                assert!(
                    !matches!(record, Record::Failed(_) | Record::AttemptFailed(_)),
                    "{kind:?}"
                );
                if let Record::Completed(done) = record {
                    assert!(matches!(done.outcome, resurge_flow::record::Outcome::Ok(_)));
                }
            }
            assert_eq!((w.effects.of("one"), w.effects.of("two")), (2, 1), "{kind:?}");
        });
    }
}

#[test]
fn a_store_that_is_full_or_unavailable_for_a_while_is_waited_for() {
    for kind in [ErrorKind::Full, ErrorKind::Unavailable] {
        for evict_after in [ms(0), secs(5)] {
            let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
            w.life(async |flows| {
                let flow = w.register(&flows, "two", two);
                flows.start().await.unwrap();
                let run = flow.start("r", ()).await.unwrap();
                w.quiet().await;
                w.faults.fail_always(Call::Commit, Fault::before(kind));
                w.pass(secs(100)).await;
                assert_eq!(run.state().await.unwrap(), RunState::Running);
                assert_eq!(w.effects.of("two"), 0, "{kind:?}");
                w.faults.heal();
                assert_eq!(w.run(run.result()).await.unwrap(), 1, "{kind:?}");
                assert_eq!(w.effects.of("two"), 1, "{kind:?}");
            });
        }
    }
}

#[test]
fn a_shutdown_does_not_wait_for_a_store_that_is_full() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "two", two);
        flows.start().await.unwrap();
        flow.start("r", ()).await.unwrap();
        w.quiet().await;
        w.faults.fail_always(Call::Commit, Fault::before(ErrorKind::Full));
        // By now it is tried again once a minute.
        w.pass(secs(300)).await;
        let began = resurge_store::Clock::now(&w.clock);
        w.run(flows.shutdown()).await;
        let took = resurge_store::Clock::now(&w.clock).saturating_since(began);
        // At most the body that is at work once more.
        assert!(took <= ms(10), "{took:?}");
    });
}

#[test]
fn reads_that_fail_stop_the_run_where_it_is() {
    let w = World::with(FlowsOptions { evict_after: ms(0), ..FlowsOptions::default() });
    w.life(async |flows| {
        let flow = w.register(&flows, "waits", async |ctx: Ctx, (), w: World| {
            ctx.signal::<()>("go").await?;
            w.counted(&ctx, "x").await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.quiet().await;
        run.signal("go", &()).await.unwrap();
        w.faults.fail_always(Call::Get, Fault::before(ErrorKind::Corrupt));
        let error = w.run(run.result()).await.unwrap_err();
        assert!(matches!(error, FlowError::Store { .. }), "{error}");
        w.faults.heal();
        assert_eq!(w.effects.of("x"), 0);
    });
}

/// Serialises to nothing.
struct Broken;

impl Serialize for Broken {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("cannot be written"))
    }
}

impl<'de> serde::Deserialize<'de> for Broken {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[test]
fn values_that_are_too_large_or_cannot_be_written_are_refused_at_once_by_name() {
    let w = World::with(FlowsOptions { max_value_bytes: 1000, ..FlowsOptions::default() });
    w.life(async |flows| {
        let flow =
            w.register(&flows, "large", async |ctx: Ctx, what: String, w: World| match &*what {
                "step" => {
                    let body = || async { ok("x".repeat(w.effects.ran("large") as usize * 1001)) };
                    ctx.step("large", body).retry(resurge_flow::Retry::fixed(secs(1))).await
                }
                "broken" => {
                    ctx.step("broken", || async { ok(Broken) }).await?;
                    Ok(String::new())
                }
                "set" => {
                    ctx.set("big", &"x".repeat(1001))?;
                    Ok(String::new())
                }
                "fits" => ctx.step("fits", || async { ok("x".repeat(900)) }).await,
                _ => Ok("x".repeat(1001)),
            });
        flows.start().await.unwrap();
        for (what, kind, parts) in [
            ("step", StepErrorKind::TooLarge, vec!["step `large` of run `step`", "1005", "1000"]),
            ("broken", StepErrorKind::Codec, vec!["step `broken`", "cannot be written"]),
            ("set", StepErrorKind::TooLarge, vec!["`big` of run `set`", "1000"]),
            ("output", StepErrorKind::TooLarge, vec!["output `", "of run `output`", "1000"]),
        ] {
            let run = flow.start(what, what.to_owned()).await.unwrap();
            let error = w.run(run.result()).await.unwrap_err();
            for part in parts {
                assert!(error.to_string().contains(part), "{what}: {error} lacks {part}");
            }
            let FlowError::Failed { error, .. } = error else { panic!("{error}") };
            assert_eq!(error.kind, kind, "{what}");
        }
        assert_eq!(w.effects.of("large"), 1, "it is not tried again");
        let run = flow.start("fits", "fits".to_owned()).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap().len(), 900);
        // Inputs and signals are refused where they are given.
        let error = flow.start("input", "x".repeat(1001)).await.unwrap_err();
        assert!(matches!(&error, FlowError::Value { what, .. } if what == "input"), "{error}");
        let error = flow.run("fits").signal("big", &"x".repeat(1001)).await.unwrap_err();
        assert!(error.to_string().contains("signal `big`"), "{error}");
    });
}

#[test]
fn many_large_results_at_once_are_recorded() {
    // Together more than one page of a journal holds.
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "large", async |ctx: Ctx, (), w: World| {
            let steps: Vec<_> = (0..6)
                .map(|n| {
                    let step = ctx.step(format!("large {n}"), || async {
                        w.effects.ran("large");
                        ok("x".repeat(4_000_000))
                    });
                    step.into_future()
                })
                .collect();
            let mut sum = 0;
            for step in join_all(steps).await {
                sum += step?.len();
            }
            Ok(sum)
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 24_000_000);
        assert_eq!(w.effects.of("large"), 6);
    });
}

async fn join_all<F: Future + Unpin>(futures: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<(F, Option<F::Output>)> = futures.into_iter().map(|f| (f, None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut all {
            if output.is_none()
                && let std::task::Poll::Ready(done) = std::pin::Pin::new(future).poll(cx)
            {
                *output = Some(done);
            }
        }
        if all.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}
