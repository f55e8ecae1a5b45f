//! A journaled state machine: recovered from snapshot and log, each event applied exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use resurge_journal::{JournalError, JournalOptions, Journaled, PlainMachine, RecoveryReport};
use resurge_store::Store;
use resurge_testkit::Failure;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::child::{Planted, say};
use crate::parent::Tally;

const WRITERS: u64 = 16;

/// Each writer counts; what is counted twice or left out is noticed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counters {
    events: u64,
    newest: BTreeMap<u64, u64>,
    out_of_turn: u64,
    /// So that a snapshot is more than one piece.
    recent: Vec<(u64, u64)>,
}

impl PlainMachine for Counters {
    /// Writer and number.
    type Event = (u64, u64);

    fn apply(&mut self, &(writer, n): &(u64, u64)) {
        self.events += 1;
        let before = self.newest.insert(writer, n).unwrap_or(0);
        self.out_of_turn += u64::from(n != before + 1);
        self.recent.push((writer, n));
        if self.recent.len() > 2_000 {
            self.recent.drain(..1_000);
        }
    }
}

async fn open(store: &Store) -> Result<(Journaled<Counters>, RecoveryReport), Failure> {
    let options = JournalOptions {
        snapshot_interval: Some(Duration::from_millis(20)),
        snapshot_events: Some(2_000),
        retain: 3,
        chunk_bytes: 4 << 10,
        ..JournalOptions::default()
    };
    Ok(Journaled::open(store, "crash-journal", options).await?)
}

/// Starts the writers.
pub(crate) async fn start(
    store: &Store,
    planted: Planted,
    tasks: &mut JoinSet<Result<(), Failure>>,
) -> Result<(), Failure> {
    let (journal, _) = open(store).await?;
    let journal = Arc::new(journal);
    for writer in 0..WRITERS {
        let journal = Arc::clone(&journal);
        tasks.spawn(async move { write(&journal, planted, writer).await });
    }
    Ok(())
}

/// Half of the writers know their number, the others decide upon the state.
async fn write(
    journal: &Journaled<Counters>,
    planted: Planted,
    writer: u64,
) -> Result<(), Failure> {
    let newest = |state: &Counters| state.newest.get(&writer).copied().unwrap_or(0);
    let mut n = journal.read(newest).await?;
    loop {
        n += 1;
        if planted == Planted::EarlyEvent {
            say(&format!("event {writer} {n}"))?;
            journal.record((writer, n)).await?;
        } else if writer.is_multiple_of(2) {
            let lsn = journal.record((writer, n)).await?;
            say(&format!("event {writer} {n} {lsn}"))?;
        } else {
            n = journal
                .decide(|state| {
                    let next = newest(state) + 1;
                    Ok::<_, JournalError>((Some((writer, next)), next))
                })
                .await?;
            say(&format!("event {writer} {n}"))?;
        }
    }
}

/// What the children said so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    newest: BTreeMap<u64, u64>,
    /// The highest event of all earlier cycles, and of this one.
    lsn_before: u64,
    lsn: u64,
}

impl Told {
    /// Takes in `event WRITER N LSN`; the last one may be missing.
    pub(crate) fn hear(&mut self, words: &[&str], tally: &mut Tally) -> Result<(), Failure> {
        let [writer, n, lsn @ ..] = words else { return Err("an event line has numbers".into()) };
        let (writer, n): (u64, u64) = (writer.parse()?, n.parse()?);
        let before = self.newest.insert(writer, n).unwrap_or(0);
        if n <= before {
            tally.disorder(&format!("event {n} of writer {writer} was told after {before}"));
        }
        if let [lsn] = lsn {
            let lsn: u64 = lsn.parse()?;
            if lsn <= self.lsn_before {
                let before = self.lsn_before;
                tally.disorder(&format!("event {lsn} after {before} of an earlier life"));
            }
            self.lsn = self.lsn.max(lsn);
        }
        Ok(())
    }

    /// Recovers the state and looks for all of it.
    pub(crate) async fn verify(&mut self, store: &Store, tally: &mut Tally) -> Result<(), Failure> {
        self.lsn_before = self.lsn;
        let (journal, report) = open(store).await?;
        let state = journal.read(Counters::clone).await?;
        if !report.fell_back.is_empty() {
            tally.disorder(&format!("damaged snapshots: {:?}", report.fell_back));
        }
        if state.events != report.last_lsn.0 || state.out_of_turn > 0 {
            let Counters { events, out_of_turn, .. } = state;
            let last = report.last_lsn;
            tally
                .disorder(&format!("{events} events of {last} applied, {out_of_turn} out of turn"));
        }
        if report.last_lsn.0 < self.lsn {
            let missing = self.lsn - report.last_lsn.0;
            tally.lost(missing, &format!("events after {}", report.last_lsn));
        }
        for (writer, told) in &self.newest {
            let there = state.newest.get(writer).copied().unwrap_or(0);
            if there < *told {
                tally.lost(told - there, &format!("writer {writer}: {told} told, {there} there"));
            }
        }
        Ok(journal.close().await?)
    }
}
