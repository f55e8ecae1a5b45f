//! Who is polled between two completions: everything that can go on without one.

use resurge_flow::{Ctx, FlowResult, StepError};
use resurge_store::{MemoryStore, Store};
use resurge_testkit::FaultStore;

use crate::support::{flows, store};

/// One branch has its completion at once; the other gives way to others first, inside the runtime.
async fn gives_way(ctx: Ctx, turns: u32) -> FlowResult<(String, String)> {
    let at_once = async {
        ctx.step("first", || async { Ok::<_, StepError>(()) }).await?;
        ctx.step("next", || async { Ok::<_, StepError>("at once".to_owned()) }).await
    };
    let later = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        ctx.step("next", || async { Ok::<_, StepError>("later".to_owned()) }).await
    };
    tokio::try_join!(at_once, later)
}

#[tokio::test]
async fn who_gives_way_has_its_turn_before_the_next_completion() {
    let (store, _) = store();
    let flows = flows(&store);
    let runs = flows.register("gives-way", gives_way).unwrap();
    flows.start().await.unwrap();
    for turns in [1, 3] {
        let run = runs.start(format!("run-{turns}"), turns).await.unwrap();
        assert_eq!(run.result().await.unwrap(), ("at once".to_owned(), "later".to_owned()));
        let history = flows.history(run.id()).await.unwrap();
        let completed: Vec<String> = history
            .iter()
            .filter_map(|record| match record {
                resurge_flow::record::Record::Completed(done) => Some(done.position.to_string()),
                _ => None,
            })
            .collect();
        // The branch that gave way asked first: its step comes right after, under the first number.
        assert_eq!(completed, ["first", "next", "next#1"], "{turns}");
    }
}

#[tokio::test]
async fn a_signal_sent_before_the_start_returned_is_not_missed() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let flows = flows(&Store::new(faults.clone()));
    let runs = flows
        .register("waits", |ctx: Ctx, (): ()| async move { ctx.signal::<u64>("go").await })
        .unwrap();
    flows.start().await.unwrap();
    faults.hold();
    let mut start = std::pin::pin!(runs.start("run", ()));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(start.as_mut().poll(cx)));
    assert!(polled.await.is_pending());
    faults.release();
    // Whoever began it is busy elsewhere; others see the run already.
    while runs.run("run").signal("go", &7_u64).await.is_err() {
        tokio::task::yield_now().await;
    }
    let run = start.await.unwrap();
    assert_eq!(run.result().await.unwrap(), 7);
}
