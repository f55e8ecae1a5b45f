//! Who shares a result.

use resurge_flow::{Ctx, FlowResult, Graph, RunState, Scope, StepError};
use resurge_testkit::evidence;

use crate::support::{Count, HOUR, How, flows, register, store, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_runs_with_one_input_execute_the_step_once() {
    let (store, _clock) = store();
    let flows = flows(&store);
    let count = Count::default();
    let memos = register(&flows, &count, How::default());
    flows.start().await.unwrap();
    let mut started = Vec::new();
    for n in 0..200 {
        let memos = memos.clone();
        started.push(tokio::spawn(async move {
            let run = memos.start(format!("run-{n}"), (7, false)).await.unwrap();
            run.result().await.unwrap()
        }));
    }
    for run in started {
        assert_eq!(run.await.unwrap(), 1);
    }
    assert_eq!(count.get(), 1);
    evidence("flow-memoised", "200 runs at once, 1 execution");
    // Another input is another step.
    let other = memos.start("other", (8, false)).await.unwrap();
    assert_eq!(other.result().await.unwrap(), 2);
    flows.shutdown().await;
}

#[tokio::test]
async fn a_scope_is_shared_by_who_gives_its_id() {
    let (store, _clock) = store();
    let count = Count::default();
    let mut made = Vec::new();
    for (n, scope) in ["a", "a", "b"].into_iter().enumerate() {
        let flows = flows(&store);
        let how = How { scope: Scope::Workflow(scope.into()), ..How::default() };
        let memos = register(&flows, &count, how);
        flows.start().await.unwrap();
        let run = memos.start(format!("run-{n}"), (1, false)).await.unwrap();
        made.push(run.result().await.unwrap());
        flows.shutdown().await;
    }
    assert_eq!(made, [1, 1, 2]);
}

#[tokio::test]
async fn another_version_and_a_result_whose_time_is_over_run_again() {
    let (store, clock) = store();
    let count = Count::default();
    let mut made = Vec::new();
    for (n, version) in [1, 1, 2, 1].into_iter().enumerate() {
        let flows = flows(&store);
        let memos = register(&flows, &count, How { version, ..How::default() });
        flows.start().await.unwrap();
        let run = memos.start(format!("run-{n}"), (1, false)).await.unwrap();
        made.push(run.result().await.unwrap());
        if n == 2 {
            clock.advance(HOUR);
        }
        flows.shutdown().await;
    }
    assert_eq!(made, [1, 1, 2, 3]);
}

/// What a run's journal says counts for it, also when the checkpoint says otherwise by now.
#[tokio::test]
async fn the_journal_counts_when_the_checkpoint_is_over() {
    let (store, clock) = store();
    let count = Count::default();
    let first = flows(&store);
    let memos = register(&first, &count, How::default());
    first.start().await.unwrap();
    for id in ["made", "found"] {
        let run = memos.start(id, (1, true)).await.unwrap();
        until(async || run.state().await.unwrap() == RunState::Waiting).await;
    }
    first.shutdown().await;
    clock.advance(HOUR + HOUR);

    let second = flows(&store);
    let memos = register(&second, &count, How::default());
    second.start().await.unwrap();
    assert_eq!(memos.start("new", (1, false)).await.unwrap().result().await.unwrap(), 2);
    for id in ["made", "found"] {
        let run = memos.run(id);
        run.signal("go", &()).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 1, "{id}");
    }
    assert_eq!(count.get(), 2);
    second.shutdown().await;
}

/// A node of a graph, keyed by the result of one that it depends on.
async fn tested(ctx: Ctx, source: u32, compiled: Count, tested: Count) -> FlowResult<(u32, u32)> {
    let mut graph = Graph::builder();
    graph.step("compile", &[], |_| {
        compiled.up();
        // Two sources make one binary.
        async move { Ok::<_, StepError>(source / 2) }
    });
    graph.process("test", &["compile"], |ctx, done| async move {
        let binary: u32 = done.get("compile")?;
        let test = ctx.step("test", || async { Ok::<_, StepError>(tested.up()) });
        test.memoize(Scope::Global, HOUR).keyed_by(&binary).await
    });
    let done = ctx.graph("ci", graph.build()?).await?;
    Ok((done.get("compile")?, done.get("test")?))
}

#[tokio::test]
async fn a_process_of_a_graph_memoises_by_what_it_depends_on() {
    let (store, _clock) = store();
    let (compiled, tests) = (Count::default(), Count::default());
    let flows = flows(&store);
    let (c, t) = (compiled.clone(), tests.clone());
    let code = move |ctx, source| tested(ctx, source, c.clone(), t.clone());
    let flow = flows.register("ci", code).unwrap();
    flows.start().await.unwrap();
    let mut ends = Vec::new();
    for source in [2, 3, 4] {
        let run = flow.start(format!("run-{source}"), source).await.unwrap();
        ends.push(run.result().await.unwrap());
    }
    assert_eq!(ends, [(1, 1), (1, 1), (2, 2)]);
    assert_eq!((compiled.get(), tests.get()), (3, 2));
    flows.shutdown().await;
}
