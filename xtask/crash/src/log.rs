//! A write-ahead log with many writers: every acknowledged record under its number, none twice, no gap.

use std::collections::{BTreeMap, HashMap};

use resurge_store::Store;
use resurge_testkit::Failure;
use resurge_wal::{Lsn, Wal, WalOptions};
use tokio::task::JoinSet;

use crate::child::{Planted, say};
use crate::parent::Tally;

const NAME: &str = "crash-log";
const WRITERS: u64 = 8;
/// Records kept when the log is truncated.
const KEPT: u64 = 2_000;
/// A truncation after so many records.
const TRUNCATE_EVERY: u64 = 500;

/// Cycle, writer, number, and some bytes.
type Entry = (u64, u64, u64, String);

async fn open(store: &Store) -> Result<Wal<Entry>, Failure> {
    Ok(Wal::open(store, NAME, WalOptions::default()).await?.0)
}

/// Starts the writers.
pub(crate) async fn start(
    store: &Store,
    cycle: u64,
    planted: Planted,
    tasks: &mut JoinSet<Result<(), Failure>>,
) -> Result<(), Failure> {
    let wal = std::sync::Arc::new(open(store).await?);
    for writer in 0..WRITERS {
        let wal = std::sync::Arc::clone(&wal);
        tasks.spawn(async move {
            for n in 0.. {
                let filler = "x".repeat(usize::try_from(n % 200)?);
                let append = wal.append(&(cycle, writer, n, filler));
                let lsn = append.lsn().ok_or("an append was refused")?;
                let line = format!("log {lsn} {cycle} {writer} {n}");
                if planted == Planted::EarlyLog {
                    say(&line)?;
                    append.await?;
                } else {
                    append.await?;
                    say(&line)?;
                }
                if writer == 0 && n % TRUNCATE_EVERY == TRUNCATE_EVERY - 1 && lsn.0 > KEPT {
                    let before = Lsn(lsn.0 - KEPT);
                    // Said first: from here on the older ones may be gone.
                    say(&format!("truncating {before}"))?;
                    wal.truncate_before(before).await?;
                }
            }
            Ok(())
        });
    }
    Ok(())
}

/// What the children said so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    records: BTreeMap<Lsn, (u64, u64, u64)>,
    truncating: u64,
    /// The highest number of all earlier cycles.
    before: u64,
}

impl Told {
    /// Takes in `log LSN CYCLE WRITER N`.
    pub(crate) fn hear(&mut self, words: &[&str], tally: &mut Tally) -> Result<(), Failure> {
        let [lsn, cycle, writer, n] = words else {
            return Err("a log line has four numbers".into());
        };
        let lsn = Lsn(lsn.parse()?);
        if lsn.0 <= self.before {
            tally.disorder(&format!("record {lsn} after {} of an earlier life", self.before));
        }
        let record = (cycle.parse()?, writer.parse()?, n.parse()?);
        if self.records.insert(lsn, record).is_some() {
            tally.disorder(&format!("two records were told under {lsn}"));
        }
        Ok(())
    }

    /// Takes in `truncating LSN`.
    pub(crate) fn hear_truncating(&mut self, words: &[&str]) -> Result<(), Failure> {
        let [before] = words else { return Err("a truncation has one number".into()) };
        self.truncating = self.truncating.max(before.parse()?);
        Ok(())
    }

    /// Looks for all of it.
    pub(crate) async fn verify(&mut self, store: &Store, tally: &mut Tally) -> Result<(), Failure> {
        self.before = self.records.last_key_value().map_or(self.before, |(lsn, _)| lsn.0);
        let wal = open(store).await?;
        let first = wal.first_lsn();
        if first.0 > self.truncating.max(1) {
            tally.lost(
                1,
                &format!("the log begins at {first}, truncated before {}", self.truncating),
            );
        }
        // What was truncated on purpose is not looked for any more.
        self.records = self.records.split_off(&first);
        let mut missing = self.records.clone();
        let mut expected = first;
        let mut newest: HashMap<(u64, u64), u64> = HashMap::new();
        let mut replay = wal.replay(first).await?;
        while let Some((lsn, (cycle, writer, n, _))) = replay.next().await? {
            if lsn != expected {
                tally.disorder(&format!("record {lsn} where {expected} is next"));
            }
            expected = Lsn(lsn.0 + 1);
            if let Some(before) = newest.insert((cycle, writer), n)
                && n != before + 1
            {
                tally.disorder(&format!("{lsn}: {n} follows {before} of writer {writer}"));
            }
            if let Some(told) = missing.remove(&lsn)
                && told != (cycle, writer, n)
            {
                tally.lost(
                    1,
                    &format!("record {lsn} is {:?}, told was {told:?}", (cycle, writer, n)),
                );
            }
        }
        if let Some((lsn, _)) = missing.first_key_value() {
            tally.lost(missing.len() as u64, &format!("records of the log, the first is {lsn}"));
        }
        wal.close().await?;
        Ok(())
    }
}
