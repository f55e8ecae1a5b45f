//! Looking at a log without changing anything: every byte is read, everything wrong is found.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{LogError, Result};
use crate::reader::{LogReader, SegmentInfo, SegmentMeta, Shared};
use crate::scan::{Damage, SegmentReader, Slack, Step, look_ahead};
use crate::segment::{self, BLOCK};
use crate::vfs::Vfs;

/// What a [`LogFinding`] means for the next open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFindingKind {
    /// Entries that were acknowledged, or may have been, are damaged or missing: opening refuses.
    Damage,
    /// Bytes where zeros belong, behind the last frame of a segment that is otherwise whole. No
    /// entry is affected.
    Slack,
    /// An incomplete group at the end that nobody was told is durable: opening cuts it.
    Tail,
    /// A temporary file of an interrupted run: opening removes it unread.
    Leftover,
    /// No file of a log; opening ignores it.
    Unknown,
}

/// One thing that [`check`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogFinding {
    /// What it means.
    pub kind: LogFindingKind,
    /// The file.
    pub path: PathBuf,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// What [`check`] read.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckedLog {
    /// The segments with an intact header, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// First sequence of the log; 0 when there is no segment.
    pub first_seq: u64,
    /// Last sequence before the first damage; 0 when there is none.
    pub last_seq: u64,
    /// Intact frames, in all segments.
    pub frames: u64,
    /// Entries in them.
    pub entries: u64,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// In the order of the segments; empty for a log with nothing wrong.
    pub findings: Vec<LogFinding>,
    /// Reads the entries; `None` without segments, and when there is damage.
    pub reader: Option<LogReader>,
}

/// Reads and checks every byte of the log in `dir`, and changes nothing on disk. Nobody may write
/// to it meanwhile: the caller holds the lock.
///
/// `high_water` is the highest sequence known to have been acknowledged, as for
/// [`Log::open`](crate::Log::open). `on_entry` is shown every intact entry, also those behind damage.
///
/// Damage, and files that cannot be read, are findings.
///
/// ```
/// # use std::sync::Arc;
/// # use resurge_commit_log::{Frame, Log, LogOptions, OsVfs, Vfs, check};
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// let (id, vfs) = (*b"an example's log", Arc::new(OsVfs) as Arc<dyn Vfs>);
/// let (mut log, _) = Log::open(Arc::clone(&vfs), &dir, LogOptions::new(id), 0)?;
/// let mut frame = Frame::new();
/// frame.push(b"first")?;
/// log.append(&mut frame)?;
/// log.close()?;
///
/// let checked = check(&vfs, &dir, id, 1, &mut |seq, bytes| assert_eq!((seq, bytes), (1, &b"first"[..])))?;
/// assert!(checked.findings.is_empty());
/// assert_eq!(checked.last_seq, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Io` when the directory cannot be listed.
pub fn check(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    log_id: [u8; 16],
    high_water: u64,
    on_entry: &mut dyn FnMut(u64, &[u8]),
) -> Result<CheckedLog> {
    let mut checker = Checker {
        vfs: &**vfs,
        dir,
        log_id,
        high_water,
        on_entry,
        out: CheckedLog::default(),
        kept: Vec::new(),
        before: None,
        whole: true,
    };
    for first_seq in checker.list()? {
        checker.segment(first_seq);
    }
    let active_end = checker.before.as_ref().map_or(0, |end| end.reader.pos);
    checker.finish();
    let Checker { mut out, kept, whole, .. } = checker;
    if whole && !kept.is_empty() {
        let dir = dir.to_owned();
        let shared = Shared::new(Arc::clone(vfs), dir, log_id, kept, active_end, out.last_seq);
        out.reader = Some(LogReader::new(Arc::new(shared)));
    }
    Ok(out)
}

struct Checker<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    log_id: [u8; 16],
    high_water: u64,
    on_entry: &'a mut dyn FnMut(u64, &[u8]),
    out: CheckedLog,
    kept: Vec<SegmentMeta>,
    /// The segment before, read up to its last valid frame.
    before: Option<End>,
    /// No damage so far.
    whole: bool,
}

struct End {
    reader: SegmentReader,
    /// Why reading it stopped.
    stop: &'static str,
    slack: Slack,
}

impl Checker<'_> {
    fn list(&mut self) -> Result<Vec<u64>> {
        let mut names = Vec::new();
        if !self.vfs.exists(self.dir).map_err(LogError::io("look for", self.dir))? {
            return Ok(names);
        }
        let mut entries = self.vfs.list(self.dir).map_err(LogError::io("list", self.dir))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let path = self.dir.join(&entry.name);
            match segment::parse_name(&entry.name).filter(|_| !entry.is_dir) {
                Some(first_seq) => {
                    self.out.files += 1;
                    self.out.bytes = self.out.bytes.saturating_add(entry.len);
                    names.push(first_seq);
                }
                None if !entry.is_dir && entry.name.strip_suffix(".tmp").is_some() => {
                    self.found(LogFindingKind::Leftover, path, 0, "leftover of an interrupted run");
                }
                // Of a log that stands alone; what is in quarantine is for people.
                None if matches!(
                    (entry.name.as_str(), entry.is_dir),
                    ("LOCK", false) | ("quarantine", true)
                ) => {}
                None => self.found(LogFindingKind::Unknown, path, 0, "no file of a log"),
            }
        }
        names.sort_unstable();
        self.out.first_seq = names.first().copied().unwrap_or(0);
        Ok(names)
    }

    fn segment(&mut self, first_seq: u64) {
        let path = segment::path(self.dir, first_seq);
        let opened = SegmentReader::open(self.vfs, self.dir, first_seq, &self.log_id);
        let mut reader = match opened {
            Ok(Ok(reader)) => reader,
            Ok(Err(damage)) => {
                self.slack_before();
                return self.damage(damage);
            }
            Err(e) => {
                self.slack_before();
                return self.unreadable(path, 0, &e);
            }
        };
        self.follows(&reader);
        let read = self.read(&mut reader).and_then(|stop| {
            // The whole rest, whatever it is.
            look_ahead(&reader, reader.pos).map(|slack| (stop, slack))
        });
        let (stop, slack) = match read {
            Ok(read) => read,
            Err(e) => return self.unreadable(path, reader.pos, &e),
        };
        let (end, used) = (reader.seq - 1, reader.pos - BLOCK as u64);
        self.out.segments.push(SegmentInfo {
            path: path.clone(),
            first_seq,
            last_seq: end,
            used_bytes: used,
            file_bytes: reader.len,
        });
        let (number, prepared) = (reader.header.number, reader.header.prepared);
        if self.whole {
            self.out.last_seq = end;
            self.kept.push(SegmentMeta { first_seq, number, used, prepared });
        }
        if reader.len != prepared {
            let what = format!("segment has {} bytes, not the {prepared} it says", reader.len);
            self.found(LogFindingKind::Damage, path, reader.len.min(prepared), what);
        }
        self.before = Some(End { reader, stop, slack });
    }

    /// Reads the frames. Returns why it stopped.
    fn read(&mut self, reader: &mut SegmentReader) -> Result<&'static str> {
        loop {
            let frame = match reader.advance()? {
                Step::Frame(frame) => frame,
                Step::Stop(what) => return Ok(what),
            };
            self.out.frames += 1;
            self.high_water = self.high_water.max(frame.durable_upto);
            let mut at = 0;
            for seq in frame.first_seq..=frame.last_seq {
                let Some((entry, after)) = reader.entry_at(at) else { break };
                (self.on_entry)(seq, entry);
                self.out.entries += 1;
                at = after;
            }
        }
    }

    /// Does the segment continue the one before?
    fn follows(&mut self, next: &SegmentReader) {
        let Some(before) = self.before.take() else { return };
        let header = &next.header;
        let at_next =
            |what| Damage { segment: next.path.clone(), offset: 0, seq: header.first_seq, what };
        let gap = before.reader.header.number.checked_add(1) != Some(header.number);
        if gap && header.number > before.reader.header.number {
            self.slack_of(&before);
            self.damage(at_next("a segment before is missing"));
        } else if gap || header.first_seq < before.reader.seq {
            self.slack_of(&before);
            self.damage(at_next("segments overlap"));
        } else if header.first_seq > before.reader.seq {
            self.damage(before.reader.damage(before.stop));
        } else if header.chain != before.reader.chain {
            self.slack_of(&before);
            self.damage(at_next("segment does not follow from the one before it"));
        } else {
            self.slack_of(&before);
        }
    }

    fn slack_before(&mut self) {
        if let Some(before) = self.before.take() {
            self.slack_of(&before);
        }
    }

    fn slack_of(&mut self, end: &End) {
        if end.slack.used_upto > 0 {
            let reader = &end.reader;
            let what = format!("bytes behind the last frame of a segment: {}", end.stop);
            self.found(LogFindingKind::Slack, reader.path.clone(), reader.pos, what);
        }
    }

    /// Acknowledged data damaged, or an unacknowledged tail? As opening decides.
    fn finish(&mut self) {
        let Some(last) = self.before.take() else {
            if self.whole && self.high_water > 0 {
                let what = "the log is gone, though entries were acknowledged";
                self.found(LogFindingKind::Damage, self.dir.to_owned(), 0, what);
            }
            return;
        };
        let next = last.reader.seq;
        let (path, at) = (last.reader.path.clone(), last.reader.pos);
        let used = last.slack.used_upto > 0;
        if self.high_water >= next || last.slack.durable_upto >= next {
            let what = if used { last.stop } else { "acknowledged entries are missing" };
            self.found(LogFindingKind::Damage, path, at, format!("sequence {next}: {what}"));
        } else if used {
            let bytes = last.slack.used_upto - at;
            let what = format!("an unacknowledged tail of {bytes} bytes: {}", last.stop);
            self.found(LogFindingKind::Tail, path, at, what);
        }
    }

    fn damage(&mut self, damage: Damage) {
        let what = format!("sequence {}: {}", damage.seq, damage.what);
        self.found(LogFindingKind::Damage, damage.segment, damage.offset, what);
    }

    fn unreadable(&mut self, path: PathBuf, offset: u64, error: &LogError) {
        let what = match error {
            LogError::Io { source, .. } => format!("cannot be read: {source}"),
            other => other.to_string(),
        };
        self.found(LogFindingKind::Damage, path, offset, what);
    }

    fn found(&mut self, kind: LogFindingKind, path: PathBuf, offset: u64, what: impl Into<String>) {
        self.whole &= kind != LogFindingKind::Damage;
        self.out.findings.push(LogFinding { kind, path, offset, what: what.into() });
    }
}
