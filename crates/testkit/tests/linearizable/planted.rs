//! A store that gets one thing wrong now and then: the checker must notice each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Key, KeyRange, MemoryStore, Namespace, Op, Page,
    Result, ScanOptions, StateStore, StoreError, StoreInfo, Watch,
};

/// What it gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A get answers with what an earlier one found.
    StaleGet,
    /// A scan answers with the page of an earlier one.
    StaleScan,
    /// Guards are not looked at: the update of somebody else is lost.
    LostGuards,
    /// A commit is refused though its guards hold.
    FalseConflict,
    /// A batch is applied in two halves.
    TornBatch,
    /// A page is put together from two moments.
    TornScan,
    /// Acknowledged, and not done.
    DroppedCommit,
    /// Acknowledged, and gone after the crash.
    LostAcknowledgement,
}

pub(crate) const BUGS: [Bug; 8] = [
    Bug::StaleGet,
    Bug::StaleScan,
    Bug::LostGuards,
    Bug::FalseConflict,
    Bug::TornBatch,
    Bug::TornScan,
    Bug::DroppedCommit,
    Bug::LostAcknowledgement,
];

/// How often it is right before it is wrong.
const EVERY: u64 = 5;

#[derive(Debug)]
pub(crate) struct Planted {
    inner: Arc<MemoryStore>,
    bug: Bug,
    turns: AtomicU64,
    /// The first answers.
    seen: Mutex<HashMap<Key, Option<Bytes>>>,
    page: Mutex<Option<Page>>,
}

impl Planted {
    pub(crate) fn new(inner: MemoryStore, bug: Bug) -> Self {
        let (seen, page) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(inner), bug, turns: AtomicU64::new(0), seen, page }
    }

    /// Whether it is to go wrong now, for this reason.
    fn wrong(&self, bug: Bug) -> bool {
        self.bug == bug && self.turns.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1
    }
}

fn only(batch: &Batch, ops: &[Op]) -> Batch {
    let mut some = Batch::new();
    for (key, guard) in batch.guards() {
        some.guard(key.clone(), guard.clone());
    }
    for op in ops {
        match op {
            Op::Put { key, value } => some.put(key.clone(), value.clone()),
            Op::Delete { key } => some.delete(key.clone()),
        };
    }
    some
}

impl StateStore for Planted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let stale = self.seen.lock().get(key).cloned();
            if let Some(stale) = stale
                && self.wrong(Bug::StaleGet)
            {
                return Ok(stale);
            }
            let found = self.inner.get(key).await?;
            self.seen.lock().entry(key.clone()).or_insert_with(|| found.clone());
            Ok(found)
        })
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        Box::pin(async move {
            if self.wrong(Bug::TornScan) {
                let mut entries = Vec::new();
                for name in ["left", "right"] {
                    let half = Namespace::new(name)?.all();
                    entries.extend(self.inner.scan(half, options.clone()).await?.entries);
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                }
                return Ok(Page { entries, next: None });
            }
            let stale = self.page.lock().clone();
            if let Some(stale) = stale
                && self.wrong(Bug::StaleScan)
            {
                return Ok(stale);
            }
            let page = self.inner.scan(range, options).await?;
            self.page.lock().get_or_insert_with(|| page.clone());
            Ok(page)
        })
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        let inner = Arc::clone(&self.inner);
        if let Some((key, _)) = batch.guards().first()
            && self.wrong(Bug::FalseConflict)
        {
            let conflict = StoreError::conflict(key.clone(), "planted");
            return Box::pin(async { Err(conflict) });
        }
        if !batch.guards().is_empty() && self.wrong(Bug::LostGuards) {
            return inner.commit(only(&Batch::new(), batch.ops()), durability);
        }
        if batch.guards().is_empty() && self.wrong(Bug::DroppedCommit) {
            return inner.commit(Batch::new(), durability);
        }
        if let [first, rest @ ..] = batch.ops()
            && !rest.is_empty()
            && self.bug == Bug::TornBatch
        {
            let (first, rest) = (only(&batch, std::slice::from_ref(first)), rest.to_vec());
            return Box::pin(async move {
                inner.commit(first, durability).await?;
                tokio::task::yield_now().await;
                inner.commit(only(&Batch::new(), &rest), durability).await
            });
        }
        inner.commit(batch, durability)
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
