//! Bugs to be found: in a handle, or in the store below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Guard, Key, KeyRange, Namespace, Op, Page, Record,
    Result, ScanOptions, StateStore, Store, StoreInfo, Watch,
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    None,
    /// In the handle: the version is not part of the key.
    VersionIgnored,
    /// The scope is not part of the key.
    ScopeIgnored,
    /// The input is not part of the key.
    InputIgnored,
    /// A result never expires.
    TtlIgnored,
    /// A failure is stored as if it were a result.
    FailureStored,
    /// Nothing is claimed before the step runs.
    ClaimSkipped,
    /// A step in doubt runs again, whatever the policy.
    DoubtIgnored,
    /// In the store: guards are not looked at.
    GuardsDropped,
    /// The expiry of a record is lost.
    ExpiryLost,
    /// Nothing is ever deleted.
    DeletesDropped,
    /// Every third commit is acknowledged and not done.
    CommitsLost,
    /// Claims do not reach the store.
    ClaimsLost,
    /// `Durable` is done as `Buffered`.
    DurableIsBuffered,
    /// Acknowledged when called.
    EarlyAck,
}

#[derive(Debug)]
struct Planted {
    inner: Arc<dyn StateStore>,
    bug: Bug,
    commits: AtomicU32,
}

/// The same store with the bug, when it is one of a store.
pub(crate) fn plant(bug: Bug, store: &Store) -> Store {
    if bug < Bug::GuardsDropped {
        return store.clone();
    }
    let inner = Arc::clone(store.backend());
    Store::from_arc(Arc::new(Planted { inner, bug, commits: AtomicU32::new(0) }))
        .with_clock(ClockOf(store.clone()))
}

/// Claims are short, and results here are not shorter than this.
const CLAIM_BYTES: usize = 4 + 35 + 4;

impl Planted {
    fn read(&self, key: &Key, value: Bytes) -> Bytes {
        match Record::decode(key, &value) {
            Ok(record) if self.bug == Bug::ExpiryLost => {
                Record::new(record.into_payload()).encode(key)
            }
            _ => value,
        }
    }

    fn changed(&self, batch: &Batch) -> Batch {
        let mut changed = Batch::new();
        for (key, guard) in batch.guards() {
            // Who waits for a lost expiry needs a guard that holds for what is there.
            match (self.bug, guard) {
                (Bug::GuardsDropped, _) | (Bug::ExpiryLost | Bug::ClaimsLost, Guard::Exact(_)) => {}
                _ => drop(changed.guard(key.clone(), guard.clone())),
            }
        }
        for op in batch.ops() {
            match op {
                Op::Delete { .. } if self.bug == Bug::DeletesDropped => {}
                Op::Put { value, .. }
                    if self.bug == Bug::ClaimsLost && value.len() == CLAIM_BYTES => {}
                Op::Put { key, value } => drop(changed.put(key.clone(), value.clone())),
                Op::Delete { key } => drop(changed.delete(key.clone())),
            }
        }
        changed
    }
}

impl StateStore for Planted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move { Ok(self.inner.get(key).await?.map(|value| self.read(key, value))) })
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        let n = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let batch = self.changed(&batch);
        match self.bug {
            Bug::CommitsLost if n.is_multiple_of(3) => Box::pin(async { Ok(CommitSeq(0)) }),
            Bug::DurableIsBuffered => self.inner.commit(batch, Durability::Buffered),
            Bug::EarlyAck => {
                drop(self.inner.commit(batch, durability));
                Box::pin(async { Ok(CommitSeq(0)) })
            }
            _ => self.inner.commit(batch, durability),
        }
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

/// The clock of another store.
#[derive(Debug)]
struct ClockOf(Store);

impl resurge_store::Clock for ClockOf {
    fn now(&self) -> resurge_store::Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> resurge_store::Monotonic {
        self.0.clock().monotonic()
    }

    fn sleep_until(&self, deadline: resurge_store::Monotonic) -> BoxFuture<'static, ()> {
        self.0.clock().sleep_until(deadline)
    }
}
