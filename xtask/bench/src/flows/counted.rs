//! The operating system's files, with every sync counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use resurge_commit_log::{DirEntry, LockError, OpenMode, OsVfs, Vfs, VfsFile, VfsLock};

#[derive(Debug)]
pub(super) struct Counted(pub(super) Arc<AtomicU64>);

#[derive(Debug)]
struct CountedFile(Box<dyn VfsFile>, Arc<AtomicU64>);

impl Vfs for Counted {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsVfs.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(CountedFile(OsVfs.open(path, mode)?, Arc::clone(&self.0))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsVfs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsVfs.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        OsVfs.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsVfs.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        OsVfs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsVfs.exists(path)
    }

    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        OsVfs.free_space(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, LockError> {
        OsVfs.lock(path)
    }
}

impl VfsFile for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
