//! What is there under a key, and waiting while somebody else is at work.

use resurge_store::{Batch, Durability, ErrorKind, Guard, Record, Store, StoreError};

use crate::entry::{Claimed, Done, Entry};
use crate::owner::{self, Holder};
use crate::{CheckpointKey, layout};

/// What was found, with the guard for what is physically there.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) what: What,
    pub(crate) guard: Guard,
}

#[derive(Debug)]
pub(crate) enum What {
    Absent,
    /// A result whose time is over.
    Expired,
    Done(Done),
    Claimed(Claimed),
}

pub(crate) async fn look(store: &Store, key: &CheckpointKey) -> Result<Found, StoreError> {
    let stored = store.get(key.stored()).await?;
    let what = match &stored {
        None => What::Absent,
        Some(stored) => {
            let record = Record::decode(key.stored(), stored)?;
            let expired = record.is_expired(store.now());
            match Entry::decode(key.stored(), record.payload())? {
                Entry::Done(_) if expired => What::Expired,
                Entry::Done(done) => What::Done(done),
                Entry::Claimed(claimed) => What::Claimed(claimed),
            }
        }
    };
    Ok(Found { what, guard: Guard::of(stored) })
}

/// As [`look`], after waiting until no other owner is at work. A claim it returns is in doubt.
pub(crate) async fn look_when_free(
    store: &Store,
    key: &CheckpointKey,
    found: Found,
) -> Result<Found, StoreError> {
    let mut found = found;
    let mut watch = None;
    loop {
        let What::Claimed(claimed) = &found.what else { return Ok(found) };
        let holder = owner::holder(store, claimed);
        if let Holder::Gone = holder {
            // A result that was submitted by whoever is gone may be on its way: a guard sees it.
            let mut batch = Batch::new();
            batch.guard(key.stored().clone(), found.guard.clone());
            match store.commit(batch, Durability::Buffered).await {
                Ok(_) => return Ok(found),
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
        } else if let Some(watch) = &mut watch {
            wait(store, claimed, holder, watch).await?;
        } else {
            // ORDER: armed first, read again, then waited for.
            let namespace = layout::namespace()
                .map_err(|_| StoreError::invalid("the namespace of checkpoints is no namespace"))?;
            watch = Some(store.watch(&namespace));
        }
        found = look(store, key).await?;
    }
}

/// Until something changed: in the store, of the holder, or its deadline is over.
async fn wait(
    store: &Store,
    claimed: &Claimed,
    holder: Holder,
    watch: &mut resurge_store::Watch,
) -> Result<(), StoreError> {
    match holder {
        Holder::Here(mut ended) => tokio::select! {
            changed = watch.changed() => changed,
            // An error means that the owner itself is gone, which is a change, too.
            _ = ended.changed() => Ok(()),
        },
        Holder::Elsewhere => {
            let left = claimed.deadline.saturating_since(store.now());
            tokio::select! {
                changed = watch.changed() => changed,
                () = store.clock().sleep(left) => Ok(()),
            }
        }
        Holder::Gone => Ok(()),
    }
}
