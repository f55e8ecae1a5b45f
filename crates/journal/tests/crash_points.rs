//! A crash after every commit of a journal's life, with everything each crash may take.

use resurge_journal::{JournalError, JournalOptions, Journaled, Lsn, PlainMachine};
use resurge_store::{Batch, Durability, Key, Namespace, Store};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Sim, Simulation};
use serde::{Deserialize, Serialize};

/// Every event, and a number that depends on their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ledger {
    events: Vec<u64>,
    order: u64,
}

impl PlainMachine for Ledger {
    type Event = u64;

    fn apply(&mut self, event: &u64) {
        self.events.push(*event);
        self.order = self.order.wrapping_mul(31).wrapping_add(*event);
    }
}

/// What somebody was told.
#[derive(Clone, Debug)]
enum Told {
    /// This event has this number.
    Logged(Lsn, u64),
    /// The receipt that shares a commit with this event is there.
    Receipt(u64),
    /// The state was this one.
    Saw(usize, u64),
    /// A snapshot covers this much.
    Snapshot(u64),
}

fn options() -> JournalOptions {
    JournalOptions {
        snapshot_interval: None,
        snapshot_events: Some(6),
        retain: 2,
        chunk_bytes: 24,
        ..JournalOptions::default()
    }
}

async fn open(store: &Store) -> Result<Journaled<Ledger>, Failure> {
    Ok(Journaled::open(store, "ledger", options()).await?.0)
}

fn receipt(event: u64) -> Result<Key, Failure> {
    Ok(Namespace::new("receipts")?.key(event.to_be_bytes())?)
}

async fn look(sim: &Sim<Told>, journal: &Journaled<Ledger>) -> Result<(), Failure> {
    let (events, order) = journal.read(|ledger| (ledger.events.len(), ledger.order)).await?;
    sim.ack(Told::Saw(events, order));
    Ok(())
}

async fn write(sim: Sim<Told>, journal: Journaled<Ledger>, writer: u64) -> Result<(), Failure> {
    for n in 0..4 {
        let event = writer * 100 + n;
        if n == 2 {
            let key = receipt(event)?;
            let stage = journal.stage().await?;
            let committed = {
                let mut batch = Batch::new();
                batch.put(key, "received");
                let staged = stage.write([event], &mut batch)?;
                let commit = sim.store().commit(batch, Durability::Durable);
                staged.submitted(commit, Durability::Durable)
            };
            committed.await?;
            sim.ack(Told::Receipt(event));
        } else {
            let lsn = journal.record(event).await?;
            sim.ack(Told::Logged(lsn, event));
        }
    }
    Ok(())
}

async fn scenario(sim: Sim<Told>) -> Result<(), Failure> {
    let journal = open(sim.store()).await?;
    for event in 1..=3 {
        sim.ack(Told::Logged(journal.record(event).await?, event));
    }
    let all = journal.record_all([4, 5]).await?;
    sim.ack(Told::Logged(all.start, 4));
    sim.ack(Told::Logged(all.start.next(), 5));
    if let Some(info) = journal.snapshot_now().await? {
        sim.ack(Told::Snapshot(info.position));
    }
    let writers: Vec<_> =
        (1..=3).map(|writer| tokio::spawn(write(sim.clone(), journal.clone(), writer))).collect();
    look(&sim, &journal).await?;
    for writer in writers {
        writer.await??;
    }
    let doubled =
        journal.decide(|ledger| Ok::<_, JournalError>(([ledger.order], ledger.order))).await?;
    sim.ack(Told::Logged(Lsn(18), doubled));
    // Two more, so that retention removes and the log is truncated.
    for event in 6..=7 {
        sim.ack(Told::Logged(journal.record(event).await?, event));
        if let Some(info) = journal.snapshot_now().await? {
            sim.ack(Told::Snapshot(info.position));
        }
    }
    look(&sim, &journal).await?;
    journal.close().await?;
    let journal = open(sim.store()).await?;
    sim.ack(Told::Logged(journal.record(8).await?, 8));
    Ok(())
}

async fn check(recovered: Recovered<Told>) -> Result<(), Failure> {
    let store = recovered.store();
    let (journal, report) = Journaled::<Ledger>::open(store, "ledger", options()).await?;
    let ledger = journal.read(Ledger::clone).await?;
    assert!(report.fell_back.is_empty(), "{:?}", report.fell_back);
    assert_eq!(report.last_lsn.0, ledger.events.len() as u64);
    for told in recovered.acks() {
        let held = match told {
            Told::Logged(lsn, event) => {
                let index = usize::try_from(lsn.0)? - 1;
                ledger.events.get(index) == Some(event)
            }
            Told::Receipt(event) => ledger.events.contains(event),
            Told::Saw(events, order) => ledger.events.get(..*events).is_some_and(|seen| {
                let mut then = Ledger::default();
                for event in seen {
                    PlainMachine::apply(&mut then, event);
                }
                then.order == *order
            }),
            Told::Snapshot(position) => report.snapshot_lsn.0 >= *position,
        };
        recovered.survived(told, held)?;
    }
    // The other half of a shared commit: both or neither, told or not.
    for event in [102, 202, 302] {
        let stored = store.get(&receipt(event)?).await?.is_some();
        assert_eq!(stored, ledger.events.contains(&event), "half of a commit: {event}");
    }
    // No event is there twice, and it goes on.
    let mut once = ledger.events.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ledger.events.len());
    journal.record(1_000).await?;
    journal.snapshot_now().await?;
    drop(journal);
    let (journal, _) = Journaled::<Ledger>::open(store, "ledger", options()).await?;
    let mut expected = ledger;
    PlainMachine::apply(&mut expected, &1_000);
    assert_eq!(journal.read(Ledger::clone).await?, expected);
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let mut points = 0;
    let mut second = 0;
    for seed in 1..=3 {
        let report = Simulation::new()
            .seed(seed)
            .max_cuts(4)
            .second_crashes(1)
            .run(scenario, check)
            .unwrap();
        assert!(report.commits >= 35, "{report:?}");
        assert!(report.acknowledged > 20 && report.checked_acks > 1_000, "{report:?}");
        assert_eq!(report.lost_acks, 0);
        points += report.crash_points;
        second += report.second_crashes;
    }
    evidence(
        "journal-crash-points",
        &format!(
            "{points} crash points, 0 lost acknowledgements ({second} crashed again while recovering)"
        ),
    );
}
