//! Waiting for published changes without polling and without losing one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Namespace, Result, StoreError};

/// Fires after a change in a namespace was published.
///
/// Armed when it is created: watch, read, then wait, and nothing is lost in between. Level-triggered:
/// many changes between two waits wake once.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_store::StoreError> {
/// use resurge_store::{Batch, Durability, Namespace, Store};
/// let store = Store::memory();
/// let ns = Namespace::new("inbox")?;
/// let mut watch = store.watch(&ns);
/// let mut batch = Batch::new();
/// batch.put(ns.key("message")?, "hello");
/// store.commit(batch, Durability::Durable).await?;
/// watch.changed().await?; // at once: the change came after the watch was made
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Watch {
    signal: watch::Receiver<u64>,
}

impl Watch {
    /// Waits for a change since this watch was made or last waited. Cancel safe: a change that came
    /// while the future was dropped is still seen by the next call.
    ///
    /// # Errors
    /// `Closed` when the store closed.
    pub async fn changed(&mut self) -> Result<()> {
        self.signal.changed().await.map_err(|_| StoreError::closed("the watched store is closed"))
    }

    /// Whether [`changed`](Self::changed) would return at once. Does not consume the change.
    ///
    /// # Errors
    /// `Closed` when the store closed.
    pub fn has_changed(&self) -> Result<bool> {
        self.signal.has_changed().map_err(|_| StoreError::closed("the watched store is closed"))
    }
}

/// The watches of one store. For backends.
#[derive(Debug, Default)]
pub struct WatchRegistry {
    senders: Mutex<Senders>,
    /// Namespaces watched, so that publishing costs one load where nobody watches.
    watched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Senders {
    by_namespace: HashMap<Bytes, watch::Sender<u64>>,
    closed: bool,
}

impl WatchRegistry {
    /// No watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// A watch on `namespace`.
    pub fn watch(&self, namespace: &Namespace) -> Watch {
        let mut senders = self.senders.lock();
        if senders.closed {
            return Watch { signal: watch::channel(0).1 };
        }
        senders.by_namespace.retain(|_, sender| sender.receiver_count() > 0);
        let prefix = namespace.all().start().clone();
        let signal =
            senders.by_namespace.entry(prefix).or_insert_with(|| watch::channel(0).0).subscribe();
        self.watched.store(senders.by_namespace.len(), Ordering::Release);
        Watch { signal }
    }

    /// Wakes the watches of every namespace that `batches` change. Call it after publishing.
    pub fn published<'a>(&self, batches: impl IntoIterator<Item = &'a crate::Batch>) {
        if self.watched.load(Ordering::Acquire) == 0 {
            return;
        }
        let senders = self.senders.lock();
        for op in batches.into_iter().flat_map(crate::Batch::ops) {
            if let Some(sender) = senders.by_namespace.get(op.key().namespace_prefix()) {
                sender.send_modify(|version| *version = version.wrapping_add(1));
            }
        }
    }

    /// Ends every watch, present and future, with `Closed`.
    pub fn close(&self) {
        let mut senders = self.senders.lock();
        senders.closed = true;
        senders.by_namespace.clear();
        self.watched.store(0, Ordering::Release);
    }
}
