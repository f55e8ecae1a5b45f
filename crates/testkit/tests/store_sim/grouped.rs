//! The same store behind group commit, with its threads: what callers were told holds after a crash
//! at every operation.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, CommitSeq, Durability, Engine, ErrorKind, Group, GroupCommit, GroupOptions, Guard, Key,
    KeyRange, Page, Result as StoreResult, ScanOptions, StateStore, StoreInfo, VirtualClock,
};
use resurge_store_sled::SledEngine;
use resurge_testkit::{DiskLoss, IndexFate, SimIndex, SimVfs};
use tokio::runtime::{Builder, Runtime};

use crate::crash::{CASE, replay};
use crate::life::{DIR, Kind, Life};
use crate::model::Model;

const ROUNDS: u64 = 14;

/// Publishes each group only when the next one comes, and says at once that it did.
#[derive(Debug)]
struct Engines {
    engine: SledEngine,
    lags: bool,
    held: Mutex<Option<Arc<Group>>>,
}

impl Engine for Engines {
    fn last_seq(&self) -> CommitSeq {
        self.engine.last_seq()
    }

    fn get(&self, key: &Key) -> StoreResult<Option<Bytes>> {
        self.engine.get(key)
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> StoreResult<Page> {
        self.engine.scan(range, options)
    }

    fn log(&self, group: &Group) -> StoreResult<()> {
        self.engine.log(group)
    }

    fn sync(&self) -> StoreResult<()> {
        self.engine.sync()
    }

    fn publish(&self, group: &Arc<Group>) -> StoreResult<()> {
        if !self.lags {
            return self.engine.publish(group);
        }
        match self.held.lock().replace(Arc::clone(group)) {
            Some(before) => self.engine.publish(&before),
            None => Ok(()),
        }
    }

    fn info(&self) -> StoreInfo {
        self.engine.info()
    }

    fn close(&self) -> StoreResult<()> {
        self.engine.close()
    }
}

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    /// Rounds begun.
    begun: u64,
    /// Last round whose durable commit was acknowledged.
    durable: u64,
    /// Last round of which any commit was acknowledged.
    any: u64,
    /// Rounds in which somebody was refused, and so nothing of him may be seen.
    conflicts: u64,
}

/// In each round three commits on the way at once: a buffered one, a durable one that is guarded by
/// the first, and one that comes too late. `Err` is a broken promise.
fn callers(runtime: &Runtime, life: &mut Life, lags: bool) -> Result<Told, String> {
    let mut told = Told::default();
    let Ok((engine, _)) = SledEngine::open(DIR, life.options()) else { return Ok(told) };
    let clock = Arc::new(VirtualClock::new());
    let options = GroupOptions { clock, ..GroupOptions::default() };
    let engine = Engines { engine, lags, held: Mutex::default() };
    let store = GroupCommit::new(engine, options).map_err(|e| e.to_string())?;
    for round in 1..=ROUNDS {
        told.begun = round;
        let (mine, last) = (Model::key(1000 + round), Model::key(1));
        let value = |who: u8| [vec![who; 200], round.to_be_bytes().to_vec()].concat();
        let mut first = Batch::new();
        first.guard(mine.clone(), Guard::Absent).put(mine.clone(), value(1));
        let mut second = Batch::new();
        second.guard(mine.clone(), Guard::Exact(value(1).into())).put(mine.clone(), value(2));
        second.put(last, round.to_be_bytes().to_vec());
        let mut late = Batch::new();
        late.guard(mine.clone(), Guard::Absent).put(mine.clone(), value(3));
        let first = store.commit(first, Durability::Buffered);
        let second = store.commit(second, Durability::Durable);
        let late = store.commit(late, Durability::Durable);
        let (first, second, late) =
            runtime.block_on(async { (first.await, second.await, late.await) });
        if first.is_ok() {
            told.any = round;
        }
        if second.is_ok() {
            told.durable = round;
            let found = runtime.block_on(store.get(&mine));
            if !matches!(&found, Ok(Some(found)) if **found == value(2)) {
                return Err(format!("round {round}: acknowledged, and then {found:?}"));
            }
        }
        match late {
            Ok(_) => return Err(format!("round {round}: the late one was let in")),
            Err(e) if e.kind() == ErrorKind::Conflict => told.conflicts += 1,
            Err(_) => {}
        }
        if first.is_err() || second.is_err() {
            break;
        }
    }
    let _ = runtime.block_on(store.close());
    Ok(told)
}

/// Does the store show whole rounds up to somewhere, and all that was told?
fn check(mut life: Life, told: &Told, killed: bool) -> Result<(), String> {
    let opened = SledEngine::open(DIR, life.options());
    let (engine, _) = opened.map_err(|e| format!("unusable: {e} ({e:?})"))?;
    let get = |key: Key| engine.get(&key).map_err(|e| format!("opened, but: {e}"));
    let number = |bytes: &Bytes| bytes.last_chunk().map_or(0, |last| u64::from_be_bytes(*last));
    let last = get(Model::key(1))?.as_ref().map_or(0, number);
    let floor = if killed { told.durable.max(told.any.saturating_sub(1)) } else { told.durable };
    if last < floor || last > told.begun {
        return Err(format!("LOST: the last round is {last}, {told:?}"));
    }
    for round in 1..=ROUNDS {
        let found = get(Model::key(1000 + round))?;
        let who = found.as_ref().and_then(|value| value.first().copied());
        let whole = found.as_ref().is_none_or(|value| number(value) == round && value.len() == 208);
        let right = match who {
            Some(2) => round <= last,
            // The buffered one of the round that was not finished.
            Some(1) => round == last + 1 && round <= told.begun,
            None => round > last && !(killed && round <= told.any),
            _ => false,
        };
        if !whole || !right {
            return Err(format!("WRONG: round {round} is {who:?}, the last one {last}, {told:?}"));
        }
    }
    Ok(())
}

/// A crash at every operation; returns the number of states.
pub(crate) fn run(kind: Kind, lags: bool) -> Result<u64, String> {
    let runtime = Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    let only = std::env::var(CASE).ok();
    let mut whole = Life::new(kind, None);
    whole.disk.record();
    let told = callers(&runtime, &mut whole, lags)?;
    if told.durable != ROUNDS || told.conflicts != ROUNDS {
        return Err(format!("without any crash: {told:?}"));
    }
    let mut states = 0;
    // Groups differ from run to run, and with them the operations.
    for op in 1..=whole.disk.operations() {
        let case = format!("grouped {kind:?} at={op}");
        if only.as_ref().is_some_and(|only| *only != case) {
            continue;
        }
        let mut life = Life::new(kind, None);
        life.disk.crash_at(op);
        let told = callers(&runtime, &mut life, lags).map_err(|bug| replay(&case, &bug))?;
        let cuts = [DiskLoss::All, DiskLoss::Subset { seed: op }, DiskLoss::Torn { seed: op }];
        let disks = cuts.map(|loss| (life.disk.power_cut(loss), false));
        let disks: Vec<(SimVfs, bool)> =
            disks.into_iter().chain([(life.disk.kill(), true)]).collect();
        for (disk, killed) in disks {
            for index in [life.index.crash(IndexFate::Intact), SimIndex::new()] {
                let after = life.after(disk.fork(), index);
                check(after, &told, killed)
                    .map_err(|bug| replay(&case, &format!("killed={killed}: {bug}")))?;
                states += 1;
            }
        }
    }
    Ok(states)
}
