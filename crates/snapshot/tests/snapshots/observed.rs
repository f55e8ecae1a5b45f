//! A store that remembers its commits and can be told to refuse or to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
    /// So many scans succeed before one is refused.
    pub(crate) scans: Arc<AtomicU32>,
}

impl Observed {
    pub(crate) fn new() -> (Self, Store) {
        let observed = Self {
            inner: Arc::new(MemoryStore::in_memory()),
            commits: Arc::default(),
            refuse: Arc::default(),
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
