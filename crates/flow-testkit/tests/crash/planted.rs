//! Positive controls: over a store that gets one thing wrong, an enumeration must fail. The same ones
//! pass when nothing is planted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
use resurge_flow_testkit::{CrashFailure, CrashPoints, CrashReport, Effects, Failure, Life};
use resurge_store::{
    Batch, BoxFuture, Clock, CommitSeq, Durability, Entropy, Key, KeyRange, Monotonic, Namespace,
    Op, Page, Result, ScanOptions, StateStore, Store, StoreInfo, Timestamp, VirtualClock, Watch,
};
use resurge_testkit::evidence;

use crate::{HOUR, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    Nothing,
    /// `Durable` is done as `Buffered`.
    DurableIsBuffered,
    /// The same once a run is begun: a body begins before what led to it is durable.
    StepsAreBuffered,
    /// A sync returns at once.
    SyncDoesNothing,
    /// A batch is committed in two: a record without what belongs to it.
    BatchInTwo,
    /// Guards are not looked at.
    GuardsDropped,
    /// Nothing is ever deleted: messages are taken twice, ended runs stay unfinished.
    DeletesDropped,
    /// Every fifth commit is acknowledged and not done.
    CommitLost,
    /// Messages are acknowledged and not stored.
    MessageLost,
}

#[derive(Debug)]
struct Planted {
    inner: Arc<dyn StateStore>,
    bug: Bug,
    commits: AtomicUsize,
}

/// The clock and the entropy of another store.
#[derive(Debug)]
struct Of(Store);

impl Clock for Of {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Monotonic {
        self.0.clock().monotonic()
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        self.0.clock().sleep_until(deadline)
    }
}

impl Entropy for Of {
    fn fill(&self, out: &mut [u8]) -> Result<()> {
        self.0.entropy().fill(out)
    }
}

fn plant(bug: Bug, store: &Store) -> Store {
    let inner = Arc::clone(store.backend());
    let planted = Planted { inner, bug, commits: AtomicUsize::new(0) };
    Store::new(planted).with_clock(Of(store.clone())).with_entropy(Of(store.clone()))
}

fn rebuilt(ops: &[Op]) -> Batch {
    let mut batch = Batch::new();
    for op in ops {
        match op {
            Op::Put { key, value } => batch.put(key.clone(), value.clone()),
            Op::Delete { key } => batch.delete(key.clone()),
        };
    }
    batch
}

fn with_guards(mut batch: Batch, of: &Batch) -> Batch {
    for (key, guard) in of.guards() {
        batch.guard(key.clone(), guard.clone());
    }
    batch
}

impl StateStore for Planted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        let nth = self.commits.fetch_add(1, Ordering::Relaxed);
        let done: BoxFuture<'static, _> = Box::pin(async { Ok(CommitSeq(0)) });
        match self.bug {
            Bug::DurableIsBuffered => self.inner.commit(batch, Durability::Buffered),
            Bug::StepsAreBuffered if nth > 1 => self.inner.commit(batch, Durability::Buffered),
            Bug::BatchInTwo if batch.ops().len() > 1 => {
                let (one, two) = batch.ops().split_at(batch.ops().len() / 2);
                let one = self.inner.commit(with_guards(rebuilt(one), &batch), durability);
                let two = self.inner.commit(rebuilt(two), durability);
                Box::pin(async move {
                    one.await?;
                    two.await
                })
            }
            Bug::GuardsDropped => self.inner.commit(rebuilt(batch.ops()), durability),
            Bug::DeletesDropped => {
                let puts: Vec<Op> =
                    batch.ops().iter().filter(|op| op.value().is_some()).cloned().collect();
                self.inner.commit(with_guards(rebuilt(&puts), &batch), durability)
            }
            Bug::CommitLost if nth % 5 == 4 => done,
            Bug::MessageLost if batch.ops().iter().any(is_message) => done,
            _ => self.inner.commit(batch, durability),
        }
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        if self.bug == Bug::SyncDoesNothing {
            return Box::pin(async { Ok(()) });
        }
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}

fn is_message(op: &Op) -> bool {
    op.value().is_some() && format!("{:?}", op.key()).contains("flow/inbox")
}

/// Steps, one of them deferred; each takes a moment.
async fn steps(ctx: Ctx, clock: VirtualClock, effects: Effects) -> FlowResult<String> {
    let body = async |name: &str| {
        clock.sleep(Duration::from_millis(1)).await;
        Step::Ok(effects.ran(name).min(1))
    };
    ctx.step("first", || body("first")).await?;
    ctx.step("cheap", || body("cheap")).deferred().await?;
    ctx.step("second", || body("second")).await?;
    ctx.step("third", || body("third")).await?;
    Ok("done".to_owned())
}

/// Messages, a timer, a failure that is resumed.
async fn talk(ctx: Ctx, effects: Effects) -> FlowResult<String> {
    ctx.step("first", || async { Step::Ok(effects.ran("first").min(1)) }).await?;
    let one: String = ctx.signal("word").await?;
    ctx.sleep("an hour", HOUR).await?;
    let two: Option<String> = ctx.signal_within("word", HOUR).await?;
    let third = ctx.step_with("third", |step| {
        let effects = effects.clone();
        async move {
            effects.ran("third");
            if step.recovering() { Ok(3) } else { Err(StepError::permanent("no")) }
        }
    });
    let third = third.await?;
    Ok(format!("{one} {two:?} {third}"))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Script {
    /// One run of steps.
    Steps,
    /// One that waits for a signal, fails and is resumed; two resume it at once.
    Talk,
    /// One id for two inputs, at once.
    Twice,
}

async fn script(life: Life, script: Script) -> std::result::Result<String, Failure> {
    let (effects, clock) = (life.effects().clone(), life.clock().clone());
    let steps = life
        .flows()
        .register("steps", move |ctx, _: u32| steps(ctx, clock.clone(), effects.clone()))?;
    let effects = life.effects().clone();
    let talk = life.flows().register("talk", move |ctx, ()| talk(ctx, effects.clone()))?;
    life.start().await?;
    match script {
        Script::Steps => {
            let run = life.begin(&steps, "run", 1).await?;
            life.finish(&run).await
        }
        Script::Twice => {
            let (one, two) = tokio::join!(steps.start("run", 1), steps.start("run", 2));
            let run = match (one, two) {
                (Ok(_), Ok(_)) => return Err("one id was begun with two inputs".into()),
                (Err(one), Err(_)) => return Err(one.into()),
                (Ok(run), Err(_)) | (Err(_), Ok(run)) => run,
            };
            life.finish(&run).await
        }
        Script::Talk => {
            let run = life.begin(&talk, "run", ()).await?;
            // Again only when it was not acknowledged, so it may come twice.
            life.signal(&run, "word", "yes").await?;
            let result = life.finish_resuming(&run, 1).await?;
            let again = run.resume().await.err().map(|e| e.to_string());
            if !again.as_ref().is_some_and(|e| e.contains("succeeded")) {
                return Err(format!("resumed after its end: {again:?}").into());
            }
            // Without a crash nobody sends it twice.
            let twice = if life.crashes() == 0 { "None" } else { "Some(\"yes\")" };
            Ok(result.replace(twice, "None"))
        }
    }
}

fn check(bug: Bug, of: Script) -> std::result::Result<CrashReport, CrashFailure> {
    let options =
        FlowsOptions { sweep_every: Duration::from_secs(1 << 40), ..FlowsOptions::default() };
    let open = move |store: &Store| Flows::open(&plant(bug, store), options.clone());
    let points = CrashPoints::new().max_cuts(4).second_crashes(1).open(open);
    points.run(move |life| script(life, of))
}

#[test]
fn every_planted_store_bug_is_caught() {
    for of in [Script::Steps, Script::Talk, Script::Twice] {
        check(Bug::Nothing, of).unwrap();
    }
    let bugs = [
        (Bug::DurableIsBuffered, Script::Steps, "acknowledged and lost: the start of run"),
        (Bug::StepsAreBuffered, Script::Steps, "was durable: the crash lost it"),
        (Bug::SyncDoesNothing, Script::Steps, "was durable: the crash lost it"),
        (Bug::BatchInTwo, Script::Steps, "journal"),
        (Bug::GuardsDropped, Script::Twice, "one id was begun with two inputs"),
        (Bug::DeletesDropped, Script::Steps, "the run's record does not"),
        (Bug::DeletesDropped, Script::Talk, "is running already"),
        (Bug::CommitLost, Script::Steps, "conflict"),
        (Bug::CommitLost, Script::Talk, ""),
        (Bug::MessageLost, Script::Talk, "would wait for ever"),
    ];
    let mut missed = Vec::new();
    for (bug, of, says) in bugs {
        match check(bug, of) {
            Ok(report) => missed.push(format!("{bug:?} {of:?}: missed: {report}")),
            Err(failure) => {
                let text = failure.to_string();
                if !text.contains(says) {
                    missed.push(format!("{bug:?} {of:?}: {text}"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    let caught = bugs.iter().map(|(bug, ..)| format!("{bug:?}")).collect::<BTreeSet<_>>().len();
    evidence("flow-planted-bugs", &format!("{caught} of {caught} planted bugs caught"));
}
