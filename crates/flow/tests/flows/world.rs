//! A process that can be killed: each life has a runtime of its own, the store and time outlive it.
#![expect(clippy::needless_pass_by_value, reason = "closures and options read better by value")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{Ctx, FlowRef, FlowResult, Flows, FlowsOptions, StepError};
use resurge_store::{
    Clock, ErrorKind, MemoryStore, SeededEntropy, StateStore, Store, Timestamp, VirtualClock,
};
use resurge_testkit::{Call, Fault, FaultStore};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::Effects;

/// What outlives a process. Clones are the same world.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) faults: FaultStore,
    pub(crate) effects: Effects,
    pub(crate) options: FlowsOptions,
    plain: Store,
    lives: Arc<AtomicU64>,
    dies_at: Arc<AtomicU64>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(FlowsOptions::default())
    }

    pub(crate) fn with(options: FlowsOptions) -> Self {
        let memory: Arc<dyn StateStore> = Arc::new(MemoryStore::in_memory());
        let plain = Store::new(FaultStore::from_arc(Arc::clone(&memory)));
        // Nothing is swept unless a test does.
        let options = FlowsOptions { sweep_every: secs(u32::MAX.into()), ..options };
        Self {
            clock: VirtualClock::starting_at(Timestamp::from_millis(1_700_000_000_000)),
            faults: FaultStore::from_arc(memory),
            effects: Effects::default(),
            options,
            plain,
            lives: Arc::default(),
            dies_at: Arc::new(AtomicU64::new(u64::MAX)),
            notes: Arc::default(),
        }
    }

    pub(crate) fn store(&self) -> Store {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        Store::new(self.faults.clone())
            .with_clock(self.clock.clone())
            .with_entropy(SeededEntropy::new(life))
    }

    /// One life of the process; when it returns the process is dead, its tasks with it.
    pub(crate) fn life<T>(&self, life: impl AsyncFnOnce(Flows) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            self.plain.sync().await.unwrap();
            let flows = Flows::open(&self.store(), self.options.clone()).unwrap();
            life(flows).await
        })
    }

    /// Awaits; time jumps to the next timer when nothing else can happen.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                () = self.quiet() => {}
            }
            if self.faults.calls(Call::Commit) >= self.dies_at.load(Ordering::Relaxed) {
                // It is dying: there is nothing more to wait for.
                std::future::pending::<()>().await;
            }
            self.clock.advance_to_next();
            // Only a sweep was left to wait for.
            assert!(self.clock.now().as_millis() < 4_000_000_000_000, "nothing happens any more");
        }
    }

    /// Awaits what happens without time passing.
    pub(crate) async fn run_soon<F: Future>(&self, future: F) -> F::Output {
        let output = future.await;
        self.quiet().await;
        output
    }

    /// Resolves when nothing happens any more without time passing.
    pub(crate) async fn quiet(&self) {
        for _ in 0..12 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.plain.sync().await.unwrap();
        }
    }

    /// Time passes in small steps, so that what is due happens in order.
    pub(crate) async fn pass(&self, time: Duration) {
        let until = self.clock.now().saturating_add(time);
        self.quiet().await;
        while self.clock.now() < until {
            let left = until.saturating_since(self.clock.now());
            self.clock.advance(left.min(time / 8 + Duration::from_millis(1)));
            self.quiet().await;
        }
    }

    pub(crate) async fn clock_sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    pub(crate) fn note(&self, note: impl Into<String>) {
        self.notes.lock().push(note.into());
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }

    pub(crate) fn plain(&self) -> &Store {
        &self.plain
    }

    /// A step that counts its effect under its scope and name.
    pub(crate) async fn counted(&self, ctx: &Ctx, name: &'static str) -> FlowResult<u32> {
        ctx.step(name, || async { ok(self.effects.ran(name)) }).await
    }

    /// A step that takes a while.
    pub(crate) async fn slow(&self, ctx: &Ctx, name: &'static str, ms: u64) -> FlowResult<u32> {
        ctx.step(name, || async {
            let n = self.effects.ran(name);
            self.clock.sleep(Duration::from_millis(ms)).await;
            ok(n)
        })
        .await
    }

    /// Registers a flow that is given this world.
    pub(crate) fn register<Fut, I, O>(
        &self,
        flows: &Flows,
        name: &str,
        flow: impl Fn(Ctx, I, World) -> Fut + Send + Sync + 'static,
    ) -> FlowRef<I, O>
    where
        Fut: Future<Output = FlowResult<O>> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        let world = self.clone();
        flows.register(name, move |ctx, input| flow(ctx, input, world.clone())).unwrap()
    }

    /// Resolves soon after the process died at its `nth` commit: whoever hears of it has.
    async fn dead(&self, nth: u64) {
        while self.faults.calls(Call::Commit) < nth {
            tokio::task::yield_now().await;
        }
        self.quiet().await;
    }

    /// The process dies at its `nth` commit from now, which is lost.
    fn die_at(&self, nth: u64) {
        self.dies_at.store(nth, Ordering::Relaxed);
        self.faults.fail(Call::Commit, nth, Fault::before(ErrorKind::Closed).poisoning());
    }
}

/// Runs `script` in a world of its own for every commit it makes, killed at that commit; then again in
/// the next life. `check` sees what both lives came to. Returns how many crashes there were.
pub(crate) fn crash_everywhere<T, E>(
    options: &FlowsOptions,
    script: impl AsyncFn(&World, &Flows, bool) -> Result<T, E>,
    check: impl Fn(&World, u64, T),
) -> u64
where
    E: std::fmt::Display,
{
    for nth in 1.. {
        let world = World::with(options.clone());
        world.die_at(nth);
        let first = world.life(async |flows| {
            tokio::select! {
                biased;
                () = world.dead(nth) => None,
                came_to = script(&world, &flows, false) => Some(came_to),
            }
        });
        world.faults.heal();
        world.dies_at.store(u64::MAX, Ordering::Relaxed);
        if let Some(first) = first.filter(|_| world.faults.calls(Call::Commit) < nth) {
            check(&world, 0, first.unwrap_or_else(|e| panic!("without a crash: {e}")));
            return nth - 1;
        }
        let second = world.life(async |flows| script(&world, &flows, true).await);
        check(&world, nth, second.unwrap_or_else(|e| panic!("killed at commit {nth}: {e}")));
    }
    0
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a body's result")]
pub(crate) fn ok<T>(value: T) -> Result<T, StepError> {
    Ok(value)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
