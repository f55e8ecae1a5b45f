//! [`Log`]: the synchronous, single-writer core.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{LogError, Result};
use crate::frame::Frame;
use crate::open::{OpenedLog, Opening, create_dir, install};
use crate::options::LogOptions;
use crate::prepare::{NextSegment, Preparer};
use crate::reader::{LogReader, Replay, SegmentInfo, SegmentMeta, Shared, VerifyReport};
use crate::segment::{self, BLOCK, SegmentHeader};
use crate::vfs::{LockError, Vfs, VfsFile, VfsLock};

/// The segment that receives frames.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Box<dyn VfsFile>,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// Offset for the next frame.
    pub(crate) end: u64,
}

impl Active {
    fn room(&self) -> u64 {
        self.header.prepared.saturating_sub(self.end)
    }
}

/// A log, opened by its one writer. Every call blocks on the disk; [`CommitLog`](crate::CommitLog)
/// is the handle for many async callers.
///
/// An entry gets the next sequence number (a `u64`, from 1). [`append`](Self::append) writes a
/// frame of entries, all or nothing, with one write; [`sync`](Self::sync) makes everything
/// appended durable with one `fdatasync`. What is appended but not synced may be gone, whole,
/// after a power loss; its sequence numbers are then used again.
///
/// A write or sync that fails poisons the log for good: every later `append` and `sync` is
/// [`LogError::Poisoned`]. Open the log again to go on with what is really on disk.
///
/// Dropping a log does not sync it; [`close`](Self::close) does.
///
/// ```
/// use std::sync::Arc;
/// use resurge_commit_log::{Frame, Log, LogOptions, OsVfs};
///
/// # let dir = tempfile::tempdir()?;
/// let options = LogOptions::new(*b"an example's log");
/// let (mut log, opened) = Log::open(Arc::new(OsVfs), &dir.path().join("log"), options, 0)?;
/// assert!(opened.created);
///
/// let mut frame = Frame::new();
/// frame.push(b"first")?;
/// frame.push(b"second")?;
/// assert_eq!(log.append(&mut frame)?, 1..=2);
/// assert_eq!(log.sync()?, 2); // now, and only now, acknowledge
///
/// let mut replay = log.replay(1)?;
/// while let Some((seq, bytes)) = replay.next_entry()? {
///     println!("{seq}: {} bytes", bytes.len());
/// }
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Log {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: LogOptions,
    active: Active,
    next_seq: u64,
    durable: u64,
    chain: u32,
    shared: Arc<Shared>,
    preparer: Preparer,
    /// Offset in the active segment up to which the preparer has had its share.
    granted_upto: u64,
    poison: Option<Arc<LogError>>,
    #[expect(dead_code, reason = "held for its Drop, which unlocks")]
    lock: Option<Box<dyn VfsLock>>,
}

impl Log {
    /// Opens the log in `dir`, or creates it when the directory is absent or empty.
    ///
    /// `high_water` is the highest sequence the caller knows to have been acknowledged, 0 when it
    /// does not know. It settles the one case that the files alone cannot: whether a damaged last
    /// group was acknowledged (`Corrupt`) or not (cut, and reported).
    ///
    /// Before this returns, everything that is served was made durable.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: LogOptions,
        high_water: u64,
    ) -> Result<(Self, OpenedLog)> {
        create_dir(&*vfs, dir)?;
        let lock = if options.lock {
            let path = dir.join("LOCK");
            let locked = vfs.lock(&path).map_err(|e| match e {
                LockError::Held => LogError::Locked { path: path.clone() },
                LockError::Io(e) => LogError::io("lock", &path)(e),
            });
            Some(locked?)
        } else {
            None
        };
        let opened = Opening { vfs: &*vfs, dir, options: &options, high_water }.run()?;
        let last_seq = opened.report.last_seq;
        let shared = Shared::new(
            Arc::clone(&vfs),
            dir.to_owned(),
            options.log_id,
            opened.segments,
            opened.active.end,
            last_seq,
        );
        let log = Self {
            preparer: Preparer::new(Arc::clone(&vfs), dir.to_owned(), options.preparation),
            vfs,
            dir: dir.to_owned(),
            options,
            granted_upto: opened.active.end,
            active: opened.active,
            next_seq: opened.next_seq,
            durable: last_seq,
            chain: opened.chain,
            shared: Arc::new(shared),
            poison: None,
            lock,
        };
        Ok((log, opened.report))
    }

    /// Writes the frame with one write and returns the sequences of its entries. Durable after
    /// the next [`sync`](Self::sync). The frame is empty again on success.
    ///
    /// `Full`: no space for the next segment; nothing was written, frame and log are as before.
    /// Any other error but `Invalid` poisons the log; the frame may or may not be found at the
    /// next open.
    pub fn append(&mut self, frame: &mut Frame) -> Result<RangeInclusive<u64>> {
        self.usable()?;
        if frame.is_empty() {
            return Err(LogError::Invalid { what: "an empty frame cannot be appended" });
        }
        let first = self.next_seq;
        let next = first.checked_add(u64::from(frame.count()));
        let next = next.ok_or(LogError::Invalid { what: "sequence numbers are used up" })?;
        if frame.sealed_len() > self.active.room() {
            self.roll(frame.sealed_len())?;
        }
        let (bytes, chain) =
            frame.seal(first, self.durable, self.active.header.salt, self.chain)?;
        let written = self.active.file.write_at(bytes, self.active.end);
        written.map_err(LogError::io("write", &self.active.path)).map_err(|e| self.poison(e))?;
        if self.active.end == BLOCK as u64 {
            self.preparer.request(self.next_size());
        }
        self.active.end += bytes.len() as u64;
        self.chain = chain;
        self.next_seq = next;
        self.shared.appended(next - 1, self.active.end);
        frame.clear();
        Ok(first..=next - 1)
    }

    /// Makes everything appended durable, with one `fdatasync`; without any when all is. Returns
    /// the last durable sequence. An error poisons the log: the sync is never retried.
    pub fn sync(&mut self) -> Result<u64> {
        self.usable()?;
        if self.durable < self.last_seq() {
            let synced = self.active.file.sync_data();
            synced.map_err(LogError::io("sync", &self.active.path)).map_err(|e| self.poison(e))?;
            self.durable = self.last_seq();
            self.shared.synced(self.durable);
            self.grant();
        }
        Ok(self.durable)
    }

    /// First sequence the log holds, or will hold when it is empty.
    pub fn first_seq(&self) -> u64 {
        self.shared.first_seq()
    }

    /// Last sequence appended; `first_seq() - 1` when the log is empty.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Last sequence that is durable.
    pub fn durable_seq(&self) -> u64 {
        self.durable
    }

    /// Bytes of frames after `seq`, rounded up to the whole segment that holds `seq + 1`.
    pub fn bytes_since(&self, seq: u64) -> u64 {
        self.shared.bytes_since(seq)
    }

    /// The segments, oldest first; the last one receives appends.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.segments()
    }

    /// Is the next segment ready? `Failed` tells that the disk is full before an append does.
    pub fn next_segment(&self) -> NextSegment {
        self.preparer.status()
    }

    /// Removes the segments that hold only sequences below `seq`, never the active one, and
    /// returns how many. Oldest first, each removal durable before the next, so that a crash in
    /// between leaves a log without holes. An error leaves the log usable.
    pub fn cut_before(&mut self, seq: u64) -> Result<usize> {
        self.shared.cut_before(seq)
    }

    /// The entries from `from` to the last one appended. Memory is bounded by one frame.
    ///
    /// `Cut` when `from` is before [`first_seq`](Self::first_seq).
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.reader().replay_upto(from, self.last_seq())
    }

    /// A handle for reading that outlives this borrow and may be used on other threads.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Reads and checks every byte of the log: headers, frames, checksums, the chain, and that
    /// nothing lies behind the last frame of a segment.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.reader().verify_upto(self.last_seq())
    }

    /// Syncs, and removes the file prepared for the next segment.
    pub fn close(mut self) -> Result<()> {
        self.sync()?;
        self.preparer.close()
    }

    fn usable(&self) -> Result<()> {
        self.poison
            .as_ref()
            .map_or(Ok(()), |cause| Err(LogError::Poisoned { cause: Arc::clone(cause) }))
    }

    fn poison(&mut self, error: LogError) -> LogError {
        tracing::error!(error = %error, "the log is poisoned");
        self.poison = Some(Arc::new(error.clone()));
        error
    }

    /// Lets the preparer fill a quarter more than its share of what was appended since the last
    /// sync, so that it is done before the active segment is full.
    fn grant(&mut self) {
        let appended = self.active.end.saturating_sub(self.granted_upto);
        self.granted_upto = self.active.end;
        let share = appended.saturating_mul(self.next_size()) / self.active.header.prepared.max(1);
        self.preparer.grant(share.saturating_add(share / 4));
    }

    /// Twice the active one, up to the limit.
    fn next_size(&self) -> u64 {
        let doubled = self.active.header.prepared.saturating_mul(2);
        doubled.clamp(self.options.first_segment, self.options.max_segment)
    }

    /// Goes on to a new segment with room for a frame of `frame_len` bytes.
    fn roll(&mut self, frame_len: u64) -> Result<()> {
        let need = (BLOCK as u64).saturating_add(frame_len);
        let size = self.next_size().max(need.next_multiple_of(BLOCK as u64));
        let spare = match self.preparer.take(need, size) {
            Ok(spare) => spare,
            Err(full @ LogError::Full { .. }) => return Err(full),
            Err(e) => return Err(self.poison(e)),
        };
        // ORDER: the old segment is durable to its end before the new one exists, so that a
        // segment with a successor is never an unacknowledged tail.
        self.sync()?;
        // A segment without a frame is replaced, under the same name: only its size was wrong.
        let empty = self.active.end == BLOCK as u64;
        let (number, before) = if empty {
            (self.active.header.number, self.active.header.chain)
        } else {
            (self.active.header.number.saturating_add(1), self.chain)
        };
        let id = self.options.log_id;
        let header = SegmentHeader {
            log_id: id,
            number,
            first_seq: self.next_seq,
            salt: segment::salt(self.options.salt, &id, number, self.next_seq, before),
            prepared: spare.size,
            chain: before,
        };
        let (active, chain) = match install(&*self.vfs, &self.dir, spare, header) {
            Ok(installed) => installed,
            Err(full @ LogError::Full { .. }) => return Err(full),
            Err(e) => return Err(self.poison(e)),
        };
        tracing::debug!(segment = %active.path.display(), size = header.prepared, "new segment");
        self.chain = chain;
        let meta =
            SegmentMeta { first_seq: header.first_seq, number, used: 0, prepared: header.prepared };
        self.shared.rolled(meta, active.end);
        self.granted_upto = active.end;
        self.active = active;
        Ok(())
    }
}
