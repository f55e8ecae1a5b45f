//! Damage to a log at rest: every truncation, every flipped bit, sectors zeroed, stale, repeated.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resurge_commit_log::{Frame, Log, LogError, LogOptions, Preparation};
use resurge_testkit::{DiskLoss, SimVfs};

use crate::life::DIR;

const SECTOR: usize = 512;

/// Where a frame lies.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    bytes: Range<usize>,
    first_seq: u64,
}

/// A log, all of it acknowledged.
#[derive(Debug)]
pub(crate) struct Subject {
    disk: SimVfs,
    entries: Vec<Vec<u8>>,
    frames: Vec<Place>,
    /// What the segments held at each sync before.
    history: Vec<(PathBuf, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) truncations: u64,
    pub(crate) flips: u64,
    pub(crate) sectors: u64,
    /// Found and refused, with the place.
    pub(crate) refused: u64,
    /// The last group, cut and reported, with the high-water unknown.
    pub(crate) tail_cut: u64,
    /// Sectors at the very end set back to zeros or to an older state of theirs, with the
    /// high-water unknown: no trace is left in the files.
    pub(crate) traceless: u64,
}

pub(crate) fn options() -> LogOptions {
    LogOptions::new(*b"log to be harmed").segment_sizes(8192, 8192).preparation(Preparation::Inline)
}

fn entry(seq: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (seq * 131 + n * 7 + n / 97).to_be_bytes()[7] | 1).collect()
}

impl Subject {
    /// Two whole segments and one that is half full.
    pub(crate) fn new() -> Self {
        let disk = SimVfs::new();
        let mut subject = Self {
            disk: disk.clone(),
            entries: Vec::new(),
            frames: Vec::new(),
            history: Vec::new(),
        };
        let opened = Log::open(Arc::new(disk.clone()), Path::new(DIR), options(), 0);
        let (mut log, _) = opened.expect("a new log");
        let lens = [
            [300, 400].as_slice(),
            &[10],
            &[900, 5, 0],
            &[700, 700],
            &[600],
            &[1200],
            &[1],
            &[64, 64, 64],
            &[1500],
            &[800],
            &[500, 30],
            &[200],
            &[90, 700],
            &[20],
        ];
        for lens in lens {
            let mut frame = Frame::new();
            let first_seq = log.last_seq() + 1;
            for len in lens {
                let entry = entry(subject.entries.len() as u64 + 1, *len);
                frame.push(&entry).expect("a small entry");
                subject.entries.push(entry);
            }
            let used = |log: &Log| log.segments().last().map(|s| (s.path.clone(), s.used_bytes));
            let before = used(&log).expect("an active segment");
            log.append(&mut frame).expect("an append");
            log.sync().expect("a sync");
            let (path, after) = used(&log).expect("an active segment");
            let start = if before.0 == path { before.1 } else { 0 };
            let at = |used: u64| 4096 + usize::try_from(used).expect("small");
            let content = disk.contents(&path).expect("the segment");
            subject.history.push((path.clone(), content));
            subject.frames.push(Place { path, bytes: at(start)..at(after), first_seq });
        }
        drop(log);
        subject.disk = disk.power_cut(DiskLoss::All);
        assert_eq!(subject.segments().len(), 3);
        subject
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.extension().is_some_and(|e| e == "log"));
        files
    }

    pub(crate) fn read(&self, path: &Path) -> Vec<u8> {
        self.disk.contents(path).expect("a segment")
    }

    /// A copy to be harmed.
    pub(crate) fn disk(&self) -> SimVfs {
        self.disk.fork()
    }

    pub(crate) fn acked(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The log holds what was acknowledged up to `last`, bit by bit, and ends there.
    pub(crate) fn check_prefix(&self, log: &Log, last: u64) -> Result<(), String> {
        if log.last_seq() != last || last > self.acked() {
            return Err(format!("MADE UP: ends at {}, expected {last}", log.last_seq()));
        }
        if log.first_seq() != 1 && last > 0 {
            return Err(format!("starts at {}", log.first_seq()));
        }
        if last == 0 {
            return Ok(());
        }
        let mut replay = log.replay(1).map_err(|e| format!("{e:?}"))?;
        for (seq, expected) in (1..=last).zip(&self.entries) {
            match replay.next_entry() {
                Ok(Some((found, bytes))) if found == seq && bytes == expected => {}
                other => return Err(format!("WRONG: {seq}: {other:?}")),
            }
        }
        Ok(())
    }

    /// Opens a copy with this file damaged in `harmed`, and judges what came of it.
    fn judge(
        &self,
        path: &Path,
        content: &[u8],
        harmed: Range<usize>,
        told: bool,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let acked = self.acked();
        let disk = self.disk.fork();
        disk.damage(path, content).map_err(|e| e.to_string())?;
        let high_water = if told { acked } else { 0 };
        let opened = Log::open(Arc::new(disk), Path::new(DIR), options(), high_water);
        let whole = self.read(path);
        // What an older sector has in common with the newer one is not harmed.
        let touched = |place: &&Place| {
            let shared = place.bytes.start.max(harmed.start)..place.bytes.end.min(harmed.end);
            place.path == path
                && shared.start < shared.end
                && content.get(shared.clone()) != whole.get(shared)
        };
        let first_hit = self.frames.iter().find(touched).map(|place| place.first_seq);
        let (log, report) = match opened {
            Err(LogError::Corrupt { segment, offset, seq, .. }) => {
                counts.refused += 1;
                let header = harmed.start < 4096 && offset == 0;
                let right =
                    segment == path && (header || first_hit == Some(seq) || content.len() < 8192);
                return if right {
                    Ok(())
                } else {
                    Err(format!("names {} at {offset}, sequence {seq}", segment.display()))
                };
            }
            Err(e) => return Err(format!("{e:?}")),
            Ok(opened) => opened,
        };
        let last = log.last_seq();
        self.check_prefix(&log, last)?;
        if last == acked {
            return Ok(());
        }
        // Entries are missing. Only at the very end, only harmed ones, only without high-water.
        let only_harmed = first_hit == Some(last + 1)
            && self.frames.iter().filter(|f| f.first_seq > last).all(|f| touched(&f));
        if told || !only_harmed {
            return Err(format!("LOST: the log ends at {last}, told={told}: {report:?}"));
        }
        match report.tail_cut {
            Some(cut) if cut.seq == last + 1 && cut.segment == path => counts.tail_cut += 1,
            Some(cut) => return Err(format!("wrong report {cut:?}")),
            None if harmed.len() == SECTOR => counts.traceless += 1,
            None => return Err(format!("LOST: the log ends at {last}, and nobody says so")),
        }
        Ok(())
    }

    pub(crate) fn truncations(&self, counts: &mut Counts) -> Result<(), String> {
        for path in self.segments() {
            let whole = self.read(&path);
            for len in 0..whole.len() {
                counts.truncations += 1;
                self.judge(&path, &whole[..len], len..whole.len(), len % 2 == 0, counts)
                    .map_err(|e| format!("{} cut to {len}: {e}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Every bit; of the zeros in segment headers one in eight, unless `all`.
    pub(crate) fn flips(&self, all: bool, counts: &mut Counts) -> Result<(), String> {
        for path in self.segments() {
            let mut content = self.read(&path);
            for bit in 0..content.len() * 8 {
                let at = bit / 8;
                if !all && (60..4092).contains(&at) && bit % 8 != at % 8 {
                    continue;
                }
                content[at] ^= 1 << (bit % 8);
                // Not knowing is harder, and matters in the last segment only.
                let told = bit % 3 == 0;
                counts.flips += 1;
                self.judge(&path, &content, at..at + 1, told, counts)
                    .map_err(|e| format!("{} bit {bit} flipped: {e}", path.display()))?;
                content[at] ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    pub(crate) fn sectors(&self, counts: &mut Counts) -> Result<(), String> {
        let segments = self.segments();
        for path in &segments {
            let whole = self.read(path);
            let mut older = vec![vec![0; whole.len()]];
            older.extend(self.history.iter().filter(|(p, _)| p == path).map(|(_, c)| c.clone()));
            // Blocks that another segment had before.
            older.extend(segments.iter().filter(|p| *p != path).map(|p| self.read(p)));
            // Sectors written to the wrong place.
            older.extend((1..whole.len() / SECTOR).map(|n| {
                let mut turned = whole.clone();
                turned.rotate_left(n * SECTOR);
                turned
            }));
            for (n, old) in older.iter().enumerate() {
                for at in (0..whole.len()).step_by(SECTOR) {
                    let harmed = at..at + SECTOR;
                    if old[harmed.clone()] == whole[harmed.clone()] {
                        continue;
                    }
                    let mut content = whole.clone();
                    content[harmed.clone()].copy_from_slice(&old[harmed.clone()]);
                    for told in [false, true] {
                        counts.sectors += 1;
                        self.judge(path, &content, harmed.clone(), told, counts).map_err(|e| {
                            format!("{} sector at {at} from version {n}: {e}", path.display())
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}
