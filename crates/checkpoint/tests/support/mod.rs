//! A place to run checks in: a store that can be restarted, virtual time, handles with or without a bug.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod checks;
pub(crate) mod crashes;
pub(crate) mod planted;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use resurge_checkpoint::{
    CheckpointKey, CheckpointOptions, Checkpoints, InDoubt, RunError, Scope, StepPolicy,
};
use resurge_store::{MemoryStore, StateStore, Store, VirtualClock};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use resurge_testkit::FaultStore;
use tokio::sync::Notify;

use planted::{Bug, plant};

pub(crate) const FOREVER: Duration = Duration::ZERO;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StepFailed(pub(crate) String);

pub(crate) enum Place {
    Memory(Arc<MemoryStore>),
    Sled(tempfile::TempDir, IndexKind),
}

/// One store through several lives of its process.
pub(crate) struct World {
    place: Place,
    pub(crate) clock: VirtualClock,
    pub(crate) bug: Bug,
    store: Option<Store>,
}

impl World {
    pub(crate) async fn memory(bug: Bug) -> Self {
        Self::new(Place::Memory(Arc::new(MemoryStore::in_memory())), bug).await
    }

    pub(crate) async fn sled(index: IndexKind) -> Self {
        Self::new(Place::Sled(tempfile::tempdir().unwrap(), index), Bug::None).await
    }

    async fn new(place: Place, bug: Bug) -> Self {
        let mut world = Self { place, clock: VirtualClock::new(), bug, store: None };
        world.restart().await;
        world
    }

    /// Ends the process and starts it again. Handles must be dropped before.
    pub(crate) async fn restart(&mut self) {
        let backend: Arc<dyn StateStore> = match &self.place {
            // Another backend to whoever looks: what the old one claimed is a claim of the dead.
            Place::Memory(memory) => Arc::new(FaultStore::from_arc(Arc::clone(memory) as _)),
            Place::Sled(dir, index) => {
                if let Some(store) = self.store.take() {
                    store.close().await.unwrap();
                }
                let options = SledOptions::new().index(*index);
                let path = dir.path().join("state");
                Arc::new(SledStore::open(path, options).await.unwrap().0)
            }
        };
        let store = Store::from_arc(backend).with_clock(self.clock.clone());
        self.store = Some(plant(self.bug, &store).with_clock(self.clock.clone()));
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) async fn open(&self) -> Subject {
        let checkpoints = Checkpoints::open(self.store(), CheckpointOptions::new()).await.unwrap();
        Subject { checkpoints, bug: self.bug }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) scope: Scope,
    pub(crate) step: &'static str,
    pub(crate) version: u32,
    pub(crate) input: String,
    pub(crate) ttl: Duration,
    pub(crate) policy: StepPolicy,
}

pub(crate) fn global(input: &str) -> Call {
    Call {
        scope: Scope::Global,
        step: "step",
        version: 1,
        input: input.to_owned(),
        ttl: FOREVER,
        policy: StepPolicy::new(),
    }
}

pub(crate) fn workflow(id: &str, input: &str) -> Call {
    Call { scope: Scope::Workflow(id.into()), ..global(input) }
}

impl Call {
    pub(crate) fn key(&self) -> CheckpointKey {
        let key = CheckpointKey::builder(self.scope.clone(), self.step);
        key.version(self.version).input(&self.input).build().unwrap()
    }
}

/// A handle; with a bug, one that does what the bug says.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) checkpoints: Checkpoints,
    bug: Bug,
}

impl Subject {
    pub(crate) async fn run<F, Fut>(
        &self,
        call: &Call,
        body: F,
    ) -> Result<String, RunError<StepFailed>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<String, StepFailed>>,
    {
        let mut call = call.clone();
        match self.bug {
            Bug::VersionIgnored => call.version = 1,
            Bug::ScopeIgnored => call.scope = Scope::Global,
            Bug::InputIgnored => call.input.clear(),
            Bug::TtlIgnored => call.ttl = FOREVER,
            Bug::DoubtIgnored => call.policy = call.policy.in_doubt(InDoubt::RunAgain),
            _ => {}
        }
        let key = call.key();
        match self.bug {
            Bug::ClaimSkipped => {
                if let Some(found) = self.checkpoints.get(&key).await? {
                    return Ok(found);
                }
                let step = key.id().clone();
                let result = body().await.map_err(|error| RunError::step(step, error))?;
                drop(self.checkpoints.record(&key, call.ttl, &result).await);
                Ok(result)
            }
            Bug::FailureStored => {
                let step = key.id().clone();
                let stored = || async { Ok::<_, StepFailed>(body().await.map_err(|e| e.0)) };
                let result: Result<String, String> =
                    self.checkpoints.run_with(&key, call.ttl, call.policy, stored).await?;
                result.map_err(|e| RunError::step(step, StepFailed(e)))
            }
            _ => self.checkpoints.run_with(&key, call.ttl, call.policy, body).await,
        }
    }
}

/// A step that counts its runs, and may have to wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effect {
    counts: Arc<parking_lot::Mutex<(u64, u64)>>,
    gate: Option<Arc<Notify>>,
}

impl Effect {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Each run waits until it is let through.
    pub(crate) fn gated() -> Self {
        Self { gate: Some(Arc::default()), ..Self::default() }
    }

    /// Lets one run through.
    pub(crate) fn let_one(&self) {
        self.gate.as_ref().unwrap().notify_one();
    }

    pub(crate) fn begun(&self) -> u64 {
        self.counts.lock().0
    }

    pub(crate) fn done(&self) -> u64 {
        self.counts.lock().1
    }

    async fn act(&self) -> u64 {
        self.counts.lock().0 += 1;
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let mut counts = self.counts.lock();
        counts.1 += 1;
        counts.1
    }

    /// Its result tells which run it was.
    pub(crate) async fn succeed(&self, input: &str) -> Result<String, StepFailed> {
        let n = self.act().await;
        Ok(format!("{input}, run {n}"))
    }

    pub(crate) async fn fail(&self) -> Result<String, StepFailed> {
        let n = self.act().await;
        Err(StepFailed(format!("failure {n}")))
    }
}

/// Lets other tasks run until `done`.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    for _ in 0..2_000_000_u64 {
        if done() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    Err(format!("it never happened: {what}"))
}

/// Lets other tasks run for a while.
pub(crate) async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

/// Everything that was submitted before is done and seen.
pub(crate) async fn flushed(store: &Store) {
    let batch = resurge_store::Batch::new();
    store.commit(batch, resurge_store::Durability::Durable).await.unwrap();
}
