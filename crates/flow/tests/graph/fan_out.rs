//! The same work on many items.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resurge_flow::{Ctx, FlowError, FlowResult, StepError};

use crate::support::{Effects, flows, in_time, store};

/// Two steps for each item, the later items faster than the earlier ones.
async fn all(ctx: Ctx, items: Vec<u32>, effects: Effects) -> FlowResult<Vec<u32>> {
    let e = &effects;
    ctx.map("work", items, 3, |ctx, index, item| async move {
        let run = ctx.run_id().to_owned();
        let loaded = ctx
            .step("load", || async {
                for _ in 0..(40 - 4 * index.min(10)) {
                    tokio::task::yield_now().await;
                }
                e.ran(&format!("{run} load {index}"));
                Ok::<_, StepError>(item)
            })
            .await?;
        ctx.sleep("rest", Duration::from_secs(1)).await?;
        ctx.step("store", || async {
            if e.ran(&format!("{run} store {index}")) == 1 && item == 100 {
                return Err(StepError::transient("not stored"));
            }
            Ok(loaded * 2)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn results_keep_the_order_and_failed_items_run_again_alone() {
    let (store, clock) = store();
    let effects = Effects::default();
    let open = || {
        let flows = flows(&store);
        let seen = effects.clone();
        let flow = flows.register("all", move |ctx, items| all(ctx, items, seen.clone())).unwrap();
        (flows, flow)
    };
    let (first, flow) = open();
    first.start().await.unwrap();
    let run = flow.start("good", vec![1, 2, 3, 4, 5, 6, 7]).await.unwrap();
    assert_eq!(in_time(&clock, run.result()).await.unwrap(), [2, 4, 6, 8, 10, 12, 14]);
    let run = flow.start("bad", vec![1, 100, 3, 100, 5, 6, 7]).await.unwrap();
    let failed = in_time(&clock, run.result()).await.unwrap_err();
    let FlowError::Failed { positions, .. } = &failed else { panic!("{failed}") };
    assert!(!positions.is_empty());
    assert!(positions.iter().all(|position| position.name() == "store"), "{positions:?}");
    first.shutdown().await;
    let (second, flow) = open();
    second.start().await.unwrap();
    let mut result = Err(failed);
    for _ in 0..2 {
        if result.is_err() {
            let run = flow.run("bad").resume().await.unwrap();
            result = in_time(&clock, run.result()).await;
        }
    }
    assert_eq!(result.unwrap(), [2, 200, 6, 200, 10, 12, 14]);
    for index in 0..7 {
        let stored = if index == 1 || index == 3 { 2 } else { 1 };
        assert_eq!(effects.of(&format!("bad load {index}")), 1, "{effects:?}");
        assert_eq!(effects.of(&format!("bad store {index}")), stored, "{effects:?}");
    }
    second.shutdown().await;
}

async fn most_at_once(limit: usize) -> usize {
    let (store, _) = store();
    let flows = flows(&store);
    let most = Arc::new(AtomicUsize::new(0));
    let peak = Arc::clone(&most);
    let flow = flows
        .register("wide", move |ctx: Ctx, (): ()| {
            let most = Arc::clone(&most);
            async move {
                let (now, most) = (&AtomicUsize::new(0), &most);
                let done = ctx
                    .map("work", 0..20_usize, limit, |ctx, index, item| async move {
                        assert_eq!(index, item);
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        ctx.step("s", || async { Ok::<_, StepError>(()) }).await?;
                        now.fetch_sub(1, Ordering::SeqCst);
                        Ok(item)
                    })
                    .await?;
                FlowResult::Ok(done.len())
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    assert_eq!(flow.start("r", ()).await.unwrap().result().await.unwrap(), 20);
    flows.shutdown().await;
    peak.load(Ordering::SeqCst)
}

#[tokio::test]
async fn at_most_so_many_items_at_once() {
    assert_eq!(most_at_once(4).await, 4);
    assert_eq!(most_at_once(100).await, 20);
}

#[tokio::test]
async fn after_a_failure_nothing_is_begun_and_what_was_begun_ends() {
    let (store, _) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows
        .register("stop", move |ctx: Ctx, limit: usize| {
            let effects = seen.clone();
            async move {
                let e = &effects;
                ctx.map("work", 0..10_u32, limit, |ctx, _, item| async move {
                    e.ran(&format!("{limit} begun"));
                    let done = ctx.step("s", || async move {
                        if item == 1 {
                            return Err(StepError::permanent("no"));
                        }
                        for _ in 0..20 {
                            tokio::task::yield_now().await;
                        }
                        Ok(())
                    });
                    done.await?;
                    e.ran(&format!("{limit} ended"));
                    Ok(())
                })
                .await
                .map(drop)
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let failed = flow.start("r", 3).await.unwrap().result().await.unwrap_err();
    assert_eq!(failed.to_string(), "run `r` failed at step `work/1/s`: item 1 of `work`: no");
    assert_eq!((effects.of("3 begun"), effects.of("3 ended")), (3, 2));
    let none = flow.start("none", 0).await.unwrap().result().await.unwrap_err();
    assert!(none.to_string().contains("at least 1 is needed"), "{none}");
    flows.shutdown().await;
}

#[tokio::test]
async fn joined_steps_all_end_before_the_error_is_returned() {
    let (store, _) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows
        .register("join", move |ctx: Ctx, (): ()| {
            let effects = seen.clone();
            async move {
                let (ctx, e) = (&ctx, &effects);
                let steps = (0..5_u32).map(|at| {
                    ctx.step("s", move || async move {
                        if e.ran(&format!("s{at}")) == 1 && at % 2 == 1 {
                            return Err(StepError::permanent("odd"));
                        }
                        for _ in 0..at {
                            tokio::task::yield_now().await;
                        }
                        Ok(at)
                    })
                });
                ctx.join_all(steps).await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    let failed = run.result().await.unwrap_err();
    let FlowError::Failed { positions, .. } = &failed else { panic!("{failed}") };
    let places: Vec<String> = positions.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["s#1", "s#3"]);
    assert_eq!(run.resume().await.unwrap().result().await.unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!([0, 1, 2, 3, 4].map(|at| effects.of(&format!("s{at}"))), [1, 2, 1, 2, 1]);
    flows.shutdown().await;
}
