//! What subscribers hear, in order.

use std::fmt;
use std::time::Duration;

use resurge_store::StoreError;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::machine::Restored;
use crate::state::Mode;
use crate::transition::{Change, Reason, Transition};

/// Something happened to a breaker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BreakerEvent {
    /// The state changed.
    Transition(Transition),
    /// The mode changed.
    Mode {
        /// Counted together with transitions.
        number: u64,
        /// The mode before.
        from: Mode,
        /// The mode after.
        to: Mode,
    },
    /// In shadow mode: it would have opened. Said once, until no rule holds any more.
    WouldTrip(Reason),
    /// Somebody changed for how long an open circuit stays open.
    Rearmed {
        /// Counted together with transitions.
        number: u64,
        /// From now on.
        open_for: Duration,
    },
    /// Somebody reset a closed circuit, which does not know any more how often it opened.
    Forgotten {
        /// Counted together with transitions.
        number: u64,
    },
    /// Everything up to this number survives a crash.
    Persisted {
        /// Of a transition, a mode, a rearming, or what was forgotten.
        number: u64,
    },
    /// The state could not be persisted. Calls go on; it is tried again unless the store is closed.
    StoreFailed(StoreError),
    /// Told to the hook when a breaker is built: how it was found.
    Restored(Restored),
    /// This many events were missed by a subscriber that was too slow.
    Lagged(u64),
}

impl From<Change> for BreakerEvent {
    fn from(change: Change) -> Self {
        match change {
            Change::Transition(transition) => Self::Transition(transition),
            Change::Mode { number, from, to } => Self::Mode { number, from, to },
            Change::WouldTrip(reason) => Self::WouldTrip(reason),
            Change::Rearmed { number, open_for } => Self::Rearmed { number, open_for },
            Change::Forgotten { number } => Self::Forgotten { number },
        }
    }
}

/// A subscription to a breaker's events: everything from when it was made, in order. Who falls 256
/// events behind hears [`BreakerEvent::Lagged`] and goes on with the oldest kept.
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<BreakerEvent>);

impl Events {
    /// The next event; none when the breaker is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<BreakerEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(BreakerEvent::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event that is already there.
    pub fn try_recv(&mut self) -> Option<BreakerEvent> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Lagged(missed)) => Some(BreakerEvent::Lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// Called with every event, in order, by whoever caused it, without any lock.
pub(crate) struct Hook(pub(crate) Box<dyn Fn(&BreakerEvent) + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
