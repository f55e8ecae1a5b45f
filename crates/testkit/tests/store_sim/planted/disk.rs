//! Bugs that a file system can play.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_commit_log::{DirEntry, LockError, OpenMode, Vfs, VfsFile, VfsLock};
use resurge_testkit::SimVfs;

use super::Bug;

/// A file system that does to the store's calls what a bug in the store would do.
#[derive(Debug)]
struct Planted {
    disk: SimVfs,
    bug: Bug,
}

#[derive(Debug)]
struct PlantedFile {
    file: Box<dyn VfsFile>,
    /// As it was opened: a renamed file keeps its old one.
    path: PathBuf,
    /// An existing file opened for writing.
    reopened: bool,
    bug: Bug,
    /// The first sync was asked for.
    synced: Mutex<bool>,
    /// Kept back until the next sync.
    owed: Mutex<Vec<(Vec<u8>, u64)>>,
}

pub(super) fn plant(bug: Bug, disk: &SimVfs) -> Arc<dyn Vfs> {
    Arc::new(Planted { disk: disk.clone(), bug })
}

fn is_in(path: &Path, dir: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(dir))
}

fn is_super(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name == "super")
}

impl Vfs for Planted {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(PlantedFile {
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            reopened: mode == OpenMode::ReadWrite,
            bug: self.bug,
            synced: Mutex::new(false),
            owed: Mutex::default(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)?;
        if self.bug == Bug::OneImageKept && is_in(to, "images") {
            let dir = to.parent().unwrap_or(to);
            for entry in self.disk.list(dir)? {
                let other = dir.join(&entry.name);
                if other != to {
                    self.disk.remove_file(&other)?;
                }
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove_file(path) {
            // The bug has removed it before.
            Err(e) if self.bug == Bug::OneImageKept && e.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            removed => removed,
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let images = path.ends_with("images");
        match self.bug {
            Bug::RootNotSynced if path.ends_with("state") => Ok(()),
            Bug::ImageNameNotSynced | Bug::LogCutBeforeImage if images => Ok(()),
            _ => self.disk.sync_dir(path),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        if self.bug == Bug::TmpParsed && path.ends_with("images") {
            for entry in self.disk.list(path)? {
                if let Some(name) = entry.name.strip_suffix(".tmp") {
                    let image = path.join(format!("{name}.img"));
                    self.disk.rename(&path.join(&entry.name), &image)?;
                }
            }
        }
        self.disk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.free_space(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, LockError> {
        self.disk.lock(path)
    }
}

impl PlantedFile {
    /// Does the file hold exactly this already?
    fn holds(&self, buf: &[u8], offset: u64) -> bool {
        let mut there = vec![0; buf.len()];
        self.file.read_exact_at(&mut there, offset).is_ok() && there == buf
    }

    /// The slot, marked as cleanly closed.
    fn clean(buf: &[u8]) -> Vec<u8> {
        let mut slot = buf.to_vec();
        if slot.len() == 512 {
            slot[56] = 1;
            let crc = crc32c::crc32c(&slot[..508]);
            slot[508..].copy_from_slice(&crc.to_be_bytes());
        }
        slot
    }
}

impl VfsFile for PlantedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let log = is_in(&self.path, "log");
        match self.bug {
            Bug::TailNotRewritten if log && self.reopened && self.holds(buf, offset) => Ok(()),
            Bug::WriteErrorIgnored => self.file.write_at(buf, offset).or(Ok(())),
            Bug::CleanNotCleared if is_super(&self.path) => {
                self.file.write_at(&Self::clean(buf), offset)
            }
            Bug::HighWaterNotNoted if is_super(&self.path) => {
                self.owed.lock().push((buf.to_vec(), offset));
                Ok(())
            }
            _ => self.file.write_at(buf, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let log = is_in(&self.path, "log");
        let image = is_in(&self.path, "images");
        for (buf, offset) in self.owed.lock().drain(..) {
            self.file.write_at(&buf, offset)?;
        }
        match self.bug {
            Bug::LogNotSynced if log => Ok(()),
            Bug::SuperNotSynced if is_super(&self.path) => Ok(()),
            Bug::ImageNotSynced | Bug::LogCutBeforeImage if image => Ok(()),
            Bug::TailNotSynced
                if log && self.reopened && !std::mem::replace(&mut *self.synced.lock(), true) =>
            {
                Ok(())
            }
            Bug::RetrySync => self.file.sync_data().or_else(|_| self.file.sync_data()),
            _ => self.file.sync_data(),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
