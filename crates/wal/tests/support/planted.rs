//! A store that gets one thing wrong: whoever checks what is built on it must notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, ErrorKind, Guard, Key, KeyRange, Namespace, Op, Page,
    Record, Result, ScanOptions, StateStore, Store, StoreError, StoreInfo, Watch,
};

/// What it gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    None,
    /// Guards are not looked at.
    GuardsDropped,
    /// Guards for exact bytes are not looked at.
    ExactDropped,
    /// Guards for exact bytes hold when anything is stored.
    ExactIsPresent,
    /// Acknowledged when called.
    EarlyAck,
    /// `Durable` is done as `Buffered`.
    DurableIsBuffered,
    /// A sync returns at once.
    SyncDoesNothing,
    /// A commit of unknown outcome is reported as done.
    UnknownIsDone,
    /// A batch is committed in two halves.
    BatchInTwo,
    /// Only the first half of a batch is committed.
    HalfABatch,
    /// The fourth commit is acknowledged and not done.
    CommitLost,
    /// The fourth commit happens after the fifth.
    CommitsSwapped,
    /// The fourth commit is done and said to be refused as `Unavailable`.
    DoneAndRefused,
    /// Nothing is ever deleted.
    DeletesDropped,
    /// The expiry of a record is lost when it is read.
    ExpiryLost,
    /// A large value loses its end.
    ValuesCut,
    /// A bit of a large value is flipped.
    BitFlipped,
    /// The second entry of a page is left out.
    EntrySkipped,
    /// A get answers with the first value it ever found.
    StaleGet,
}

#[derive(Debug)]
struct Planted {
    inner: Arc<dyn StateStore>,
    bug: Bug,
    commits: AtomicU32,
    held: Mutex<Option<(Batch, Durability)>>,
    seen: Mutex<Vec<(Key, Bytes)>>,
    after_scan: Mutex<Option<Batch>>,
}

/// The same store with the bug.
pub(crate) fn plant(bug: Bug, store: &Store) -> Store {
    plant_and(bug, store, None)
}

/// Also commits `meanwhile` right after the first scan, as somebody else would.
pub(crate) fn plant_and(bug: Bug, store: &Store, meanwhile: Option<Batch>) -> Store {
    Store::from_arc(Arc::new(Planted {
        inner: Arc::clone(store.backend()),
        bug,
        commits: AtomicU32::new(0),
        held: Mutex::new(None),
        seen: Mutex::new(Vec::new()),
        after_scan: Mutex::new(meanwhile),
    }))
}

fn rebuilt(ops: &[Op], guards: impl IntoIterator<Item = (Key, Guard)>) -> Batch {
    let mut batch = Batch::new();
    for (key, guard) in guards {
        batch.guard(key, guard);
    }
    for op in ops {
        match op {
            Op::Put { key, value } => batch.put(key.clone(), value.clone()),
            Op::Delete { key } => batch.delete(key.clone()),
        };
    }
    batch
}

impl Planted {
    fn read(&self, key: &Key, value: Bytes) -> Bytes {
        const LARGE: usize = 80;
        match self.bug {
            Bug::ExpiryLost => match Record::decode(key, &value) {
                Ok(record) => Record::new(record.into_payload()).encode(key),
                Err(_) => value,
            },
            Bug::ValuesCut if value.len() > LARGE => value.slice(..value.len() - 1),
            Bug::BitFlipped if value.len() > LARGE => {
                let mut bytes = value.to_vec();
                bytes.iter_mut().skip(LARGE / 2).take(1).for_each(|b| *b ^= 4);
                bytes.into()
            }
            Bug::StaleGet => {
                let mut seen = self.seen.lock();
                if let Some((_, stale)) = seen.iter().find(|(k, _)| k == key) {
                    return stale.clone();
                }
                seen.push((key.clone(), value.clone()));
                value
            }
            _ => value,
        }
    }
}

impl StateStore for Planted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move { Ok(self.inner.get(key).await?.map(|value| self.read(key, value))) })
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        Box::pin(async move {
            let mut page = self.inner.scan(range, options).await?;
            let meanwhile = self.after_scan.lock().take();
            if let Some(batch) = meanwhile {
                self.inner.commit(batch, Durability::Durable).await?;
            }
            if self.bug == Bug::EntrySkipped && page.entries.len() > 1 {
                page.entries.remove(1);
            }
            for entry in &mut page.entries {
                entry.value = self.read(&entry.key, entry.value.clone());
            }
            Ok(page)
        })
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        let inner = Arc::clone(&self.inner);
        let guards = batch.guards().to_vec();
        let fourth = self.commits.fetch_add(1, Ordering::Relaxed) == 3;
        match self.bug {
            Bug::GuardsDropped => inner.commit(rebuilt(batch.ops(), []), durability),
            Bug::ExactDropped => {
                let kept = guards.into_iter().filter(|(_, g)| !matches!(g, Guard::Exact(_)));
                inner.commit(rebuilt(batch.ops(), kept), durability)
            }
            Bug::ExactIsPresent => {
                let looser = guards.into_iter().map(|(key, guard)| match guard {
                    Guard::Exact(_) => (key, Guard::Present),
                    other => (key, other),
                });
                inner.commit(rebuilt(batch.ops(), looser), durability)
            }
            Bug::EarlyAck => {
                drop(inner.commit(batch, durability));
                Box::pin(async { Ok(CommitSeq(1)) })
            }
            Bug::DurableIsBuffered => inner.commit(batch, Durability::Buffered),
            Bug::UnknownIsDone => {
                let done = inner.commit(batch, durability);
                Box::pin(async move {
                    match done.await {
                        Err(e) if e.kind() == ErrorKind::Indeterminate => Ok(CommitSeq(1)),
                        other => other,
                    }
                })
            }
            Bug::BatchInTwo | Bug::HalfABatch => {
                let (first, rest) = batch.ops().split_at(batch.ops().len().div_ceil(2));
                let half = inner.commit(rebuilt(first, guards), durability);
                if rest.is_empty() || self.bug == Bug::HalfABatch {
                    return half;
                }
                let rest = inner.commit(rebuilt(rest, []), durability);
                Box::pin(async move {
                    half.await?;
                    rest.await
                })
            }
            Bug::CommitLost if fourth => Box::pin(async { Ok(CommitSeq(1)) }),
            Bug::CommitsSwapped if fourth => {
                *self.held.lock() = Some((batch, durability));
                Box::pin(async { Ok(CommitSeq(1)) })
            }
            Bug::CommitsSwapped => {
                let done = inner.commit(batch, durability);
                if let Some((held, durability)) = self.held.lock().take() {
                    drop(inner.commit(held, durability));
                }
                done
            }
            Bug::DoneAndRefused if fourth => {
                let done = inner.commit(batch, durability);
                Box::pin(async move {
                    done.await?;
                    Err(StoreError::new(ErrorKind::Unavailable, "planted"))
                })
            }
            Bug::DeletesDropped => {
                let puts = batch.ops().iter().filter(|op| op.value().is_some());
                let puts: Vec<Op> = puts.cloned().collect();
                inner.commit(rebuilt(&puts, guards), durability)
            }
            _ => inner.commit(batch, durability),
        }
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        if self.bug == Bug::SyncDoesNothing {
            return Box::pin(async { Ok(()) });
        }
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
