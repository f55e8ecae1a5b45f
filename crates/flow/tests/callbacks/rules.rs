//! Order, filters, options, what callbacks see, and what their failures mean.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{
    Callback, CallbackInfo, Ctx, FlowError, FlowOptions, FlowResult, Flows, Level, StepError,
    StepErrorKind,
};

use crate::support::{Effects, flows, in_time, store};

#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn log(&self, what: impl Into<String>) {
        self.0.lock().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    fn callback(&self, name: &'static str) -> Callback {
        let trace = self.clone();
        Callback::must(name, move |info: CallbackInfo| {
            let trace = trace.clone();
            async move {
                let went = info.error().map_or("", |_| " failed");
                trace.log(format!("{name} {}{went}", info.name()));
                Ok::<_, StepError>(())
            }
        })
    }

    /// At every place.
    fn everywhere(&self) -> FlowOptions {
        FlowOptions::default()
            .before_flow(self.callback("bf"))
            .after_flow(self.callback("af"))
            .before_process(self.callback("bp"))
            .after_process(self.callback("ap"))
            .before_step(self.callback("bs"))
            .after_step(self.callback("as"))
    }
}

async fn order(ctx: Ctx, trace: Trace, fails: bool) -> FlowResult<()> {
    let t = &trace;
    ctx.process("pack", |ctx| async move {
        for name in ["one", "two"] {
            ctx.step(name, || async {
                t.log(name);
                if fails && name == "two" && t.0.lock().iter().filter(|l| *l == "two").count() == 1
                {
                    return Err(StepError::permanent("no"));
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn they_are_called_around_what_they_belong_to() {
    let (store, _) = store();
    let (flows, trace) = (flows(&store), Trace::default());
    let own = trace.clone();
    let flow = flows
        .register_with("f", trace.everywhere(), move |ctx, fails| order(ctx, own.clone(), fails))
        .unwrap();
    flows.start().await.unwrap();
    flow.start("good", false).await.unwrap().result().await.unwrap();
    let all = [
        "bf f", "bp pack", "bs one", "one", "as one", "bs two", "two", "as two", "ap pack", "af f",
    ];
    assert_eq!(trace.take(), all);
    let run = flow.start("bad", true).await.unwrap();
    run.result().await.unwrap_err();
    let failed = [
        "bf f",
        "bp pack",
        "bs one",
        "one",
        "as one",
        "bs two",
        "two",
        "as two failed",
        "ap pack failed",
        "af f failed",
    ];
    assert_eq!(trace.0.lock().clone(), failed);
    run.resume().await.unwrap().result().await.unwrap();
    // Nothing before is called again; the step that failed, and everything after, is.
    assert_eq!(trace.take()[failed.len()..], ["two", "as two", "ap pack", "af f"]);
    flows.shutdown().await;
}

#[tokio::test]
async fn filters_choose_by_name_and_optional_ones_may_fail() {
    let (store, _) = store();
    let (flows, trace) = (flows(&store), Trace::default());
    let own = trace.clone();
    let failing = Callback::optional("optional", |_| async {
        Err::<(), _>(StepError::permanent("nobody minds"))
    });
    let options = FlowOptions::default()
        .before_step(trace.callback("only").only_for(["one"]))
        .before_step(trace.callback("not").not_for(["one"]))
        .after_step(failing.clone())
        .after_step(trace.callback("later"))
        .before_flow(failing);
    let flow = flows
        .register_with("f", options, move |ctx, fails| order(ctx, own.clone(), fails))
        .unwrap();
    flows.start().await.unwrap();
    flow.start("r", false).await.unwrap().result().await.unwrap();
    assert_eq!(trace.take(), ["only one", "one", "later one", "not two", "two", "later two"]);
    flows.shutdown().await;
}

#[tokio::test]
async fn a_callback_that_must_pass_fails_what_it_belongs_to() {
    let (store, _) = store();
    let (flows, trace) = (flows(&store), Trace::default());
    let own = trace.clone();
    let options = FlowOptions::default().before_step(
        Callback::must("quota", |info: CallbackInfo| async move {
            assert_eq!((info.level(), info.is_after()), (Level::Step, false));
            if info.recovering() {
                info.ctx().set("granted", &info.name().to_owned())?;
                return Ok(());
            }
            Err(StepError::permanent("none left"))
        })
        .only_for(["two"]),
    );
    let flow = flows
        .register_with("f", options, move |ctx: Ctx, fails| {
            let own = own.clone();
            async move {
                order(ctx.clone(), own, fails).await?;
                ctx.get::<String>("granted")
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", false).await.unwrap();
    let failed = run.result().await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "run `r` failed at step `pack/two/@before-step/quota`: \
         callback `quota` of Step `two`: none left"
    );
    let FlowError::Failed { error, .. } = failed else { panic!() };
    assert_eq!(error.kind, StepErrorKind::Callback);
    assert_eq!(trace.take(), ["one"]);
    let resumed = run.resume().await.unwrap().result().await.unwrap();
    assert_eq!(resumed.as_deref(), Some("two"));
    assert_eq!(trace.take(), ["two"]);
    flows.shutdown().await;
}

/// A resume passes over an excluded callback; the next execution must know that it was not called.
#[tokio::test]
async fn what_was_passed_over_stays_passed_over() {
    let (store, clock) = store();
    let (trace, effects) = (Trace::default(), Effects::default());
    let open = || -> (Flows, resurge_flow::FlowRef<(), ()>) {
        let flows = flows(&store);
        let counted = effects.clone();
        let once = trace.callback("once").exclude_recovering().only_for(["first"]);
        let flow = flows
            .register_with("f", FlowOptions::default().after_step(once), move |ctx: Ctx, (): ()| {
                let counted = counted.clone();
                async move {
                    for name in ["first", "second"] {
                        ctx.step(name, || async {
                            if counted.ran(name) == 1 {
                                return Err(StepError::permanent("the first time"));
                            }
                            Ok(())
                        })
                        .await?;
                        ctx.sleep("rest", Duration::from_secs(1)).await?;
                    }
                    Ok(())
                }
            })
            .unwrap();
        (flows, flow)
    };
    let (first, flow) = open();
    first.start().await.unwrap();
    in_time(&clock, flow.start("r", ()).await.unwrap().result()).await.unwrap_err();
    first.shutdown().await;
    for resume in 1..=2 {
        let (flows, flow) = open();
        flows.start().await.unwrap();
        let run = flow.run("r").resume().await.unwrap();
        let result = in_time(&clock, run.result()).await;
        assert_eq!(result.is_ok(), resume == 2, "{result:?}");
        flows.shutdown().await;
    }
    assert_eq!(trace.take(), ["once first failed"]);
    assert_eq!((effects.of("first"), effects.of("second")), (2, 2));
}

#[tokio::test]
async fn callbacks_after_run_for_cancelled_runs_and_panics_too() {
    let (store, _) = store();
    let (flows, trace) = (flows(&store), Trace::default());
    let options = || {
        FlowOptions::default().after_flow(trace.callback("af")).after_process(trace.callback("ap"))
    };
    let waits = flows
        .register_with("waits", options(), |ctx: Ctx, (): ()| async move {
            ctx.process("p", |ctx| async move { ctx.signal::<()>("never").await }).await
        })
        .unwrap();
    let panics = flows
        .register_with("panics", options(), |ctx: Ctx, (): ()| async move {
            assert!(ctx.is_cancelled(), "a bug");
            Ok(())
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = waits.start("waits", ()).await.unwrap();
    run.cancel().await.unwrap();
    let ended = run.result().await.unwrap_err();
    assert!(matches!(ended, FlowError::Cancelled { .. }), "{ended}");
    assert_eq!(trace.take(), ["ap p failed", "af waits failed"]);
    let ended = panics.start("panics", ()).await.unwrap().result().await.unwrap_err();
    assert!(ended.to_string().contains("a bug"), "{ended}");
    assert_eq!(trace.take(), ["af panics failed"]);
    flows.shutdown().await;
}

#[tokio::test]
async fn bad_names_are_refused_at_registration() {
    let (store, _) = store();
    let flows = flows(&store);
    let trace = Trace::default();
    for options in [
        FlowOptions::default().before_flow(trace.callback("@mine")),
        FlowOptions::default().after_step(trace.callback("a")).after_step(trace.callback("a")),
    ] {
        let refused = flows.register_with("f", options, |_: Ctx, (): ()| async { Ok(()) });
        assert!(matches!(refused, Err(FlowError::Invalid(_))), "{refused:?}");
    }
    // The same name at two places is no clash.
    let options =
        FlowOptions::default().before_flow(trace.callback("a")).after_flow(trace.callback("a"));
    flows.register_with("f", options, |_: Ctx, (): ()| async { Ok(()) }).unwrap();
}
