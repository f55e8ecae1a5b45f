//! Order, parallelism, results, and graphs that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use resurge_flow::{Ctx, Graph, GraphError, StepError};
use tokio::sync::Barrier;

use crate::support::{Effects, flows, store};

#[tokio::test]
async fn a_diamond_runs_its_sides_at_once() {
    let (store, _) = store();
    let flows = flows(&store);
    // Both sides must be at work at the same time, or the run never ends.
    let meet = Arc::new(Barrier::new(2));
    let flow = flows
        .register("diamond", move |ctx: Ctx, n: u64| {
            let meet = Arc::clone(&meet);
            async move {
                let meet = &meet;
                let mut graph = Graph::builder();
                graph.step("top", &[], |_| async move { Ok::<_, StepError>(n) });
                for (name, add) in [("left", 1), ("right", 2)] {
                    graph.step(name, &["top"], move |done| async move {
                        meet.wait().await;
                        Ok::<_, StepError>(done.get::<u64>("top")? + add)
                    });
                }
                graph.step("bottom", &["left", "right", "left"], |done| async move {
                    let (left, right): (u64, u64) = (done.get("left")?, done.get("right")?);
                    // What it depends on through others can be read, too.
                    Ok::<_, StepError>(format!("{left}+{right} of {}", done.get::<u64>("top")?))
                });
                ctx.graph("diamond", graph.build()?).await?.get::<String>("bottom")
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", 10).await.unwrap();
    assert_eq!(run.result().await.unwrap(), "11+12 of 10");
    flows.shutdown().await;
}

async fn most_at_once(limit: Option<usize>) -> usize {
    let (store, _) = store();
    let flows = flows(&store);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&most);
    let flow = flows
        .register("wide", move |ctx: Ctx, (): ()| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                let mut graph = Graph::builder();
                if let Some(limit) = limit {
                    graph.max_parallel(limit);
                }
                let (now, most) = (&now, &most);
                for at in 0..8 {
                    let work = move || async move {
                        let at_work = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(at_work, Ordering::SeqCst);
                        for _ in 0..20 {
                            tokio::task::yield_now().await;
                        }
                        now.fetch_sub(1, Ordering::SeqCst);
                        Ok::<_, StepError>(())
                    };
                    if at % 2 == 0 {
                        graph.step(format!("step-{at}"), &[], move |_| work());
                    } else {
                        graph.process(format!("process-{at}"), &[], move |ctx, _| async move {
                            ctx.step("work", work).await
                        });
                    }
                }
                ctx.graph("wide", graph.build()?).await.map(drop)
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    flow.start("r", ()).await.unwrap().result().await.unwrap();
    flows.shutdown().await;
    peak.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_limit_holds_for_bodies_of_steps_and_processes() {
    assert_eq!(most_at_once(Some(3)).await, 3);
    assert_eq!(most_at_once(None).await, 8);
}

#[test]
fn what_is_no_graph_is_refused() {
    let build = |nodes: &[(&'static str, &[&str])]| {
        let mut graph = Graph::builder();
        for (name, after) in nodes {
            graph.step(*name, after, |_| async { Ok::<_, StepError>(()) });
        }
        graph.build().map(|graph| graph.nodes().count())
    };
    assert_eq!(build(&[]), Err(GraphError::Empty));
    assert_eq!(build(&[("a", &[]), ("a", &[])]), Err(GraphError::Duplicate("a".to_owned())));
    let (node, dependency) = ("b".to_owned(), "z".to_owned());
    assert_eq!(
        build(&[("a", &[]), ("b", &["a", "z"])]),
        Err(GraphError::Unknown { node, dependency })
    );
    let circle = ["a", "c", "b", "a"].map(ToOwned::to_owned).to_vec();
    assert_eq!(
        build(&[("in", &[]), ("a", &["in", "c"]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])]),
        Err(GraphError::Cycle(circle))
    );
    assert_eq!(build(&[("a", &["a"])]), Err(GraphError::Cycle(vec!["a".into(), "a".into()])));
    assert_eq!(build(&[("@a", &[])]), Err(GraphError::Name("@a".to_owned())));
    let mut stuck = Graph::builder();
    stuck.max_parallel(0).step("a", &[], |_| async { Ok::<_, StepError>(()) });
    assert_eq!(stuck.build().map(drop), Err(GraphError::NoParallelism));
    // Named before it is added: fine.
    assert_eq!(build(&[("b", &["a"]), ("a", &[])]), Ok(2));
}

#[tokio::test]
async fn results_are_typed_and_only_what_a_node_depends_on_is_read() {
    let (store, _) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows
        .register("typed", move |ctx: Ctx, (): ()| {
            let effects = seen.clone();
            async move {
                let e = &effects;
                let mut graph = Graph::builder();
                graph.step("a", &[], |_| async { Ok::<_, StepError>("text".to_owned()) });
                graph.step("b", &[], |_| async { Ok::<_, StepError>(1_u8) });
                graph.step("c", &["a"], |done| async move {
                    for refused in [
                        done.get::<u64>("a").map(drop),
                        done.get::<u8>("b").map(drop),
                        done.get::<u8>("z").map(drop),
                    ] {
                        e.ran(&refused.unwrap_err().to_string());
                    }
                    Ok::<_, StepError>(())
                });
                let done = ctx.graph("g", graph.build()?).await?;
                done.get::<u8>("b")
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    assert_eq!(flow.start("r", ()).await.unwrap().result().await.unwrap(), 1);
    let prefix = "the result of node";
    for message in [
        "`a` was asked for: it is a alloc::string::String, not a u64",
        "`b` was asked for: node `c` does not depend on it",
        "`z` was asked for: there is no such node",
    ] {
        assert_eq!(effects.of(&format!("{prefix} {message}")), 1, "{message}: {effects:?}");
    }
    flows.shutdown().await;
}
