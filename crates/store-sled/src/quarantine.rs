//! Where damaged files are kept for people to look at.

use std::path::{Path, PathBuf};

use resurge_commit_log::Vfs;
use resurge_store::Result;

use crate::error::io_error;
use crate::layout::Layout;

/// What the quarantine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct QuarantineStatus {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Quarantine<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) layout: &'a Layout,
    pub(crate) cap: u64,
}

impl Quarantine<'_> {
    pub(crate) fn status(&self) -> Result<QuarantineStatus> {
        let dir = &self.layout.quarantine;
        let entries = self.vfs.list(dir).map_err(io_error("list", dir))?;
        let mut status = QuarantineStatus::default();
        for entry in entries {
            status.files += 1;
            status.bytes = status.bytes.saturating_add(entry.len);
        }
        Ok(status)
    }

    /// Moves a damaged file of `len` bytes here; above the cap it is removed, and `None` returned.
    pub(crate) fn take(&self, path: &Path, len: u64) -> Result<Option<PathBuf>> {
        if self.status()?.bytes.saturating_add(len) > self.cap {
            self.vfs.remove_file(path).map_err(io_error("remove", path))?;
            self.sync_parent(path)?;
            return Ok(None);
        }
        self.keep(path).map(Some)
    }

    /// Moves a file here whatever the cap says.
    pub(crate) fn keep(&self, path: &Path) -> Result<PathBuf> {
        let dir = &self.layout.quarantine;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut target = dir.join(&name);
        let mut n = 0_u64;
        while self.vfs.exists(&target).map_err(io_error("look for", &target))? {
            n += 1;
            target = dir.join(format!("{name}.{n}"));
        }
        self.vfs.rename(path, &target).map_err(io_error("rename", path))?;
        self.vfs.sync_dir(dir).map_err(io_error("sync", dir))?;
        self.sync_parent(path)?;
        Ok(target)
    }

    fn sync_parent(&self, path: &Path) -> Result<()> {
        let dir = path.parent().unwrap_or(&self.layout.root);
        self.vfs.sync_dir(dir).map_err(io_error("sync", dir))
    }
}
