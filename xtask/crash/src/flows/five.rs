//! The flow that is killed, and the process it runs in.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
use resurge_store::{Clock, Store};
use resurge_testkit::Failure;

use crate::child::{UNOPENABLE, open, say};

pub(super) const FLOW: &str = "five";
/// Runs in flight.
const RUNS: u64 = 64;
/// The longest a step takes, in microseconds.
const STEP: u64 = 12_000;

/// A way to do it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// Says that a run is started before it is.
    EarlyStart,
    /// Steps begin before what they follow is safe.
    Deferred,
    /// A step is done without being recorded.
    Forgetful,
}

impl Planted {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "nothing" => Some(Self::Nothing),
            "early-start" => Some(Self::EarlyStart),
            "deferred" => Some(Self::Deferred),
            "forgetful" => Some(Self::Forgetful),
            _ => None,
        }
    }
}

/// Where effects go: to the parent, who outlives the kill, or into memory where nobody kills.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Aloud(Planted),
    Kept(Arc<Mutex<Vec<String>>>),
}

impl Said {
    fn say(&self, line: &str) -> Result<(), StepError> {
        match self {
            Self::Aloud(_) => say(line).map_err(StepError::permanent),
            Self::Kept(lines) => {
                lines.lock().push(line.to_owned());
                Ok(())
            }
        }
    }

    fn planted(&self) -> Planted {
        match self {
            Self::Aloud(planted) => *planted,
            Self::Kept(_) => Planted::Nothing,
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        match self {
            Self::Aloud(_) => Vec::new(),
            Self::Kept(lines) => std::mem::take(&mut *lines.lock()),
        }
    }
}

/// What the run with this input returns.
pub(super) fn value(n: u64) -> u64 {
    n + 1 + 2 + 3 + 4 + 5
}

/// Two steps, two at once, and a last one. Each says that it had its effect.
pub(super) async fn five(ctx: Ctx, n: u64, said: Said, clock: Arc<dyn Clock>) -> FlowResult<u64> {
    let step = |ctx: &Ctx, step: u64| {
        let (said, clock, run) = (said.clone(), Arc::clone(&clock), ctx.run_id().to_owned());
        let planted = said.planted();
        let body = move || {
            let (said, clock, run) = (said.clone(), Arc::clone(&clock), run.clone());
            async move {
                said.say(&format!("effect {run} {step}"))?;
                let micros = (n + 1).wrapping_mul(step * 7_919) % STEP;
                clock.sleep(Duration::from_micros(micros)).await;
                Ok::<_, StepError>(step)
            }
        };
        let ctx = ctx.clone();
        async move {
            if planted == Planted::Forgetful && step == 2 {
                return body().await;
            }
            let step = ctx.step(format!("step-{step}"), body);
            if planted == Planted::Deferred { step.deferred().await } else { step.await }
        }
    };
    let mut sum = n + step(&ctx, 1).await? + step(&ctx, 2).await?;
    let (left, right) = tokio::try_join!(step(&ctx, 3), step(&ctx, 4))?;
    sum += left + right;
    Ok(sum + step(&ctx, 5).await?)
}

/// The process that is killed.
pub(crate) fn child(dir: &str, cycle: &str, planted: &str) -> ExitCode {
    let (Ok(cycle), Some(planted)) = (cycle.parse(), Planted::parse(planted)) else {
        return ExitCode::FAILURE;
    };
    let store = match open(dir.as_ref(), cycle) {
        Ok((store, _)) => Store::new(store),
        Err(e) => {
            eprintln!("cycle {cycle}: the child cannot open its store: {e}");
            return ExitCode::from(UNOPENABLE);
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ran = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(store, cycle, planted)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cycle {cycle}: the child failed: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Recovers what was killed and keeps new runs in flight; returns only when something fails.
async fn run(store: Store, cycle: u64, planted: Planted) -> Result<(), Failure> {
    let flows = Flows::open(&store, FlowsOptions::default())?;
    let clock = Arc::clone(store.clock());
    let said = Said::Aloud(planted);
    let runs =
        flows.register(FLOW, move |ctx, n| five(ctx, n, said.clone(), Arc::clone(&clock)))?;
    flows.start().await?;
    say("open")?;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..RUNS {
        let runs = runs.clone();
        workers.spawn(async move {
            for i in 0.. {
                let n = (cycle << 32) + (i * RUNS) + worker;
                let id = format!("run-{n}");
                if planted == Planted::EarlyStart {
                    say(&format!("started {id}"))?;
                }
                let run = runs.start(&id, n).await?;
                say(&format!("started {id}"))?;
                if run.result().await? != value(n) {
                    return Err(Failure::from("a run returned something else"));
                }
                say(&format!("ended {id}"))?;
            }
            Ok(())
        });
    }
    match workers.join_next().await {
        Some(ended) => ended?,
        None => Err("there are no workers".into()),
    }
}
