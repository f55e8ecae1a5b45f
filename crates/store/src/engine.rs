//! What an embedded backend implements to get group commit, guards, watches and poisoning for free.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, CommitSeq, Key, KeyRange, Page, Result, ScanOptions, StoreInfo};

/// Batches that are logged with one write and made durable with one sync.
///
/// Their guards held; only their operations matter from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The sequence number of the first batch; the others follow without a gap.
    pub first: CommitSeq,
    /// At least one batch.
    pub batches: Vec<Batch>,
}

impl Group {
    /// The sequence number of the last batch.
    pub fn last(&self) -> CommitSeq {
        CommitSeq(self.first.0 + (self.batches.len() as u64).saturating_sub(1))
    }
}

/// A synchronous storage engine, driven by [`GroupCommit`](crate::GroupCommit).
///
/// `log`, `sync` are called from one thread, `publish` in log order from that or one other thread,
/// reads from anywhere. A group is published only after its log (for durable commits: its sync)
/// succeeded. Reads show published groups only, each whole.
pub trait Engine: Debug + Send + Sync + 'static {
    /// The highest sequence number it holds at open; new commits go on from there.
    fn last_seq(&self) -> CommitSeq;

    /// The published value of `key`.
    ///
    /// # Errors
    /// `Corrupt` naming the place; anything else closes the store for the caller.
    fn get(&self, key: &Key) -> Result<Option<Bytes>>;

    /// One page of published entries.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page>;

    /// Writes the group to the log; not yet durable, not yet visible.
    ///
    /// # Errors
    /// `Full`, `Unavailable` and `Invalid` mean that nothing was written and the engine goes on;
    /// `Closed` that nothing was written because the engine failed before: it poisons the store.
    /// Any other error poisons it, too, and what was written is unknown.
    fn log(&self, group: &Group) -> Result<()>;

    /// Makes everything logged durable.
    ///
    /// # Errors
    /// Every error poisons the store. A failed sync is never retried: the system may have dropped
    /// the data and report success the next time.
    fn sync(&self) -> Result<()>;

    /// Makes a logged group visible to readers.
    ///
    /// # Errors
    /// Every error poisons the store, its commits are `Indeterminate`.
    fn publish(&self, group: &Arc<Group>) -> Result<()>;

    /// What it is and promises.
    fn info(&self) -> StoreInfo;

    /// Called at most once, after everything was synced and published. Nothing follows. Never called
    /// on a poisoned store, so that a clean end can be told from a failure.
    ///
    /// # Errors
    /// Reported by `close`; what was acknowledged is durable all the same.
    fn close(&self) -> Result<()>;

    /// Whether a long scan should leave the async worker thread. False for pure memory.
    fn scans_block(&self) -> bool {
        true
    }
}
