//! A crash after every commit of a scenario, and again while recovering; and the same on a store that
//! gets something wrong, which must be noticed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use bytes::Bytes;
use resurge_breaker::{Breaker, BreakerConfig, FailureKind, Mode, OpenConfig, Outcome, State};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Key, KeyRange, Namespace, Page, Result as StoreResult,
    ScanOptions, StateStore, Store, StoreInfo, Watch,
};
use resurge_testkit::sim::{Failure, Recovered, Sim, Simulation};

/// What somebody was told: the number of a change that survives, and what it led to.
#[derive(Clone, Debug)]
struct Ack {
    number: u64,
    state: State,
    mode: Mode,
    attempt: u32,
}

fn config() -> BreakerConfig {
    let open = OpenConfig { initial: Duration::from_secs(60), ..OpenConfig::default() };
    BreakerConfig { open, ..BreakerConfig::fast() }
}

fn app() -> Key {
    Namespace::new("app").unwrap().key("step").unwrap()
}

/// Opens, is probed, reopens, is repaired, forced, closed, by itself and staged; then lives again.
async fn scenario(sim: Sim<Ack>, store: Store) -> Result<(), Failure> {
    for life in 0..2_u8 {
        let breaker = Breaker::builder("db").config(config()).open(&store).await?;
        let told = async || {
            breaker.flush().await?;
            let kept = breaker.snapshot();
            let (number, state, mode) = (kept.number, kept.state, kept.mode);
            sim.ack(Ack { number, state, mode, attempt: kept.attempt });
            Ok::<_, Failure>(())
        };
        breaker.reset("a new life");
        told().await?;
        for _ in 0..2 {
            breaker.acquire()?.failure(FailureKind::Error);
        }
        // The third one's transition shares a commit with a result.
        let mut batch = Batch::new();
        batch.put(app(), vec![life]);
        let permit = breaker.acquire()?;
        let failed = Outcome::Failure(FailureKind::Error);
        let staged = permit.settle_into(failed, &store, &mut batch).ok_or("nothing staged")?;
        staged.submitted(store.commit(batch, Durability::Durable)).await?;
        told().await?;
        breaker.half_open("now")?;
        told().await?;
        breaker.acquire()?.failure(FailureKind::Error);
        told().await?;
        let repair = breaker.begin_repair().ok_or("another repair")?;
        told().await?;
        repair.failed();
        told().await?;
        breaker.set_mode(Mode::ForcedOpen);
        told().await?;
        breaker.set_mode(Mode::Active);
        told().await?;
        breaker.half_open("again")?;
        breaker.acquire()?.success();
        told().await?;
    }
    Ok(())
}

async fn survived(recovered: Recovered<Ack>) -> Result<(), Failure> {
    let store = recovered.store();
    let breaker = Breaker::builder("db").config(config()).open(store).await?;
    let kept = breaker.snapshot();
    let step = store.get(&app()).await?;
    if kept.number == 1 && kept.state == State::Open && step.is_none() {
        return Err("half of a commit".into());
    }
    let Some(last) = recovered.acks().last() else { return Ok(()) };
    // The second thing that was told rode with the step's result.
    recovered.survived(last, recovered.acks().len() < 2 || step.is_some())?;
    // A closed circuit keeps no number.
    let fresh = breaker.restored().is_none();
    let newer = kept.number > last.number;
    let closed = last.state == State::Closed && last.mode == Mode::Active;
    let same = kept.number == last.number
        && kept.mode == last.mode
        && kept.attempt == last.attempt
        && (last.state == State::Closed) == (kept.state == State::Closed);
    recovered
        .survived(last, newer || same || (fresh && closed) || (fresh && follows_closed(last)))?;
    // Never stuck: time and one good probe close it, unless somebody forced it open.
    recovered.clock().advance(Duration::from_secs(600));
    if breaker.mode() == Mode::Active {
        breaker.acquire()?.success();
        let state = breaker.state();
        if state != State::Closed {
            return Err(format!("a good probe left it {state}").into());
        }
    }
    Ok(())
}

/// The change after this one may have been the close that deletes the record.
fn follows_closed(last: &Ack) -> bool {
    matches!(last.state, State::Open | State::HalfOpen)
        && last.mode == Mode::Active
        && last.attempt > 0
}

#[test]
fn a_crash_anywhere_loses_no_transition_that_was_told() {
    let report = Simulation::new()
        .run(
            |sim: Sim<Ack>| {
                let store = sim.store().clone();
                scenario(sim, store)
            },
            survived,
        )
        .unwrap();
    resurge_testkit::evidence("breaker-crash-points", &report.to_string());
    assert!(report.crash_points > 50, "{report}");
}

#[derive(Clone, Copy, Debug)]
enum Bug {
    /// `Durable` is done as `Buffered`.
    DurableIsBuffered,
    /// Acknowledged when called.
    EarlyAck,
    /// Nothing is ever written.
    Lost,
    /// Nothing is ever deleted.
    DeletesDropped,
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
            Bug::Lost => Box::pin(async { Ok(CommitSeq(1)) }),
            Bug::DeletesDropped => {
                let mut kept = Batch::new();
                for op in batch.ops() {
                    if let Some(value) = op.value() {
                        kept.put(op.key().clone(), value.clone());
                    }
                }
                self.inner.commit(kept, durability)
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
    let bugs = [Bug::DurableIsBuffered, Bug::EarlyAck, Bug::Lost, Bug::DeletesDropped];
    let missed: Vec<_> = bugs
        .into_iter()
        .filter(|bug| {
            let bug = *bug;
            let run = Simulation::new().run(
                move |sim: Sim<Ack>| {
                    let inner = sim.store().clone();
                    let clock = sim.clock().clone();
                    let store = Store::new(Planted { inner, bug }).with_clock(clock);
                    scenario(sim, store)
                },
                survived,
            );
            run.is_ok()
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
