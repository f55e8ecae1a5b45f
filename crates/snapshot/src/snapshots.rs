//! The snapshots under one name: opening, listing, deleting.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_store::{Batch, Durability, ErrorKind, Guard, Key, Record, ScanOptions, Store};

use crate::layout::Layout;
use crate::metrics::Metrics;
use crate::{Damaged, Listing, Result, SnapshotError, SnapshotId, SnapshotInfo, SnapshotOptions};

/// Snapshots of a whole state `S`, by name, the newest few kept.
///
/// Cheap to clone; clones share everything. Calls that write take turns.
///
/// Opening a name removes what interrupted calls left behind, and a snapshot which another handle is
/// just taking counts as that: its taker gets [`SnapshotError::Superseded`].
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), resurge_snapshot::SnapshotError> {
/// use resurge_snapshot::{SnapshotOptions, Snapshots};
/// use resurge_store::Store;
/// let stock = Snapshots::<Vec<u32>>::open(&Store::memory(), "stock", SnapshotOptions::new()).await?;
/// let taken = stock.take(vec![1, 2, 3], 17).await?;
/// assert_eq!(stock.list().await?.snapshots, [taken]);
/// # Ok(()) }
/// ```
pub struct Snapshots<S> {
    pub(crate) inner: Arc<Inner<S>>,
}

pub(crate) struct Inner<S> {
    pub(crate) store: Store,
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) options: SnapshotOptions<S>,
    pub(crate) metrics: Metrics,
    pub(crate) turn: Arc<tokio::sync::Mutex<Turn>>,
    /// Read once and found damaged; they do not count as kept.
    pub(crate) damaged: Mutex<BTreeSet<SnapshotId>>,
}

/// Held by whoever writes.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Begun and not finished: removed by the next turn, or at open.
    pub(crate) leftovers: Vec<SnapshotId>,
}

impl<S> Snapshots<S> {
    /// Opens the snapshots called `name` (1 to 200 bytes), and removes what interrupted calls left.
    ///
    /// # Errors
    /// `Invalid` for a name or options out of range; those of the store.
    pub async fn open(store: &Store, name: &str, options: SnapshotOptions<S>) -> Result<Self> {
        options.validate()?;
        let inner = Inner {
            store: store.clone(),
            name: name.to_owned(),
            layout: Layout::new(name)?,
            options,
            metrics: Metrics::new(),
            turn: Arc::default(),
            damaged: Mutex::default(),
        };
        inner.clean().await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Every snapshot by its manifest. No state is read, so a damaged one may be among them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self) -> Result<Listing> {
        self.inner.list().await
    }

    /// The lowest position of a snapshot that is kept and not known to be damaged: a log must keep
    /// everything after it. `None` while there is no such snapshot.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn oldest_position(&self) -> Result<Option<u64>> {
        Ok(self.inner.usable().await?.last().map(|info| info.position))
    }

    /// Removes one snapshot; durable on return.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub async fn delete(&self, id: SnapshotId) -> Result<()> {
        let inner = &self.inner;
        let mut turn = inner.turn.lock().await;
        let manifest = inner.layout.manifest(id)?;
        let mut batch = Batch::new();
        batch.guard(manifest.clone(), Guard::Present).delete(manifest);
        // ORDER: the manifest before the chunks, so that no manifest ever lacks its chunks.
        match inner.commit(batch, Durability::Durable).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Conflict => {
                return Err(SnapshotError::NotFound { id });
            }
            Err(e) => return Err(e),
        }
        turn.leftovers.push(id);
        inner.metrics.removed.increment(1);
        inner.discard_leftovers(&mut turn).await
    }
}

impl<S> Inner<S> {
    /// Those with an intact manifest, newest first, and the others.
    pub(crate) async fn list(&self) -> Result<Listing> {
        list_manifests(&self.store, &self.layout).await
    }

    /// Those not known to be damaged, newest first.
    pub(crate) async fn usable(&self) -> Result<Vec<SnapshotInfo>> {
        let mut found = self.list().await?.snapshots;
        let damaged = self.damaged.lock();
        found.retain(|info| !damaged.contains(&info.id));
        Ok(found)
    }

    /// Whether the manifest is there.
    pub(crate) async fn exists(&self, id: SnapshotId) -> Result<bool> {
        let manifest: Key = self.layout.manifest(id)?;
        Ok(self.store.get(&manifest).await?.is_some())
    }
}

/// Those with an intact manifest, newest first, and the others.
pub(crate) async fn list_manifests(store: &Store, layout: &Layout) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut range = Some(layout.manifests());
    while let Some(rest) = range {
        let page = store.scan(rest, ScanOptions::new()).await?;
        for entry in page.entries {
            // Keys nobody here writes are none of ours.
            let Some((id, None)) = layout.parse(&entry.key) else { continue };
            let decoded = Record::decode(&entry.key, &entry.value)
                .map_err(|e| e.to_string())
                .and_then(|record| SnapshotInfo::decode(id, record.into_payload()));
            match decoded {
                Ok(info) => listing.snapshots.push(info),
                Err(what) => listing.damaged.push(Damaged { id, what }),
            }
        }
        range = page.next;
    }
    listing.snapshots.sort_by_key(|info| std::cmp::Reverse(info.order()));
    Ok(listing)
}

impl<S> Clone for Snapshots<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> fmt::Debug for Snapshots<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("name", &self.inner.name)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}
