//! `FlowTest`: a month in a millisecond, and each knob.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use resurge_flow::{Ctx, FlowResult, FlowsOptions, Retry, RunState, StepError};
use resurge_flow_testkit::{Effects, FlowTest, Life};
use resurge_store::Clock;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn trial(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    ctx.sleep("trial", 30 * DAY).await?;
    let answer: Option<String> = ctx.signal_within("answer", 7 * DAY).await?;
    ctx.step("tell", || async {
        effects.ran("tell");
        Ok::<_, StepError>(())
    })
    .await?;
    Ok(answer.unwrap_or_else(|| "no answer".to_owned()))
}

fn trials(life: &Life) -> resurge_flow::FlowRef<(), String> {
    let effects = life.effects().clone();
    life.flows().register("trial", move |ctx, ()| trial(ctx, effects.clone())).unwrap()
}

#[test]
fn time_passes_only_when_the_test_lets_it() {
    let test = FlowTest::new().run(|life| async move {
        let trials = trials(&life);
        life.start().await?;
        let begun = life.clock().now();
        let run = trials.start("t", ()).await?;
        life.advance(29 * DAY).await;
        assert_eq!(run.state().await?, RunState::Sleeping);
        assert_eq!(life.clock().now().saturating_since(begun), 29 * DAY);
        life.advance(2 * DAY).await;
        assert_eq!(run.state().await?, RunState::Waiting);
        assert_eq!(life.effects().count("tell"), 0);
        run.signal("answer", "yes").await?;
        assert_eq!(life.finish(&run).await?, "yes");
        assert_eq!(life.effects().count("tell"), 1);
        assert_eq!(life.clock().now().saturating_since(begun), 31 * DAY);
        Ok(())
    });
    test.unwrap();
}

#[test]
fn a_result_is_awaited_however_far_away() {
    let result = FlowTest::new().run(|life| async move {
        let trials = trials(&life);
        life.start().await?;
        let begun = life.clock().now();
        let run = trials.start("t", ()).await?;
        let result = life.finish(&run).await?;
        assert_eq!(life.clock().now().saturating_since(begun), 37 * DAY);
        Ok(result)
    });
    assert_eq!(result.unwrap(), "no answer");
}

async fn asks(ctx: Ctx, (): ()) -> FlowResult<u32> {
    ctx.signal("never").await
}

#[test]
fn what_would_wait_for_ever_is_told_at_once() {
    let stuck = |horizon: Option<Duration>| {
        let test = match horizon {
            Some(horizon) => FlowTest::new().horizon(horizon),
            None => FlowTest::new(),
        };
        let failure = test.run(|life| async move {
            let asks = life.flows().register("asks", asks)?;
            life.start().await?;
            let run = asks.start("a", ()).await?;
            life.finish(&run).await
        });
        failure.unwrap_err().to_string()
    };
    let text = stuck(None);
    assert!(text.contains("run `a` would wait for ever") && text.contains("never"), "{text}");
    // The horizon is how long it takes to say so.
    assert!(stuck(Some(DAY)).contains(&format!("{DAY:?} went by")), "{}", stuck(Some(DAY)));
}

#[test]
fn the_horizon_may_lie_before_the_end() {
    let failure = FlowTest::new().horizon(DAY).run(|life| async move {
        let trials = trials(&life);
        life.start().await?;
        let run = trials.start("t", ()).await?;
        life.finish(&run).await
    });
    assert!(failure.unwrap_err().to_string().contains("Sleeping"));
}

async fn lucky(ctx: Ctx, (): ()) -> FlowResult<u64> {
    ctx.random()
}

#[test]
fn the_seed_decides_what_is_random() {
    let random = |seed| {
        let test = FlowTest::new().seed(seed).run(|life| async move {
            let lucky = life.flows().register("lucky", lucky)?;
            life.start().await?;
            let run = lucky.start("l", ()).await?;
            life.finish(&run).await
        });
        test.unwrap()
    };
    assert_eq!(random(7), random(7));
    assert_ne!(random(7), random(8));
}

#[test]
fn options_and_opening_are_the_tests_own() {
    let options = FlowsOptions { max_value_bytes: 16, ..FlowsOptions::default() };
    let too_large = |test: FlowTest| {
        let started = test.run(|life| async move {
            let echo = life.flows().register("echo", |_, text: String| async move { Ok(text) })?;
            Ok(echo.start("e", "more than sixteen bytes".to_owned()).await.is_err())
        });
        started.unwrap()
    };
    assert!(!too_large(FlowTest::new()));
    assert!(too_large(FlowTest::new().options(options.clone())));
    let open =
        move |store: &resurge_store::Store| resurge_flow::Flows::open(store, options.clone());
    assert!(too_large(FlowTest::new().open(open)));
}

async fn flaky(ctx: Ctx, effects: Effects) -> FlowResult<u32> {
    ctx.step_with("flaky", |step| {
        let effects = effects.clone();
        async move {
            effects.ran("flaky");
            if step.recovering() { Ok(1) } else { Err(StepError::transient("down")) }
        }
    })
    .retry(Retry::fixed(DAY).max_attempts(3))
    .await
}

#[test]
fn a_failed_run_is_resumed_as_often_as_asked() {
    let run = |resumes| {
        FlowTest::new().run(move |life| async move {
            let effects = life.effects().clone();
            let flow =
                life.flows().register("flaky", move |ctx, ()| flaky(ctx, effects.clone()))?;
            life.start().await?;
            let run = flow.start("f", ()).await?;
            let result = life.finish_resuming(&run, resumes).await?;
            Ok((result, life.effects().count("flaky")))
        })
    };
    assert_eq!(run(1).unwrap(), (1, 4));
    assert!(run(0).unwrap_err().to_string().contains("down"));
}

#[test]
fn a_panic_in_a_test_fails_it() {
    let failure = FlowTest::new().run(|_| async {
        let empty: [u8; 0] = [];
        Ok(empty.first().copied().unwrap())
    });
    assert!(failure.unwrap_err().to_string().contains("panicked"));
}
