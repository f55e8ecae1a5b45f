//! Positive controls: over a store that gets one thing wrong, the check that is about it must fail.
//! The same checks pass when nothing is planted.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use resurge_store::{Batch, Durability, Namespace, Record, Store, Timestamp, VirtualClock};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Sim, Simulation};
use resurge_wal::{Lsn, Wal, WalError};
use support::planted::{Bug, plant, plant_and};
use support::{LOG, options, read};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Check {
    /// After any crash, what was acknowledged is there and no batch is half there.
    Crashes,
    /// What was appended is what is read.
    Replay,
    /// The later of two writers wins, and nothing of the other is written.
    Fencing,
    /// The expired is hidden and swept, the renewed and the others stay.
    Sweeping,
}

const CHECKS: [Check; 4] = [Check::Crashes, Check::Replay, Check::Fencing, Check::Sweeping];

const ALL: &[(Bug, Check)] = &[
    (Bug::GuardsDropped, Check::Fencing),
    (Bug::GuardsDropped, Check::Sweeping),
    (Bug::ExactDropped, Check::Fencing),
    (Bug::ExactDropped, Check::Sweeping),
    (Bug::ExactIsPresent, Check::Fencing),
    (Bug::ExactIsPresent, Check::Sweeping),
    (Bug::EarlyAck, Check::Crashes),
    (Bug::DurableIsBuffered, Check::Crashes),
    (Bug::SyncDoesNothing, Check::Crashes),
    (Bug::UnknownIsDone, Check::Crashes),
    (Bug::BatchInTwo, Check::Crashes),
    (Bug::HalfABatch, Check::Replay),
    (Bug::CommitLost, Check::Crashes),
    (Bug::CommitLost, Check::Replay),
    (Bug::CommitsSwapped, Check::Replay),
    (Bug::DoneAndRefused, Check::Replay),
    (Bug::DeletesDropped, Check::Sweeping),
    (Bug::ExpiryLost, Check::Sweeping),
    (Bug::ValuesCut, Check::Replay),
    (Bug::BitFlipped, Check::Replay),
    (Bug::EntrySkipped, Check::Replay),
    (Bug::StaleGet, Check::Fencing),
];

fn unless(holds: bool, what: impl Into<String>) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

/// Appends, a record that shares a commit with a key, and one that a sync makes durable.
async fn scenario(bug: Bug, sim: Sim<(u64, String)>) -> Result<(), Failure> {
    let store = plant(bug, sim.store()).with_clock(sim.clock().clone());
    let wal = Wal::<String>::open(&store, LOG, options()).await?.0;
    for i in 0..5 {
        let record = format!("record {i}");
        let lsn = wal.append(&record).await?;
        sim.ack((lsn.0, record));
        let mut stage = wal.stage().await?;
        let record = format!("shared {i}");
        stage.push(&record)?;
        let mut batch = Batch::new();
        batch.put(Namespace::new("app")?.key(&record)?, "there");
        let staged = stage.commit(batch, Durability::Durable)?;
        let lsn = staged.lsns().start.0;
        staged.await?;
        sim.ack((lsn, record));
        let mut stage = wal.stage().await?;
        let record = format!("synced {i}");
        stage.push(&record)?;
        let staged = stage.commit(Batch::new(), Durability::Buffered)?;
        let lsn = staged.lsns().start.0;
        staged.await?;
        store.sync().await?;
        sim.ack((lsn, record));
    }
    Ok(())
}

async fn survived(recovered: Recovered<(u64, String)>) -> Result<(), Failure> {
    let store = recovered.store();
    let wal = Wal::<String>::open(store, LOG, options()).await?.0;
    let (found, end) = read(&wal).await;
    end?;
    for ack in recovered.acks() {
        recovered.survived(ack, found.contains(ack))?;
    }
    for i in 0..5 {
        let record = format!("shared {i}");
        let key = store.get(&Namespace::new("app")?.key(&record)?).await?;
        let logged = found.iter().any(|(_, found)| *found == record);
        unless(key.is_some() == logged, format!("half of {record}"))?;
    }
    unless(wal.verify().await?.is_intact(), "damaged")
}

fn crashes(bug: Bug) -> Result<(), Failure> {
    Simulation::new().run(move |sim| scenario(bug, sim), survived)?;
    Ok(())
}

async fn replay(bug: Bug) -> Result<(), Failure> {
    let store = plant(bug, &Store::memory());
    let wal = Wal::<String>::open(&store, LOG, options()).await?.0;
    let mut expected = Vec::new();
    for i in 0..8 {
        let record = format!("{i} {}", "x".repeat(60));
        expected.push((wal.append(&record).await?.0, record));
    }
    let wal = Wal::<String>::open(&store, LOG, options()).await?.0;
    let (found, end) = read(&wal).await;
    end?;
    unless(found == expected, format!("{found:?}"))?;
    unless(wal.verify().await?.is_intact(), "damaged")
}

async fn fencing(bug: Bug) -> Result<(), Failure> {
    let store = plant(bug, &Store::memory());
    let first = Wal::<String>::open(&store, LOG, options()).await?.0;
    first.append(&"a".to_owned()).await?;
    let second = Wal::<String>::open(&store, LOG, options()).await?.0;
    second.append(&"b".to_owned()).await?;
    match first.append(&"late".to_owned()).await {
        Err(WalError::Fenced { .. }) => {}
        other => return Err(format!("not fenced: {other:?}").into()),
    }
    let (found, end) = read(&second).await;
    end?;
    let expected = [(1, "a".to_owned()), (2, "b".to_owned())];
    unless(found == expected, format!("{found:?}"))?;
    unless(second.append(&"c".to_owned()).await? == Lsn(3), "a number given twice")
}

async fn sweeping(bug: Bug) -> Result<(), Failure> {
    let (clock, plain) = (VirtualClock::new(), Store::memory());
    let plain = plain.with_clock(clock.clone());
    let ns = Namespace::new("app")?;
    let at = |seconds: u64, now: Timestamp| now.saturating_add(Duration::from_secs(seconds));
    let record = |name: &str, seconds: u64| -> Result<Batch, Failure> {
        let key = ns.key(name)?;
        let record = Record::new(name.to_owned()).expires_at(at(seconds, plain.now()));
        let mut batch = Batch::new();
        batch.put(key.clone(), record.encode(&key));
        Ok(batch)
    };
    for (name, seconds) in [("expired", 1), ("renewed", 1), ("young", 9)] {
        plain.commit(record(name, seconds)?, Durability::Durable).await?;
    }
    clock.advance(Duration::from_secs(2));
    // Somebody renews one between the look and the delete.
    let store = plant_and(bug, &plain, Some(record("renewed", 9)?)).with_clock(clock.clone());
    let expired = ns.key("expired")?;
    unless(store.read(&expired).await?.payload().is_none(), "the expired is shown")?;
    store.sweep(ns.all()).await?;
    for name in ["renewed", "young"] {
        unless(plain.get(&ns.key(name)?).await?.is_some(), format!("{name} was deleted"))?;
    }
    unless(plain.get(&expired).await?.is_none(), "the expired is still there")
}

fn run(check: Check, bug: Bug) -> Result<(), Failure> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match check {
        Check::Crashes => crashes(bug),
        Check::Replay => runtime().block_on(replay(bug)),
        Check::Fencing => runtime().block_on(fencing(bug)),
        Check::Sweeping => runtime().block_on(sweeping(bug)),
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, check) in ALL {
        match run(*check, *bug) {
            Ok(()) => missed.push((bug, check)),
            Err(e) => println!("{bug:?}: {check:?}: {}", e.to_string().lines().next().unwrap()),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
    let bugs: BTreeSet<Bug> = ALL.iter().map(|(bug, _)| *bug).collect();
    let line = format!("{} of {0} planted bugs caught, by {} checks", bugs.len(), CHECKS.len());
    evidence("pattern-planted-bugs", &line);
}

#[test]
fn without_a_bug_the_same_checks_pass() {
    for check in CHECKS {
        run(check, Bug::None).unwrap();
        assert!(ALL.iter().any(|(_, catcher)| *catcher == check), "{check:?} has no control");
    }
}
