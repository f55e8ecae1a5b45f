//! A resource that does what a test says, and a manager around it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use resurge_breaker::{BreakerConfig, HalfOpenConfig, State, Trip, Verdict};
use resurge_store::{BoxFuture, Store, VirtualClock};
use resurge_supervisor::{
    AuditEvent, BoxError, Health, HealthConfig, RecoveryManager, Registration, Repairable,
    ResourceStatus, SupervisorConfig,
};

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What it was asked to do, and whether that works.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) calls: Mutex<Vec<&'static str>>,
    /// These calls fail.
    pub(crate) broken: Mutex<Vec<&'static str>>,
    /// These calls never return.
    pub(crate) hanging: Mutex<Vec<&'static str>>,
    pub(crate) panicking: AtomicBool,
    pub(crate) sick: AtomicBool,
    pub(crate) at_once: AtomicU32,
    pub(crate) most_at_once: AtomicU32,
    pub(crate) checks: AtomicU32,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn breaks(self: &Arc<Self>, calls: &[&'static str]) -> Arc<Self> {
        *self.broken.lock().unwrap() = calls.to_vec();
        Arc::clone(self)
    }

    pub(crate) fn hangs(self: &Arc<Self>, calls: &[&'static str]) -> Arc<Self> {
        *self.hanging.lock().unwrap() = calls.to_vec();
        Arc::clone(self)
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    fn enter(&self) {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
    }

    async fn doing(&self, call: &'static str) -> Result<(), BoxError> {
        self.calls.lock().unwrap().push(call);
        self.enter();
        let left = Leave(self);
        tokio::task::yield_now().await;
        assert!(!self.panicking.load(Ordering::SeqCst), "it panics");
        if self.hanging.lock().unwrap().contains(&call) {
            std::future::pending::<()>().await;
        }
        drop(left);
        if self.broken.lock().unwrap().contains(&call) {
            return Err(format!("{call} does not work").into());
        }
        Ok(())
    }
}

struct Leave<'a>(&'a Fake);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) struct Handle(pub(crate) Arc<Fake>);

impl Repairable for Handle {
    fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(self.0.doing("shutdown"))
    }
    fn load(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(self.0.doing("load"))
    }
    fn reload(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(self.0.doing("reload"))
    }
    fn degrade(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(self.0.doing("degrade"))
    }
    fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>> {
        Box::pin(async {
            self.0.checks.fetch_add(1, Ordering::SeqCst);
            self.0.doing("health").await?;
            let sick = self.0.sick.load(Ordering::SeqCst);
            let health = if sick { Health::unhealthy("fever") } else { Health::healthy() };
            Ok(health.detail("pulse", "60"))
        })
    }
}

/// Opens after three failures in a row, closes after one good probe.
pub(crate) fn quick() -> BreakerConfig {
    BreakerConfig {
        trip: vec![Trip::ConsecutiveFailures { failures: 3 }],
        half_open: HalfOpenConfig {
            probes: 1,
            verdict: Verdict::AllOf { successes: 1 },
            ..HalfOpenConfig::default()
        },
        ..BreakerConfig::default()
    }
}

/// Without health checks, which the tests that want them switch on.
pub(crate) fn config() -> SupervisorConfig {
    SupervisorConfig {
        breaker: quick(),
        health_checking: false,
        health: HealthConfig { jitter: 0.0, ..HealthConfig::default() },
        ..SupervisorConfig::default()
    }
}

pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) store: Store,
    pub(crate) manager: RecoveryManager,
    pub(crate) fake: Arc<Fake>,
}

impl World {
    /// With one resource, `mailer`, started.
    pub(crate) async fn new(config: SupervisorConfig, fake: Arc<Fake>) -> Self {
        let world = Self::stopped(config, fake).await;
        world.manager.start().await.unwrap();
        world
    }

    pub(crate) async fn stopped(config: SupervisorConfig, fake: Arc<Fake>) -> Self {
        let clock = VirtualClock::new();
        let store = Store::memory().with_clock(clock.clone());
        let manager = RecoveryManager::open(&store, config).await.unwrap();
        manager.register("mailer", Registration::new(Handle(Arc::clone(&fake)))).unwrap();
        Self { clock, store, manager, fake }
    }

    pub(crate) fn mailer(&self) -> ResourceStatus {
        self.manager.status().plugins["mailer"].clone()
    }

    pub(crate) fn state(&self) -> State {
        self.manager.breaker("mailer").unwrap().state()
    }

    pub(crate) async fn succeed(&self) -> bool {
        self.manager.execute("mailer", async { Ok::<_, String>(()) }).await.is_ok()
    }

    pub(crate) async fn fail(&self, times: u32) {
        for _ in 0..times {
            let failed = async { Err::<(), _>("down".to_owned()) };
            assert!(self.manager.execute("mailer", failed).await.is_err());
        }
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        until(what, || holds(self)).await;
    }

    /// Lets everybody run until they wait for time.
    pub(crate) async fn settle(&self) {
        for _ in 0..20 {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            self.store.sync().await.unwrap();
        }
    }

    pub(crate) async fn advance(&self, by: Duration) {
        self.settle().await;
        self.clock.advance(by);
        self.settle().await;
    }

    pub(crate) async fn trail(&self) -> Vec<AuditEvent> {
        self.settle().await;
        self.manager.audit().await.unwrap().of("mailer").await.unwrap()
    }

    /// The trail in short.
    pub(crate) async fn story(&self) -> Vec<String> {
        self.trail().await.iter().map(short).collect()
    }

    /// The strategies tried, in order.
    pub(crate) async fn tried(&self) -> Vec<String> {
        let began = |event: &AuditEvent| match event {
            AuditEvent::Began { strategy, .. } => Some(strategy.to_string()),
            _ => None,
        };
        self.trail().await.iter().filter_map(began).collect()
    }
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to this: {what}");
}

pub(crate) fn short(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Recorded { failure } => format!("recorded {}", failure.kind),
        AuditEvent::CircuitBreakerStateChange { from, to, .. } => format!("{from} -> {to}"),
        AuditEvent::Began { attempt, strategy, .. } => format!("{attempt} {strategy}"),
        AuditEvent::Ended { attempt, strategy, outcome, .. } => {
            format!("{attempt} {strategy} {}", outcome.as_str())
        }
        AuditEvent::Exhausted { attempts } => format!("exhausted after {attempts}"),
        AuditEvent::Recovered { attempts } => format!("recovered after {attempts}"),
        AuditEvent::Revived => "revived".to_owned(),
        AuditEvent::Alert(kind) => format!("alert {}", kind.as_str()),
        other => format!("{other:?}"),
    }
}
