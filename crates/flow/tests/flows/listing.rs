//! Which runs there are, and why they wait.

use std::time::Duration;

use resurge_flow::{Ctx, FlowResult, RunFilter, RunState, StepError, Waiting};

use crate::support::{flows, in_time, store};

async fn approval(ctx: Ctx, ok: bool) -> FlowResult<String> {
    let who = ctx.signal::<String>("approve").await?;
    if !ok {
        ctx.step("check", || async { Err::<(), _>(StepError::permanent("not allowed")) }).await?;
    }
    Ok(who)
}

async fn nap(ctx: Ctx, (): ()) -> FlowResult<()> {
    // Longer than a loaded machine makes virtual time jump.
    ctx.sleep("nap", Duration::from_secs(10 * 365 * 24 * 3600)).await
}

#[tokio::test]
async fn runs_are_listed_by_state_flow_and_prefix_with_the_reason_why_they_wait() {
    let (store, clock) = store();
    let flows = flows(&store);
    let approvals = flows.register("approval", approval).unwrap();
    let naps = flows.register("nap", nap).unwrap();
    flows.start().await.unwrap();
    let good = approvals.start("a-1", true).await.unwrap();
    let bad = approvals.start("a-2", false).await.unwrap();
    approvals.start("a-3", true).await.unwrap();
    good.signal("approve", "ann").await.unwrap();
    bad.signal("approve", "bob").await.unwrap();
    assert_eq!(in_time(&clock, good.result()).await.unwrap(), "ann");
    in_time(&clock, bad.result()).await.unwrap_err();
    // Time may have jumped; it moves in small steps from here on.
    naps.start("b-1", ()).await.unwrap();
    let told = |state| flows.status().unfinished.contains_key(&state);
    while !(told(RunState::Waiting) && told(RunState::Sleeping)) {
        for _ in 0..50 {
            store.sync().await.unwrap();
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(1));
    }
    clock.advance(Duration::from_secs(1));

    let ids = async |filter: RunFilter| -> Vec<String> {
        let runs = flows.list(&filter, 100).await.unwrap();
        runs.into_iter().map(|run| run.id).collect()
    };
    assert_eq!(ids(RunFilter::new()).await, ["a-1", "a-2", "a-3", "b-1"]);
    assert_eq!(ids(RunFilter::new().flow("nap")).await, ["b-1"]);
    assert_eq!(ids(RunFilter::new().prefix("a-")).await, ["a-1", "a-2", "a-3"]);
    assert_eq!(ids(RunFilter::new().prefix("a-").after("a-1")).await, ["a-2", "a-3"]);
    assert_eq!(ids(RunFilter::new().prefix("a-").after("b")).await, [""; 0]);
    assert_eq!(ids(RunFilter::new().state(RunState::Failed)).await, ["a-2"]);
    assert_eq!(ids(RunFilter::new().state(RunState::Waiting)).await, ["a-3"]);
    let some = RunFilter::new().state(RunState::Sleeping).state(RunState::Succeeded);
    assert_eq!(ids(some).await, ["a-1", "b-1"]);
    let (from, now) = (good.id(), store.now());
    assert_eq!(from, "a-1");
    assert_eq!(
        ids(RunFilter::new().created(now, now.saturating_add(Duration::MAX))).await,
        [""; 0]
    );
    assert_eq!(flows.list(&RunFilter::new(), 2).await.unwrap().len(), 2);

    let failed = flows.info("a-2").await.unwrap();
    assert_eq!(failed.error.unwrap().message, "not allowed");
    assert_eq!(failed.positions[0].to_string(), "check");
    let waits = flows.info("a-3").await.unwrap().waiting.unwrap();
    assert!(matches!(&waits, Waiting::Signal { signal, until: None, .. } if signal == "approve"));
    let sleeps = flows.info("b-1").await.unwrap().waiting.unwrap();
    assert!(matches!(&sleeps, Waiting::Sleeping { position, .. } if position.name() == "nap"));
    flows.shutdown().await;
}
