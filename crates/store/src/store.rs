//! The handle everybody uses: a backend with a clock, randomness and what is built on records.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Batch, BoxFuture, Clock, CommitSeq, Durability, Entropy, Guard, Key, KeyRange, MemoryStore,
    Namespace, OsEntropy, Page, Record, Result, ScanOptions, StateStore, StoreInfo, SystemClock,
    Timestamp, Watch,
};

mod maintain;

pub use maintain::Swept;

/// A backend together with the clock and the randomness that everything on it uses.
///
/// Cheap to clone; clones share the backend.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_store::StoreError> {
/// use resurge_store::{Batch, Durability, Namespace, Record, Store};
/// let store = Store::memory();
/// let key = Namespace::new("app")?.key("greeting")?;
///
/// let mut batch = Batch::new();
/// batch.put(key.clone(), Record::new("hello").encode(&key));
/// store.commit(batch, Durability::Durable).await?;
///
/// let read = store.read(&key).await?;
/// assert_eq!(read.payload().unwrap(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Store {
    /// On any backend, with the system's clock and randomness.
    pub fn new(backend: impl StateStore) -> Self {
        Self::from_arc(Arc::new(backend))
    }

    /// On a shared backend.
    pub fn from_arc(backend: Arc<dyn StateStore>) -> Self {
        Self { backend, clock: Arc::new(SystemClock::new()), entropy: Arc::new(OsEntropy) }
    }

    /// On an empty [`MemoryStore`]: for tests and for trying things out.
    pub fn memory() -> Self {
        Self::new(MemoryStore::in_memory())
    }

    /// With another clock, for example a [`VirtualClock`](crate::VirtualClock).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// With other randomness, for example [`SeededEntropy`](crate::SeededEntropy).
    #[must_use]
    pub fn with_entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Arc::new(entropy);
        self
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Wall time by the clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The randomness.
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn StateStore> {
        &self.backend
    }

    /// See [`StateStore::get`].
    pub fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.backend.get(key)
    }

    /// See [`StateStore::scan`].
    pub fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.backend.scan(range, options)
    }

    /// See [`StateStore::commit`].
    pub fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        self.backend.commit(batch, durability)
    }

    /// See [`StateStore::sync`].
    pub fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.backend.sync()
    }

    /// See [`StateStore::watch`].
    pub fn watch(&self, namespace: &Namespace) -> Watch {
        self.backend.watch(namespace)
    }

    /// See [`StateStore::info`].
    pub fn info(&self) -> StoreInfo {
        self.backend.info()
    }

    /// See [`StateStore::close`].
    pub fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.backend.close()
    }

    /// Reads a [`Record`], hiding it when it is expired.
    ///
    /// The returned guard is for what is physically there, expired or not, so a conditional write
    /// replaces an expired record safely.
    ///
    /// # Errors
    /// `Corrupt` when what is stored is no intact record of this key.
    pub async fn read(&self, key: &Key) -> Result<Read> {
        let stored = self.backend.get(key).await?;
        let record = match &stored {
            None => None,
            Some(stored) => {
                let record = Record::decode(key, stored)?;
                (!record.is_expired(self.clock.now())).then_some(record)
            }
        };
        Ok(Read { record, guard: Guard::of(stored) })
    }
}

/// What [`Store::read`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    record: Option<Record>,
    guard: Guard,
}

impl Read {
    /// The live record.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The live record's payload.
    pub fn payload(&self) -> Option<&Bytes> {
        self.record.as_ref().map(Record::payload)
    }

    /// The live record's payload, by value.
    pub fn into_payload(self) -> Option<Bytes> {
        self.record.map(Record::into_payload)
    }

    /// Holds as long as nobody changes what is physically stored.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }
}
