//! A crash after every commit of a supervisor at work: no attempt is made that is not counted, and never
//! more of them than allowed. And the same on a store that gets something wrong, which must be noticed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use resurge_breaker::FailureKind;
use resurge_store::{
    Batch, BoxFuture, Clock, CommitSeq, Durability, Key, KeyRange, Namespace, Page,
    Result as StoreResult, ScanOptions, StateStore, Store, StoreInfo, Watch,
};
use resurge_supervisor::{
    AuditEvent, BoxError, Builtin, CustomStrategy, Failure as Broken, Health, RecoveryManager,
    Repairable, SupervisorConfig,
};
use resurge_testkit::sim::{Failure, Recovered, Sim, Simulation};

const ATTEMPTS: u32 = 3;

/// What must survive.
#[derive(Clone, Debug)]
enum Ack {
    /// A failure was recorded.
    Recorded,
    /// A strategy was at work, with this attempt.
    Worked(u32),
    /// It was given up.
    Exhausted,
}

struct Wreck;

impl Repairable for Wreck {
    fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
    fn load(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
    fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>> {
        Box::pin(async { Ok(Health::healthy()) })
    }
}

fn config() -> SupervisorConfig {
    let mut config = SupervisorConfig {
        max_attempts: ATTEMPTS,
        health_checking: false,
        ..SupervisorConfig::default()
    };
    for builtin in Builtin::ALL {
        config.strategies.entry(builtin.name().to_owned()).or_default().enabled = false;
    }
    config
}

/// With one strategy, which says what it does and does not help.
async fn manager(
    store: &Store,
    works: impl Fn(u32) + Send + Sync + 'static,
) -> Result<RecoveryManager, Failure> {
    let manager = RecoveryManager::open(store, config()).await?;
    manager.register_strategy(CustomStrategy::new(
        "hammer",
        999,
        |_| true,
        move |attempt| {
            works(attempt.attempt);
            async { Err("it does not help".into()) }
        },
    ))?;
    manager.register("wreck", Wreck)?;
    manager.start().await?;
    Ok(manager)
}

/// Until it is given up; false when that never happens.
async fn given_up(manager: &RecoveryManager, clock: &dyn Clock) -> bool {
    for _ in 0..60 {
        clock.sleep(Duration::from_secs(1)).await;
        let status = manager.status();
        if status.plugins.values().any(|plugin| plugin.recovery.exhausted) {
            return true;
        }
    }
    false
}

async fn scenario(sim: Sim<Ack>, store: Store) -> Result<(), Failure> {
    let witness = sim.clone();
    let manager = manager(&store, move |attempt| witness.ack(Ack::Worked(attempt))).await?;
    let broken = Broken::new(FailureKind::Panic, "boom").unrecoverable();
    manager.record_failure("wreck", broken).await?;
    sim.ack(Ack::Recorded);
    let breaker = manager.breaker("wreck").ok_or("no breaker")?;
    breaker.trip("it is a wreck");
    breaker.flush().await?;
    if !given_up(&manager, sim.clock()).await {
        return Err("never given up".into());
    }
    store.sync().await?;
    manager.audit().await?;
    sim.ack(Ack::Exhausted);
    manager.stop().await;
    Ok(())
}

async fn trail(manager: &RecoveryManager) -> Result<Vec<AuditEvent>, Failure> {
    Ok(manager.audit().await?.of("wreck").await?)
}

fn count(trail: &[AuditEvent], which: impl Fn(&AuditEvent) -> bool) -> usize {
    trail.iter().filter(|event| which(event)).count()
}

async fn survived(recovered: Recovered<Ack>) -> Result<(), Failure> {
    let worked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&worked);
    let works = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let manager = manager(recovered.store(), works).await?;
    let before = trail(&manager).await?;
    let began = |event: &AuditEvent| matches!(event, AuditEvent::Began { .. });
    let highest = before.iter().fold(0, |highest, event| match event {
        AuditEvent::Began { attempt, .. } => highest.max(*attempt),
        _ => highest,
    });
    for ack in recovered.acks() {
        let kept = match ack {
            Ack::Recorded => count(&before, |e| matches!(e, AuditEvent::Recorded { .. })) > 0,
            Ack::Worked(attempt) => highest >= *attempt,
            Ack::Exhausted => count(&before, began) == 3,
        };
        recovered.survived(ack, kept)?;
    }
    // This process goes on where the other one was, and gives it up no later.
    let breaker = manager.breaker("wreck").ok_or("no breaker")?;
    breaker.trip("still a wreck");
    if !given_up(&manager, recovered.clock()).await {
        return Err("never given up".into());
    }
    let earlier = recovered.acks().iter().filter(|ack| matches!(ack, Ack::Worked(_))).count();
    let later = worked.load(Ordering::SeqCst);
    if earlier + later as usize > ATTEMPTS as usize {
        return Err(format!("{earlier} attempts before the crash and {later} after it").into());
    }
    manager.stop().await;
    let after = trail(&manager).await?;
    let ended = |event: &AuditEvent| matches!(event, AuditEvent::Ended { .. });
    let (began, ended) = (count(&after, began), count(&after, ended));
    if began != ATTEMPTS as usize || ended != began {
        return Err(format!("{began} attempts began, {ended} ended").into());
    }
    Ok(())
}

#[test]
fn a_crash_anywhere_makes_no_attempt_uncounted() {
    let report = Simulation::new()
        .run(
            |sim: Sim<Ack>| {
                let store = sim.store().clone();
                scenario(sim, store)
            },
            survived,
        )
        .unwrap();
    resurge_testkit::evidence("supervisor-crash-points", &report.to_string());
    assert!(report.crash_points > 10, "{report}");
}

#[derive(Clone, Copy, Debug)]
enum Bug {
    /// `Durable` is done as `Buffered`.
    DurableIsBuffered,
    /// Acknowledged when called.
    EarlyAck,
}

#[derive(Debug)]
struct Planted {
    inner: Store,
    bug: Bug,
}

impl StateStore for Planted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, StoreResult<Page>> {
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, StoreResult<CommitSeq>> {
        match self.bug {
            Bug::DurableIsBuffered => self.inner.commit(batch, Durability::Buffered),
            Bug::EarlyAck => {
                let commit = self.inner.commit(batch, durability);
                tokio::spawn(commit);
                Box::pin(async { Ok(CommitSeq(1)) })
            }
        }
    }

    fn sync(&self) -> BoxFuture<'static, StoreResult<()>> {
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, StoreResult<()>> {
        self.inner.close()
    }
}

#[test]
fn every_planted_bug_of_the_store_is_noticed() {
    for bug in [Bug::DurableIsBuffered, Bug::EarlyAck] {
        let run = Simulation::new().run(
            move |sim: Sim<Ack>| {
                let inner = sim.store().clone();
                let clock = sim.clock().clone();
                let store = Store::new(Planted { inner, bug }).with_clock(clock);
                scenario(sim, store)
            },
            survived,
        );
        assert!(run.is_err(), "{bug:?} is not noticed");
    }
}
