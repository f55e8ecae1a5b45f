//! A file that is given up when the disk is so full that the store could not be opened.

use resurge_commit_log::{OpenMode, Vfs};
use resurge_store::Result;

use crate::core::Core;
use crate::error::io_error;
use crate::layout::Layout;

/// Written in pieces of this size, so that closing need not wait for all of it.
const PIECE: u64 = 1 << 20;

/// Removes the ballast when less than `needed` bytes are free. True when it did.
pub(crate) fn give_up(vfs: &dyn Vfs, layout: &Layout, needed: u64) -> Result<bool> {
    let root = &layout.root;
    let free = vfs.free_space(root).map_err(io_error("ask for free space of", root))?;
    let path = &layout.ballast;
    if free.is_none_or(|free| free >= needed)
        || !vfs.exists(path).map_err(io_error("look for", path))?
    {
        return Ok(false);
    }
    vfs.remove_file(path).map_err(io_error("remove", path))?;
    tracing::warn!(path = %path.display(), "the disk is full; gave up the ballast");
    Ok(true)
}

impl Core {
    /// Writes the ballast, unless it is there, is not wanted, or would take space that is needed.
    pub(crate) fn make_ballast(&self) -> Result<()> {
        let vfs = &*self.options.vfs;
        let path = &self.layout.ballast;
        let size = self.options.ballast;
        let there = vfs.exists(path).map_err(io_error("look for", path))?;
        if size == 0 && there {
            return vfs.remove_file(path).map_err(io_error("remove", path));
        }
        let free = self.space.ask(vfs, &self.layout.root)?;
        if size == 0 || there || free < self.must_stay_free().saturating_add(size) {
            return Ok(());
        }
        let file = vfs.open(path, OpenMode::CreateNew).map_err(io_error("create", path))?;
        let mut at = 0;
        while at < size {
            let piece = PIECE.min(size - at);
            let stopping = self.signals.stopping();
            let written = if stopping { Ok(()) } else { file.allocate(at, piece) };
            if stopping || written.is_err() {
                vfs.remove_file(path).map_err(io_error("remove", path))?;
                return written.map_err(io_error("allocate", path));
            }
            at += piece;
        }
        file.sync_data().map_err(io_error("sync", path))
    }
}
