//! What can go wrong with a log, and what the caller should do about it.

use std::fmt;
use std::sync::Arc;

use resurge_store::{ErrorKind, Key, StoreError};

use crate::Lsn;

/// What every call of this crate returns.
pub type Result<T, E = WalError> = std::result::Result<T, E>;

/// A failure of a log. Cheap to clone: one failed page is reported to everyone in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Stored bytes failed a check; [`Damage`] names the place.
    #[error("{0}")]
    Corrupt(Damage),
    /// Another writer opened the log and took it over: this handle can no longer write. Open it
    /// again to take it back.
    #[error("log `{log}` was taken over by another writer (epoch {epoch}, ours was {ours})")]
    Fenced {
        /// The log.
        log: Arc<str>,
        /// The epoch this handle wrote under.
        ours: u64,
        /// The epoch found in the log.
        epoch: u64,
    },
    /// One record, or the records of one `append_all` or stage together, cannot fit into one page.
    #[error("{len} bytes do not fit into one page; the limit is {limit}")]
    TooLarge {
        /// Their encoded size with framing, in bytes.
        len: usize,
        /// The most that fits, in bytes.
        limit: usize,
    },
    /// The value refused to be serialised. Nothing was written.
    #[error("cannot encode a record: {0}")]
    Encode(#[source] StoreError),
    /// The record's bytes are intact but are no value of the asked type.
    #[error("cannot decode record {lsn} of log `{log}`: {source}")]
    Decode {
        /// The log.
        log: Arc<str>,
        /// The record.
        lsn: Lsn,
        /// What the codec said.
        source: StoreError,
    },
    /// More bytes wait to become durable than `max_queued_bytes` allows, or the log is between two
    /// attempts to write. Nothing was taken: wait for [`Wal::ready`](crate::Wal::ready), then retry.
    #[error("log `{log}` has {queued} bytes waiting; the limit is {limit}")]
    Backlog {
        /// The log.
        log: Arc<str>,
        /// Bytes that wait, in bytes.
        queued: usize,
        /// The option's value, in bytes.
        limit: usize,
    },
    /// Nothing was written because something earlier in the same log failed, for the reason given.
    /// The log goes on after what is durable: decide again and append again.
    #[error("an earlier record of the log failed: {0}")]
    Predecessor(#[source] StoreError),
    /// The next record does not get the number asked for: an earlier one failed, or somebody else
    /// appended. Nothing was taken.
    #[error("the next record of log `{log}` is {next}, not {asked}")]
    NotNext {
        /// The log.
        log: Arc<str>,
        /// The number the record was to get.
        asked: Lsn,
        /// The number it would have got.
        next: Lsn,
    },
    /// The records asked for were removed by `truncate_before`.
    #[error("record {asked} of log `{log}` is gone; the oldest one kept is {first}")]
    Truncated {
        /// The log.
        log: Arc<str>,
        /// Where reading was to begin or had arrived.
        asked: Lsn,
        /// The oldest record kept.
        first: Lsn,
    },
    /// The log takes no more writes: it was closed, or an earlier failure left its end unknown. Open
    /// it again to go on.
    #[error("log `{log}` is closed to writes{}", reason(.cause.as_ref()))]
    Closed {
        /// The log.
        log: Arc<str>,
        /// The failure that closed it, if it was not [`Wal::close`](crate::Wal::close).
        cause: Option<StoreError>,
    },
    /// The request itself is wrong; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn reason(cause: Option<&StoreError>) -> String {
    cause.map_or_else(String::new, |cause| format!(": {cause}"))
}

impl WalError {
    /// What to do about it, in the store's terms.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::Fenced { .. } | Self::Predecessor(_) | Self::NotNext { .. } => {
                ErrorKind::Conflict
            }
            Self::TooLarge { .. }
            | Self::Encode(_)
            | Self::Decode { .. }
            | Self::Truncated { .. }
            | Self::Invalid(_) => ErrorKind::Invalid,
            Self::Backlog { .. } => ErrorKind::Unavailable,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Store(e) => e.kind(),
        }
    }

    /// The damage, when it is [`Corrupt`](Self::Corrupt).
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Corrupt(damage) => Some(damage),
            _ => None,
        }
    }
}

impl From<Damage> for WalError {
    fn from(damage: Damage) -> Self {
        Self::Corrupt(damage)
    }
}

/// Where a log is damaged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The log.
    pub log: Arc<str>,
    /// The first record that cannot be trusted.
    pub lsn: Lsn,
    /// The key of the page, or of the head, that is bad or missing.
    pub key: Key,
    /// How.
    pub kind: DamageKind,
}

/// How a log is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// There are pages, but not the head that says where the log begins and ends.
    HeadMissing,
    /// The head fails its checksum or makes no sense.
    HeadUnreadable,
    /// A page that must be there is not.
    PageMissing,
    /// A page fails its checksum outside its records, or makes no sense.
    PageUnreadable,
    /// A record fails its checksum.
    RecordUnreadable,
    /// A page is intact but does not follow the one before it.
    ChainBroken,
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeadMissing => "the head is missing",
            Self::HeadUnreadable => "the head is damaged",
            Self::PageMissing => "a page is missing",
            Self::PageUnreadable => "a page is damaged",
            Self::RecordUnreadable => "a record is damaged",
            Self::ChainBroken => "a page does not follow the one before it",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, lsn, key, kind } = self;
        write!(f, "log `{log}` is corrupt at record {lsn}: {kind} (key {key})")
    }
}
