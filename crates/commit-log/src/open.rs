//! Opening: which bytes are the log, which are an unacknowledged tail, and what is damage.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{LogError, Result};
use crate::log::Active;
use crate::options::{LogOptions, Scan};
use crate::prepare::{Spare, prepare};
use crate::quarantine::Quarantine;
use crate::reader::SegmentMeta;
use crate::scan::{Damage, SegmentReader, Slack, Step, look_ahead};
use crate::segment::{self, BLOCK, SegmentHeader};
use crate::vfs::{OpenMode, Vfs};

const CHUNK: usize = 1 << 20;

/// What opening a log found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenedLog {
    /// There was no log: a new one was created.
    pub created: bool,
    /// First sequence the log holds, or will hold when it is empty.
    pub first_seq: u64,
    /// Last sequence; `first_seq - 1` when the log is empty. All of it is durable now.
    pub last_seq: u64,
    /// The highest sequence that was known to be durable before: the given high-water or what
    /// the frames themselves say.
    pub high_water: u64,
    /// Number of segments.
    pub segments: usize,
    /// Bytes written again and synced, because they may have been only in the page cache.
    pub rewritten_bytes: u64,
    /// Temporary files of an earlier life that were removed.
    pub tmp_removed: usize,
    /// An unacknowledged tail that was cut.
    pub tail_cut: Option<TailCut>,
    /// What salvage gave up.
    pub salvaged: Option<Salvaged>,
}

/// An unacknowledged, incomplete tail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TailCut {
    /// The segment it was in.
    pub segment: PathBuf,
    /// Where it began.
    pub offset: u64,
    /// The sequence expected there; the next append gets it.
    pub seq: u64,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The copy in the quarantine; `None` when cap or disk left no room.
    pub copy: Option<PathBuf>,
    /// Bytes of the copy.
    pub copied_bytes: u64,
}

/// What explicit salvage found and gave up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Salvaged {
    /// The damage, as the error that opening without salvage returns.
    pub damage: LogError,
    /// The first sequence that is lost; everything before is kept. The next append gets it,
    /// unless nothing at all was kept.
    pub first_lost: u64,
    /// The highest sequence known to have existed, if it is known.
    pub last_lost: Option<u64>,
    /// Files moved to, or copied into, the quarantine.
    pub quarantined: Vec<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) active: Active,
    /// Oldest first, the active one last.
    pub(crate) segments: Vec<SegmentMeta>,
    pub(crate) next_seq: u64,
    pub(crate) chain: u32,
    pub(crate) report: OpenedLog,
}

/// Creates a directory with its missing parents, all names durable: also one that an earlier life
/// created and was killed before it could sync.
pub(crate) fn create_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let mut missing = Vec::new();
    for path in dir.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        if vfs.exists(path).map_err(LogError::io("stat", path))? {
            match sync_parent(vfs, path) {
                // Somebody else made this directory, where we may not even look.
                Err(LogError::Io { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
            break;
        }
        missing.push(path);
    }
    // ORDER: outermost first, each name durable before the next, so that only the innermost
    // directory that exists can have a name that is not.
    for path in missing.into_iter().rev() {
        vfs.create_dir_all(path).map_err(LogError::io("create", path))?;
        sync_parent(vfs, path)?;
    }
    Ok(())
}

/// Makes the name of `path` durable; the root has none.
fn sync_parent(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    vfs.sync_dir(parent).map_err(LogError::io("sync", parent))
}

/// Gives a prepared file its header and its name. `Full` leaves everything as it was.
pub(crate) fn install(
    vfs: &dyn Vfs,
    dir: &Path,
    spare: Spare,
    header: SegmentHeader,
) -> Result<(Active, u32)> {
    let path = segment::path(dir, header.first_seq);
    let (block, chain) = header.encode();
    let named = || -> Result<()> {
        spare.file.write_at(&block, 0).map_err(LogError::io("write", &spare.path))?;
        // ORDER: the header is on disk before the name that makes the file a segment.
        spare.file.sync_data().map_err(LogError::io("sync", &spare.path))?;
        vfs.rename(&spare.path, &path).map_err(LogError::io("rename", &spare.path))
    };
    if let Err(e) = named() {
        if e.is_storage_full() {
            let _ = vfs.remove_file(&spare.path);
            return Err(LogError::Full { needed: spare.size });
        }
        return Err(e);
    }
    // ORDER: the name is on disk before the first frame is acknowledged.
    vfs.sync_dir(dir).map_err(LogError::io("sync", dir))?;
    Ok((Active { file: spare.file, path, header, end: BLOCK as u64 }, chain))
}

#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a LogOptions,
    /// Given by the caller; 0 when unknown.
    pub(crate) high_water: u64,
}

/// Where the walk through the segments stopped.
#[derive(Debug)]
struct Broken {
    damage: Damage,
    /// Index of the first file that cannot be kept at all.
    from: usize,
}

#[derive(Debug, Default)]
struct Walk {
    kept: Vec<SegmentMeta>,
    /// The last segment that is kept, read up to its last valid frame.
    last: Option<SegmentReader>,
    /// Why reading it stopped there.
    stop: &'static str,
    /// Frames of it not known to be durable: (last sequence, offset).
    unsure: VecDeque<(u64, u64)>,
    /// Highest `durable_upto` seen.
    high: u64,
    broken: Option<Broken>,
}

impl Opening<'_> {
    /// The directory exists and is locked.
    pub(crate) fn run(&self) -> Result<Opened> {
        let mut report = OpenedLog::default();
        let names = self.list(&mut report)?;
        let mut walk = self.walk(&names)?;
        let slack = match &walk.last {
            Some(last) => look_ahead(last, last.pos)?,
            None => Slack::default(),
        };
        if walk.broken.is_none() {
            walk.broken = self.judge(&walk, slack, names.len());
        }
        if let Some(broken) = walk.broken.take() {
            if !self.options.salvage {
                return Err(broken.damage.into());
            }
            report.salvaged = Some(self.salvage(&broken, &names, walk.last.as_ref(), slack)?);
        } else if let Some(last) = walk.last.as_ref().filter(|_| slack.used_upto > 0) {
            report.tail_cut = Some(self.cut_tail(last, slack)?);
        }
        report.high_water = self.high_water.max(walk.high);
        match walk.last.take() {
            Some(last) => self.resume(walk, &last, report),
            None => self.create(names.first().copied(), report),
        }
    }

    /// First sequences of all segments, in order. Removes temporary files.
    fn list(&self, report: &mut OpenedLog) -> Result<Vec<u64>> {
        let mut names = Vec::new();
        let entries = self.vfs.list(self.dir).map_err(LogError::io("list", self.dir))?;
        for entry in entries.iter().filter(|e| !e.is_dir) {
            if entry.name.strip_suffix(".tmp").is_some() {
                let path = self.dir.join(&entry.name);
                self.vfs.remove_file(&path).map_err(LogError::io("remove", &path))?;
                report.tmp_removed += 1;
            } else if let Some(first_seq) = segment::parse_name(&entry.name) {
                names.push(first_seq);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn walk(&self, names: &[u64]) -> Result<Walk> {
        let mut walk = Walk::default();
        for (index, first_seq) in names.iter().enumerate() {
            let opened = SegmentReader::open(self.vfs, self.dir, *first_seq, &self.options.log_id)?;
            let follows = opened.and_then(|reader| match &walk.last {
                Some(before) => self.follows(before, walk.stop, &reader).map(|()| reader),
                None => Ok(reader),
            });
            let mut reader = match follows {
                Ok(reader) => reader,
                Err(damage) => {
                    walk.broken = Some(Broken { damage, from: index });
                    return Ok(walk);
                }
            };
            let whole = reader.len == reader.header.prepared;
            let used = if self.scan_all() || !whole || index + 1 == names.len() {
                walk.read(&mut reader)?
            } else {
                reader.end()
            };
            walk.kept.push(SegmentMeta {
                first_seq: *first_seq,
                number: reader.header.number,
                used: used.saturating_sub(BLOCK as u64),
                prepared: reader.header.prepared,
            });
            if !whole {
                let damage = reader.damage("segment does not have its prepared size");
                walk.broken = Some(Broken { damage, from: index + 1 });
            }
            walk.last = Some(reader);
            if walk.broken.is_some() {
                break;
            }
        }
        Ok(walk)
    }

    fn scan_all(&self) -> bool {
        self.options.salvage || self.options.scan == Scan::All
    }

    /// Does `next` continue where `before` ends?
    fn follows(
        &self,
        before: &SegmentReader,
        stop: &'static str,
        next: &SegmentReader,
    ) -> std::result::Result<(), Damage> {
        let first_seq = next.header.first_seq;
        let at_next = |what| Damage { segment: next.path.clone(), offset: 0, seq: first_seq, what };
        let scanned = self.scan_all();
        if Some(next.header.number) != before.header.number.checked_add(1) {
            if next.header.number <= before.header.number {
                return Err(at_next("segments overlap"));
            }
            let (segment, seq) = if scanned {
                (segment::path(self.dir, before.seq), before.seq)
            } else {
                (next.path.clone(), first_seq)
            };
            return Err(Damage { segment, offset: 0, seq, what: "a segment before is missing" });
        }
        if !scanned {
            return Ok(());
        }
        if first_seq > before.seq {
            return Err(before.damage(stop));
        }
        if first_seq < before.seq {
            return Err(at_next("sequences overlap"));
        }
        if next.header.chain != before.chain {
            return Err(at_next("segment does not follow from the one before it"));
        }
        Ok(())
    }

    /// Acknowledged data damaged, or an unacknowledged tail? The last segment decides.
    fn judge(&self, walk: &Walk, slack: Slack, files: usize) -> Option<Broken> {
        let Some(last) = &walk.last else {
            let seq = self.options.start_at;
            let damage = Damage {
                segment: segment::path(self.dir, seq),
                offset: 0,
                seq,
                what: "the log is gone, though entries were acknowledged",
            };
            return (self.high_water >= seq).then_some(Broken { damage, from: files });
        };
        if self.high_water < last.seq && slack.durable_upto < last.seq {
            return None;
        }
        let what =
            if slack.used_upto == 0 { "acknowledged entries are missing" } else { walk.stop };
        Some(Broken { damage: last.damage(what), from: files })
    }

    fn cut_tail(&self, last: &SegmentReader, slack: Slack) -> Result<TailCut> {
        let dir = self.quarantine_dir();
        let quarantine = Quarantine { vfs: self.vfs, dir: &dir, cap: self.options.quarantine_cap };
        let kept = quarantine.keep(last, last.pos, slack.used_upto)?;
        let (copy, copied_bytes) = kept.map_or((None, 0), |(path, n)| (Some(path), n));
        let bytes = slack.used_upto - last.pos;
        tracing::warn!(segment = %last.path.display(), offset = last.pos, seq = last.seq, bytes,
            "cut an unacknowledged tail");
        Ok(TailCut {
            segment: last.path.clone(),
            offset: last.pos,
            seq: last.seq,
            bytes,
            copy,
            copied_bytes,
        })
    }

    fn quarantine_dir(&self) -> PathBuf {
        self.options.quarantine.clone().unwrap_or_else(|| self.dir.join("quarantine"))
    }

    /// Moves every file from `broken.from` on away and copies what is behind the valid prefix.
    fn salvage(
        &self,
        broken: &Broken,
        names: &[u64],
        last: Option<&SegmentReader>,
        slack: Slack,
    ) -> Result<Salvaged> {
        let dir = self.quarantine_dir();
        let quarantine = Quarantine { vfs: self.vfs, dir: &dir, cap: u64::MAX };
        let moved = names.get(broken.from..).unwrap_or_default();
        let mut quarantined = Vec::new();
        // ORDER: newest first, so that a crash in between leaves a damaged log, not a shorter
        // one with a hole.
        for first_seq in moved.iter().rev() {
            quarantined.push(quarantine.take(&segment::path(self.dir, *first_seq))?);
            self.vfs.sync_dir(self.dir).map_err(LogError::io("sync", self.dir))?;
        }
        if let Some(last) = last.filter(|_| slack.used_upto > 0) {
            let kept = quarantine.keep(last, last.pos, slack.used_upto)?;
            quarantined.extend(kept.map(|(path, _)| path));
        }
        let first_lost = last.map_or(broken.damage.seq, |last| last.seq);
        let known = [self.high_water, slack.durable_upto, moved.last().map_or(0, |seq| seq - 1)];
        let damage = LogError::from(broken.damage.clone());
        tracing::warn!(error = %damage, first_lost, "salvaged the valid prefix of a damaged log");
        Ok(Salvaged {
            damage,
            first_lost,
            last_lost: known.into_iter().max().filter(|seq| *seq >= first_lost),
            quarantined,
        })
    }

    /// Makes the last segment ready for appending.
    fn resume(
        &self,
        mut walk: Walk,
        last: &SegmentReader,
        mut report: OpenedLog,
    ) -> Result<Opened> {
        // ORDER: a segment is created only after the one before it was synced to its end.
        report.high_water = report.high_water.max(last.header.first_seq - 1);
        let file = self.vfs.open(&last.path, OpenMode::ReadWrite);
        let file = file.map_err(LogError::io("open", &last.path))?;
        let mut active =
            Active { file, path: last.path.clone(), header: last.header, end: last.pos };
        walk.settle(report.high_water);
        let from = walk.unsure.front().map_or(last.pos, |(_, offset)| *offset);
        self.rewrite(&mut active, from, last.len)?;
        report.rewritten_bytes = active.header.prepared.saturating_sub(from);
        report.first_seq = walk.kept.first().map_or(last.seq, |s| s.first_seq);
        report.last_seq = last.seq - 1;
        report.segments = walk.kept.len();
        Ok(Opened { active, segments: walk.kept, next_seq: last.seq, chain: last.chain, report })
    }

    /// Writes everything past the durable high-water again, the same bytes up to the end of the
    /// valid frames and zeros behind, and syncs it: a process killed before its sync, or whose
    /// sync failed, leaves data that can be read but is not on disk.
    fn rewrite(&self, active: &mut Active, from: u64, len: u64) -> Result<()> {
        let path = &active.path;
        let prepared = active.header.prepared;
        let longest = usize::try_from(prepared).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; longest];
        let mut at = from;
        while at < active.end {
            let n = usize::try_from(active.end - at).unwrap_or(CHUNK).min(CHUNK);
            chunk.resize(n, 0);
            active.file.read_exact_at(&mut chunk, at).map_err(LogError::io("read", path))?;
            active.file.write_at(&chunk, at).map_err(LogError::io("write", path))?;
            at += n as u64;
        }
        // Written, not allocated: a full disk must not keep a log from opening.
        chunk.fill(0);
        while at < prepared.min(len) {
            let n = usize::try_from(prepared.min(len) - at).unwrap_or(CHUNK).min(CHUNK);
            chunk.resize(n, 0);
            active.file.write_at(&chunk, at).map_err(LogError::io("write", path))?;
            at += n as u64;
        }
        if len < prepared {
            active.file.allocate(len, prepared - len).map_err(LogError::io("allocate", path))?;
        }
        if len > prepared {
            active.file.set_len(prepared).map_err(LogError::io("truncate", path))?;
        }
        // ORDER: before anything is served; the directory because a kill may have come between
        // the rename of this segment and its sync.
        active.file.sync_data().map_err(LogError::io("sync", path))?;
        self.vfs.sync_dir(self.dir).map_err(LogError::io("sync", self.dir))
    }

    /// A new log; after salvage gave up everything, one that starts no earlier than the old one.
    fn create(&self, old_first: Option<u64>, mut report: OpenedLog) -> Result<Opened> {
        let first_seq = self.options.start_at.max(old_first.unwrap_or(0));
        let size = self.options.first_segment;
        let spare = prepare(self.vfs, self.dir, self.dir.join("segment-0.tmp"), size, Ok)?;
        let log_id = self.options.log_id;
        let header = SegmentHeader {
            log_id,
            number: 1,
            first_seq,
            salt: segment::salt(self.options.salt, &log_id, 1, first_seq, 0),
            prepared: size,
            chain: 0,
        };
        let (active, chain) = install(self.vfs, self.dir, spare, header)?;
        report.created = true;
        report.first_seq = first_seq;
        report.last_seq = first_seq - 1;
        report.segments = 1;
        let segments = vec![SegmentMeta { first_seq, number: 1, used: 0, prepared: size }];
        Ok(Opened { active, segments, next_seq: first_seq, chain, report })
    }
}

impl Walk {
    /// Reads the segment up to its last valid frame. Returns where that ends.
    fn read(&mut self, reader: &mut SegmentReader) -> Result<u64> {
        self.unsure.clear();
        loop {
            let offset = reader.pos;
            match reader.advance()? {
                Step::Frame(frame) => {
                    self.unsure.push_back((frame.last_seq, offset));
                    self.high = self.high.max(frame.durable_upto);
                    self.settle(self.high);
                }
                Step::Stop(what) => {
                    self.stop = what;
                    return Ok(reader.pos);
                }
            }
        }
    }

    /// Forgets frames that are durable.
    fn settle(&mut self, high: u64) {
        while self.unsure.front().is_some_and(|(last_seq, _)| *last_seq <= high) {
            self.unsure.pop_front();
        }
    }
}
