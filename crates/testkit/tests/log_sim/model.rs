//! What the log promised so far, and what a reopened log may therefore hold.

use std::collections::{BTreeMap, BTreeSet};

use resurge_commit_log::{Log, LogError, OpenedLog};

use crate::life::Stop;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Everything that may be in the log, acknowledged or not.
    entries: BTreeMap<u64, Vec<u8>>,
    /// Last sequences of the frames in it.
    ends: BTreeSet<u64>,
    /// Last sequence known to be durable.
    pub(crate) acked: u64,
    /// Last sequence that may be on disk.
    pub(crate) issued: u64,
    /// The log starts between these two: cuts that were confirmed, cuts that were asked for.
    first: (u64, u64),
    /// Never the same bytes twice, though sequences are used again.
    fresh: u64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            ends: BTreeSet::from([0]),
            acked: 0,
            issued: 0,
            first: (1, 1),
            fresh: 0,
        }
    }

    /// Bytes for one entry, different from all others of some length.
    pub(crate) fn fresh(&mut self, len: usize) -> Vec<u8> {
        self.fresh += 1;
        let word = (self.fresh.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).to_be_bytes();
        word.iter().copied().cycle().take(len).collect()
    }

    /// These entries may be in the log from now on, all of them or none.
    pub(crate) fn issue(&mut self, entries: Vec<Vec<u8>>) {
        for entry in entries {
            self.issued += 1;
            self.entries.insert(self.issued, entry);
        }
        self.ends.insert(self.issued);
    }

    /// The last frame was refused: nothing was written.
    pub(crate) fn withdraw(&mut self, last: u64) {
        self.forget_after(last);
    }

    pub(crate) fn ack(&mut self, upto: u64) {
        self.acked = self.acked.max(upto);
    }

    pub(crate) fn cut_asked(&mut self, seq: u64) {
        self.first.1 = self.first.1.max(seq);
    }

    pub(crate) fn cut_confirmed(&mut self, first_seq: u64) {
        self.first.0 = first_seq;
    }

    fn forget_after(&mut self, last: u64) {
        self.entries.split_off(&(last + 1));
        self.ends.split_off(&(last + 1));
        self.issued = last;
    }

    /// Is this reopened log one that keeps its promises? From then on, what it holds is promised.
    pub(crate) fn check_opened(&mut self, log: &Log, opened: &OpenedLog) -> Result<(), Stop> {
        let (first, last) = (log.first_seq(), log.last_seq());
        if (opened.first_seq, opened.last_seq) != (first, last) {
            return bug(format!("report {opened:?} does not fit the log {first}..={last}"));
        }
        if last < self.acked {
            return bug(format!("LOST: {} was acknowledged, the log ends at {last}", self.acked));
        }
        if last > self.issued || !self.ends.contains(&last) {
            return bug(format!("MADE UP: the log ends at {last}, frames at {:?}", self.ends));
        }
        if let Some(salvaged) = &opened.salvaged {
            return bug(format!("salvaged unasked: {salvaged:?}"));
        }
        if let Some(cut) = &opened.tail_cut
            && self.issued == self.acked
        {
            return bug(format!("a tail was cut though nothing was in flight: {cut:?}"));
        }
        self.check_contents(log)?;
        if self.fresh.is_multiple_of(4) {
            check_every_byte(log)?;
        }
        self.acked = last;
        self.forget_after(last);
        self.first = (first, first);
        Ok(())
    }

    /// Does the log hold what it must, and nothing else?
    pub(crate) fn check_contents(&self, log: &Log) -> Result<(), Stop> {
        let (first, last) = (log.first_seq(), log.last_seq());
        if !(self.first.0..=self.first.1).contains(&first) {
            return bug(format!("the log starts at {first}, expected {:?}", self.first));
        }
        let mut next = first;
        let mut replay = log.replay(first).map_err(unreadable)?;
        while let Some((seq, bytes)) = replay.next_entry().map_err(unreadable)? {
            if seq != next || self.entries.get(&seq).map(|e| &**e) != Some(bytes) {
                return bug(format!("WRONG: entry {seq} where {next} was expected"));
            }
            next += 1;
        }
        if next != last + 1 {
            return bug(format!("replay ends before {next}, the log at {last}"));
        }
        Ok(())
    }
}

pub(crate) fn check_every_byte(log: &Log) -> Result<(), Stop> {
    let (first, last) = (log.first_seq(), log.last_seq());
    let report = log.verify().map_err(unreadable)?;
    if report.entries != last + 1 - first {
        return bug(format!("{report:?} of a log {first}..={last}"));
    }
    Ok(())
}

fn bug(what: String) -> Result<(), Stop> {
    Err(Stop::Bug(what))
}

/// A failing disk may fail while it is read; anything else is a log that opened and cannot be read.
fn unreadable(e: LogError) -> Stop {
    match e {
        LogError::Io { .. } => Stop::Error(e),
        other => Stop::Bug(format!("opened, but: {other}")),
    }
}
