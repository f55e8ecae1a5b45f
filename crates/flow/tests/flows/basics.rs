//! Start, run, end.

use std::time::Duration;

use resurge_flow::{Ctx, FlowError, FlowResult, Retry, RunState, StepError};
use tokio::try_join;

use crate::support::{Effects, flows, in_time, store};

#[tokio::test]
async fn a_flow_runs_and_its_result_stays() {
    let (store, _clock) = store();
    let effects = Effects::default();
    let flows = flows(&store);
    let counted = effects.clone();
    let three = flows
        .register("three", move |ctx: Ctx, n: u64| {
            let counted = counted.clone();
            async move {
                let mut sum = n;
                for name in ["a", "b", "c"] {
                    sum += ctx
                        .step(name, || async {
                            counted.ran(name);
                            Ok::<_, StepError>(1_u64)
                        })
                        .await?;
                }
                Ok(sum)
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = three.start("run-1", 1).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 4);
    assert_eq!(run.state().await.unwrap(), RunState::Succeeded);
    // The same start again is the same run.
    let again = three.start("run-1", 1).await.unwrap();
    assert_eq!(again.result().await.unwrap(), 4);
    assert_eq!((effects.of("a"), effects.of("b"), effects.of("c")), (1, 1, 1));
    let other = three.start("run-1", 2).await.unwrap_err();
    assert!(matches!(other, FlowError::AlreadyExists { .. }), "{other}");
    flows.shutdown().await;
}

async fn both(ctx: Ctx, text: String) -> FlowResult<usize> {
    let (a, b) = try_join!(
        ctx.step("a", || async { Ok::<_, StepError>(text.len()) }).into_future(),
        ctx.step("b", || async { Ok::<_, StepError>(text.len() * 10) }).into_future(),
    )?;
    Ok(a + b)
}

#[tokio::test]
async fn joined_steps_borrow_and_complete() {
    let (store, _clock) = store();
    let flows = flows(&store);
    let both = flows.register("both", both).unwrap();
    flows.start().await.unwrap();
    let run = both.start("x", "four".to_owned()).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 44);
    flows.shutdown().await;
}

#[tokio::test]
async fn a_failed_step_is_tried_again_and_then_resumed() {
    let (store, clock) = store();
    let effects = Effects::default();
    let flows = flows(&store);
    let counted = effects.clone();
    let flow = flows
        .register("flaky", move |ctx: Ctx, (): ()| {
            let counted = counted.clone();
            async move {
                ctx.step("before", || async {
                    counted.ran("before");
                    Ok::<_, StepError>(())
                })
                .await?;
                ctx.step("flaky", || async {
                    if counted.ran("flaky") < 4 {
                        return Err(StepError::transient("not yet"));
                    }
                    Ok(7_u32)
                })
                .retry(Retry::fixed(Duration::from_secs(60)).max_attempts(3))
                .await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    let failed = in_time(&clock, run.result()).await.unwrap_err();
    assert!(
        matches!(&failed, FlowError::Failed { positions, .. } if positions.len() == 1),
        "{failed}"
    );
    assert_eq!(failed.to_string(), "run `r` failed at step `flaky`: not yet");
    assert_eq!(effects.of("flaky"), 3);
    let resumed = run.resume().await.unwrap();
    assert_eq!(resumed.result().await.unwrap(), 7);
    assert_eq!((effects.of("before"), effects.of("flaky")), (1, 4));
    assert!(matches!(run.resume().await.unwrap_err(), FlowError::NotFailed { .. }));
    flows.shutdown().await;
}
