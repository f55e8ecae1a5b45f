//! What the store needs from an index: the materialised state behind the log.
//!
//! The index is rebuildable and therefore not trusted: it has to prove itself at open, and may be
//! deleted at any time. Everything here is synchronous; callers own their threads.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{CommitSeq, Key, KeyRange, Page, ScanOptions};

mod digest;
mod error;
mod sled_index;

pub use digest::Digest;
pub use error::{IndexError, IndexErrorKind};
pub use sled_index::{SledIndex, SledIndexFactory, SledIndexOptions};

/// What every call of an [`Index`] returns.
pub type IndexResult<T> = Result<T, IndexError>;

/// One key's newest state: what [`Index::apply`] is to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub key: Key,
    /// What it holds now; `None` when it was removed.
    pub value: Option<Bytes>,
}

/// What an index says about itself. Written in the same atomic step as what it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexMeta {
    /// Which store it belongs to.
    pub store_id: [u8; 16],
    /// False from [`Index::begin`] to [`Index::finish`]: the contents are incomplete.
    pub ready: bool,
    /// Every commit up to this one is in it. Some of the effects of later ones may be, too; replaying
    /// the log after `applied_seq` in order leads to the exact state either way.
    pub applied_seq: CommitSeq,
    /// What a full scan must reproduce.
    pub digest: Digest,
}

/// An ordered map of the whole key space that can say what it holds and be rebuilt.
///
/// One thread changes it (`apply`, `begin`, `load`, `finish`); any thread reads it meanwhile. A
/// read sees each key whole, but may see some keys before and some after a change that is being
/// applied: the [`Overlay`](crate::Overlay) hides that.
///
/// After an error of any kind but `Misuse` it is not used again: the store closes, and the next
/// open decides.
pub trait Index: Debug + Send + Sync + 'static {
    /// What it says about itself; `None` when it is new and empty.
    ///
    /// # Errors
    /// `Corrupt` when what is there cannot be read.
    fn meta(&self) -> IndexResult<Option<IndexMeta>>;

    /// The value of `key`.
    fn get(&self, key: &Key) -> IndexResult<Option<Bytes>>;

    /// One page of `range`, as [`StateStore::scan`](resurge_store::StateStore::scan) cuts it.
    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> IndexResult<Page>;

    /// Makes the changes, then moves `applied_seq`; returns what it says about itself from now on.
    ///
    /// `changes` are strictly ascending by key. Crash-safe in steps: an implementation may apply a
    /// prefix of them atomically with the digest that goes with it, as long as `applied_seq` moves
    /// with the last step only. Survives `kill -9` at some later time, in order; durability is not
    /// asked for.
    ///
    /// # Errors
    /// `Misuse` before [`finish`](Self::finish), for unsorted changes, and for an `applied_seq` that
    /// goes back.
    fn apply(&self, changes: &[Change], applied_seq: CommitSeq) -> IndexResult<IndexMeta>;

    /// Reads everything it holds and returns what it found, to be compared with
    /// [`meta`](Self::meta). Does not compare by itself.
    fn prove(&self) -> IndexResult<Digest>;

    /// Starts a rebuild of an index that holds nothing: writes the id and `ready = false`.
    ///
    /// # Errors
    /// `Misuse` when there is something in it; [destroy](IndexFactory::destroy) it first.
    fn begin(&self, store_id: [u8; 16]) -> IndexResult<()>;

    /// Adds entries of a rebuild: strictly ascending by key, also from call to call.
    ///
    /// # Errors
    /// `Misuse` outside `begin` and `finish`, and for unsorted entries.
    fn load(&self, entries: &[(Key, Bytes)]) -> IndexResult<()>;

    /// Ends a rebuild: `ready` is written, after everything else, with this `applied_seq`.
    ///
    /// # Errors
    /// `Misuse` without `begin`.
    fn finish(&self, applied_seq: CommitSeq) -> IndexResult<IndexMeta>;

    /// Hands everything applied so far to the operating system, so that it survives `kill -9`.
    fn flush(&self) -> IndexResult<()>;

    /// Releases its files, waiting at most `deadline`. Every later call fails with `Closed`.
    /// Closing twice is fine.
    ///
    /// # Errors
    /// `TimedOut` when the files are still open; the directory must not be opened again by this
    /// process until they are released.
    fn close(&self, deadline: Duration) -> IndexResult<()>;

    /// What is wrong with it although it works, for the store's status; empty when nothing is.
    fn alarms(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An index that was just opened.
#[derive(Clone, Debug)]
pub struct OpenedIndex {
    /// The index, empty when there was none.
    pub index: Arc<dyn Index>,
    /// What had to be cleaned up first (file names), for the open report.
    pub swept: Vec<String>,
}

/// Opens and destroys the one index of a store, so that the opening rules need not know its kind.
pub trait IndexFactory: Debug + Send + Sync + 'static {
    /// What it makes, for reports: `sled`.
    fn kind(&self) -> &'static str;

    /// Opens what is there, or creates an empty index.
    ///
    /// # Errors
    /// Any kind: then the caller destroys it and rebuilds. Panics inside are returned as `Panicked`.
    fn open(&self) -> IndexResult<OpenedIndex>;

    /// Deletes everything it left on disk. Every index it opened must be closed before.
    ///
    /// # Errors
    /// `Io` when the files cannot be removed.
    fn destroy(&self) -> IndexResult<()>;
}
