//! What the store promised so far, and what a reopened store may therefore hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{
    Batch, CommitSeq, Engine, Key, KeyRange, Namespace, Op, Page, ScanOptions, StoreError,
};
use resurge_store_sled::{How, OpenReport, SkippedImage, SledEngine};

use crate::life::{Kind, Stop};

/// So few that they are overwritten and deleted all the time.
const KEYS: u64 = 13;

pub(crate) type State = BTreeMap<Key, Bytes>;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The state after each commit that may exist.
    states: BTreeMap<u64, Arc<State>>,
    /// Last commits of the groups in it.
    ends: BTreeSet<u64>,
    /// Last commit that must survive a power cut.
    pub(crate) acked: u64,
    /// Last commit that must survive a kill.
    pub(crate) visible: u64,
    /// Last commit that may be on disk.
    pub(crate) issued: u64,
    /// Where images were begun.
    images: BTreeSet<u64>,
    /// Perhaps closed in good order, and not opened since.
    pub(crate) closed: bool,
    /// Never the same bytes twice, though sequences are used again.
    fresh: u64,
}

/// What a reopened store is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) kind: Kind,
    /// The index can be believed: `Some(whether)`, when it can be told beforehand.
    pub(crate) sound: Option<bool>,
    /// Nothing was torn: the super file is whole.
    pub(crate) undamaged: bool,
    /// Every image can be read.
    pub(crate) readable: bool,
    /// The super file or images were harmed: the report may say so.
    pub(crate) harmed: bool,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            states: BTreeMap::from([(0, Arc::default())]),
            ends: BTreeSet::from([0]),
            acked: 0,
            visible: 0,
            issued: 0,
            images: BTreeSet::new(),
            closed: false,
            fresh: 0,
        }
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    pub(crate) fn key(n: u64) -> Key {
        Namespace::new("sim").and_then(|ns| ns.key(n.to_be_bytes())).expect("a short key")
    }

    pub(crate) fn state(&self, seq: u64) -> Option<&Arc<State>> {
        self.states.get(&seq)
    }

    /// A batch that puts the same new value under two keys, a longer one under a third, and deletes
    /// now and then.
    pub(crate) fn batch(&mut self, len: usize) -> Batch {
        let n = self.fresh();
        let word = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).to_be_bytes();
        let long = word.iter().copied().cycle().take(len).collect::<Vec<_>>();
        let mut batch = Batch::new();
        batch.put(Self::key(100), word.to_vec()).put(Self::key(n % KEYS), long);
        if n.is_multiple_of(3) {
            batch.delete(Self::key((n * 5) % KEYS));
        }
        batch.put(Self::key(101), word.to_vec());
        batch
    }

    /// These batches may be in the log from now on, all of them or none.
    pub(crate) fn issue(&mut self, batches: &[Batch]) {
        let mut state = State::clone(&self.states[&self.issued]);
        for batch in batches {
            for op in batch.ops() {
                match op {
                    Op::Put { key, value } => drop(state.insert(key.clone(), value.clone())),
                    Op::Delete { key } => drop(state.remove(key)),
                }
            }
            self.issued += 1;
            self.states.insert(self.issued, Arc::new(state.clone()));
        }
        self.ends.insert(self.issued);
    }

    /// The last group was refused: nothing was written.
    pub(crate) fn withdraw(&mut self, last: u64) {
        self.states.split_off(&(last + 1));
        self.ends.split_off(&(last + 1));
        self.issued = last;
    }

    pub(crate) fn synced(&mut self, upto: u64) {
        self.acked = self.acked.max(upto);
    }

    pub(crate) fn published(&mut self, upto: u64) {
        self.visible = self.visible.max(upto);
    }

    /// What was only in the page cache is not promised any more.
    pub(crate) fn power_cut(&mut self) {
        self.visible = self.acked;
    }

    /// Is this reopened store one that keeps its promises? From then on, what it holds is promised.
    pub(crate) fn check_opened(
        &mut self,
        engine: &SledEngine,
        report: &OpenReport,
        expected: Expected,
    ) -> Result<(), Stop> {
        let last = report.last_seq.0;
        let floor = self.acked.max(self.visible);
        if last < floor {
            return bug(format!("LOST: {floor} was acknowledged, the store ends at {last}"));
        }
        if last > self.issued || !self.ends.contains(&last) {
            return bug(format!("MADE UP: the store ends at {last}, groups at {:?}", self.ends));
        }
        self.check_report(report, expected)?;
        self.withdraw(last);
        self.acked = last;
        self.visible = last;
        self.closed = false;
        self.check_contents(engine)?;
        if expected.readable && !expected.harmed { self.check_status(engine) } else { Ok(()) }
    }

    fn check_report(&self, report: &OpenReport, expected: Expected) -> Result<(), Stop> {
        let last = report.last_seq.0;
        let damaged = |image: &SkippedImage| {
            !expected.harmed && (expected.readable || image.quarantined.is_some())
        };
        if report.salvaged.is_some() || report.images_skipped.iter().any(damaged) {
            return bug(format!("a crash damaged something: {report}"));
        }
        if report.tail_cut.is_some() && self.issued == self.acked {
            return bug(format!("a tail was cut though nothing was in flight: {report}"));
        }
        if expected.undamaged && !expected.harmed && report.super_slot.is_some() {
            return bug(format!("the super file is damaged: {report}"));
        }
        let right = match (&report.how, expected.kind) {
            (How::Fresh, _) => last == 0 && self.acked == 0,
            (How::Loaded, Kind::Memory) => true,
            (How::Verified | How::Trusted, Kind::Indexed) => expected.sound != Some(false),
            (How::Rebuilt { .. }, Kind::Indexed) => expected.sound != Some(true),
            _ => false,
        };
        if !right {
            return bug(format!("not as expected, {expected:?}: {report}"));
        }
        if let Some(image) = report.from_image
            && !self.images.contains(&image.0)
        {
            return bug(format!("an image nobody took, of {:?}: {report}", self.images));
        }
        let base = report.from_image.map_or(0, |seq| seq.0);
        let from_log = matches!(report.how, How::Loaded | How::Rebuilt { .. });
        if from_log && base + report.replayed != last || report.replayed > last {
            return bug(format!("{} replayed from {base}, which is not {last}", report.replayed));
        }
        Ok(())
    }

    /// Does the store show exactly what was published?
    pub(crate) fn check_contents(&self, engine: &SledEngine) -> Result<(), Stop> {
        let at = engine.last_seq();
        let Some(state) = self.states.get(&self.visible) else {
            return bug(format!("no state at {}", self.visible));
        };
        if at != CommitSeq(self.visible) {
            return bug(format!("it is at {at}, published was {}", self.visible));
        }
        if read_all(engine, &ScanOptions::new().max_entries(5))? != **state {
            return bug(format!("WRONG: a scan does not show commit {at}"));
        }
        let reverse = read_all(engine, &ScanOptions::new().reverse())?;
        if reverse != **state {
            return bug(format!("WRONG: a scan backwards does not show commit {at}"));
        }
        for n in (0..KEYS).chain([100, 101]) {
            let key = Self::key(n);
            let found = engine.get(&key).map_err(|e| unreadable(&e))?;
            if found.as_ref() != state.get(&key) {
                return bug(format!("WRONG: key {n} at commit {at}: {found:?}"));
            }
        }
        Ok(())
    }

    /// Nothing the store needs may be gone: the log reaches back to the second newest image.
    pub(crate) fn check_status(&self, engine: &SledEngine) -> Result<(), Stop> {
        let status = engine.status();
        // There may be more: leftovers that could not be removed.
        let second = status.images.get(1).map(|image| image.begin);
        let whole = status.log_first_seq == 1
            || second.is_some_and(|begin| status.log_first_seq <= begin + 1);
        if !whole {
            return bug(format!("the log was cut too far: {status:?}"));
        }
        let impossible = |image: &resurge_store_sled::ImageInfo| {
            image.begin > image.end
                || image.end > self.issued
                || !self.images.contains(&image.begin)
        };
        if status.images.iter().any(impossible) {
            return bug(format!("impossible images: {status:?}"));
        }
        Ok(())
    }

    /// An image may have been begun at what is visible now.
    pub(crate) fn may_image(&mut self) {
        self.images.insert(self.visible);
    }
}

fn read_all(engine: &SledEngine, options: &ScanOptions) -> Result<State, Stop> {
    let mut all = State::new();
    let mut range = Some(KeyRange::everything());
    while let Some(rest) = range {
        let Page { entries, next, .. } = engine.scan(&rest, options).map_err(|e| unreadable(&e))?;
        all.extend(entries.into_iter().map(|entry| (entry.key, entry.value)));
        range = next;
    }
    Ok(all)
}

pub(crate) fn bug(what: String) -> Result<(), Stop> {
    Err(Stop::Bug(what))
}

fn unreadable(e: &StoreError) -> Stop {
    Stop::Bug(format!("opened, but: {e}"))
}
