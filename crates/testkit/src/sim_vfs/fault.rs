//! What an operation is, and what can be made of it.

use std::io;
use std::path::PathBuf;

/// One operation on the simulated file system, as [`SimVfs::trace`](super::SimVfs::trace) lists
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimOp {
    /// What was asked for.
    pub kind: SimOpKind,
    /// The path it was asked of; for a handle, the path it was opened with.
    pub path: PathBuf,
}

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "named after the methods of Vfs and VfsFile")]
pub enum SimOpKind {
    CreateDir,
    Create,
    Open,
    Rename,
    RemoveFile,
    RemoveDir,
    SyncDir,
    List,
    Exists,
    FreeSpace,
    Lock,
    Read,
    Write,
    SyncData,
    Allocate,
    Len,
    SetLen,
}

impl SimOpKind {
    /// Can it change what is found after a crash? The others only look.
    pub fn has_effect(self) -> bool {
        !matches!(
            self,
            Self::Open | Self::List | Self::Exists | Self::FreeSpace | Self::Read | Self::Len
        )
    }

    fn needs_space(self) -> bool {
        matches!(
            self,
            Self::CreateDir
                | Self::Create
                | Self::Rename
                | Self::Lock
                | Self::Write
                | Self::SyncData
                | Self::Allocate
        )
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskFault {
    /// An input/output error; nothing happened.
    Io,
    /// No space left (`ErrorKind::StorageFull`) for what would need some; nothing happened.
    NoSpace,
    /// A write or `allocate` does half of it, then there is no space left.
    ShortWrite,
    /// A sync of a file fails, and the changes count as clean though they are not on disk: they
    /// can be read until the cache drops them, and a later sync succeeds without writing them.
    LostSync,
}

impl DiskFault {
    /// Does it make an operation of this kind fail? One it does not apply to succeeds.
    pub fn applies_to(self, kind: SimOpKind) -> bool {
        match self {
            Self::Io => true,
            Self::NoSpace => kind.needs_space(),
            Self::ShortWrite => matches!(kind, SimOpKind::Write | SimOpKind::Allocate),
            Self::LostSync => kind == SimOpKind::SyncData,
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io | Self::LostSync => io::Error::other("simulated input/output error"),
            Self::NoSpace | Self::ShortWrite => no_space(),
        }
    }
}

pub(super) fn no_space() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated disk is full")
}

/// A fault that waits for its operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) op: u64,
    pub(super) sticky: bool,
    pub(super) fault: DiskFault,
}

impl Planned {
    pub(super) fn hits(&self, op: u64, kind: SimOpKind) -> bool {
        let due = if self.sticky { op >= self.op } else { op == self.op };
        due && self.fault.applies_to(kind)
    }
}
