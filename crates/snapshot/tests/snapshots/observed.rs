//! A store that remembers its commits and can be told to refuse or to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, ErrorKind, Key, KeyRange, MemoryStore, Namespace,
    Page, Result, ScanOptions, StateStore, Store, StoreError, StoreInfo, Watch,
};

#[derive(Clone, Debug)]
pub(crate) struct Observed {
    inner: Arc<MemoryStore>,
    pub(crate) commits: Arc<Mutex<Vec<(Batch, Durability)>>>,
    /// So many commits from now on are refused as `Unavailable`.
    pub(crate) refuse: Arc<AtomicU32>,
    /// Values of chunks arrive damaged.
    pub(crate) rotten: Arc<AtomicBool>,
    /// So many scans succeed before one is refused.
    pub(crate) scans: Arc<AtomicU32>,
}

impl Observed {
    pub(crate) fn new() -> (Self, Store) {
        let observed = Self {
            inner: Arc::new(MemoryStore::in_memory()),
            commits: Arc::default(),
            refuse: Arc::default(),
            rotten: Arc::default(),
            scans: Arc::new(AtomicU32::new(u32::MAX)),
        };
        (observed.clone(), Store::new(observed))
    }

    /// A fresh store that holds the first `n` commits.
    pub(crate) async fn after(&self, n: usize) -> Store {
        let store = Store::memory();
        let commits = self.commits.lock()[..n].to_vec();
        for (batch, durability) in commits {
            store.commit(batch, durability).await.unwrap();
        }
        store
    }
}

/// Flips a bit in every chunk.
fn rot(batch: &Batch) -> Batch {
    let mut rotten = Batch::new();
    for (key, guard) in batch.guards() {
        rotten.guard(key.clone(), guard.clone());
    }
    for op in batch.ops() {
        let key = op.key().clone();
        match op.value() {
            None => rotten.delete(key),
            Some(value) if key.bytes().starts_with(b"\x04test\x03") => {
                let mut value = value.to_vec();
                value[7] ^= 1;
                rotten.put(key, value)
            }
            Some(value) => rotten.put(key, value.clone()),
        };
    }
    rotten
}

fn take_one(from: &AtomicU32) -> bool {
    from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl StateStore for Observed {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        if take_one(&self.scans) {
            return self.inner.scan(range, options);
        }
        Box::pin(async { Err(StoreError::new(ErrorKind::Unavailable, "refused")) })
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        if take_one(&self.refuse) {
            return Box::pin(async { Err(StoreError::new(ErrorKind::Unavailable, "refused")) });
        }
        let batch = if self.rotten.load(Ordering::SeqCst) { rot(&batch) } else { batch };
        let commits = Arc::clone(&self.commits);
        let committed = self.inner.commit(batch.clone(), durability);
        Box::pin(async move {
            let seq = committed.await?;
            commits.lock().push((batch, durability));
            Ok(seq)
        })
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}
