//! Who started last owns the runs.

use resurge_flow::{Ctx, FlowError, FlowResult, StepError};

use crate::support::{Effects, flows, in_time, store};

#[tokio::test]
async fn flows_started_later_take_the_runs_over_and_the_earlier_ones_commit_nothing_more() {
    let (store, clock) = store();
    let effects = Effects::default();
    let counted = effects.clone();
    let waits = move |ctx: Ctx, (): ()| {
        let counted = counted.clone();
        async move {
            ctx.signal::<()>("go").await?;
            ctx.step("once", || async { Ok::<_, StepError>(counted.ran("once")) }).await
        }
    };
    let (before, after) = (flows(&store), flows(&store));
    let old = before.register("waits", waits.clone()).unwrap();
    let new = after.register("waits", waits).unwrap();
    before.start().await.unwrap();
    let run = old.start("r", ()).await.unwrap();
    after.start().await.unwrap();

    let refused = old.start("another", ()).await.unwrap_err();
    assert!(matches!(refused, FlowError::Superseded { .. }), "{refused}");
    // The earlier owner hears of the signal, and may not take it.
    run.signal("go", &()).await.unwrap();
    let lost = in_time(&clock, run.result()).await.unwrap_err();
    assert!(matches!(lost, FlowError::Superseded { .. }), "{lost}");
    assert_eq!(effects.of("once"), 0);
    new.run("r").signal("go", &()).await.unwrap();
    assert_eq!(in_time(&clock, new.run("r").result()).await.unwrap(), 1);
    before.shutdown().await;
    after.shutdown().await;
}

async fn nothing(_: Ctx, (): ()) -> FlowResult<()> {
    Ok(())
}

#[tokio::test]
async fn flows_that_are_not_started_own_nothing_and_take_nothing_away() {
    let (store, _clock) = store();
    let (running, looking) = (flows(&store), flows(&store));
    let flow = running.register("nothing", nothing).unwrap();
    running.start().await.unwrap();
    assert!(looking.list(&resurge_flow::RunFilter::new(), 10).await.unwrap().is_empty());
    flow.start("r", ()).await.unwrap().result().await.unwrap();
    running.shutdown().await;
}
