//! A run that cannot go on can still be got rid of.

use resurge_flow::record::Record;
use resurge_flow::{Ctx, FlowError, FlowResult, RunState, StepError};

use crate::support::{flows, in_time, store};

async fn old(ctx: Ctx, (): ()) -> FlowResult<()> {
    ctx.step("one", || async { Ok::<_, StepError>(()) }).await?;
    ctx.signal("go").await
}

async fn new(ctx: Ctx, (): ()) -> FlowResult<()> {
    ctx.step("uno", || async { Ok::<_, StepError>(()) }).await?;
    ctx.signal("go").await
}

#[tokio::test]
async fn a_blocked_run_is_cancelled_when_asked_and_its_journal_says_so() {
    let (store, clock) = store();
    let before = flows(&store);
    let flow = before.register("changes", old).unwrap();
    before.start().await.unwrap();
    flow.start("r", ()).await.unwrap();
    while before.info("r").await.unwrap().state != RunState::Waiting {
        tokio::task::yield_now().await;
    }
    before.shutdown().await;

    let after = flows(&store);
    let flow = after.register("changes", new).unwrap();
    after.start().await.unwrap();
    // It waited, so it is looked at only when something happens.
    flow.run("r").signal("hello", &()).await.unwrap();
    let blocked = in_time(&clock, flow.run("r").result()).await.unwrap_err();
    assert!(matches!(blocked, FlowError::Blocked { .. }), "{blocked}");

    flow.run("r").cancel().await.unwrap();
    while after.info("r").await.unwrap().state != RunState::Cancelled {
        tokio::task::yield_now().await;
    }
    let ended = flow.run("r").result().await.unwrap_err();
    assert!(ended.to_string().contains("non-determinism"), "{ended}");
    let history = after.history("r").await.unwrap();
    assert!(matches!(history.last(), Some(Record::Cancelled(_))), "{history:?}");
    after.shutdown().await;
}

#[tokio::test]
async fn a_run_whose_flow_is_gone_is_cancelled_when_asked() {
    let (store, _clock) = store();
    let before = flows(&store);
    let flow = before.register("gone", old).unwrap();
    flow.start("r", ()).await.unwrap();
    before.shutdown().await;

    let after = flows(&store);
    after.start().await.unwrap();
    while after.info("r").await.unwrap().state != RunState::Blocked {
        tokio::task::yield_now().await;
    }
    after.run::<()>("r").cancel().await.unwrap();
    while after.info("r").await.unwrap().state != RunState::Cancelled {
        tokio::task::yield_now().await;
    }
    after.shutdown().await;
}
