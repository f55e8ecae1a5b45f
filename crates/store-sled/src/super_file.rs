//! The super file: who the store is, how far it is durable, whether it was closed.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use resurge_commit_log::{OpenMode, Vfs, VfsFile};
use resurge_store::{Result, StoreError};

use crate::error::{corrupt, io_error};

mod slot;

pub(crate) use slot::{ImageSpan, MAX_IMAGES, SLOT_DISTANCE, SLOT_LEN, Slot};

/// What reading the file found.
#[derive(Debug)]
pub(crate) struct SuperRead {
    /// The newest valid slot.
    pub(crate) slot: Slot,
    /// Which one it is.
    index: u8,
    /// Why the other one was not considered, if it is damaged.
    pub(crate) damaged: Option<&'static str>,
}

/// The open super file.
#[derive(Debug)]
pub(crate) struct SuperFile {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    slot: Slot,
    /// Where the next write goes. The other slot is on disk: it changes only after a sync.
    target: u8,
    dirty: bool,
}

impl SuperFile {
    /// Reads both slots. `Ok(None)` when there is no file; `Corrupt` when neither is valid.
    pub(crate) fn read(vfs: &dyn Vfs, path: &Path) -> Result<Option<SuperRead>> {
        if !vfs.exists(path).map_err(io_error("look for", path))? {
            return Ok(None);
        }
        let file = vfs.open(path, OpenMode::Read).map_err(io_error("open", path))?;
        let first = read_slot(&*file, path, 0)?;
        let second = read_slot(&*file, path, 1)?;
        let (slot, index, damaged) = match (first, second) {
            (Ok(a), Ok(b)) if a.store_id != b.store_id => {
                return Err(corrupt(path, "its slots name two different stores"));
            }
            (Ok(a), Ok(b)) if a.generation > b.generation => (a, 0, None),
            (Ok(_), Ok(b)) => (b, 1, None),
            (Ok(a), Err(what)) => (a, 0, Some(what)),
            (Err(what), Ok(b)) => (b, 1, Some(what)),
            (Err(what), Err(_)) => {
                return Err(corrupt(path, format_args!("both slots are damaged: {what}")));
            }
        };
        Ok(Some(SuperRead { slot, index, damaged }))
    }

    /// Both slots, each for itself: for tools.
    pub(crate) fn slots(
        vfs: &dyn Vfs,
        path: &Path,
    ) -> Result<[std::result::Result<Slot, &'static str>; 2]> {
        let file = vfs.open(path, OpenMode::Read).map_err(io_error("open", path))?;
        Ok([read_slot(&*file, path, 0)?, read_slot(&*file, path, 1)?])
    }

    /// Writes a new file in place of whatever is there, under its temporary name first.
    pub(crate) fn create(vfs: &dyn Vfs, path: &Path, tmp: &Path, mut slot: Slot) -> Result<Self> {
        if vfs.exists(tmp).map_err(io_error("look for", tmp))? {
            vfs.remove_file(tmp).map_err(io_error("remove", tmp))?;
        }
        let file = vfs.open(tmp, OpenMode::CreateNew).map_err(io_error("create", tmp))?;
        file.write_at(&[0; 2 * 4096], 0).map_err(io_error("write", tmp))?;
        for index in 0..2 {
            slot.generation += 1;
            file.write_at(&slot.encode(), offset(index)).map_err(io_error("write", tmp))?;
        }
        // ORDER: content before name, so that a super file is never half there.
        file.sync_data().map_err(io_error("sync", tmp))?;
        vfs.rename(tmp, path).map_err(io_error("rename", tmp))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        vfs.sync_dir(dir).map_err(io_error("sync", dir))?;
        let inner = Mutex::new(Inner { slot, target: 0, dirty: false });
        Ok(Self { path: path.to_owned(), file, inner })
    }

    /// Opens the file that `read` described and makes what was read durable.
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, read: &SuperRead) -> Result<Self> {
        let file = vfs.open(path, OpenMode::ReadWrite).map_err(io_error("open", path))?;
        // Possibly only in the page cache: the same bytes again, then a sync, before the other
        // slot is touched.
        file.write_at(&read.slot.encode(), offset(read.index)).map_err(io_error("write", path))?;
        file.sync_data().map_err(io_error("sync", path))?;
        let inner = Mutex::new(Inner { slot: read.slot, target: 1 - read.index, dirty: false });
        Ok(Self { path: path.to_owned(), file, inner })
    }

    pub(crate) fn slot(&self) -> Slot {
        self.inner.lock().slot
    }

    /// Notes the durable high-water without syncing it: exact after a kill, a hint after a power
    /// loss. Returns whether this made the file dirty.
    pub(crate) fn note_high_water(&self, seq: u64) -> Result<bool> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.slot.high_water >= seq {
            return Ok(false);
        }
        inner.slot.high_water = seq;
        self.write(inner)?;
        Ok(!std::mem::replace(&mut inner.dirty, true))
    }

    /// Makes what was noted durable, if anything was.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        if inner.dirty { self.sync_locked(&mut inner) } else { Ok(()) }
    }

    /// Changes the slot and makes it durable.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Slot)) -> Result<()> {
        let mut inner = self.inner.lock();
        change(&mut inner.slot);
        self.write(&mut inner)?;
        self.sync_locked(&mut inner)
    }

    fn write(&self, inner: &mut Inner) -> Result<()> {
        inner.slot.generation += 1;
        let written = self.file.write_at(&inner.slot.encode(), offset(inner.target));
        written.map_err(|e| self.failed("write", e))
    }

    fn sync_locked(&self, inner: &mut Inner) -> Result<()> {
        self.file.sync_data().map_err(|e| self.failed("sync", e))?;
        inner.dirty = false;
        // INVARIANT: at most one slot is not on disk, so a power loss tears at most one.
        inner.target = 1 - inner.target;
        Ok(())
    }

    fn failed(&self, op: &'static str, e: std::io::Error) -> StoreError {
        io_error(op, &self.path)(e)
    }
}

fn offset(index: u8) -> u64 {
    u64::from(index) * SLOT_DISTANCE
}

fn read_slot(
    file: &(dyn VfsFile + 'static),
    path: &Path,
    index: u8,
) -> Result<std::result::Result<Slot, &'static str>> {
    let mut bytes = [0; SLOT_LEN];
    match file.read_exact_at(&mut bytes, offset(index)) {
        Ok(()) => Ok(Slot::decode(&bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Ok(Err("super file is cut short"))
        }
        Err(e) => Err(io_error("read", path)(e)),
    }
}

#[cfg(test)]
mod tests;
