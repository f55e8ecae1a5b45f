//! The door: open, register, start, shut down.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_checkpoint::Checkpoints;
use resurge_store::{ScanOptions, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Engine, Phase, Resident};
use crate::keys::check_flow_name;
use crate::record::Record;
use crate::register::Code;
use crate::runs::{self, Live, Waiting};
use crate::{
    Ctx, FlowError, FlowOptions, FlowRef, FlowResult, FlowsOptions, Result, RunHandle, timers,
};

/// All flows of one store. Clones share them. Open one for a store: it owns the store's runs.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_flow::FlowError> {
/// use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
/// use resurge_store::Store;
///
/// async fn double(ctx: Ctx, n: u64) -> FlowResult<u64> {
///     ctx.step("double", || async { Ok::<_, StepError>(n * 2) }).await
/// }
///
/// let flows = Flows::open(&Store::memory(), FlowsOptions::default())?;
/// let doubles = flows.register("double", double)?;
/// flows.start().await?; // recovers what a crash interrupted
/// let run = doubles.start("run-1", 21).await?; // durable
/// assert_eq!(run.result().await?, 42);
/// flows.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Flows {
    engine: Arc<Engine>,
}

/// What [`Flows::start`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartReport {
    /// Unfinished runs.
    pub unfinished: usize,
    /// Those that run again at once.
    pub running: usize,
    /// Those that wait for a timer, a signal or the like.
    pub waiting: usize,
    /// Those whose record is damaged. They are left as they are, named in the log (`tracing`), and
    /// every call on them says what is wrong.
    pub damaged: usize,
}

impl Flows {
    /// On this store. Nothing runs before [`start`](Self::start). Must be called inside a tokio
    /// runtime, which then runs the flows.
    ///
    /// # Errors
    /// [`Invalid`](FlowError::Invalid) for an option out of range.
    pub fn open(store: &Store, options: FlowsOptions) -> Result<Self> {
        Ok(Self { engine: Arc::new(Engine::new(store.clone(), options)?) })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.engine.store
    }

    /// Makes a flow known under a name (1 to 100 bytes), which the store keeps: do not give it to
    /// another flow later. Runs that waited for it go on.
    ///
    /// # Errors
    /// [`AlreadyRegistered`](FlowError::AlreadyRegistered), [`Invalid`](FlowError::Invalid).
    pub fn register<F, Fut, I, O>(&self, name: &str, flow: F) -> Result<FlowRef<I, O>>
    where
        F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = FlowResult<O>> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        self.register_with(name, FlowOptions::default(), flow)
    }

    /// [`register`](Self::register) with options.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_with<F, Fut, I, O>(
        &self,
        name: &str,
        options: FlowOptions,
        flow: F,
    ) -> Result<FlowRef<I, O>>
    where
        F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = FlowResult<O>> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        check_flow_name(name)?;
        options.callbacks.check()?;
        let deadline = options.deadline;
        let code = Arc::new(Code::<F, I, O>::new(flow, options));
        let name = self.engine.register(name, code)?;
        if self.engine.is_started() {
            self.engine.wake_unregistered(&name);
        }
        Ok(FlowRef::new(Arc::clone(&self.engine), name, deadline))
    }

    /// Lets runs execute, and recovers what is unfinished: what was running runs again, what waits is
    /// woken in time. Register the flows before. Returns when everything unfinished is known; it
    /// reads one small record for each. Idempotent.
    ///
    /// It takes the store's runs over: flows that were started on the same store before commit nothing
    /// more ([`Superseded`](FlowError::Superseded)).
    ///
    /// # Errors
    /// [`Closed`](FlowError::Closed), [`Store`](FlowError::Store).
    pub async fn start(&self) -> Result<StartReport> {
        let engine = &self.engine;
        if engine.is_closing() {
            return Err(FlowError::Closed { run: String::new() });
        }
        if engine.started.swap(true, Ordering::AcqRel) {
            return Ok(StartReport::default());
        }
        if !engine.attended.swap(true, Ordering::AcqRel) {
            engine.runtime.spawn(timers::run(Arc::downgrade(engine)));
            engine.runtime.spawn(crate::sweep::run(Arc::downgrade(engine)));
        }
        let recovered = self.recover_all().await;
        if recovered.is_err() {
            // What was found runs; the next call finds the rest.
            engine.started.store(false, Ordering::Release);
        }
        recovered
    }

    async fn recover_all(&self) -> Result<StartReport> {
        let engine = &self.engine;
        engine.take_over().await?;
        let mut report = StartReport::default();
        let mut range = Some(engine.keys.live.all());
        while let Some(next) = range {
            let page = engine.store.scan(next, ScanOptions::new()).await;
            let page = page.map_err(FlowError::store(""))?;
            for entry in page.entries {
                let id = String::from_utf8_lossy(entry.key.bytes()).into_owned();
                report.unfinished += 1;
                let live: Live = match runs::load(&entry.key, &entry.value) {
                    Ok(live) => live,
                    Err(error) => {
                        // One damaged record must not keep every other run down.
                        report.damaged += 1;
                        tracing::error!(run = id, %error, "a run's record is damaged");
                        continue;
                    }
                };
                if engine.recover(&id, live) {
                    report.running += 1;
                } else {
                    report.waiting += 1;
                }
            }
            range = page.next;
        }
        // Their senders did not live to wake them.
        for run in engine.addressees().await? {
            engine.wake(&run, crate::signal::MAIL);
        }
        engine.metrics.recovered.increment(u64::try_from(report.running).unwrap_or(u64::MAX));
        tracing::info!(
            unfinished = report.unfinished,
            running = report.running,
            waiting = report.waiting,
            "flows are started"
        );
        Ok(report)
    }

    /// Lets one run begin that is withheld because the flows were opened with `start_paused`. True
    /// when it was.
    pub fn release(&self, run: &str) -> bool {
        self.engine.resident(run).is_some_and(|resident| self.engine.release(&resident))
    }

    /// Lets every withheld run begin, and returns how many there were.
    pub fn release_all(&self) -> usize {
        let residents = self.engine.residents();
        residents.iter().filter(|resident| self.engine.release(resident)).count()
    }

    /// Shares a handle to the store's checkpoints, for memoised steps. Call it before
    /// [`start`](Self::start); false when the flows use others already.
    pub fn use_checkpoints(&self, checkpoints: Checkpoints) -> bool {
        self.engine.options.checkpoints.is_none()
            && self.engine.checkpoints.set(checkpoints).is_ok()
    }

    /// A handle to a run of any flow.
    pub fn run<O>(&self, id: impl AsRef<str>) -> RunHandle<O> {
        let id = id.as_ref();
        RunHandle::new(Arc::clone(&self.engine), id, self.engine.resident(id))
    }

    /// Lets runs try again that are [blocked](crate::BlockReason::Sealed) because a value could not be
    /// opened or sealed, and returns how many there were: after a key was supplied. A start does the
    /// same.
    pub fn retry_sealed(&self) -> usize {
        self.engine.wake_sealed()
    }

    /// A run's journal, oldest record first.
    ///
    /// # Errors
    /// [`NotFound`](FlowError::NotFound), [`Journal`](FlowError::Journal), [`Store`](FlowError::Store).
    pub async fn history(&self, run: &str) -> Result<Vec<Record>> {
        self.engine.records(run).await
    }

    /// Begins no more work and waits until every run stands at a step's boundary, at most as long as
    /// `shutdown_grace`. Runs go on after the next start. Idempotent.
    pub async fn shutdown(&self) {
        self.engine.shutdown().await;
    }
}

impl Engine {
    /// Takes an unfinished run over from an earlier process. True when it runs again at once.
    fn recover(self: &Arc<Self>, id: &str, live: Live) -> bool {
        let now = self.store.now();
        let until = match (live.state.until(), live.deadline) {
            (Some(until), Some(deadline)) => Some(until.min(deadline)),
            (until, deadline) => until.or(deadline),
        };
        let waits = match &live.state {
            // A blocked run's code may have changed, or be there now; a parked one's gate is known only
            // once its step asks again.
            Waiting::Running | Waiting::Blocked(_) | Waiting::Parked { .. } => false,
            _ => until.is_none_or(|until| until > now),
        };
        let (phase, begins) = if self.options.start_paused {
            (Phase::Withheld, false)
        } else if waits {
            (Phase::Dormant { armed: until, why: live.state }, false)
        } else {
            (Phase::Active, true)
        };
        let resident = Resident::new(id, live.flow.as_str().into(), phase, self.stamp());
        let resident = match self.adopt(resident, 0) {
            Ok(resident) => resident,
            // Started before the flows were.
            Err(known) => {
                if !self.options.start_paused {
                    self.release(&known);
                }
                return !self.options.start_paused;
            }
        };
        if begins {
            self.spawn(resident, None);
        } else if let (Some(at), true) = (until, waits) {
            self.timers.arm(at, Arc::clone(&resident.id));
        }
        begins
    }
}
