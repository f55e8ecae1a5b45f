//! One open log: what its handles, its stages and its driver share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use resurge_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::chain::Chain;
use crate::driver::{self, Abandoned};
use crate::intake::Intake;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::{Damage, Result, WalError, WalOptions};

/// Two locks, so that appending never waits for a page to be sealed: `intake` takes records,
/// `chain` turns them into pages and submits them. Whoever needs both takes `chain` first.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) options: WalOptions,
    pub(crate) metrics: Metrics,
    pub(crate) runtime: Handle,
    /// The largest page payload the store takes, in bytes.
    pub(crate) max_page: usize,
    pub(crate) chain: Mutex<Chain>,
    pub(crate) intake: Mutex<Intake>,
    /// One after the last record known to be durable.
    pub(crate) durable_end: AtomicU64,
    pub(crate) first_lsn: AtomicU64,
    /// The append ticket: one stage, or one change of the log's bounds, at a time.
    pub(crate) ticket: Arc<Semaphore>,
    /// Room was made, the driver went idle, or the log is closing.
    pub(crate) changed: Notify,
    pub(crate) closing: AtomicBool,
    /// It was made without a look at what is there: its first page must find nothing.
    pub(crate) blind: bool,
}

impl Log {
    pub(crate) fn closed(&self, cause: Option<resurge_store::StoreError>) -> WalError {
        WalError::Closed { log: Arc::clone(&self.keys.name), cause }
    }

    pub(crate) fn corrupt(&self, damage: Damage) -> WalError {
        self.metrics.corrupt.increment(1);
        tracing::error!(log = %self.keys.name, %damage, "damage found in a log");
        WalError::Corrupt(damage)
    }

    pub(crate) async fn take_ticket(&self) -> Result<OwnedSemaphorePermit> {
        let ticket = Arc::clone(&self.ticket).acquire_owned().await;
        ticket.map_err(|_| self.closed(None))
    }

    /// Makes sure that somebody waits for what is in flight. Call it without holding a lock.
    pub(crate) fn ensure_driver(self: &Arc<Self>) {
        let spawn = !std::mem::replace(&mut self.intake.lock().running, true);
        if spawn {
            self.spawn_driver();
        }
    }

    /// For who waits for what is in flight: whoever submitted it may not await it.
    pub(crate) fn drive_in_flight(self: &Arc<Self>) {
        let in_flight = !self.chain.lock().in_flight.is_empty();
        if in_flight {
            self.ensure_driver();
        }
    }

    /// Only by who set `running`.
    pub(crate) fn spawn_driver(self: &Arc<Self>) {
        // ORDER: made before it is spawned; a runtime that already stopped drops it unpolled.
        let abandoned = Abandoned::new(Arc::clone(self));
        self.runtime.spawn(driver::run(abandoned));
    }

    pub(crate) fn set_durable(&self, end: u64) {
        self.durable_end.fetch_max(end, Ordering::AcqRel);
    }

    pub(crate) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
