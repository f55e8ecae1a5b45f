//! Recorded histories under changed code.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use resurge_flow::replay::ReplayReport;
use resurge_flow::{Ctx, FlowError, FlowResult, RunState, StepError};
use resurge_flow_testkit::{Effects, FlowTest, History, Life, verify_replay};
use resurge_store::Clock;
use tokio::try_join;

const HOUR: Duration = Duration::from_secs(3600);

/// The code as it was, and ways in which it may have changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Code {
    AsItWas,
    StepRenamed,
    StepRemoved,
    StepsSwapped,
    SleepForStep,
    StepInserted,
    StepInsertedBehindAPatch,
    StepAppended,
    BranchScoped,
    OtherResult,
    ReturnsEarly,
    Panics,
}

async fn flow(ctx: Ctx, input: u32, code: Code, effects: Effects) -> FlowResult<String> {
    let step = |name: &'static str, value: u32| {
        let effects = effects.clone();
        ctx.step(name, move || {
            effects.ran(name);
            async move { Ok::<_, StepError>(value) }
        })
    };
    let (first, second) =
        if code == Code::StepsSwapped { ("second", "first") } else { ("first", "second") };
    let one = step(if code == Code::StepRenamed { "renamed" } else { first }, input).await?;
    if code == Code::ReturnsEarly {
        return Ok("early".to_owned());
    }
    if code == Code::StepInserted
        || (code == Code::StepInsertedBehindAPatch && ctx.patched("insert")?)
    {
        step("inserted", 0).await?;
    }
    let mut two = 0;
    match code {
        Code::StepRemoved => {}
        Code::SleepForStep => ctx.sleep("second", HOUR).await?,
        _ => two = step(second, one + 1).await?,
    }
    let ctx_of_branch = if code == Code::BranchScoped { ctx.scope("branch")? } else { ctx.clone() };
    let (left, right) = try_join!(
        step("fetch", 3).into_future(),
        ctx_of_branch.step("fetch", || async { Ok::<_, StepError>(4_u32) }).into_future(),
    )?;
    ctx.set("left", &left)?;
    let at = ctx.now().await?;
    ctx.sleep("nap", HOUR).await?;
    let word: String = ctx.signal("word").await?;
    if code == Code::StepAppended {
        step("appended", 5).await?;
    }
    assert!(code != Code::Panics, "changed");
    let tail = if code == Code::OtherResult { "!" } else { "" };
    Ok(format!("{one} {two} {left} {right} {word} {}{tail}", at.as_millis() > 0))
}

/// The history of a run of the code as it was: to its end, or up to where it waits for the signal.
fn record(to_its_end: bool) -> History {
    let test = FlowTest::new().run(move |life: Life| async move {
        let effects = life.effects().clone();
        let old = life
            .flows()
            .register("flow", move |ctx, n| flow(ctx, n, Code::AsItWas, effects.clone()))?;
        life.start().await?;
        let run = old.start("run", 1).await?;
        if to_its_end {
            run.signal("word", "yes").await?;
            assert_eq!(life.finish(&run).await?, "1 2 3 4 yes true");
        } else {
            life.advance(2 * HOUR).await;
        }
        Ok(History::of(life.flows(), "run").await?)
    });
    test.unwrap()
}

/// Replays a history by flows that `register` knows, and nothing else: time has nothing to do with it,
/// nor has what the store holds.
fn replay(
    history: &History,
    register: impl Fn(&Life) + Send + Sync + Clone + 'static,
) -> Result<ReplayReport, FlowError> {
    let history = history.clone();
    let verdict = FlowTest::new().run(move |life: Life| {
        let (history, register) = (history.clone(), register.clone());
        async move {
            let before = life.clock().now();
            register(&life);
            let verdict = verify_replay(life.flows(), &history).await;
            assert_eq!(life.effects().names(), Vec::<String>::new(), "a body ran");
            assert_eq!(life.clock().now(), before);
            assert!(life.flows().history(&history.run).await.is_err(), "something was written");
            Ok(verdict)
        }
    });
    verdict.unwrap()
}

fn verify(history: &History, code: Code) -> Result<ReplayReport, FlowError> {
    replay(history, move |life| {
        let effects = life.effects().clone();
        let registered =
            life.flows().register("flow", move |ctx, n| flow(ctx, n, code, effects.clone()));
        registered.unwrap();
    })
}

#[test]
fn the_same_code_replays_what_it_did() {
    let history = record(true);
    let report = verify(&history, Code::AsItWas).unwrap();
    assert_eq!((report.ended, report.same_end), (Some(RunState::Succeeded), Some(true)));
    assert_eq!((report.flow.as_str(), report.records), ("flow", history.records.len()));
    assert_eq!(report.revealed, 7); // four steps, now, the nap, the signal
    let waiting = verify(&record(false), Code::AsItWas).unwrap();
    assert_eq!((waiting.ended, waiting.same_end, waiting.revealed), (None, None, 6));
}

#[test]
fn changed_code_is_refused_and_both_sides_are_named() {
    let refused = [
        (Code::StepRenamed, "the journal holds step `first`, the code asks for step `renamed`"),
        (Code::StepRemoved, "the journal holds step `second`"),
        (Code::StepsSwapped, "the journal holds step `first`, the code asks for step `second`"),
        (Code::SleepForStep, "the journal holds step `second`, the code asks for sleep `second`"),
        (Code::StepInserted, "the journal holds step `second`, the code asks for step `inserted`"),
        (Code::BranchScoped, "the journal holds step `fetch#1`"),
        (Code::ReturnsEarly, "the journal holds step `second`, the code asks for nothing more"),
    ];
    for history in [record(true), record(false)] {
        for (code, says) in refused {
            let error = verify(&history, code).unwrap_err();
            assert!(matches!(error, FlowError::Blocked { .. }), "{code:?}: {error}");
            assert!(error.to_string().contains(says), "{code:?}: {error}");
        }
    }
}

#[test]
fn changes_that_fit_are_let_through() {
    for code in [Code::StepInsertedBehindAPatch, Code::AsItWas] {
        verify(&record(true), code).unwrap();
        verify(&record(false), code).unwrap();
    }
    // Behind what a run in flight has reached everything may change.
    for code in [Code::StepAppended, Code::OtherResult, Code::Panics] {
        verify(&record(false), code).unwrap();
    }
    // A run that ended well is never executed again; what it would do now is told.
    assert_eq!(verify(&record(true), Code::OtherResult).unwrap().same_end, Some(false));
    let appended = verify(&record(true), Code::StepAppended).unwrap_err().to_string();
    assert!(appended.contains("a good end") && appended.contains("`appended`"), "{appended}");
    let panics = verify(&record(true), Code::Panics).unwrap_err().to_string();
    assert!(panics.contains("an end with an error"), "{panics}");
}

#[test]
fn a_history_keeps_through_json() {
    let history = record(true);
    let json = history.to_json().unwrap();
    assert_eq!(History::from_json(&json).unwrap(), history);
    assert!(History::from_json("{}").is_err());
    // Another id is another run: what is derived from it differs, what is recorded does not.
    let other = History { run: "other".to_owned(), ..history };
    verify(&other, Code::AsItWas).unwrap();
}

#[test]
fn what_is_no_history_is_refused() {
    let history = record(true);
    let headless = History { records: history.records[1..].to_vec(), ..history.clone() };
    let error = verify(&headless, Code::AsItWas).unwrap_err().to_string();
    assert!(error.contains("does not begin with a beginning"), "{error}");
    let twice = [history.records.clone(), history.records.clone()].concat();
    let twice = History { records: twice, ..history.clone() };
    let error = verify(&twice, Code::AsItWas).unwrap_err().to_string();
    assert!(error.contains("begins twice"), "{error}");
    let error = replay(&history, |_| {}).unwrap_err().to_string();
    assert!(error.contains("`flow` is not registered"), "{error}");
    let other = |life: &Life| {
        life.flows().register("flow", |_, _: String| async { Ok(()) }).unwrap();
    };
    let error = replay(&history, other).unwrap_err().to_string();
    assert!(error.contains("input cannot be read"), "{error}");
}

async fn failing(ctx: Ctx, fixed: bool) -> FlowResult<u32> {
    let done = ctx.step("done", || async { Ok::<_, StepError>(1) }).await?;
    let fails = ctx.step_with("fails", |step| async move {
        if step.recovering() { Ok(2) } else { Err(StepError::permanent("no")) }
    });
    let fails = fails.await;
    if fixed && fails.is_err() {
        return Ok(0);
    }
    Ok(done + fails?)
}

#[test]
fn a_failed_run_and_a_resumed_one_replay() {
    for resumes in 0..=1 {
        let test = FlowTest::new().run(move |life: Life| async move {
            let old = life.flows().register("failing", |ctx, ()| failing(ctx, false))?;
            life.start().await?;
            let run = old.start("run", ()).await?;
            let ended = life.finish_resuming(&run, resumes).await.is_ok();
            Ok((ended, History::of(life.flows(), "run").await?))
        });
        let (ended, history) = test.unwrap();
        assert_eq!(ended, resumes == 1);
        for fixed in [false, true] {
            let register = move |life: &Life| {
                life.flows().register("failing", move |ctx, ()| failing(ctx, fixed)).unwrap();
            };
            let report = replay(&history, register).unwrap();
            let state = if ended { RunState::Succeeded } else { RunState::Failed };
            assert_eq!(report.ended, Some(state));
            // A failed run may end otherwise under code that was fixed.
            assert_eq!(report.same_end, Some(ended || !fixed), "{report:?}");
        }
    }
}
