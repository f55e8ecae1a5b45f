//! Who holds claims in this process, and who is gone.
//!
//! On a store of one process every owner that is not known here is dead: its process is. So a restart
//! need not wait for leases. Handles know each other when they are on clones of one `Store`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use resurge_store::{Batch, Durability, ErrorKind, Store, StoreError};
use tokio::sync::watch;

use crate::entry::Claimed;
use crate::{Result, entry, layout};

/// The owners of this process: by backend, then by number.
static OWNERS: Mutex<BTreeMap<(usize, u64), Weak<Owner>>> = Mutex::new(BTreeMap::new());

/// One handle and its clones.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Which backend. The owner keeps it alive, so nobody else is found at its address.
    place: usize,
    store: Store,
    pub(crate) number: u64,
    next_serial: AtomicU64,
    /// Serials of the claims that are held.
    held: Mutex<HashSet<u64>>,
    ended: watch::Sender<u64>,
}

fn place_of(store: &Store) -> usize {
    Arc::as_ptr(store.backend()).cast::<()>().addr()
}

impl Owner {
    /// Takes the next number of this store.
    pub(crate) async fn register(store: &Store) -> Result<Arc<Self>> {
        let key = layout::owners()?;
        let number = loop {
            let read = store.read(&key).await?;
            let last = match read.payload() {
                Some(payload) => entry::decode_owner(&key, payload)?,
                None => 0,
            };
            let next = last.checked_add(1).ok_or_else(|| {
                StoreError::corrupt(key.clone(), "checkpoint: no number of an owner is left")
            })?;
            let mut batch = Batch::new();
            batch.guard(key.clone(), read.guard());
            batch.put(key.clone(), entry::encode_owner(&key, next));
            // A crash that takes this takes every claim made under the number, too: they come later.
            match store.commit(batch, Durability::Buffered).await {
                Ok(_) => break next,
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e.into()),
            }
        };
        let owner = Arc::new(Self {
            place: place_of(store),
            store: store.clone(),
            number,
            next_serial: AtomicU64::new(1),
            held: Mutex::default(),
            ended: watch::channel(0).0,
        });
        OWNERS.lock().insert((owner.place, number), Arc::downgrade(&owner));
        Ok(owner)
    }

    /// A new claim's serial; held until [`end`](Self::end).
    pub(crate) fn begin(&self) -> u64 {
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        self.held.lock().insert(serial);
        serial
    }

    /// Nobody works under this claim any more.
    pub(crate) fn end(&self, serial: u64) {
        self.held.lock().remove(&serial);
        self.ended.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Whether the store is used by several processes.
    pub(crate) fn shares_store(&self) -> bool {
        self.store.info().shared_between_processes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        OWNERS.lock().remove(&(self.place, self.number));
    }
}

/// What is known about the holder of a claim.
#[derive(Debug)]
pub(crate) enum Holder {
    /// It is at work in this process; the signal fires when one of its claims ended.
    Here(watch::Receiver<u64>),
    /// Another process has it, until its deadline.
    Elsewhere,
    /// It is gone: the step is in doubt.
    Gone,
}

/// Who holds `claim` in `store`.
pub(crate) fn holder(store: &Store, claim: &Claimed) -> Holder {
    let owner = OWNERS.lock().get(&(place_of(store), claim.owner)).and_then(Weak::upgrade);
    if let Some(owner) = owner {
        // ORDER: subscribe, then look: an end in between is not missed.
        let ended = owner.ended.subscribe();
        let held = owner.held.lock().contains(&claim.serial);
        return if held { Holder::Here(ended) } else { Holder::Gone };
    }
    let alive = store.info().shared_between_processes && claim.deadline > store.now();
    if alive { Holder::Elsewhere } else { Holder::Gone }
}
