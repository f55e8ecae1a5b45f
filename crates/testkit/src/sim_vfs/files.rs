//! The operations: paths, handles, locks.

use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use resurge_commit_log::{DirEntry, LockError, OpenMode, Vfs, VfsFile, VfsLock};

use super::content::{Change, Content};
use super::disk::{Disk, FileNode, Id, Node, ROOT};
use super::{DiskFault, Machine, SimOpKind, SimVfs, Trouble, stopped};

#[derive(Debug)]
struct SimFile {
    vfs: SimVfs,
    id: Id,
    path: PathBuf,
    writable: bool,
}

#[derive(Debug)]
struct SimLock {
    vfs: SimVfs,
    id: Id,
}

impl VfsLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.vfs.machine.lock().locked.retain(|id| *id != self.id);
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// The names on the way from the root; a relative path starts there, too.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or_else(|| invalid("a name that is not UTF-8"))?);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid("not a plain path"));
            }
        }
    }
    Ok(names)
}

impl Disk {
    fn step(&self, dir: Id, name: &str) -> io::Result<Option<Id>> {
        let dir = self.dir(dir).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(dir.cached.get(name).copied())
    }

    fn find(&self, path: &Path) -> io::Result<Option<Id>> {
        let mut at = ROOT;
        for name in names(path)? {
            match self.step(at, name)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn existing(&self, path: &Path) -> io::Result<Id> {
        Ok(self.find(path)?.ok_or(io::ErrorKind::NotFound)?)
    }

    /// The directory a path is in, and its last name.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Id, &'a str)> {
        let names = names(path)?;
        let (last, parents) = names.split_last().ok_or_else(|| invalid("the root directory"))?;
        let mut at = ROOT;
        for name in parents {
            at = self.step(at, name)?.ok_or(io::ErrorKind::NotFound)?;
        }
        if self.dir(at).is_none() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((at, last))
    }

    fn existing_file(&self, path: &Path) -> io::Result<Id> {
        let id = self.existing(path)?;
        if self.file(id).is_some() { Ok(id) } else { Err(io::ErrorKind::IsADirectory.into()) }
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = open.pop() {
            match self.dir(id) {
                Some(dir) => {
                    open.extend(dir.cached.iter().map(|(name, id)| (path.join(name), *id)));
                }
                None => files.push(path),
            }
        }
        files.sort_unstable();
        files
    }

    pub(super) fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let id = self.existing_file(path)?;
        let content = self.file(id).map(|f| f.cached.clone()).unwrap_or_default();
        let mut bytes = vec![0; usize::try_from(content.len()).map_err(io::Error::other)?];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    pub(super) fn damage(&mut self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let id = self.existing_file(path)?;
        let mut content = Content::default();
        content.write(0, contents);
        self.replace(id, content);
        Ok(())
    }

    pub(super) fn lose(&mut self, path: &Path) -> io::Result<()> {
        let id = self.existing_file(path)?;
        let (dir, name) = self.place(path)?;
        self.remove(dir, name, id);
        self.sync_dir(dir);
        Ok(())
    }

    fn remove_at(&mut self, path: &Path, want_dir: bool) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let id = self.step(dir, name)?.ok_or(io::ErrorKind::NotFound)?;
        match self.dir(id) {
            Some(_) if !want_dir => return Err(io::ErrorKind::IsADirectory.into()),
            None if want_dir => return Err(io::ErrorKind::NotADirectory.into()),
            Some(inner) if !inner.cached.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.remove(dir, name, id);
        Ok(())
    }
}

impl Machine {
    fn create(&mut self, path: &Path) -> io::Result<Id> {
        let (dir, name) = self.disk.place(path)?;
        if self.disk.step(dir, name)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.disk.add(dir, name, Node::File(FileNode::default())))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let source = self.disk.place(from)?;
        let target = self.disk.place(to)?;
        let id = self.disk.step(source.0, source.1)?.ok_or(io::ErrorKind::NotFound)?;
        match self.disk.step(target.0, target.1)? {
            Some(replaced) if replaced == id => return Ok(()),
            Some(replaced) if self.disk.dir(replaced).is_some() => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Some(_) if self.disk.dir(id).is_some() => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            _ => {}
        }
        self.disk.rename(id, source, target);
        Ok(())
    }
}

impl Vfs for SimVfs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let mut at = ROOT;
        let mut so_far = PathBuf::from("/");
        for name in names(path)? {
            so_far.push(name);
            at = if let Some(next) = machine.disk.step(at, name)? {
                next
            } else {
                // One operation each: a crash may come between two levels.
                machine.begin_whole(SimOpKind::CreateDir, &so_far)?;
                machine.disk.add(at, name, Node::Dir(super::disk::DirNode::default()))
            };
        }
        if machine.disk.dir(at).is_some() {
            Ok(())
        } else {
            Err(io::ErrorKind::AlreadyExists.into())
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let mut machine = self.machine.lock();
        let create = mode == OpenMode::CreateNew;
        machine.begin_whole(if create { SimOpKind::Create } else { SimOpKind::Open }, path)?;
        let id = if create { machine.create(path)? } else { machine.disk.existing_file(path)? };
        Ok(Box::new(SimFile {
            vfs: self.clone(),
            id,
            path: path.to_owned(),
            writable: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::Rename, from)?;
        machine.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::RemoveFile, path)?;
        machine.disk.remove_at(path, false)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // One operation for each name: a crash may leave a part.
        for entry in self.list(path)? {
            let inner = path.join(&entry.name);
            if entry.is_dir { self.remove_dir_all(&inner)? } else { self.remove_file(&inner)? }
        }
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::RemoveDir, path)?;
        machine.disk.remove_at(path, true)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::SyncDir, path)?;
        let id = machine.disk.existing(path)?;
        if machine.disk.dir(id).is_none() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        machine.disk.sync_dir(id);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::List, path)?;
        let id = machine.disk.existing(path)?;
        let dir = machine.disk.dir(id).ok_or(io::ErrorKind::NotADirectory)?;
        let entry = |(name, id): (&String, &Id)| DirEntry {
            name: name.clone(),
            is_dir: machine.disk.dir(*id).is_some(),
            len: machine.disk.file(*id).map_or(0, |f| f.cached.len()),
        };
        Ok(dir.cached.iter().map(entry).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::Exists, path)?;
        Ok(machine.disk.find(path)?.is_some())
    }

    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::FreeSpace, path)?;
        machine.disk.existing(path)?;
        let used = machine.disk.used();
        Ok(machine.capacity.map(|capacity| capacity.saturating_sub(used)))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, LockError> {
        let mut machine = self.machine.lock();
        machine.begin_whole(SimOpKind::Lock, path)?;
        let id = match machine.disk.find(path)? {
            Some(_) => machine.disk.existing_file(path)?,
            None => machine.create(path)?,
        };
        if machine.locked.contains(&id) {
            return Err(LockError::Held);
        }
        machine.locked.push(id);
        Ok(Box::new(SimLock { vfs: self.clone(), id }))
    }
}

impl SimFile {
    fn change(&self, change: &Change, kind: SimOpKind) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading"));
        }
        self.vfs.machine.lock().change(self.id, change, kind, &self.path)
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut machine = self.vfs.machine.lock();
        machine.begin_whole(SimOpKind::Read, &self.path)?;
        Ok(machine.disk.file(self.id).map_or(0, |f| f.cached.read(buf, offset)))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let change = Change::Write { at: offset, data: Bytes::copy_from_slice(buf) };
        self.change(&change, SimOpKind::Write)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut machine = self.vfs.machine.lock();
        match machine.begin(SimOpKind::SyncData, &self.path)? {
            None => {
                machine.disk.sync_file(self.id);
                Ok(())
            }
            Some(Trouble::CrashWithin) => Err(stopped()),
            Some(Trouble::Fault(fault)) => {
                if fault == DiskFault::LostSync {
                    machine.disk.lose_sync(self.id);
                }
                Err(fault.error())
            }
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(&Change::Zero { at: offset, len }, SimOpKind::Allocate)
    }

    fn len(&self) -> io::Result<u64> {
        let mut machine = self.vfs.machine.lock();
        machine.begin_whole(SimOpKind::Len, &self.path)?;
        Ok(machine.disk.file(self.id).map_or(0, |f| f.cached.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(&Change::SetLen { len }, SimOpKind::SetLen)
    }
}
