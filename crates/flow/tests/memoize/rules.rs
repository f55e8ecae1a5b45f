//! Failures, gates, doubt and options.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_checkpoint::{CheckpointOptions, Checkpoints};
use resurge_flow::{
    Ctx, FlowError, FlowResult, Flows, FlowsOptions, Retry, Scope, StepError, StepErrorKind,
    StepInfo,
};
use resurge_store::{Durability, Namespace, Store};

use crate::support::{Count, HOUR, How, flows, register, store};

/// A failure is not remembered, and another run takes over while the first waits for its next attempt.
#[tokio::test]
async fn a_failed_step_is_given_up_to_others() {
    let (store, clock) = store();
    let flows = flows(&store);
    let count = Count::default();
    let counted = count.clone();
    let flow = flows
        .register("flaky", move |ctx: Ctx, (): ()| {
            let count = counted.clone();
            async move {
                ctx.step("make", || async {
                    match count.up() {
                        1 => Err(StepError::transient("not yet")),
                        made => Ok(made),
                    }
                })
                .retry(Retry::fixed(HOUR).max_attempts(2))
                .memoize(Scope::Global, Duration::ZERO)
                .await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let first = flow.start("first", ()).await.unwrap();
    while count.get() == 0 {
        tokio::task::yield_now().await;
    }
    let second = flow.start("second", ()).await.unwrap();
    assert_eq!(second.result().await.unwrap(), 2);
    clock.advance(HOUR);
    assert_eq!(first.result().await.unwrap(), 2);
    assert_eq!(count.get(), 2);
    flows.shutdown().await;
}

/// The key is the same for everybody who runs the step, and belongs to the input.
#[tokio::test]
async fn who_runs_a_memoised_step_hands_on_the_same_idempotency_key() {
    let (store, _clock) = store();
    let flows = flows(&store);
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&keys);
    let flow = flows
        .register("keys", move |ctx: Ctx, input: u32| {
            let seen = Arc::clone(&seen);
            async move {
                ctx.step_with("charge", |step: StepInfo| {
                    seen.lock().push(step.idempotency_key());
                    async { Err::<(), _>(StepError::permanent("no")) }
                })
                .memoize(Scope::Global, Duration::ZERO)
                .keyed_by(&input)
                .await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    for (id, input) in [("a", 1), ("b", 1), ("c", 2)] {
        flow.start(id, input).await.unwrap().result().await.unwrap_err();
    }
    let keys = keys.lock().clone();
    assert!(keys[0] == keys[1] && keys[1] != keys[2]);
    flows.shutdown().await;
}

/// Writes of a body are committed with its checkpoint, and once.
#[tokio::test]
async fn a_body_s_writes_happen_where_it_ran() {
    async fn write(ctx: Ctx, key: String) -> FlowResult<()> {
        ctx.step_with("write", |step: StepInfo| {
            let key = Namespace::new("app").and_then(|app| app.key(&key));
            async move {
                let key = key?;
                step.write(|batch| {
                    batch.put(key, "written");
                });
                Ok::<_, StepError>(())
            }
        })
        .memoize(Scope::Global, Duration::ZERO)
        .await
    }
    let (store, _clock) = store();
    let flows = flows(&store);
    let writes = flows.register("write", write).unwrap();
    flows.start().await.unwrap();
    for id in ["a", "b"] {
        writes.start(id, id.to_owned()).await.unwrap().result().await.unwrap();
    }
    let app = Namespace::new("app").unwrap();
    assert!(store.get(&app.key("a").unwrap()).await.unwrap().is_some());
    assert!(store.get(&app.key("b").unwrap()).await.unwrap().is_none());
    flows.shutdown().await;
}

/// The flows' checkpoints are those they were given, so that their policy counts.
#[tokio::test]
async fn the_checkpoints_given_are_used() {
    let (store, _clock) = store();
    let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await.unwrap();
    let options =
        FlowsOptions { checkpoints: Some(checkpoints.clone()), ..FlowsOptions::default() };
    let flows = Flows::open(&store, options).unwrap();
    let memos = register(&flows, &Count::default(), How::default());
    flows.start().await.unwrap();
    for id in ["a", "b"] {
        memos.start(id, (1, false)).await.unwrap().result().await.unwrap();
    }
    let stats = checkpoints.stats();
    assert_eq!((stats.started, stats.hits), (1, 1));
    flows.shutdown().await;
}

/// A step of this name that somebody else checkpointed is another step.
#[tokio::test]
async fn checkpoints_of_others_are_not_taken_for_a_flow_s() {
    let (store, _clock) = store();
    let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await.unwrap();
    let key = resurge_checkpoint::CheckpointKey::global("make").input(&1_u32).build().unwrap();
    checkpoints.record(&key, Duration::ZERO, &77_u32).await.unwrap();
    let flows = flows(&store);
    let memos = register(&flows, &Count::default(), How::default());
    flows.start().await.unwrap();
    assert_eq!(memos.start("a", (1, false)).await.unwrap().result().await.unwrap(), 1);
    flows.shutdown().await;
}

#[tokio::test]
async fn a_name_that_is_no_key_is_a_failure_of_the_step() {
    async fn odd(ctx: Ctx, (): ()) -> FlowResult<()> {
        ctx.step("odd", || async { Ok::<_, StepError>(()) })
            .memoize(Scope::Workflow("".into()), Duration::ZERO)
            .await
    }
    let store = Store::memory();
    let flows = flows(&store);
    let odds = flows.register("odd", odd).unwrap();
    flows.start().await.unwrap();
    let error = odds.start("a", ()).await.unwrap().result().await.unwrap_err();
    let FlowError::Failed { error, positions, .. } = error else { panic!("{error}") };
    assert_eq!((error.kind, positions.len()), (StepErrorKind::Invalid, 1));
    store.commit(resurge_store::Batch::new(), Durability::Durable).await.unwrap();
    flows.shutdown().await;
}
