//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Result with [`LogError`].
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// Why a log operation did not happen, or why its outcome is unknown.
///
/// Cheap to clone: everybody whose record was part of a failed group gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Data that was acknowledged, or may have been, is damaged or missing. Nothing was changed
    /// on disk, but that leftover temporary files are gone. [`LogOptions::salvage`](crate::LogOptions::salvage) keeps the valid prefix.
    #[error("log damaged at {}, offset {offset}, sequence {seq}: {what}", segment.display())]
    Corrupt {
        /// The segment file that is damaged or missing.
        segment: PathBuf,
        /// Offset in that file, in bytes, where valid data ends.
        offset: u64,
        /// The first sequence that cannot be read.
        seq: u64,
        /// What was found instead.
        what: &'static str,
    },
    /// There is no space for the next segment. Nothing was written, the log is intact and
    /// readable, and appending works again once there is space.
    #[error("no space left for the next log segment ({needed} bytes)")]
    Full {
        /// Size of the segment that could not be prepared, in bytes.
        needed: u64,
    },
    /// A write or sync failed before. The log can only be closed and opened again: an fsync that
    /// failed is never retried, because the kernel may have dropped the data it could not write.
    #[error("the log is poisoned by an earlier failure: {cause}")]
    Poisoned {
        /// The failure that poisoned the log.
        cause: Arc<LogError>,
    },
    /// The log was closed. Nothing was written.
    #[error("the log is closed")]
    Closed,
    /// The entry or the frame exceeds a fixed limit. Nothing was written.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Length that was asked for, in bytes.
        len: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Too many bytes are waiting to be written. Nothing was written; try again.
    #[error("{pending} bytes are waiting to be written; try again later")]
    Unavailable {
        /// Bytes that wait.
        pending: u64,
    },
    /// Another process, or another handle in this one, has the log open.
    #[error("{} is locked by another handle", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The sequence asked for was cut off the front of the log earlier.
    #[error("sequence {seq} was cut; the log starts at {first_seq}")]
    Cut {
        /// The sequence asked for.
        seq: u64,
        /// The first sequence the log still holds.
        first_seq: u64,
    },
    /// The call breaks a rule of the API. Nothing was written.
    #[error("invalid call: {what}")]
    Invalid {
        /// The rule.
        what: &'static str,
    },
    /// The file system failed. From `append` and `sync`, the outcome is unknown and the log is
    /// poisoned.
    #[error("{op} {} failed", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: Arc<io::Error>,
    },
}

impl LogError {
    /// For `map_err`: names the operation and the file.
    pub(crate) fn io<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { op, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Is this the file system saying that it has no space left, or that a quota is used up?
    pub(crate) fn is_storage_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
