//! Preparing segments: zero-filled and synced files under a temporary name.
//!
//! Filled in one go, a segment keeps the disk busy for many syncs of the active one. So the thread
//! fills a piece whenever the log has just synced and the disk has nothing to do, in proportion to
//! what was appended; at its own pace when nothing is; and at once when the log waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{LogError, Result};
use crate::options::Preparation;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes of zeros written and synced at a time, at least.
const PIECE: u64 = 64 * 1024;

/// How long the thread waits for the log before it fills a piece on its own.
const IDLE: Duration = Duration::from_millis(5);

/// Is the segment after the active one ready?
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NextSegment {
    /// Not asked for yet: the active segment is still empty.
    Idle,
    /// Being filled with zeros.
    Preparing,
    /// Ready: the log can go on without asking the disk for space.
    Ready,
    /// The attempt failed. `append` tries again once the active segment is full.
    Failed(LogError),
}

/// A prepared file, still under its temporary name.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn VfsFile>,
    pub(crate) size: u64,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Asked for, with this size.
    Wanted(u64),
    Working,
    Ready(Spare),
    Failed(LogError),
}

#[derive(Debug)]
struct Shared {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    slot: Mutex<Slot>,
    changed: Condvar,
    /// The thread is filling a segment and takes grants.
    filling: AtomicBool,
}

#[derive(Debug)]
struct Slot {
    state: State,
    made: u64,
    /// Bytes the thread may fill now.
    granted: u64,
    /// The log waits.
    hurry: bool,
    stop: bool,
}

/// Prepares one segment ahead.
#[derive(Debug)]
pub(crate) struct Preparer {
    shared: Arc<Shared>,
    mode: Preparation,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, mode: Preparation) -> Self {
        let slot =
            Mutex::new(Slot { state: State::Idle, made: 0, granted: 0, hurry: false, stop: false });
        let filling = AtomicBool::new(false);
        let shared = Arc::new(Shared { vfs, dir, slot, changed: Condvar::new(), filling });
        Self { shared, mode, thread: None }
    }

    pub(crate) fn status(&self) -> NextSegment {
        match &self.shared.slot.lock().state {
            State::Idle => NextSegment::Idle,
            State::Wanted(_) | State::Working => NextSegment::Preparing,
            State::Ready(_) => NextSegment::Ready,
            State::Failed(e) => NextSegment::Failed(e.clone()),
        }
    }

    /// Asks for a segment of `size` bytes ahead of need. A failure is kept for `status`.
    pub(crate) fn request(&mut self, size: u64) {
        {
            let mut slot = self.shared.slot.lock();
            if !matches!(slot.state, State::Idle) {
                return;
            }
            slot.state = State::Wanted(size);
        }
        if self.mode == Preparation::Background && self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let name = "commit-log-prepare".to_owned();
            self.thread = std::thread::Builder::new().name(name).spawn(move || shared.run()).ok();
        }
        if self.thread.is_some() {
            self.shared.changed.notify_all();
        } else {
            self.shared.slot.lock().hurry = true;
            self.shared.work();
            self.shared.slot.lock().hurry = false;
        }
    }

    /// Lets the thread fill `bytes` more. Called right after a sync.
    pub(crate) fn grant(&self, bytes: u64) {
        if !self.shared.filling.load(Ordering::Relaxed) {
            return;
        }
        let mut slot = self.shared.slot.lock();
        slot.granted = slot.granted.saturating_add(bytes);
        if slot.granted >= PIECE {
            self.shared.changed.notify_all();
        }
    }

    /// The prepared segment, if it has at least `need` bytes; otherwise prepares one of `size`
    /// bytes now. An earlier failure is tried again, with a new file.
    pub(crate) fn take(&self, need: u64, size: u64) -> Result<Spare> {
        let mut slot = self.shared.slot.lock();
        while matches!(slot.state, State::Wanted(_) | State::Working) {
            slot.hurry = true;
            self.shared.changed.notify_all();
            self.shared.changed.wait(&mut slot);
        }
        slot.hurry = false;
        match std::mem::replace(&mut slot.state, State::Idle) {
            State::Ready(spare) if spare.size >= need => return Ok(spare),
            // Too small for a large frame: keep it for the segment after that.
            State::Ready(spare) => slot.state = State::Ready(spare),
            _ => {}
        }
        slot.made += 1;
        let path = self.shared.tmp_path(slot.made);
        drop(slot);
        prepare(&*self.shared.vfs, &self.shared.dir, path, size, Ok)
    }

    /// Stops the thread and removes the file prepared ahead.
    pub(crate) fn close(mut self) -> Result<()> {
        self.stop();
        let state = std::mem::replace(&mut self.shared.slot.lock().state, State::Idle);
        if let State::Ready(spare) = state {
            drop(spare.file);
            let remove = self.shared.vfs.remove_file(&spare.path);
            remove.map_err(LogError::io("remove", &spare.path))?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.slot.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has nothing left to break: the log only waits for the slot.
            let _ = thread.join();
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            {
                let mut slot = self.slot.lock();
                while !slot.stop && !matches!(slot.state, State::Wanted(_)) {
                    self.changed.wait(&mut slot);
                }
                if slot.stop {
                    return;
                }
            }
            // A file system that panics is somebody else's defect; the thread serves on, and
            // `Unwound` has told the log.
            let _ = catch_unwind(AssertUnwindSafe(|| self.work()));
        }
    }

    /// Serves one request, if there is one.
    fn work(&self) {
        let (path, size) = {
            let mut slot = self.slot.lock();
            let State::Wanted(size) = slot.state else { return };
            slot.state = State::Working;
            slot.made += 1;
            (self.tmp_path(slot.made), size)
        };
        let unwound = Unwound(self);
        self.filling.store(true, Ordering::Relaxed);
        let result = prepare(&*self.vfs, &self.dir, path, size, |left| self.next_piece(left));
        self.filling.store(false, Ordering::Relaxed);
        if let Err(e) = &result
            && !matches!(e, LogError::Closed)
        {
            tracing::warn!(error = %e, "preparing the next log segment failed");
        }
        self.slot.lock().state = result.map_or_else(State::Failed, State::Ready);
        drop(unwound);
    }

    /// Waits until a piece may be filled and returns its length; `Closed` when the log is dropped.
    fn next_piece(&self, left: u64) -> Result<u64> {
        let mut slot = self.slot.lock();
        while !slot.stop && !slot.hurry && slot.granted < PIECE {
            if self.changed.wait_for(&mut slot, IDLE).timed_out() {
                break;
            }
        }
        if slot.stop {
            return Err(LogError::Closed);
        }
        let piece = if slot.hurry { left } else { slot.granted.max(PIECE).min(left) };
        slot.granted = 0;
        Ok(piece)
    }

    fn tmp_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("segment-{number}.tmp"))
    }
}

/// Tells whoever waits that the work ended, also if it ended in a panic.
#[derive(Debug)]
struct Unwound<'a>(&'a Shared);

impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        let mut slot = self.0.slot.lock();
        if matches!(slot.state, State::Working) {
            slot.state = State::Failed(LogError::Closed);
        }
        drop(slot);
        self.0.changed.notify_all();
    }
}

/// Makes a zero-filled, synced file of `size` bytes; on failure it is gone again. `piece` says how
/// much of what is left to fill next.
pub(crate) fn prepare(
    vfs: &dyn Vfs,
    dir: &Path,
    path: PathBuf,
    size: u64,
    piece: impl Fn(u64) -> Result<u64>,
) -> Result<Spare> {
    // Asked first, because filling a disk to the last block harms everybody on it.
    if vfs.free_space(dir).map_err(LogError::io("statvfs", dir))?.is_some_and(|free| free < size) {
        return Err(LogError::Full { needed: size });
    }
    match fill(vfs, &path, size, piece) {
        Ok(file) => Ok(Spare { path, file, size }),
        Err(e) => {
            // Best effort: leftovers are removed at the next open.
            let _ = vfs.remove_file(&path);
            Err(if e.is_storage_full() { LogError::Full { needed: size } } else { e })
        }
    }
}

fn fill(
    vfs: &dyn Vfs,
    path: &Path,
    size: u64,
    piece: impl Fn(u64) -> Result<u64>,
) -> Result<Box<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::CreateNew).map_err(LogError::io("create", path))?;
    let mut at = 0;
    while at < size {
        let len = piece(size - at)?;
        file.allocate(at, len).map_err(LogError::io("allocate", path))?;
        file.sync_data().map_err(LogError::io("sync", path))?;
        at += len;
    }
    Ok(file)
}
