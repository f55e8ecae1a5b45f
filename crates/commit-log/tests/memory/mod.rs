//! A file system in memory that records every effect and fails on demand.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test file uses a part of it, and a helper that fails is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use resurge_commit_log::{DirEntry, LockError, OpenMode, Vfs, VfsFile, VfsLock};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create(String),
    Write(String, u64, usize),
    Allocate(String, u64, u64),
    Sync(String),
    SetLen(String, u64),
    Rename(String, String),
    Remove(String),
    SyncDir(String),
}

type Fault = Box<dyn FnMut(&Op) -> Option<io::ErrorKind> + Send>;

type Hold = Arc<dyn Fn(&Op) + Send + Sync>;

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    ops: Vec<Op>,
    fault: Option<Fault>,
    hold: Option<Hold>,
    free: Option<u64>,
}

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A copy of all files, nothing locked, no faults.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        let files = state.files.iter();
        let files =
            files.map(|(p, f)| (p.clone(), Arc::new(Mutex::new(f.lock().unwrap().clone()))));
        let new = State { files: files.collect(), dirs: state.dirs.clone(), ..State::default() };
        Self(Arc::new(Mutex::new(new)))
    }

    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        state.files.iter().map(|(p, f)| (p.clone(), f.lock().unwrap().clone())).collect()
    }

    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let in_dir = |p: &&PathBuf| p.parent() == Some(Path::new(dir));
        self.state().files.keys().filter(in_dir).map(|p| name(p)).collect()
    }

    pub(crate) fn put(&self, path: impl Into<PathBuf>, bytes: Vec<u8>) {
        self.state().files.insert(path.into(), Arc::new(Mutex::new(bytes)));
    }

    pub(crate) fn remove(&self, path: impl AsRef<Path>) {
        assert!(self.state().files.remove(path.as_ref()).is_some(), "no such file");
    }

    pub(crate) fn edit<R>(
        &self,
        path: impl AsRef<Path>,
        edit: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        let file = Arc::clone(&self.state().files[path.as_ref()]);
        let mut bytes = file.lock().unwrap();
        edit(&mut bytes)
    }

    pub(crate) fn take_ops(&self) -> Vec<Op> {
        std::mem::take(&mut self.state().ops)
    }

    pub(crate) fn fail(&self, fault: impl FnMut(&Op) -> Option<io::ErrorKind> + Send + 'static) {
        self.state().fault = Some(Box::new(fault));
    }

    /// Called before every effect, outside all locks: may wait.
    pub(crate) fn hold(&self, hold: impl Fn(&Op) + Send + Sync + 'static) {
        self.state().hold = Some(Arc::new(hold));
    }

    /// The same with a state of its own.
    pub(crate) fn hold_mut(&self, hold: impl FnMut(&Op) + Send + 'static) {
        let hold = Mutex::new(hold);
        self.hold(move |op| {
            let mut hold = hold.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (*hold)(op);
        });
    }

    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    pub(crate) fn free(&self, bytes: u64) {
        self.state().free = Some(bytes);
    }

    /// Records the effect, or fails it.
    fn effect(&self, op: Op) -> io::Result<()> {
        let hold = self.state().hold.clone();
        if let Some(hold) = hold {
            hold(&op);
        }
        let state = &mut *self.state();
        let failed = state.fault.as_mut().and_then(|fault| fault(&op));
        state.ops.push(op);
        failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Vec<u8>>>> {
        self.state().files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The name a file has now.
    fn name_of(&self, file: &Arc<Mutex<Vec<u8>>>) -> String {
        let state = self.state();
        let found = state.files.iter().find(|(_, f)| Arc::ptr_eq(f, file));
        found.map_or_else(|| "removed".to_owned(), |(path, _)| name(path))
    }
}

impl Vfs for Memory {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.state().dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        if mode == OpenMode::CreateNew {
            if self.state().files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.effect(Op::Create(name(path)))?;
            self.put(path, Vec::new());
        }
        Ok(Box::new(MemFile { vfs: self.clone(), bytes: self.file(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.effect(Op::Rename(name(from), name(to)))?;
        let file = self.file(from)?;
        let mut state = self.state();
        state.files.remove(from);
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.effect(Op::Remove(name(path)))?;
        self.file(path)?;
        self.state().files.remove(path);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.state().files.retain(|p, _| !p.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.effect(Op::SyncDir(name(path)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state();
        let files = state.files.iter().filter(|(p, _)| p.parent() == Some(path));
        let files = files.map(|(p, f)| DirEntry {
            name: name(p),
            is_dir: false,
            len: f.lock().unwrap().len() as u64,
        });
        let dirs = state.dirs.iter().filter(|p| p.parent() == Some(path));
        let dirs = dirs.map(|p| DirEntry { name: name(p), is_dir: true, len: 0 });
        Ok(files.chain(dirs).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        let root = path == Path::new("/");
        Ok(root || state.files.contains_key(path) || state.dirs.contains(path))
    }

    fn free_space(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(self.state().free)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, LockError> {
        if !self.state().locked.insert(path.to_owned()) {
            return Err(LockError::Held);
        }
        Ok(Box::new(MemLock(self.clone(), path.to_owned())))
    }
}

#[derive(Debug)]
struct MemLock(Memory, PathBuf);

impl VfsLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.state().locked.remove(&self.1);
    }
}

#[derive(Debug)]
struct MemFile {
    vfs: Memory,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl MemFile {
    fn name(&self) -> String {
        self.vfs.name_of(&self.bytes)
    }

    fn fill(&self, offset: u64, len: usize) -> MutexGuard<'_, Vec<u8>> {
        let end = usize::try_from(offset).unwrap() + len;
        let mut bytes = self.bytes.lock().unwrap();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes
    }
}

impl VfsFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let from = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        // Short reads are allowed, so make them.
        let n = from.len().min(buf.len()).min(5000);
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.vfs.effect(Op::Write(self.name(), offset, buf.len()))?;
        let at = usize::try_from(offset).unwrap();
        self.fill(offset, buf.len())[at..at + buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.effect(Op::Sync(self.name()))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.vfs.effect(Op::Allocate(self.name(), offset, len))?;
        let at = usize::try_from(offset).unwrap();
        let len = usize::try_from(len).unwrap();
        self.fill(offset, len)[at..at + len].fill(0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.vfs.effect(Op::SetLen(self.name(), len))?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
}
