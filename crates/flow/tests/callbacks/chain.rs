//! Seventeen failure points in one chain, each failing once when its turn comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use resurge_flow::{
    Callback, Ctx, FlowError, FlowOptions, FlowResult, RunState, StepError, StepInfo,
};

use crate::support::{flows, store};

/// In the order in which they fail.
const POINTS: [&str; 17] = [
    "bf1", "bf2", "bp1", "bp2", "bp3", "bs1", "bs2", "bs3", "step", "as1", "as2", "as3", "ap1",
    "ap2", "ap3", "af1", "af2",
];

#[derive(Clone, Default)]
struct Chain {
    /// How many points have failed.
    failed: Arc<AtomicUsize>,
    /// How many executions there were: each lets one point fail, the next in turn.
    executions: Arc<AtomicUsize>,
    trace: Arc<Mutex<Vec<String>>>,
}

impl Chain {
    fn pass(&self, name: &str) -> Result<(), StepError> {
        self.trace.lock().push(name.to_owned());
        let next = self.failed.load(Ordering::SeqCst);
        let turn = self.executions.load(Ordering::SeqCst);
        if next < turn && POINTS.get(next) == Some(&name) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(StepError::transient(format!("{name} fails once")));
        }
        Ok(())
    }

    fn callback(&self, name: &'static str) -> Callback {
        let chain = self.clone();
        Callback::must(name, move |_| {
            let chain = chain.clone();
            async move { chain.pass(name) }
        })
    }

    /// Called after something, but not where the run was resumed.
    fn once(&self, name: &'static str) -> Callback {
        self.callback(name).exclude_recovering()
    }

    fn options(&self) -> FlowOptions {
        let mut options = FlowOptions::default().after_flow(self.once("af-once"));
        options = options.after_process(self.once("ap-once")).after_step(self.once("as-once"));
        for name in POINTS {
            let callback = self.callback(name);
            options = match name.get(..2) {
                Some("bf") => options.before_flow(callback),
                Some("bp") => options.before_process(callback),
                Some("bs") => options.before_step(callback),
                Some("as") => options.after_step(callback),
                Some("ap") => options.after_process(callback),
                Some("af") => options.after_flow(callback),
                _ => options,
            };
        }
        options
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.trace.lock())
    }
}

async fn flow(ctx: Ctx, chain: Chain) -> FlowResult<bool> {
    ctx.process("process", |ctx| async move {
        ctx.step("step", || async {
            chain.pass("step")?;
            Ok::<_, StepError>(StepInfo::current().is_some_and(|step| step.recovering()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn every_resume_advances_by_exactly_one_failure_point() {
    let (store, _) = store();
    let chain = Chain::default();
    let open = || {
        let flows = flows(&store);
        let own = chain.clone();
        let registered = flows
            .register_with("chain", chain.options(), move |ctx, (): ()| flow(ctx, own.clone()))
            .unwrap();
        (flows, registered)
    };
    let (first, registered) = open();
    chain.executions.store(1, Ordering::SeqCst);
    first.start().await.unwrap();
    let mut result = registered.start("r", ()).await.unwrap().result().await;
    first.shutdown().await;
    let mut traces = vec![chain.take()];
    let mut failures = Vec::new();
    for resume in 1..=17 {
        let failed = result.unwrap_err();
        let FlowError::Failed { positions, .. } = &failed else { panic!("{failed}") };
        assert_eq!(positions.len(), 1, "{failed}");
        failures.push(positions[0].name().to_owned());
        assert_eq!(chain.failed.load(Ordering::SeqCst), resume, "resume {resume}");
        chain.executions.store(resume + 1, Ordering::SeqCst);
        // As another process would: all there is is the journal.
        let (flows, registered) = open();
        flows.start().await.unwrap();
        let run = registered.run("r").resume().await.unwrap();
        result = run.result().await;
        flows.shutdown().await;
        traces.push(chain.take());
    }
    // The step failed, so it saw that it is recovering when it passed.
    assert!(result.unwrap());
    assert_eq!(failures, POINTS);
    let (flows, registered) = open();
    flows.start().await.unwrap();
    assert_eq!(registered.run("r").state().await.unwrap(), RunState::Succeeded);
    let eighteenth = registered.run("r").resume().await.unwrap_err();
    assert!(matches!(eighteenth, FlowError::NotFailed { .. }), "{eighteenth}");
    flows.shutdown().await;

    // What comes before is passed once, the step is done once, and so is what comes after it; the
    // callbacks after the process and the flow are replayed, except those that are excluded.
    let count = |name: &str| traces.iter().flatten().filter(|ran| *ran == name).count();
    for name in POINTS.iter().take(9) {
        assert_eq!(count(name), 2, "{name}: {traces:?}");
    }
    assert_eq!((count("af-once"), count("ap-once"), count("as-once")), (1, 1, 1), "{traces:?}");
    // From the step's failure on: what each resume ran.
    assert_eq!(traces[9][..2], ["step", "as1"], "{traces:?}");
    assert_eq!(traces[10][..2], ["as1", "as2"]);
    assert_eq!(traces[11][..2], ["as2", "as3"]);
    assert_eq!(traces[12], ["as3", "ap1", "af1", "af2"]);
    assert_eq!(traces[13], ["ap1", "ap2", "af1", "af2"]);
    assert_eq!(traces[15], ["ap1", "ap2", "ap3", "af1"]);
    assert_eq!(traces[16], ["af1", "af2"]);
    assert_eq!(traces[17], ["af1", "af2"]);
}
