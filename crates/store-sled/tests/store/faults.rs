//! A file system that fails on demand, over the real one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_commit_log::{DirEntry, LockError, OpenMode, OsVfs, Vfs, VfsFile, VfsLock};

#[derive(Debug, Default)]
struct Plan {
    free: Option<u64>,
    /// Operation and a part of the path.
    fail: Option<(&'static str, &'static str, io::ErrorKind)>,
    log: Vec<String>,
    hook: Option<Hook>,
}

/// Done once, before an operation on a path that contains a part.
struct Hook(&'static str, &'static str, Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hook({} {})", self.0, self.1)
    }
}

/// Says what it did and fails what it is told to.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultVfs {
    plan: Arc<Mutex<Plan>>,
}

impl FaultVfs {
    pub(crate) fn set_free(&self, bytes: Option<u64>) {
        self.plan.lock().free = bytes;
    }

    /// From now on, `op` on a path that contains `part` fails.
    pub(crate) fn fail(&self, op: &'static str, part: &'static str, kind: io::ErrorKind) {
        self.plan.lock().fail = Some((op, part, kind));
    }

    /// Before the next `op` on a path that contains `part`, `run` is called, once.
    pub(crate) fn before(
        &self,
        op: &'static str,
        part: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) {
        self.plan.lock().hook = Some(Hook(op, part, Box::new(run)));
    }

    pub(crate) fn heal(&self) {
        self.plan.lock().fail = None;
    }

    /// `op file-name`, in order.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.plan.lock().log.clone()
    }

    fn enter(&self, op: &'static str, path: &Path) -> io::Result<()> {
        let matches = |hook: &mut Hook| hook.0 == op && path.to_string_lossy().contains(hook.1);
        let hook = self.plan.lock().hook.take_if(matches);
        if let Some(Hook(.., run)) = hook {
            run();
        }
        let mut plan = self.plan.lock();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        plan.log.push(format!("{op} {name}"));
        match plan.fail {
            Some((failing, part, kind))
                if failing == op && path.to_string_lossy().contains(part) =>
            {
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }
}

impl Vfs for FaultVfs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.enter("create_dir", path)?;
        OsVfs.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        self.enter(if mode == OpenMode::CreateNew { "create" } else { "open" }, path)?;
        let file = OsVfs.open(path, mode)?;
        Ok(Box::new(FaultFile { vfs: self.clone(), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter("rename", to)?;
        OsVfs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.enter("remove", path)?;
        OsVfs.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.enter("remove_dir", path)?;
        OsVfs.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.enter("sync_dir", path)?;
        OsVfs.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        OsVfs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsVfs.exists(path)
    }

    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        match self.plan.lock().free {
            Some(free) => Ok(Some(free)),
            None => OsVfs.free_space(path),
        }
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, LockError> {
        OsVfs.lock(path)
    }
}

#[derive(Debug)]
struct FaultFile {
    vfs: FaultVfs,
    path: std::path::PathBuf,
    file: Box<dyn VfsFile>,
}

impl VfsFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.vfs.enter("write", &self.path)?;
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.enter("sync", &self.path)?;
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.vfs.enter("allocate", &self.path)?;
        self.file.allocate(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
