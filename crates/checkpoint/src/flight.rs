//! One execution for all callers of one key in this handle; the others wait for its result.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_store::{Key, KeyRange};
use tokio::sync::watch;

use crate::entry::Value;

#[derive(Debug, Default)]
pub(crate) struct Flights {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_key: HashMap<Key, (u64, watch::Receiver<Option<Value>>)>,
    next: u64,
}

#[derive(Debug)]
pub(crate) enum Entered {
    Lead(Lead),
    Follow(Follow),
}

/// The right to execute. Dropped without a result, one of those who wait takes over.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: Key,
    number: u64,
    result: watch::Sender<Option<Value>>,
}

#[derive(Debug)]
pub(crate) struct Follow(watch::Receiver<Option<Value>>);

impl Flights {
    pub(crate) fn enter(self: &Arc<Self>, key: &Key) -> Entered {
        let mut open = self.open.lock();
        if let Some((_, result)) = open.by_key.get(key) {
            return Entered::Follow(Follow(result.clone()));
        }
        open.next = open.next.wrapping_add(1);
        let number = open.next;
        let (result, follow) = watch::channel(None);
        open.by_key.insert(key.clone(), (number, follow));
        Entered::Lead(Lead { flights: Arc::clone(self), key: key.clone(), number, result })
    }

    /// Nobody joins these any more; whoever has joined still gets the result.
    pub(crate) fn detach(&self, range: &KeyRange) {
        self.open.lock().by_key.retain(|key, _| !range.contains(key));
    }

    pub(crate) fn detach_one(&self, key: &Key) {
        self.open.lock().by_key.remove(key);
    }
}

impl Lead {
    /// Everybody who waits gets `value`.
    pub(crate) fn land(self, value: Value) {
        self.result.send_replace(Some(value));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // ORDER: gone from the map before the channel closes, so that whoever wakes finds no flight.
        let mut open = self.flights.open.lock();
        if open.by_key.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            open.by_key.remove(&self.key);
        }
    }
}

impl Follow {
    /// The result; `None` when the one who executed gave up or failed.
    pub(crate) async fn landed(mut self) -> Option<Value> {
        match self.0.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
    }
}
