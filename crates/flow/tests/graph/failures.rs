//! What runs again, and what does not, when nodes fail and the run is resumed.

use std::time::Duration;

use resurge_flow::{
    Ctx, FlowError, FlowResult, Flows, FlowsOptions, Graph, Retry, RunState, StepError, StepInfo,
};

use crate::support::{Effects, flows, in_time, store};

fn fails_until(effects: &Effects, name: &str, good: u32) -> Result<(), StepError> {
    if effects.ran(name) < good {
        return Err(StepError::transient(format!("{name} is not ready")));
    }
    Ok(())
}

/// a -> b -> c, and one beside them. `b` fails until its `good`th time.
async fn chain(ctx: Ctx, effects: Effects, good: u32) -> FlowResult<u32> {
    let e = &effects;
    let mut graph = Graph::builder();
    graph.step("a", &[], |_| async move {
        e.ran("a");
        Ok::<_, StepError>(7_u32)
    });
    graph.step("b", &["a"], |done| async move {
        let a: u32 = done.get("a")?;
        let recovering = StepInfo::current().is_some_and(|step| step.recovering());
        e.ran(&format!("b sees {a}, recovering: {recovering}"));
        fails_until(e, "b", good)?;
        Ok::<_, StepError>(a + 1)
    });
    graph.step("c", &["b"], |done| async move {
        let recovering = StepInfo::current().is_some_and(|step| step.recovering());
        e.ran(&format!("c recovering: {recovering}"));
        e.ran("c");
        Ok::<_, StepError>(done.get::<u32>("b")? * 10)
    });
    graph.step("beside", &[], |_| async move {
        tokio::task::yield_now().await;
        e.ran("beside");
        Ok::<_, StepError>(())
    });
    let done = ctx.graph("chain", graph.build()?).await?;
    done.get("c")
}

fn ran(effects: &Effects) -> [u32; 4] {
    ["a", "b", "beside", "c"].map(|name| effects.of(name))
}

#[tokio::test]
async fn a_failed_node_stops_only_what_depends_on_it() {
    let (store, _) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows.register("chain", move |ctx, (): ()| chain(ctx, seen.clone(), 2)).unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    let failed = run.result().await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "run `r` failed at step `chain/b`: node `b` of `chain`: b is not ready"
    );
    assert_eq!(ran(&effects), [1, 1, 1, 0]);
    let resumed = run.resume().await.unwrap();
    assert_eq!(resumed.result().await.unwrap(), 80);
    assert_eq!(ran(&effects), [1, 2, 1, 1]);
    assert_eq!(effects.of("b sees 7, recovering: false"), 1);
    assert_eq!(effects.of("b sees 7, recovering: true"), 1);
    assert_eq!(effects.of("c recovering: false"), 1);
    flows.shutdown().await;
}

#[tokio::test]
async fn a_resume_may_fail_and_a_success_is_not_resumed() {
    let (store, _) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows.register("chain", move |ctx, (): ()| chain(ctx, seen.clone(), 3)).unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    run.result().await.unwrap_err();
    let failed = run.resume().await.unwrap().result().await.unwrap_err();
    assert!(matches!(failed, FlowError::Failed { .. }), "{failed}");
    assert_eq!(run.state().await.unwrap(), RunState::Failed);
    assert_eq!(run.resume().await.unwrap().result().await.unwrap(), 80);
    let third = run.resume().await.unwrap_err();
    assert!(matches!(third, FlowError::NotFailed { .. }), "{third}");
    assert_eq!(ran(&effects), [1, 3, 1, 1]);
    flows.shutdown().await;
}

/// A process beside a failing step goes on after the failure; the resumed run keeps all of it.
async fn beside(ctx: Ctx, effects: Effects) -> FlowResult<u32> {
    let e = &effects;
    let mut graph = Graph::builder();
    graph.step("fails", &[], |_| async move { fails_until(e, "fails", 2) });
    graph.process("long", &[], |ctx, _| async move {
        let mut sum = 0_u32;
        for name in ["one", "two", "three"] {
            sum += ctx
                .step(name, || async {
                    tokio::task::yield_now().await;
                    e.ran(name);
                    Ok::<_, StepError>(1)
                })
                .await?;
            ctx.sleep("pause", Duration::from_secs(60)).await?;
        }
        Ok(sum)
    });
    graph.step("last", &["long", "fails"], |done| async move {
        e.ran("last");
        done.get::<u32>("long")
    });
    ctx.graph("g", graph.build()?).await?.get("last")
}

#[tokio::test]
async fn what_ran_beside_a_failure_stays_done() {
    let (store, clock) = store();
    let effects = Effects::default();
    let open = || {
        let flows = flows(&store);
        let seen = effects.clone();
        let flow = flows.register("beside", move |ctx, (): ()| beside(ctx, seen.clone())).unwrap();
        (flows, flow)
    };
    let (first, flow) = open();
    first.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    in_time(&clock, run.result()).await.unwrap_err();
    first.shutdown().await;
    // Another process resumes it: all there is is the journal.
    let (second, flow) = open();
    second.start().await.unwrap();
    let run = flow.run("r").resume().await.unwrap();
    assert_eq!(in_time(&clock, run.result()).await.unwrap(), 3);
    let ran = ["fails", "one", "two", "three", "last"].map(|name| effects.of(name));
    assert_eq!(ran, [2, 1, 1, 1, 1]);
    second.shutdown().await;
}

#[tokio::test]
async fn the_error_carries_every_failed_node() {
    let (store, _) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows
        .register("many", move |ctx: Ctx, (): ()| {
            let effects = seen.clone();
            async move {
                let e = &effects;
                let mut graph = Graph::builder();
                for name in ["x", "y", "z"] {
                    let good = if name == "y" { 1 } else { 2 };
                    graph.step(name, &[], move |_| async move { fails_until(e, name, good) });
                }
                graph.process("plain", &[], |ctx, _| async move {
                    if e.ran("plain") == 1 {
                        return Err(StepError::permanent("its own code"));
                    }
                    ctx.step("inner", || async { Ok::<_, StepError>(e.ran("inner")) }).await
                });
                ctx.graph("g", graph.build()?).await.map(drop)
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    let failed = run.result().await.unwrap_err();
    let FlowError::Failed { positions, error, .. } = &failed else { panic!("{failed}") };
    let names: Vec<String> = positions.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["g/x", "g/z", "g/plain"]);
    assert_eq!(error.message, "3 nodes of `g`, the first of them node `x` of `g`");
    run.resume().await.unwrap().result().await.unwrap();
    assert_eq!(["x", "y", "z", "inner"].map(|name| effects.of(name)), [2, 1, 2, 1]);
    flows.shutdown().await;
}

#[tokio::test]
async fn nodes_have_retries_of_their_own() {
    let (store, clock) = store();
    let (flows, effects) = (flows(&store), Effects::default());
    let seen = effects.clone();
    let flow = flows
        .register("retries", move |ctx: Ctx, (): ()| {
            let effects = seen.clone();
            async move {
                let e = &effects;
                let mut graph = Graph::builder();
                graph
                    .step("flaky", &[], |_| async move { fails_until(e, "flaky", 3) })
                    .retry(Retry::fixed(Duration::from_secs(5)).max_attempts(3));
                graph
                    .step("slow", &[], |_| async move {
                        if e.ran("slow") == 1 {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, StepError>(())
                    })
                    .timeout(Duration::from_secs(1))
                    .retry(Retry::fixed(Duration::from_secs(1)).max_attempts(2));
                ctx.graph("g", graph.build()?).await.map(drop)
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    in_time(&clock, run.result()).await.unwrap();
    assert_eq!((effects.of("flaky"), effects.of("slow")), (3, 2));
    flows.shutdown().await;
}

/// With room for one body, the failing node gives way to the others; a resume finds them done.
#[tokio::test]
async fn a_limit_and_a_resume_agree() {
    let (store, clock) = store();
    let effects = Effects::default();
    let seen = effects.clone();
    let flows = Flows::open(&store, FlowsOptions::default()).unwrap();
    let flow = flows
        .register("limited", move |ctx: Ctx, (): ()| {
            let effects = seen.clone();
            async move {
                let e = &effects;
                let mut graph = Graph::builder();
                graph.max_parallel(1);
                for name in ["p", "q", "r"] {
                    graph.process(name, &[], move |ctx, _| async move {
                        ctx.step("one", || async { Ok::<_, StepError>(e.ran(name)) }).await?;
                        if name == "p" {
                            ctx.step("fails", || async { fails_until(e, "p/fails", 3) }).await?;
                        }
                        ctx.sleep("pause", Duration::from_secs(1)).await?;
                        ctx.step("two", || async { Ok::<_, StepError>(e.ran("two")) }).await
                    });
                }
                ctx.graph("g", graph.build()?).await.map(drop)
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    in_time(&clock, run.result()).await.unwrap_err();
    in_time(&clock, run.resume().await.unwrap().result()).await.unwrap_err();
    in_time(&clock, run.resume().await.unwrap().result()).await.unwrap();
    let ran = ["p", "q", "r", "two", "p/fails"].map(|name| effects.of(name));
    assert_eq!(ran, [1, 1, 1, 3, 3]);
    flows.shutdown().await;
}
