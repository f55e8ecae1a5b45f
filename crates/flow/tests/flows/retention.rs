//! Finished runs: how long they are kept, and that nothing of them remains.

use resurge_flow::{
    Ctx, FlowError, FlowOptions, FlowResult, Flows, FlowsOptions, RunState, StepError,
};
use resurge_store::{ErrorKind, Namespace, ScanOptions};
use resurge_testkit::{Call, Fault};

use crate::world::{World, secs};

const DAY: u64 = 24 * 3600;

async fn ends(ctx: Ctx, how: String, w: World) -> FlowResult<u32> {
    let n = w.counted(&ctx, "x").await?;
    match &*how {
        "fails" => Err(StepError::permanent("no")),
        "waits" => ctx.signal::<u32>("go").await,
        _ => Ok(n),
    }
}

/// Every key of runs and their journals in the store.
async fn left(w: &World) -> Vec<String> {
    let mut keys = Vec::new();
    for namespace in ["live", "done", "ended", "inbox", "signals"] {
        let namespace = Namespace::new(&format!("resurge/flow/{namespace}")).unwrap();
        let page = w.plain().scan(namespace.all(), ScanOptions::new()).await.unwrap();
        keys.extend(page.entries.iter().map(|entry| entry.key.to_string()));
    }
    for log in resurge_wal::inspect::names(w.plain(), None, 100).await.unwrap() {
        keys.push(log);
    }
    keys
}

async fn finish(w: &World, flows: &Flows, id: &str, how: &str) {
    let flow = flow(w, flows);
    let run = flow.start(id, how.to_owned()).await.unwrap();
    if how == "waits" {
        w.quiet().await;
        run.signal_once("unasked", id, &1).await.unwrap();
        run.cancel().await.unwrap();
    }
    let _ = w.run(run.result()).await;
}

fn flow(w: &World, flows: &Flows) -> resurge_flow::FlowRef<String, u32> {
    let world = w.clone();
    let name = format!("ends{}", w.effects.ran("registered"));
    let _ = FlowOptions::default();
    flows.register(&name, move |ctx, how| ends(ctx, how, world.clone())).unwrap()
}

fn days(days: u64, tombstones: bool) -> FlowsOptions {
    FlowsOptions { keep_finished: secs(days * DAY), tombstones, ..FlowsOptions::default() }
}

#[test]
fn finished_runs_are_kept_as_long_as_told_and_failed_ones_until_they_are_deleted() {
    let w = World::with(days(10, false));
    w.life(async |flows| {
        flows.start().await.unwrap();
        finish(&w, &flows, "succeeded", "well").await;
        finish(&w, &flows, "cancelled", "waits").await;
        finish(&w, &flows, "failed", "fails").await;
        w.clock.advance(secs(9 * DAY));
        assert_eq!(flows.sweep().await.unwrap(), 0);
        w.clock.advance(secs(2 * DAY));
        assert_eq!(flows.sweep().await.unwrap(), 2);
        assert_eq!(flows.sweep().await.unwrap(), 0);
        for id in ["succeeded", "cancelled"] {
            let error = flows.run::<u32>(id).state().await.unwrap_err();
            assert!(matches!(error, FlowError::NotFound { .. }), "{error}");
            assert!(matches!(flows.history(id).await, Err(FlowError::NotFound { .. })));
        }
        assert_eq!(flows.run::<u32>("failed").state().await.unwrap(), RunState::Failed);
        let kept = left(&w).await;
        assert!(kept.iter().all(|key| key.contains("failed")), "{kept:?}");
        flows.delete("failed").await.unwrap();
        assert_eq!(left(&w).await, [""; 0]);
        let error = flows.delete("failed").await.unwrap_err();
        assert!(matches!(error, FlowError::NotFound { .. }), "{error}");
        // The id is new again.
        finish(&w, &flows, "succeeded", "waits").await;
        assert_eq!(flows.run::<u32>("succeeded").state().await.unwrap(), RunState::Cancelled);
    });
}

#[test]
fn an_unfinished_run_cannot_be_deleted() {
    let w = World::new();
    w.life(async |flows| {
        flows.start().await.unwrap();
        let flow = flow(&w, &flows);
        let run = flow.start("r", "waits".to_owned()).await.unwrap();
        w.quiet().await;
        let error = flows.delete("r").await.unwrap_err();
        assert!(matches!(error, FlowError::AlreadyRunning { .. }), "{error}");
        run.signal("go", &5_u32).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 5);
        flows.delete("r").await.unwrap();
    });
}

#[test]
fn with_tombstones_the_id_of_a_swept_run_stays_taken() {
    let w = World::with(days(10, true));
    w.life(async |flows| {
        flows.start().await.unwrap();
        let flow = flow(&w, &flows);
        w.run(flow.start("r", "well".to_owned()).await.unwrap().result()).await.unwrap();
        w.clock.advance(secs(11 * DAY));
        assert_eq!(flows.sweep().await.unwrap(), 1);
        let error = flow.start("r", "well".to_owned()).await.unwrap_err();
        assert!(matches!(error, FlowError::AlreadyExists { .. }), "{error}");
        assert_eq!(flow.run("r").state().await.unwrap(), RunState::Swept);
        let error = flow.run("r").resume().await.unwrap_err();
        assert!(matches!(error, FlowError::NotFailed { .. }), "{error}");
        w.clock.advance(secs(11 * DAY));
        assert_eq!(flows.sweep().await.unwrap(), 0);
        assert!(matches!(flows.history("r").await, Err(FlowError::NotFound { .. })));
        assert_eq!(left(&w).await.len(), 1);
    });
}

#[test]
fn removals_that_a_crash_interrupted_are_finished_by_the_next_sweep() {
    for failed in [false, true] {
        for nth in 1.. {
            let w = World::with(days(10, false));
            let interrupted = w.life(async |flows| {
                flows.start().await.unwrap();
                finish(&w, &flows, "r", if failed { "fails" } else { "waits" }).await;
                w.clock.advance(secs(11 * DAY));
                w.faults.fail(Call::Commit, nth, Fault::before(ErrorKind::Closed).poisoning());
                if failed { flows.delete("r").await.is_err() } else { flows.sweep().await.is_err() }
            });
            w.faults.heal();
            w.life(async |flows| {
                flow(&w, &flows);
                flows.start().await.unwrap();
                if failed && interrupted && nth == 1 {
                    // Nothing had happened yet.
                    assert_eq!(flows.run::<u32>("r").state().await.unwrap(), RunState::Failed);
                    flows.delete("r").await.unwrap();
                } else if failed && interrupted {
                    // It cannot be resumed any more.
                    assert!(flows.run::<u32>("r").resume().await.is_err(), "{nth}");
                }
                flows.sweep().await.unwrap();
                assert_eq!(left(&w).await, [""; 0], "failed {failed}, killed at commit {nth}");
            });
            if !interrupted {
                assert!(nth > 2, "{nth}");
                break;
            }
        }
    }
}

#[test]
fn sweeps_come_by_themselves_however_much_runs() {
    let mut w = World::with(days(1, false));
    w.options.sweep_every = secs(3600);
    w.life(async |flows| {
        flows.start().await.unwrap();
        finish(&w, &flows, "old", "well").await;
        let flow = flow(&w, &flows);
        // Runs end all the time.
        for n in 0..60 {
            w.clock.advance(secs(1800));
            let run = flow.start(format!("r{n}"), "well".to_owned()).await.unwrap();
            w.run_soon(run.result()).await.unwrap();
        }
        let error = flows.run::<u32>("old").state().await.unwrap_err();
        assert!(matches!(error, FlowError::NotFound { .. }), "{error}");
    });
}
