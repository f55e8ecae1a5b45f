//! Stored results without a handle: for whoever seals them anew.

use bytes::Bytes;
use resurge_store::{Key, KeyRange, Record, StoreError};

use crate::entry::{Done, Encoding, Entry, Value};
use crate::{CheckpointKey, Result, layout};

/// The keys of all checkpoints.
///
/// # Errors
/// None that can happen.
pub fn all() -> Result<KeyRange> {
    layout::range(None, None)
}

/// Shows a result that somebody [staged](crate::Claim::stage_done) to `replace`, and returns the
/// stored value with what that returned in its place, everything else as it was. Claims, typed results
/// and keys of others are not shown.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// use resurge_checkpoint::{Begin, CheckpointKey, CheckpointOptions, Checkpoints, stored};
/// # use resurge_store::{Batch, Durability, Store};
/// # let store = Store::memory();
/// # let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
/// let key = CheckpointKey::global("charge").build()?;
/// # let Begin::Claimed(mut claim) = checkpoints.begin(&key, checkpoints.policy()).await? else { return Ok(()) };
/// # let mut batch = Batch::new();
/// claim.stage_done(&mut batch, "old", Duration::ZERO)?;
/// # store.commit(batch, Durability::Durable).await?;
/// # claim.settled();
/// let value = store.get(key.stored()).await?.unwrap();
/// let new = stored::replace(key.stored(), &value, |of, old| {
///     assert_eq!((of.step(), &old[..]), ("charge", &b"old"[..]));
///     Some("new".into())
/// })?;
/// assert!(new.unwrap() != value);
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Corrupt`.
pub fn replace(
    key: &Key,
    stored: &Bytes,
    replace: impl FnOnce(&CheckpointKey, &Bytes) -> Option<Bytes>,
) -> Result<Option<Bytes>, StoreError> {
    let Some(of) = layout::parse(key) else { return Ok(None) };
    let record = Record::decode(key, stored)?;
    let Entry::Done(done) = Entry::decode(key, record.payload())? else { return Ok(None) };
    if done.value.encoding != Encoding::Opaque {
        return Ok(None);
    }
    Ok(replace(&of, &done.value.bytes).map(|bytes| {
        let value = Value { encoding: Encoding::Opaque, bytes };
        Done { value, ..done }.encode(key, record.expiry())
    }))
}
