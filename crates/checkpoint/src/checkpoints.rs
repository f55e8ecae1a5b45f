//! The handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::{Done, Encoding, Value};
use crate::flight::Flights;
use crate::lookup::{What, look};
use crate::observe::Observed;
use crate::owner::{self, Holder, Owner};
use crate::{
    CheckpointError, CheckpointKey, CheckpointOptions, CheckpointStats, Result, StepPolicy, run,
};

/// Memoised step results on one store. Cheap to clone; clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints};
/// let store = resurge_store::Store::memory();
/// let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
/// let key = CheckpointKey::global("square").input(&7).build()?;
/// let square = || async { Ok::<u32, std::io::Error>(7 * 7) };
/// assert_eq!(checkpoints.run(&key, Duration::ZERO, square).await?, 49); // computed
/// assert_eq!(checkpoints.run(&key, Duration::ZERO, square).await?, 49); // found
/// assert_eq!((checkpoints.stats().started, checkpoints.stats().hits), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Checkpoints {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) options: CheckpointOptions,
    pub(crate) owner: Arc<Owner>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) observed: Observed,
}

impl Checkpoints {
    /// On `store`. Every handle takes a number of its own, in one small commit.
    ///
    /// All handles on a store share its checkpoints. In one process, open them on clones of one
    /// [`Store`]: on a store of one process, a claim of somebody this process does not know is a claim
    /// of the dead.
    ///
    /// # Errors
    /// `Invalid` for options out of range; those of the store.
    pub async fn open(store: &Store, options: CheckpointOptions) -> Result<Self> {
        options.validate()?;
        let owner = Owner::register(store).await?;
        let observed = Observed::new(options.observer.clone());
        let inner =
            Inner { store: store.clone(), options, owner, flights: Arc::default(), observed };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The number this handle's claims carry; no two handles on a store have the same.
    pub fn owner(&self) -> u64 {
        self.inner.owner.number
    }

    /// The policy of steps that come without one.
    pub fn policy(&self) -> StepPolicy {
        self.inner.options.policy
    }

    /// What happened since this handle was opened.
    pub fn stats(&self) -> CheckpointStats {
        self.inner.observed.stats()
    }

    /// The stored result, if there is one and its time is not over. Runs nothing and waits for nobody.
    ///
    /// # Errors
    /// `Decode` when it is no `T`; those of the store.
    pub async fn get<T: DeserializeOwned>(&self, key: &CheckpointKey) -> Result<Option<T>> {
        let value = self.value(key).await?;
        value.map(|value| run::decode(key, self.inner.options.codec, &value)).transpose()
    }

    /// The same as bytes.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get_bytes(&self, key: &CheckpointKey) -> Result<Option<Bytes>> {
        Ok(self.value(key).await?.map(|value| value.bytes))
    }

    async fn value(&self, key: &CheckpointKey) -> Result<Option<Value>> {
        let found = look(&self.inner.store, key).await.map_err(|e| not_run(key, e))?;
        Ok(match found.what {
            What::Done(done) => Some(done.value),
            What::Absent | What::Expired | What::Claimed(_) => None,
        })
    }

    /// Stores a result without running the step: for a step in doubt that did happen, or one whose
    /// result came another way. Durable on return. A `ttl` of zero is for ever.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints};
    /// # let store = resurge_store::Store::memory();
    /// # let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
    /// let key = CheckpointKey::global("charge").input(&"order-42").build()?;
    /// checkpoints.record(&key, Duration::ZERO, &"receipt-7".to_owned()).await?;
    /// assert_eq!(checkpoints.get::<String>(&key).await?.as_deref(), Some("receipt-7"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Occupied` when there is a result already, or somebody is at work; `TooLarge` and `Encode`;
    /// those of the store.
    pub async fn record<T>(&self, key: &CheckpointKey, ttl: Duration, value: &T) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        let inner = &self.inner;
        let value = run::encode::<T>(key, inner.options.codec, value)?.0;
        let record = inner.result_record(key, value, ttl)?;
        let occupied = |what| CheckpointError::Occupied { step: key.id().clone(), what };
        loop {
            let found = look(&inner.store, key).await.map_err(|e| not_run(key, e))?;
            match &found.what {
                What::Done(_) => return Err(occupied("there is a result already")),
                What::Claimed(claimed) => {
                    let Holder::Gone = owner::holder(&inner.store, claimed) else {
                        return Err(occupied("somebody is running it"));
                    };
                }
                What::Absent | What::Expired => {}
            }
            let mut batch = Batch::new();
            batch.guard(key.stored().clone(), found.guard);
            batch.put(key.stored().clone(), record.clone());
            match inner.store.commit(batch, Durability::Durable).await {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(not_run(key, e)),
            }
        }
    }
}

impl Inner {
    /// The bytes to store for a result.
    pub(crate) fn result_record(
        &self,
        key: &CheckpointKey,
        value: Value,
        ttl: Duration,
    ) -> Result<Bytes> {
        run::check_size(key, value.bytes.len(), self.store.info().max_value_bytes)?;
        let at = self.store.now();
        // A whole millisecond at least: what was asked to expire is not kept for ever.
        let expires_at =
            (!ttl.is_zero()).then(|| at.saturating_add(ttl.max(Duration::from_millis(1))));
        let done = Done { owner: self.owner.number, at, value };
        Ok(done.encode(key.stored(), expires_at))
    }
}

impl Value {
    pub(crate) fn opaque(bytes: Bytes) -> Self {
        Self { encoding: Encoding::Opaque, bytes }
    }
}

/// A failure of the store before the step ran.
pub(crate) fn not_run(key: &CheckpointKey, source: resurge_store::StoreError) -> CheckpointError {
    CheckpointError::Store { step: key.id().clone(), source }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints")
            .field("owner", &self.owner())
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("owner", &self.owner.number).finish_non_exhaustive()
    }
}
