//! Preparing segments: zero-filled and synced files under a temporary name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::error::{LogError, Result};
use crate::options::Preparation;
use crate::vfs::{OpenMode, Vfs, VfsFile};

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
}

#[derive(Debug)]
struct Slot {
    state: State,
    made: u64,
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
        let slot = Mutex::new(Slot { state: State::Idle, made: 0, stop: false });
        let shared = Arc::new(Shared { vfs, dir, slot, changed: Condvar::new() });
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
            self.shared.work();
        }
    }

    /// The prepared segment, if it has at least `need` bytes; otherwise prepares one of `size`
    /// bytes now. An earlier failure is tried again, with a new file.
    pub(crate) fn take(&self, need: u64, size: u64) -> Result<Spare> {
        let mut slot = self.shared.slot.lock();
        while matches!(slot.state, State::Wanted(_) | State::Working) {
            self.shared.changed.wait(&mut slot);
        }
        match std::mem::replace(&mut slot.state, State::Idle) {
            State::Ready(spare) if spare.size >= need => return Ok(spare),
            // Too small for a large frame: keep it for the segment after that.
            State::Ready(spare) => slot.state = State::Ready(spare),
            _ => {}
        }
        slot.made += 1;
        let path = self.shared.tmp_path(slot.made);
        drop(slot);
        self.shared.prepare(path, size)
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
            self.work();
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
        let result = self.prepare(path, size);
        if let Err(e) = &result {
            tracing::warn!(error = %e, "preparing the next log segment failed");
        }
        self.slot.lock().state = result.map_or_else(State::Failed, State::Ready);
        self.changed.notify_all();
    }

    fn tmp_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("segment-{number}.tmp"))
    }

    fn prepare(&self, path: PathBuf, size: u64) -> Result<Spare> {
        prepare(&*self.vfs, &self.dir, path, size)
    }
}

/// Makes a zero-filled, synced file of `size` bytes; on failure it is gone again.
pub(crate) fn prepare(vfs: &dyn Vfs, dir: &Path, path: PathBuf, size: u64) -> Result<Spare> {
    // Asked first, because filling a disk to the last block harms everybody on it.
    if vfs.free_space(dir).map_err(LogError::io("statvfs", dir))?.is_some_and(|free| free < size) {
        return Err(LogError::Full { needed: size });
    }
    match fill(vfs, &path, size) {
        Ok(file) => Ok(Spare { path, file, size }),
        Err(e) => {
            // Best effort: leftovers are removed at the next open.
            let _ = vfs.remove_file(&path);
            Err(if e.is_storage_full() { LogError::Full { needed: size } } else { e })
        }
    }
}

fn fill(vfs: &dyn Vfs, path: &Path, size: u64) -> Result<Box<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::CreateNew).map_err(LogError::io("create", path))?;
    file.allocate(0, size).map_err(LogError::io("allocate", path))?;
    file.sync_data().map_err(LogError::io("sync", path))?;
    Ok(file)
}
