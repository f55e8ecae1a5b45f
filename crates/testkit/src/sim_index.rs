//! [`SimIndex`]: an index in memory that comes out of a crash the way a test wants it.

mod fate;
mod handle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{CommitSeq, Key};
use resurge_store_sled::{
    Digest, IndexError, IndexErrorKind, IndexFactory, IndexMeta, IndexResult, OpenedIndex,
};

pub use fate::IndexFate;

use handle::Handle;

/// The place of an index, for [`SledOptions::index_factory`](resurge_store_sled::SledOptions::index_factory):
/// in memory, without threads and files, so that a store can be opened thousands of times a second.
///
/// Every state it went through is remembered. [`crash`](Self::crash) gives the place as the next start
/// finds it, by an [`IndexFate`]: as it was, older, or lying in some way. The store must come to the
/// same state whatever it finds.
///
/// Clones are handles of the same place.
///
/// ```
/// use std::sync::Arc;
/// use resurge_store::{Batch, Durability, Namespace, StateStore, StoreError};
/// use resurge_store_sled::{How, Maintenance, SledOptions, SledStore};
/// use resurge_testkit::{IndexFate, SimIndex, SimVfs};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), StoreError> {
/// let (disk, index) = (SimVfs::new(), SimIndex::new());
/// let options = |disk: &SimVfs, index: &SimIndex| {
///     let options = SledOptions::new().vfs(Arc::new(disk.clone()));
///     options.index_factory(Arc::new(index.clone())).maintenance(Maintenance::Inline).ballast(0)
/// };
/// let (store, _) = SledStore::open("/state", options(&disk, &index)).await?;
/// let key = Namespace::new("app")?.key("greeting")?;
/// let mut batch = Batch::new();
/// batch.put(key.clone(), "hello");
/// store.commit(batch, Durability::Durable).await?;
/// store.close().await?;
///
/// let index = index.crash(IndexFate::Wrong { seed: 1 });
/// let (store, report) = SledStore::open("/state", options(&disk.kill(), &index)).await?;
/// assert!(matches!(report.how, How::Rebuilt { .. }), "{report}");
/// assert_eq!(store.get(&key).await?.unwrap(), "hello");
/// # store.close().await
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct SimIndex {
    place: Arc<Mutex<Place>>,
}

/// What is there, and what was.
#[derive(Clone, Debug, Default)]
struct Place {
    state: Option<State>,
    /// The states before, oldest first.
    history: Vec<State>,
    trouble: Option<Trouble>,
}

/// Copies share the entries until one side changes.
#[derive(Clone, Debug)]
struct State {
    entries: Arc<BTreeMap<Key, Bytes>>,
    meta: IndexMeta,
}

/// What goes wrong when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Opening fails until it is destroyed, or for ever.
    Open {
        kind: IndexErrorKind,
        cured: bool,
    },
    FailsAtApply,
    PanicsAtApply,
}

impl SimIndex {
    /// A place where nothing is.
    pub fn new() -> Self {
        Self::default()
    }

    /// A place with a whole index of these entries, complete up to `applied_seq`.
    pub fn holding(
        store_id: [u8; 16],
        entries: BTreeMap<Key, Bytes>,
        applied_seq: CommitSeq,
    ) -> Self {
        let digest = digest(&entries);
        let meta = IndexMeta { store_id, ready: true, applied_seq, digest };
        let state = Some(State { entries: Arc::new(entries), meta });
        Self::with(Place { state, ..Place::default() })
    }

    fn with(place: Place) -> Self {
        Self { place: Arc::new(Mutex::new(place)) }
    }

    /// The place as the next start finds it. Independent of this one, without its history.
    #[must_use]
    pub fn crash(&self, fate: IndexFate) -> Self {
        Self::with(fate.of(&self.place.lock()))
    }

    /// A copy with everything, its history included, independent from now on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with(self.place.lock().clone())
    }

    /// What the index there says about itself.
    pub fn meta(&self) -> Option<IndexMeta> {
        self.place.lock().state.as_ref().map(|state| state.meta)
    }

    /// What it really holds.
    pub fn proof(&self) -> Digest {
        self.place.lock().state.as_ref().map(|state| digest(&state.entries)).unwrap_or_default()
    }
}

impl IndexFactory for SimIndex {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn open(&self) -> IndexResult<OpenedIndex> {
        if let Some(Trouble::Open { kind, .. }) = self.place.lock().trouble {
            return Err(IndexError::new(kind, "simulated: it cannot be opened"));
        }
        let index = Arc::new(Handle::new(Arc::clone(&self.place)));
        Ok(OpenedIndex { index, swept: Vec::new() })
    }

    fn destroy(&self) -> IndexResult<()> {
        let mut place = self.place.lock();
        if place.trouble == Some(Trouble::Open { kind: IndexErrorKind::Io, cured: false }) {
            return Err(IndexError::new(IndexErrorKind::Io, "simulated: it cannot be removed"));
        }
        let lasting = |trouble: &Trouble| !matches!(trouble, Trouble::Open { cured: true, .. });
        let trouble = place.trouble.filter(lasting);
        *place = Place { trouble, ..Place::default() };
        Ok(())
    }
}

fn digest(entries: &BTreeMap<Key, Bytes>) -> Digest {
    let mut digest = Digest::default();
    for (key, value) in entries {
        digest.add(key.raw(), value);
    }
    digest
}
