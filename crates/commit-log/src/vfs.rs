//! The file system as this crate sees it: every effect on disk goes through these two traits.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// How [`Vfs::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file, for reading and writing; `AlreadyExists` when there is one.
    CreateNew,
}

/// One entry of [`Vfs::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without the directory. A name that is not UTF-8 appears with replacement
    /// characters, so it never equals a name of ours.
    pub name: String,
    /// Is it a directory? Symbolic links are not followed.
    pub is_dir: bool,
    /// Length in bytes; 0 for directories.
    pub len: u64,
}

/// Why [`Vfs::lock`] did not lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("held by another handle")]
    Held,
    /// The lock file could not be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An exclusive lock, released when dropped (and by the system when the process dies).
pub trait VfsLock: Debug + Send + Sync {}

/// A file system.
///
/// Nothing is durable until it was synced: file content by [`VfsFile::sync_data`], names
/// (creation, rename, removal) by [`Vfs::sync_dir`] of the directory they are in.
/// Implementations refuse to follow a symbolic link in the last part of a path.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Creates a directory and its missing parents, accessible to the owner only.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens a file; new files are accessible to the owner only.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>>;
    /// Renames a file or directory, replacing an existing file atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all it holds.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Is there anything at `path`? Symbolic links are not followed.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes available to this process where `path` lies; `None` when that is unknown.
    fn free_space(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Takes the exclusive lock on `path`, creating the file when needed; never waits.
    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, LockError>;
}

/// An open file. Positions are explicit, so that one handle serves several threads.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, extending the file when needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content, and what is needed to read it back, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Fills `len` bytes at `offset` with zeros that are really written, extending the file when
    /// needed: the first sync after a write to a merely reserved block costs half as much again.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Is the file empty?
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

impl dyn VfsFile {
    /// Fills `buf` from `offset`; `UnexpectedEof` when the file ends before.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = buf;
        let mut at = offset;
        while !rest.is_empty() {
            match self.read_at(rest, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    at = at.saturating_add(n as u64);
                    rest = rest.get_mut(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
