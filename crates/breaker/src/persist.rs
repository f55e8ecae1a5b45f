//! Keeps the newest state of a circuit in a store: coalescing, off the call path, tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::{Batch, Durability, ErrorKind, Key, Namespace, Record, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::engine::Host;
use crate::event::BreakerEvent;
use crate::machine::BreakerRecord;
use crate::record;
use crate::shared::Shared;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where all breakers are kept.
pub(crate) fn namespace() -> Result<Namespace, StoreError> {
    Namespace::new("resurge/breaker")
}

/// One breaker's place in a store.
#[derive(Debug)]
pub(crate) struct Persist {
    pub(crate) store: Store,
    pub(crate) key: Key,
    runtime: Handle,
    pub(crate) queue: Mutex<Queue>,
    /// Something became durable, or never will.
    pub(crate) settled: Notify,
}

/// What of the circuit's changes is where, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Somebody is about to hand the newest state to the store.
    pub(crate) ticket: bool,
    /// A task looks after it.
    driver: bool,
    /// Handed to the store.
    pub(crate) submitted: u64,
    /// Survives a crash.
    pub(crate) durable: u64,
    /// Why nothing will be persisted any more.
    ended: Option<StoreError>,
}

impl Persist {
    pub(crate) fn new(store: Store, key: Key, runtime: Handle, durable: u64) -> Self {
        let queue = Queue { submitted: durable, durable, ..Queue::default() };
        Self { store, key, runtime, queue: Mutex::new(queue), settled: Notify::new() }
    }

    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// It is durable up to `number`.
    pub(crate) fn reached(&self, number: u64) {
        let mut queue = self.queue.lock();
        queue.durable = queue.durable.max(number);
        queue.submitted = queue.submitted.max(number);
        drop(queue);
        self.settled.notify_waiters();
    }

    /// What was handed over did not arrive, or nobody knows.
    pub(crate) fn lost(&self) {
        let mut queue = self.queue.lock();
        queue.submitted = queue.durable;
    }

    pub(crate) fn release_ticket(&self) {
        self.queue.lock().ticket = false;
    }
}

impl Shared {
    /// Makes sure that a task persists the newest state.
    pub(crate) fn persist_later(&self) {
        let (Some(persist), Some(me)) = (&self.persist, self.me.upgrade()) else { return };
        let number = self.engine.read(crate::machine::Machine::number);
        let mut queue = persist.queue.lock();
        let idle = !queue.driver && !queue.ticket && queue.ended.is_none();
        if idle && number > queue.submitted {
            queue.driver = true;
            drop(queue);
            // Dropped unpolled where the runtime is gone.
            persist.runtime.spawn(drive(Driver { shared: me, done: false }));
        }
    }

    /// Puts the newest state into `batch`, and says which number it has.
    pub(crate) fn write_newest(&self, persist: &Persist, batch: &mut Batch) -> u64 {
        let now = self.at();
        let (mut kept, fresh) =
            self.engine.read(|machine| (machine.record(&self.name), machine.is_fresh(now)));
        if fresh {
            batch.delete(persist.key.clone());
        } else {
            self.add_totals(&mut kept);
            let payload = record::encode(&kept);
            batch.put(persist.key.clone(), Record::new(payload).encode(&persist.key));
        }
        kept.number
    }

    /// The record as it would be stored now.
    pub(crate) fn add_totals(&self, kept: &mut BreakerRecord) {
        let view = self.engine.view(self.ns());
        kept.total_requests = view.requests;
        kept.total_failures = self.total_failures();
        kept.last_failure = self.last_failure();
    }

    fn store_failed(&self, error: &StoreError) {
        self.store_errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.meters.store_errors.increment(1);
        tracing::warn!(breaker = &*self.name, %error, "the state of a breaker was not persisted");
        self.emit(BreakerEvent::StoreFailed(error.clone()));
    }

    /// Resolves when everything up to now survives a crash.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let Some(persist) = &self.persist else { return Ok(()) };
        let number = self.engine.read(crate::machine::Machine::number);
        loop {
            let settled = persist.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let queue = persist.queue.lock();
                if queue.durable >= number {
                    return Ok(());
                }
                if let Some(ended) = &queue.ended {
                    return Err(ended.clone());
                }
            }
            self.persist_later();
            settled.await;
        }
    }
}

/// The task that persists a breaker.
struct Driver {
    shared: Arc<Shared>,
    /// It ended by itself.
    done: bool,
}

impl Driver {
    /// A hook that panics ends no more than itself: not the pause after an error, nor the news of it.
    fn tell(&self, tell: impl FnOnce(&Shared)) {
        // The panic was reported where it happened.
        drop(catch_unwind(AssertUnwindSafe(|| tell(&self.shared))));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(persist) = self.shared.persist.as_ref().filter(|_| !self.done) else { return };
        let mut queue = persist.queue.lock();
        queue.driver = false;
        let gone = || StoreError::closed("the runtime that persists breakers is gone");
        queue.ended.get_or_insert_with(gone);
        drop(queue);
        persist.settled.notify_waiters();
    }
}

/// Persists until nothing is left to. One at a time for each breaker.
async fn drive(mut driver: Driver) {
    let shared = Arc::clone(&driver.shared);
    let Some(persist) = &shared.persist else { return };
    let mut wait = FIRST_WAIT;
    loop {
        {
            let number = shared.engine.read(crate::machine::Machine::number);
            let mut queue = persist.queue.lock();
            // Who holds the ticket calls for a task again when they give it up.
            if queue.ticket || number <= queue.submitted {
                queue.driver = false;
                driver.done = true;
                return;
            }
            queue.ticket = true;
        }
        let mut batch = Batch::new();
        let number = shared.write_newest(persist, &mut batch);
        let commit = persist.store.commit(batch, Durability::Durable);
        {
            let mut queue = persist.queue.lock();
            queue.ticket = false;
            queue.submitted = queue.submitted.max(number);
        }
        match commit.await {
            Ok(_) => {
                persist.reached(number);
                wait = FIRST_WAIT;
                driver.tell(|shared| shared.emit(BreakerEvent::Persisted { number }));
            }
            Err(error) => {
                let ends = matches!(error.kind(), ErrorKind::Closed | ErrorKind::Invalid);
                if ends {
                    let mut queue = persist.queue.lock();
                    queue.driver = false;
                    driver.done = true;
                    queue.ended = Some(error.clone());
                }
                persist.lost();
                driver.tell(|shared| shared.store_failed(&error));
                if ends {
                    return persist.settled.notify_waiters();
                }
                // An unknown outcome too: the newest state replaces whatever is there.
                shared.clock.sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}
