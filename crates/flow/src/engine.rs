//! What all runs of one store share: who is resident, who waits, and the way in and out.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use resurge_checkpoint::Checkpoints;
use resurge_store::{Batch, Durability, ErrorKind, Store, StoreError, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::owner::Ownership;
use crate::parking::Parking;
use crate::register::FlowCode;
use crate::runs::{End, Waiting};
use crate::signal::{CONTROL, RunSignal};
use crate::timers::Timers;
use crate::values::Values;
use crate::{BlockReason, FlowError, FlowsOptions, Result};

pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) values: Values,
    pub(crate) options: FlowsOptions,
    pub(crate) metrics: Metrics,
    pub(crate) runtime: Handle,
    pub(crate) timers: Timers,
    pub(crate) parking: Parking,
    pub(crate) owner: Ownership,
    pub(crate) permits: Arc<Semaphore>,
    flows: RwLock<HashMap<Arc<str>, Arc<dyn FlowCode>>>,
    runs: Mutex<HashMap<Arc<str>, Arc<Resident>>>,
    /// Runs may execute: `start` was called.
    pub(crate) started: AtomicBool,
    closing: AtomicBool,
    /// Tasks of runs.
    tasks: AtomicUsize,
    pub(crate) idle: Notify,
    message_time: AtomicU64,
    /// It is not before what was sent by whoever had the store before.
    pub(crate) messages_known: OnceCell<()>,
    stamps: AtomicU64,
    /// Tells tasks without a run that the engine closes.
    pub(crate) closed: Arc<Notify>,
    /// The tasks without a run were begun.
    pub(crate) attended: AtomicBool,
    /// Messages to runs that were not known here.
    missed: AtomicU64,
    pub(crate) checkpoints: OnceCell<Checkpoints>,
    /// One sweep at a time: two would remove the same run.
    pub(crate) sweeping: tokio::sync::Mutex<()>,
}

/// An unfinished run known to this process, in memory or not.
pub(crate) struct Resident {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    pub(crate) signal: Arc<RunSignal>,
    pub(crate) phase: Mutex<Phase>,
    /// How it ended, as far as this process is concerned.
    ended: OnceLock<Result<End>>,
    changed: Notify,
    /// When it was taken note of, among all.
    stamp: u64,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A task has it, or is about to.
    Active,
    /// In the store only.
    Dormant { armed: Option<Timestamp>, why: Waiting },
    /// Not to be begun until told.
    Withheld,
    /// Nobody has it any more.
    Over,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("runs", &self.runs.lock().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Resident");
        out.field("id", &self.id).field("phase", &*self.phase.lock()).finish_non_exhaustive()
    }
}

impl Resident {
    pub(crate) fn new(id: &str, flow: Arc<str>, phase: Phase, stamp: u64) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            flow,
            signal: Arc::default(),
            phase: Mutex::new(phase),
            ended: OnceLock::new(),
            changed: Notify::new(),
            stamp,
        })
    }

    pub(crate) fn end(&self, end: Result<End>) {
        *self.phase.lock() = Phase::Over;
        // A run ends once.
        drop(self.ended.set(end));
        self.changed.notify_waiters();
    }

    /// Tells those who wait for the run that its state changed.
    pub(crate) fn tell(&self) {
        self.changed.notify_waiters();
    }

    /// Resolves when the run ended, or is blocked.
    pub(crate) async fn wait(&self) -> Result<End> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(end) = self.ended.get() {
                return end.clone();
            }
            if let Phase::Dormant { why: Waiting::Blocked(reason), .. } = &*self.phase.lock() {
                let (run, reason) = (self.id.to_string(), reason.clone());
                return Err(FlowError::Blocked { run, reason });
            }
            changed.await;
        }
    }
}

impl Engine {
    pub(crate) fn new(store: Store, options: FlowsOptions) -> Result<Self> {
        options.check()?;
        let runtime = Handle::try_current().map_err(|_| {
            FlowError::Invalid("flows are opened inside a tokio runtime".to_owned())
        })?;
        Ok(Self {
            keys: Keys::new()?,
            values: Values {
                codec: options.codec,
                max_bytes: options.max_value_bytes,
                sealer: options.sealer.clone(),
            },
            metrics: Metrics::new(),
            runtime,
            timers: Timers::default(),
            parking: Parking::default(),
            owner: Ownership::default(),
            permits: Arc::new(Semaphore::new(options.max_running.min(Semaphore::MAX_PERMITS))),
            flows: RwLock::default(),
            runs: Mutex::default(),
            started: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            tasks: AtomicUsize::new(0),
            idle: Notify::new(),
            message_time: AtomicU64::new(0),
            messages_known: OnceCell::new(),
            stamps: AtomicU64::new(0),
            closed: Arc::default(),
            attended: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            checkpoints: OnceCell::new(),
            sweeping: tokio::sync::Mutex::default(),
            store,
            options,
        })
    }

    pub(crate) fn register(&self, name: &str, code: Arc<dyn FlowCode>) -> Result<Arc<str>> {
        let name: Arc<str> = name.into();
        match self.flows.write().entry(Arc::clone(&name)) {
            std::collections::hash_map::Entry::Occupied(_) => {
                return Err(FlowError::AlreadyRegistered(name.to_string()));
            }
            std::collections::hash_map::Entry::Vacant(vacant) => drop(vacant.insert(code)),
        }
        Ok(name)
    }

    pub(crate) fn code(&self, flow: &str) -> Option<Arc<dyn FlowCode>> {
        self.flows.read().get(flow).cloned()
    }

    pub(crate) fn flow_names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.flows.read().keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// A random fraction, 0 to 1; one half when there is no randomness.
    pub(crate) fn fraction(&self) -> f64 {
        let random = self.store.entropy().next_u64().unwrap_or(1 << 63);
        let bits = u32::try_from(random >> 32).unwrap_or(u32::MAX / 2);
        f64::from(bits) / f64::from(u32::MAX)
    }

    /// The time for a message's key: two messages of one sender keep their order.
    pub(crate) fn message_time(&self) -> Timestamp {
        let now = self.store.now().as_millis();
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let last = self.message_time.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Timestamp::from_millis(now.max(last.unwrap_or(now).saturating_add(1)))
    }

    /// A message of that time is there.
    pub(crate) fn sent_before(&self, at: Option<Timestamp>) {
        let at = at.map_or(0, Timestamp::as_millis);
        self.message_time.fetch_max(at, Ordering::AcqRel);
    }

    /// Orders what is taken note of.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::AcqRel)
    }

    /// Commits durably; what is unavailable is waited out.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut wait = std::time::Duration::from_millis(1);
        loop {
            match self.store.commit(batch.clone(), Durability::Durable).await {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Unavailable => {
                    self.store.clock().sleep(wait).await;
                    wait = wait.saturating_mul(2).min(std::time::Duration::from_secs(1));
                }
                Err(e) => return Err(e),
            }
        }
    }

    pub(crate) fn resident(&self, run: &str) -> Option<Arc<Resident>> {
        self.runs.lock().get(run).cloned()
    }

    pub(crate) fn residents(&self) -> Vec<Arc<Resident>> {
        self.runs.lock().values().cloned().collect()
    }

    /// Takes note of an unfinished run. The one known already is returned instead.
    ///
    /// Who committed the beginning of a run passes the stamp taken before: what was known earlier
    /// belongs to a former life of that id, whose end is durable and whose task is about to stop.
    pub(crate) fn adopt(
        &self,
        resident: Arc<Resident>,
        former: u64,
    ) -> Result<Arc<Resident>, Arc<Resident>> {
        match self.runs.lock().entry(Arc::clone(&resident.id)) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                if known.get().stamp >= former {
                    return Err(Arc::clone(known.get()));
                }
                known.insert(Arc::clone(&resident));
                Ok(resident)
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                Ok(Arc::clone(vacant.insert(resident)))
            }
        }
    }

    /// The run ended, or this process has nothing more to do with it.
    pub(crate) fn retire(&self, resident: &Arc<Resident>, end: Result<End>) {
        {
            let mut runs = self.runs.lock();
            if runs.get(&resident.id).is_some_and(|known| Arc::ptr_eq(known, resident)) {
                runs.remove(&resident.id);
            }
        }
        if self.resident(&resident.id).is_none() {
            self.left_parking(&resident.id);
        }
        resident.end(end);
    }

    /// Tells a run that something happened, and brings it to memory if need be.
    pub(crate) fn wake(self: &Arc<Self>, run: &str, flag: u8) {
        let resident = {
            let runs = self.runs.lock();
            let resident = runs.get(run).cloned();
            if resident.is_none() {
                // ORDER: under the lock: a run that is taken note of later sees the count.
                self.missed.fetch_add(1, Ordering::AcqRel);
            }
            resident
        };
        if let Some(resident) = resident {
            self.wake_resident(&resident, flag);
        }
    }

    /// How many messages were sent to runs that were not known here. A run that finds it unchanged
    /// since before it was visible has been told of all of its messages.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Acquire)
    }

    pub(crate) fn wake_resident(self: &Arc<Self>, resident: &Arc<Resident>, flag: u8) {
        let mut phase = resident.phase.lock();
        match &*phase {
            // ORDER: under the phase's lock, so a run that is about to leave memory sees the flag.
            Phase::Active => resident.signal.raise(flag),
            Phase::Dormant { armed, .. } => {
                if !self.is_started() || self.is_closing() {
                    return;
                }
                if let Some(at) = armed {
                    self.timers.disarm(*at, &resident.id);
                }
                *phase = Phase::Active;
                drop(phase);
                resident.signal.raise(flag);
                self.spawn(Arc::clone(resident), None);
            }
            Phase::Withheld | Phase::Over => {}
        }
    }

    /// Lets a withheld run begin.
    pub(crate) fn release(self: &Arc<Self>, resident: &Arc<Resident>) -> bool {
        let mut phase = resident.phase.lock();
        if *phase != Phase::Withheld || self.is_closing() {
            return false;
        }
        *phase = Phase::Active;
        drop(phase);
        self.spawn(Arc::clone(resident), None);
        true
    }

    pub(crate) fn spawn(
        self: &Arc<Self>,
        resident: Arc<Resident>,
        fresh: Option<crate::driver::Fresh>,
    ) {
        self.tasks.fetch_add(1, Ordering::AcqRel);
        let task = Task(Arc::clone(self));
        self.runtime.spawn(async move {
            let task = task;
            crate::driver::run(&task.0, resident, fresh).await;
        });
    }

    /// A run leaves memory, unless something happened meanwhile.
    pub(crate) fn evict(
        self: &Arc<Self>,
        resident: &Arc<Resident>,
        why: Waiting,
        until: Option<Timestamp>,
    ) -> bool {
        let mut phase = resident.phase.lock();
        if !resident.signal.is_quiet() {
            return false;
        }
        if let Some(at) = until {
            self.timers.arm(at, Arc::clone(&resident.id));
        }
        *phase = Phase::Dormant { armed: until, why };
        drop(phase);
        resident.tell();
        true
    }

    /// Runs that wait for code that is registered now.
    pub(crate) fn wake_unregistered(self: &Arc<Self>, flow: &str) {
        for resident in self.residents() {
            let blocked = matches!(
                &*resident.phase.lock(),
                Phase::Dormant { why: Waiting::Blocked(BlockReason::Unregistered { .. }), .. }
            );
            if blocked && &*resident.flow == flow {
                self.wake_resident(&resident, CONTROL);
            }
        }
    }

    /// Lets runs try again that could not open or seal a value.
    pub(crate) fn wake_sealed(self: &Arc<Self>) -> usize {
        let blocked = |resident: &&Arc<Resident>| {
            matches!(
                &*resident.phase.lock(),
                Phase::Dormant { why: Waiting::Blocked(BlockReason::Sealed(_)), .. }
            )
        };
        let residents = self.residents();
        let sealed = residents.iter().filter(blocked);
        sealed.map(|resident| self.wake_resident(resident, CONTROL)).count()
    }

    /// Begins no more bodies, and waits until every run's task has stopped, or the grace is over.
    pub(crate) async fn shutdown(self: &Arc<Self>) {
        if self.closing.swap(true, Ordering::AcqRel) {
            self.wait_idle().await;
            return;
        }
        self.permits.close();
        self.timers.poke();
        self.closed.notify_waiters();
        for resident in self.residents() {
            resident.signal.raise(CONTROL);
        }
        let grace = self.store.clock().sleep(self.options.shutdown_grace);
        tokio::select! {
            () = self.wait_idle() => {}
            () = grace => {
                tracing::warn!("flows are shut down while bodies are at work; they run again");
                for resident in self.residents() {
                    resident.signal.raise(crate::signal::ABORT);
                }
                self.wait_idle().await;
            }
        }
        for resident in self.residents() {
            let run = resident.id.to_string();
            self.retire(&resident, Err(FlowError::Closed { run }));
        }
    }

    async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.tasks.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Counts a run's task, however it ends.
struct Task(Arc<Engine>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::AcqRel);
        self.0.idle.notify_waiters();
    }
}
