//! Reading: [`LogReader`], [`Replay`] and what the writer shares with them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{LogError, Result};
use crate::scan::{SegmentReader, Step, look_ahead};
use crate::segment::{self, BLOCK};
use crate::vfs::Vfs;

/// One segment, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// Sequence of its first entry.
    pub first_seq: u64,
    /// Sequence of its last entry; `first_seq - 1` when it has none.
    pub last_seq: u64,
    /// Bytes of its frames. For segments that [`Scan::Active`](crate::Scan::Active) did not
    /// read: what they have room for.
    pub used_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

/// What [`Log::verify`](crate::Log::verify) read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments, all intact.
    pub segments: usize,
    /// Frames.
    pub frames: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of frames.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentMeta {
    pub(crate) first_seq: u64,
    pub(crate) number: u64,
    /// Bytes of frames; not kept up for the last one while it is active.
    pub(crate) used: u64,
    pub(crate) prepared: u64,
}

/// What readers need to know of the writer.
#[derive(Debug)]
pub(crate) struct Shared {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    log_id: [u8; 16],
    // INVARIANT: never empty; the last one is active.
    segments: Mutex<Vec<SegmentMeta>>,
    /// One cut at a time. True while a removal may not be durable yet.
    cutting: Mutex<bool>,
    active_end: AtomicU64,
    last: AtomicU64,
    durable: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        log_id: [u8; 16],
        segments: Vec<SegmentMeta>,
        active_end: u64,
        last_seq: u64,
    ) -> Self {
        Self {
            vfs,
            dir,
            log_id,
            segments: Mutex::new(segments),
            cutting: Mutex::new(false),
            active_end: AtomicU64::new(active_end),
            last: AtomicU64::new(last_seq),
            durable: AtomicU64::new(last_seq),
        }
    }

    pub(crate) fn appended(&self, last_seq: u64, active_end: u64) {
        self.active_end.store(active_end, Ordering::Relaxed);
        self.last.store(last_seq, Ordering::Release);
    }

    pub(crate) fn synced(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
    }

    pub(crate) fn rolled(&self, new: SegmentMeta, active_end: u64) {
        let mut segments = self.segments.lock();
        if let Some(old) = segments.last_mut() {
            old.used = self.active_end.load(Ordering::Relaxed).saturating_sub(BLOCK as u64);
            if old.number == new.number {
                segments.pop();
            }
        }
        segments.push(new);
        self.active_end.store(active_end, Ordering::Relaxed);
    }

    pub(crate) fn first_seq(&self) -> u64 {
        self.segments.lock().first().map_or(1, |s| s.first_seq)
    }

    pub(crate) fn durable_seq(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.segments.lock();
        let ends = segments.iter().skip(1).map(|next| (next.first_seq - 1, None));
        let active = (self.last.load(Ordering::Acquire), Some(&self.active_end));
        let ends = ends.chain(std::iter::once(active));
        let info = |(s, (last_seq, end)): (&SegmentMeta, (u64, Option<&AtomicU64>))| SegmentInfo {
            path: segment::path(&self.dir, s.first_seq),
            first_seq: s.first_seq,
            last_seq,
            used_bytes: end
                .map_or(s.used, |end| end.load(Ordering::Relaxed).saturating_sub(BLOCK as u64)),
            file_bytes: s.prepared,
        };
        segments.iter().zip(ends).map(info).collect()
    }

    pub(crate) fn bytes_since(&self, seq: u64) -> u64 {
        let after = |s: &&SegmentInfo| s.last_seq > seq;
        self.segments().iter().filter(after).map(|s| s.used_bytes).sum()
    }

    pub(crate) fn cut_before(&self, seq: u64) -> Result<usize> {
        let mut unsynced = self.cutting.lock();
        let mut removed = 0;
        loop {
            // ORDER: oldest first, each removal durable before the next, also one whose sync
            // failed in an earlier call: no holes after a crash.
            if *unsynced {
                self.vfs.sync_dir(&self.dir).map_err(LogError::io("sync", &self.dir))?;
                *unsynced = false;
            }
            let Some(first_seq) = self.removable(seq) else { break };
            let path = segment::path(&self.dir, first_seq);
            *unsynced = true;
            match self.vfs.remove_file(&path) {
                // It went though an earlier call was told that it had not.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(LogError::io("remove", &path))?,
            }
            self.segments.lock().retain(|s| s.first_seq != first_seq);
            removed += 1;
        }
        Ok(removed)
    }

    /// The oldest segment, if another one follows and all its sequences are below `seq`.
    fn removable(&self, seq: u64) -> Option<u64> {
        let segments = self.segments.lock();
        let next = segments.get(1)?;
        segments.first().filter(|_| next.first_seq <= seq).map(|s| s.first_seq)
    }
}

/// Reads a log while its writer goes on. Cheap to clone; any number may be used at once.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// First sequence the log holds, or will hold when it is empty.
    pub fn first_seq(&self) -> u64 {
        self.shared.first_seq()
    }

    /// Last sequence that is durable.
    pub fn durable_seq(&self) -> u64 {
        self.shared.durable_seq()
    }

    /// The segments, oldest first; the last one receives appends.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.segments()
    }

    /// Bytes of frames after `seq`, rounded up to the whole segment that holds `seq + 1`.
    pub fn bytes_since(&self, seq: u64) -> u64 {
        self.shared.bytes_since(seq)
    }

    /// The durable entries from `from` on. Memory is bounded by one frame.
    ///
    /// `Cut` when `from` is before [`first_seq`](Self::first_seq).
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.replay_upto(from, self.durable_seq())
    }

    /// Reads and checks every byte up to the last durable entry.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_upto(self.durable_seq())
    }

    /// Removes whole segments below `seq` while the writer goes on; see
    /// [`Log::cut_before`](crate::Log::cut_before). Blocks on the disk.
    pub fn cut_before(&self, seq: u64) -> Result<usize> {
        self.shared.cut_before(seq)
    }

    pub(crate) fn replay_upto(&self, from: u64, upto: u64) -> Result<Replay> {
        let segments = self.shared.segments.lock();
        let first_seq = segments.first().map_or(1, |s| s.first_seq);
        if from < first_seq {
            return Err(LogError::Cut { seq: from, first_seq });
        }
        let start = segments.partition_point(|s| s.first_seq <= from).saturating_sub(1);
        let rest = segments.iter().skip(start).map(|s| s.first_seq).collect::<Vec<_>>();
        Ok(Replay {
            shared: Arc::clone(&self.shared),
            segments: rest.into_iter(),
            current: None,
            next: from,
            frame_next: 0,
            frame_end: 0,
            entry_at: 0,
            upto,
            frames: 0,
            bytes: 0,
            check_slack: false,
            failed: false,
        })
    }

    pub(crate) fn verify_upto(&self, upto: u64) -> Result<VerifyReport> {
        let segments = self.shared.segments.lock().len();
        let mut replay = self.replay_upto(self.first_seq(), upto)?;
        replay.check_slack = true;
        let mut report = VerifyReport { segments, ..VerifyReport::default() };
        while replay.next_entry()?.is_some() {
            report.entries += 1;
        }
        // An active segment without a frame: its header.
        while !replay.segments.as_slice().is_empty() {
            replay.next_frame()?;
        }
        report.frames = replay.frames;
        report.bytes = replay.bytes;
        Ok(report)
    }
}

/// The entries of a log, in order, each with its sequence.
///
/// [`next_entry`](Self::next_entry) lends them without a copy; as an [`Iterator`] it yields owned
/// copies. Every checksum and the chain are checked on the way: damage is a `Corrupt` error, never
/// a wrong entry, and nothing follows an error. Segments that are cut while a replay has not
/// reached them end it with `Io`.
#[derive(Debug)]
pub struct Replay {
    shared: Arc<Shared>,
    segments: std::vec::IntoIter<u64>,
    current: Option<SegmentReader>,
    /// Next sequence to return.
    next: u64,
    /// Sequence of the next entry of the current frame, and of the first after it.
    frame_next: u64,
    frame_end: u64,
    entry_at: usize,
    upto: u64,
    frames: u64,
    bytes: u64,
    check_slack: bool,
    failed: bool,
}

impl Replay {
    /// The next entry and its sequence; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<(u64, &[u8])>> {
        if self.failed {
            return Ok(None);
        }
        match self.seek() {
            Ok(Some((seq, at))) => {
                let reader = self.current.as_ref();
                Ok(reader.and_then(|r| r.entry_at(at)).map(|(entry, _)| (seq, entry)))
            }
            Ok(None) => Ok(None),
            Err(e) => {
                self.failed = true;
                Err(e)
            }
        }
    }

    /// Memory this replay holds at the moment, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.current.as_ref().map_or(0, SegmentReader::buffered_bytes)
    }

    /// Sequence and place of the next entry to return.
    fn seek(&mut self) -> Result<Option<(u64, usize)>> {
        while self.next <= self.upto {
            if self.frame_next == self.frame_end {
                self.next_frame()?;
                continue;
            }
            let (seq, at) = (self.frame_next, self.entry_at);
            let Some(reader) = &self.current else { return Ok(None) };
            let Some((_, after)) = reader.entry_at(at) else {
                return Err(reader.damage("frame holds fewer entries than it says").into());
            };
            self.frame_next += 1;
            self.entry_at = after;
            if seq == self.next {
                self.next += 1;
                return Ok(Some((seq, at)));
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<()> {
        let Some(reader) = &mut self.current else {
            return self.next_segment();
        };
        let offset = reader.pos;
        match reader.advance()? {
            Step::Frame(frame) => {
                self.frame_next = frame.first_seq;
                self.frame_end = frame.last_seq.saturating_add(1);
                self.entry_at = 0;
                self.frames += 1;
                self.bytes += reader.pos - offset;
                Ok(())
            }
            Step::Stop(what) => {
                // Right at the end of a segment that has a successor; damage anywhere else.
                if self.segments.as_slice().first() != Some(&reader.seq) {
                    return Err(reader.damage(what).into());
                }
                if self.check_slack && look_ahead(reader, reader.pos)?.used_upto > 0 {
                    return Err(reader.damage("data behind the last frame of a segment").into());
                }
                self.next_segment()
            }
        }
    }

    fn next_segment(&mut self) -> Result<()> {
        let shared = &self.shared;
        let Some(first_seq) = self.segments.next() else {
            return Err(LogError::Corrupt {
                segment: segment::path(&shared.dir, self.next),
                offset: 0,
                seq: self.next,
                what: "a segment is missing",
            });
        };
        let opened = SegmentReader::open(&*shared.vfs, &shared.dir, first_seq, &shared.log_id)?;
        let reader = opened?;
        if let Some(before) = &self.current
            && before.chain != reader.header.chain
        {
            let what = "segment does not follow from the one before it";
            return Err(reader.damage(what).into());
        }
        self.frame_next = first_seq;
        self.frame_end = first_seq;
        self.current = Some(reader);
        Ok(())
    }
}

impl Iterator for Replay {
    type Item = Result<(u64, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.next_entry().transpose()?;
        Some(entry.map(|(seq, bytes)| (seq, Bytes::copy_from_slice(bytes))))
    }
}
