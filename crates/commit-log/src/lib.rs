#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod check;
mod commit;
mod error;
mod frame;
mod gather;
mod group;
mod log;
mod open;
mod options;
mod os;
mod prepare;
mod quarantine;
mod reader;
mod scan;
mod segment;
mod vfs;

pub use check::{CheckedLog, LogFinding, LogFindingKind, check};
pub use commit::CommitLog;
pub use error::{LogError, Result};
pub use frame::{Frame, MAX_ENTRY, MAX_FRAME};
pub use group::{Append, Close};
pub use log::Log;
pub use open::{OpenedLog, Salvaged, TailCut};
pub use options::{LogOptions, Preparation, Scan};
pub use os::OsVfs;
pub use prepare::NextSegment;
pub use reader::{LogReader, Replay, SegmentInfo, VerifyReport};
pub use vfs::{DirEntry, LockError, OpenMode, Vfs, VfsFile, VfsLock};
