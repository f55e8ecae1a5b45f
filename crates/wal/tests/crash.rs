//! A crash after every commit of a scenario, with everything it may take, and again while recovering.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use resurge_store::{Batch, Durability, Namespace, Store};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Sim, Simulation};
use resurge_wal::{Lsn, Tickets, Wal, WalOptions};

/// What somebody was told.
#[derive(Clone, Debug)]
enum Ack {
    Record(&'static str, u64, String),
    /// The records from here on are all that is kept.
    Bound(u64),
}

fn options() -> WalOptions {
    WalOptions { page_bytes: 256, ..WalOptions::default() }
}

async fn open(store: &Store, name: &str) -> Result<Wal<String>, Failure> {
    Ok(Wal::open(store, name, options()).await?.0)
}

/// Appends, all at once, staged across two logs, with writers side by side, truncations and reopens.
async fn scenario(sim: Sim<Ack>) -> Result<(), Failure> {
    let store = sim.store().clone();
    for life in 0..2 {
        let main = open(&store, "main").await?;
        let side = open(&store, "side").await?;
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (sim, main) = (sim.clone(), main.clone());
                tokio::spawn(async move {
                    for i in 0..3 {
                        let record = format!("{life} {writer} {i} {}", "x".repeat(i * 90));
                        let lsn = main.append(&record).await?;
                        sim.ack(Ack::Record("main", lsn.0, record));
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        let all: Vec<_> = (0..3).map(|i| format!("{life} all {i}")).collect();
        let lsns = main.append_all(&all).await?;
        for (lsn, record) in (lsns.start.0..).zip(all) {
            sim.ack(Ack::Record("main", lsn, record));
        }
        for writer in writers {
            writer.await??;
        }
        let mut tickets = Tickets::new().of(&main).of(&side).acquire().await?;
        let (mut a, mut b) = (tickets.stage(&main)?, tickets.stage(&side)?);
        let record = format!("{life} both");
        a.push(&record)?;
        b.push(&record)?;
        let mut batch = Batch::new();
        let (a, b) = (a.write(&mut batch)?, b.write(&mut batch)?);
        let (at, bt) = (a.lsns().start.0, b.lsns().start.0);
        batch.put(Namespace::new("app")?.key(format!("{bt}"))?, record.clone());
        let commit = store.commit(batch, Durability::Durable);
        let commit = a.submitted(commit, Durability::Durable);
        b.submitted(commit, Durability::Durable).await?;
        sim.ack(Ack::Record("main", at, record.clone()));
        sim.ack(Ack::Record("side", bt, record));
        // Given up, with somebody queued behind.
        let mut stage = main.stage().await?;
        stage.push(&"never".to_owned())?;
        let staged = stage.write(&mut Batch::new())?;
        let record = format!("{life} behind");
        let behind = main.append(&record);
        drop(staged);
        sim.ack(Ack::Record("main", behind.await?.0, record));
        let mut buffered = side.stage().await?;
        buffered.push(&format!("{life} buffered"))?;
        buffered.commit(Batch::new(), Durability::Buffered)?.await?;
        let bound = main.truncate_before(Lsn(at.saturating_sub(4))).await?.first_lsn;
        sim.ack(Ack::Bound(bound.0));
        let record = format!("{life} last");
        let lsn = main.append(&record).await?;
        sim.ack(Ack::Record("main", lsn.0, record));
    }
    Ok(())
}

async fn read(wal: &Wal<String>) -> Result<BTreeMap<u64, String>, Failure> {
    let mut found = BTreeMap::new();
    let mut replay = wal.replay(Lsn::START).await?;
    while let Some((lsn, record)) = replay.next().await? {
        assert!(found.insert(lsn.0, record).is_none());
    }
    Ok(found)
}

async fn check(recovered: Recovered<Ack>) -> Result<(), Failure> {
    let store = recovered.store();
    let main = open(store, "main").await?;
    let side = open(store, "side").await?;
    let (in_main, in_side) = (read(&main).await?, read(&side).await?);
    let mut top = 0;
    for ack in recovered.acks() {
        match ack {
            Ack::Record(log, lsn, record) => {
                let (wal, found) =
                    if *log == "main" { (&main, &in_main) } else { (&side, &in_side) };
                let there = found.get(lsn) == Some(record);
                recovered.survived(ack, there || Lsn(*lsn) < wal.first_lsn())?;
                if *log == "main" {
                    top = top.max(*lsn);
                }
            }
            Ack::Bound(first) => recovered.survived(ack, main.first_lsn() >= Lsn(*first))?,
        }
    }
    for wal in [&main, &side] {
        let report = wal.verify().await?;
        assert!(report.is_intact(), "{report:?}");
    }
    for found in [&in_main, &in_side] {
        assert!(found.values().all(|record| record != "never"), "{found:?}");
    }
    // All or nothing: `append_all`, and what two logs and a key share.
    for life in 0..2 {
        if life == 0 && main.first_lsn() > Lsn(1) {
            continue; // truncated in the second life
        }
        let whole = |n: &usize| in_main.values().any(|r| *r == format!("{life} all {n}"));
        let there = (0..3).filter(whole).count();
        assert!(there == 0 || there == 3, "half of an append_all");
        let both = format!("{life} both");
        let at = in_side.iter().find(|(_, record)| **record == both).map(|(lsn, _)| *lsn);
        let in_main = in_main.values().any(|record| *record == both);
        assert_eq!(in_main, at.is_some(), "half of a stage");
        if let Some(lsn) = at {
            let key = Namespace::new("app")?.key(format!("{lsn}"))?;
            assert!(store.get(&key).await?.is_some(), "half of a batch");
        }
    }
    // Numbers go on, and so does the log.
    let lsn = main.append(&"after".to_owned()).await?;
    assert!(lsn.0 > top, "{lsn} was given before");
    assert_eq!(read(&open(store, "main").await?).await?.last_key_value().unwrap().0, &lsn.0);
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let report = Simulation::new().second_crashes(3).run(scenario, check).unwrap();
    assert!(report.crash_points > 300, "{report}");
    evidence("wal-crash-points", &report.to_string());
}
