//! Bugs planted between the log and the disk: a harness that misses one proves nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_commit_log::{DirEntry, LockError, OpenMode, Vfs, VfsFile, VfsLock};
use resurge_testkit::SimVfs;

/// What the log would have done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Files are never synced.
    NoSyncData,
    /// Frames are acknowledged before they are synced: the sync happens at the next write.
    EarlyAck,
    /// Directories are never synced.
    NoSyncDir,
    /// Only the directory that holds the log's directory is never synced.
    NoSyncParent,
    /// A new segment gets its name before its content is on disk.
    RenameBeforeSync,
    /// A sync that failed is tried again.
    RetrySync,
    /// A write that failed is reported as done.
    WriteErrorIgnored,
    /// New segments are extended only: they show what their blocks held before.
    NoZeroFill,
    /// Opening does not write what is already there again.
    NoRewrite,
    /// Opening leaves what is behind the valid frames.
    NoTailZeros,
    /// Removed segments come back: the removal is never synced.
    NoSyncAfterRemove,
    /// Opening writes the tail again and does not sync it.
    NoSyncAtOpen,
}

/// Which test finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Catcher {
    Crashes,
    Errors,
}

pub(crate) const ALL: &[(Bug, Catcher)] = &[
    (Bug::NoSyncData, Catcher::Crashes),
    (Bug::EarlyAck, Catcher::Crashes),
    (Bug::NoSyncDir, Catcher::Crashes),
    (Bug::NoSyncParent, Catcher::Crashes),
    (Bug::RenameBeforeSync, Catcher::Crashes),
    (Bug::RetrySync, Catcher::Errors),
    (Bug::WriteErrorIgnored, Catcher::Errors),
    (Bug::NoZeroFill, Catcher::Crashes),
    (Bug::NoRewrite, Catcher::Errors),
    (Bug::NoTailZeros, Catcher::Crashes),
    (Bug::NoSyncAfterRemove, Catcher::Crashes),
    (Bug::NoSyncAtOpen, Catcher::Crashes),
];

/// A file system that does to the log's calls what a bug in the log would do.
#[derive(Debug)]
struct Planted {
    disk: SimVfs,
    bug: Bug,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Files that got another name, by the old one.
    renamed: BTreeSet<PathBuf>,
    /// A segment was removed since the last sync of its directory.
    removed: bool,
}

#[derive(Debug)]
struct PlantedFile {
    disk: SimVfs,
    file: Box<dyn VfsFile>,
    path: PathBuf,
    /// An existing file opened for writing: only opening a log does that.
    reopened: bool,
    bug: Bug,
    shared: Arc<Mutex<Shared>>,
    owes_sync: Mutex<bool>,
    /// The first sync was asked for.
    opened: Mutex<bool>,
}

pub(crate) fn plant(bug: Bug, disk: &SimVfs) -> Arc<dyn Vfs> {
    Arc::new(Planted { disk: disk.clone(), bug, shared: Arc::default() })
}

impl Vfs for Planted {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(PlantedFile {
            disk: self.disk.clone(),
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            reopened: mode == OpenMode::ReadWrite,
            bug: self.bug,
            shared: Arc::clone(&self.shared),
            owes_sync: Mutex::new(false),
            opened: Mutex::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)?;
        self.shared.lock().renamed.insert(from.to_owned());
        if self.bug == Bug::RenameBeforeSync {
            self.disk.open(to, OpenMode::ReadWrite)?.sync_data()?;
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if path.extension().is_some_and(|e| e == "log") {
            self.shared.lock().removed = true;
        }
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let removed = std::mem::take(&mut self.shared.lock().removed);
        match self.bug {
            Bug::NoSyncDir => Ok(()),
            Bug::NoSyncParent if path == Path::new("/state") => Ok(()),
            Bug::NoSyncAfterRemove if removed => Ok(()),
            _ => self.disk.sync_dir(path),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
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
    fn is_temporary(&self) -> bool {
        let temporary = self.path.extension().is_some_and(|e| e == "tmp");
        temporary && !self.shared.lock().renamed.contains(&self.path)
    }

    /// Does the file hold exactly this already?
    fn holds(&self, buf: &[u8], offset: u64) -> bool {
        let mut there = vec![0; buf.len()];
        self.file.read_exact_at(&mut there, offset).is_ok() && there == buf
    }
}

impl VfsFile for PlantedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if std::mem::take(&mut *self.owes_sync.lock()) {
            self.file.sync_data()?;
        }
        match self.bug {
            Bug::NoRewrite if self.reopened && self.holds(buf, offset) => Ok(()),
            Bug::NoTailZeros if self.reopened && buf.iter().all(|b| *b == 0) => Ok(()),
            Bug::WriteErrorIgnored => self.file.write_at(buf, offset).or(Ok(())),
            _ => self.file.write_at(buf, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.bug {
            Bug::NoSyncData => Ok(()),
            Bug::EarlyAck => {
                *self.owes_sync.lock() = true;
                Ok(())
            }
            Bug::RenameBeforeSync if self.is_temporary() => Ok(()),
            Bug::NoSyncAtOpen
                if self.reopened && !std::mem::replace(&mut *self.opened.lock(), true) =>
            {
                Ok(())
            }
            Bug::RetrySync => self.file.sync_data().or_else(|_| self.file.sync_data()),
            _ => self.file.sync_data(),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.bug == Bug::NoZeroFill {
            self.file.allocate(offset, len)?;
            // What another segment left in these blocks.
            let files = self.disk.files();
            let Some(old) = files.iter().find(|f| f.extension().is_some_and(|e| e == "log")) else {
                return Ok(());
            };
            let stale = self.disk.contents(old)?;
            let range = usize::try_from(offset).unwrap_or(0)..usize::try_from(len).unwrap_or(0);
            return self.file.write_at(stale.get(range).unwrap_or_default(), offset);
        }
        self.file.allocate(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
