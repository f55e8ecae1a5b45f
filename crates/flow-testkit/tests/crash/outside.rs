//! Flows that are wrong: whoever tests their own must be told.

use resurge_flow::{Ctx, FlowResult, StepError};
use resurge_flow_testkit::{CrashFailure, CrashPoints, CrashReport, Effects, Failure, Life};
use resurge_testkit::evidence;

use crate::{HOUR, Step};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Nothing,
    /// The flow's own code has an effect; it comes again with every replay.
    EffectOutsideAStep,
    /// Which step comes next depends on something that is not recorded.
    BranchOnTheOutside,
    /// The result depends on something that is not recorded.
    ResultFromOutside,
    /// A step has no effect any more after a crash.
    EffectLeftOut,
    /// The script starts the run under another id in every life.
    AnotherRun,
    /// The client waits for a signal that nobody sends again.
    SignalForgotten,
}

async fn flow(ctx: Ctx, wrong: Wrong, effects: Effects) -> FlowResult<String> {
    if wrong == Wrong::EffectOutsideAStep {
        effects.ran("outside");
    }
    let first = ctx.step("first", || async { Step::Ok(effects.ran("first")) });
    let first = first.await?;
    let name = if wrong == Wrong::BranchOnTheOutside && effects.count("second") > 0 {
        "other"
    } else {
        "second"
    };
    ctx.step(name, || async {
        if wrong != Wrong::EffectLeftOut || effects.count("first") < 2 {
            effects.ran(name);
        }
        Step::Ok(())
    })
    .await?;
    ctx.sleep("pause", HOUR).await?;
    if wrong == Wrong::SignalForgotten {
        ctx.signal::<()>("go").await?;
    }
    ctx.step("third", || async {
        effects.ran("third");
        Ok::<_, StepError>(())
    })
    .await?;
    Ok(if wrong == Wrong::ResultFromOutside { first.to_string() } else { "done".to_owned() })
}

async fn script(life: Life, wrong: Wrong) -> Result<String, Failure> {
    let effects = life.effects().clone();
    let flow = life.flows().register("flow", move |ctx, ()| flow(ctx, wrong, effects.clone()))?;
    life.start().await?;
    let id = match wrong {
        Wrong::AnotherRun => format!("run-{}", life.crashes()),
        _ => "run".to_owned(),
    };
    let run = life.begin(&flow, &id, ()).await?;
    if wrong == Wrong::SignalForgotten && life.crashes() == 0 {
        run.signal("go", &()).await?;
    }
    life.finish(&run).await
}

fn check(wrong: Wrong) -> Result<CrashReport, CrashFailure> {
    CrashPoints::new().second_crashes(1).run(move |life| script(life, wrong))
}

#[test]
fn a_flow_that_is_right_passes() {
    let report = check(Wrong::Nothing).unwrap();
    assert!(report.to_string().contains("crash points"), "{report}");
    assert!(report.repeated > 0, "{report:?}");
}

#[test]
fn a_flow_that_is_wrong_is_found() {
    let expected = [
        (Wrong::EffectOutsideAStep, "outside of a step"),
        (Wrong::BranchOnTheOutside, "non-determinism"),
        (Wrong::ResultFromOutside, "without a crash it is"),
        (Wrong::EffectLeftOut, "a result and no effect"),
        (Wrong::AnotherRun, "no such run without a crash"),
        (Wrong::SignalForgotten, "would wait for ever"),
    ];
    for (wrong, says) in expected {
        let failure = check(wrong).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains(says), "{wrong:?}: {text}");
        // The line it names repeats it.
        let Some(crash) = failure.crash() else {
            // A run that leaves memory and is replayed tells it, too.
            assert_eq!(wrong, Wrong::BranchOnTheOutside, "{text}");
            continue;
        };
        let line = crash.to_string();
        assert!(text.ends_with(&format!("CrashPoints::new().replay(\"{line}\")")), "{text}");
        let again = CrashPoints::new().replay(&line).unwrap();
        let again = again.run(move |life| script(life, wrong)).unwrap_err();
        assert_eq!(again.to_string(), text);
    }
    let caught = expected.len();
    evidence("flow-testkit-wrong-flows", &format!("{caught} of {caught} wrong flows found"));
}

#[test]
fn a_script_that_fails_by_itself_is_told_apart() {
    let failure = CrashPoints::new().run(|_| async { Err::<(), _>("no".into()) }).unwrap_err();
    assert_eq!((failure.crash(), failure.to_string().as_str()), (None, "without a crash: no"));
}

#[test]
fn it_is_not_run_inside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let failure = runtime.block_on(async { check(Wrong::Nothing) }).unwrap_err();
    assert!(failure.to_string().contains("plain #[test]"), "{failure}");
}
