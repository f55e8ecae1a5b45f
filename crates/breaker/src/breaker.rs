//! The handle: asking for a permit, and looking at the circuit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use resurge_store::{Batch, Store, StoreError};

use crate::builder::BreakerBuilder;
use crate::config::BreakerConfig;
use crate::error::{ConfigError, Rejected};
use crate::event::Events;
use crate::machine::{BreakerRecord, Restored};
use crate::permit::{Pass, Permit};
use crate::share::Root;
use crate::shared::Shared;
use crate::stage::StagedTransition;
use crate::state::{Mode, State};

/// A circuit breaker. Cheap to clone; clones are the same circuit.
///
/// ```
/// use resurge_breaker::{Breaker, BreakerConfig, BreakerError, State};
/// let breaker = Breaker::builder("payments").config(BreakerConfig::fast()).build()?;
/// for _ in 0..3 {
///     let failed = breaker.call(|| Err::<(), _>("down"));
///     assert_eq!(failed, Err(BreakerError::Inner("down")));
/// }
/// assert_eq!(breaker.state(), State::Open);
/// let rejected = breaker.call(|| Ok::<_, &str>("not called")).unwrap_err();
/// assert!(rejected.is_rejected() && rejected.retry_after().is_some());
/// # Ok::<(), resurge_breaker::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Breaker {
    pub(crate) root: Arc<Root>,
}

impl Breaker {
    /// A breaker with the default configuration and the system's clock, in memory only.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        BreakerBuilder::new(name.into()).build_unchecked()
    }

    /// A breaker to be configured, or kept in a store.
    pub fn builder(name: impl Into<Arc<str>>) -> BreakerBuilder {
        BreakerBuilder::new(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.root.shared.name
    }

    /// The right to one call, now or not at all. A few nanoseconds when closed.
    ///
    /// # Errors
    /// [`Rejected`] with when to try again, if that is known.
    #[inline]
    pub fn acquire(&self) -> Result<Permit, Rejected> {
        let shared = &*self.root.shared;
        let ticket = match shared.engine.admit_plain(shared) {
            Some(ticket) => ticket,
            None => shared.admit_otherwise()?,
        };
        Ok(Permit(Pass::new(self.root.share(), ticket)))
    }

    /// The same without sharing ownership.
    #[inline]
    pub(crate) fn pass(&self) -> Result<Pass<&Shared>, Rejected> {
        let shared = &*self.root.shared;
        let ticket = match shared.engine.admit_plain(shared) {
            Some(ticket) => ticket,
            None => shared.admit_otherwise()?,
        };
        Ok(Pass::new(shared, ticket))
    }

    /// Why a call would be rejected now; none when it would be admitted. Takes nothing, counts nothing.
    pub fn check(&self) -> Option<Rejected> {
        self.root
            .shared
            .engine
            .peek(&*self.root.shared)
            .err()
            .map(|refusal| self.root.shared.rejected(refusal))
    }

    /// What calls meet now: an open circuit whose time is over is [`State::HalfOpen`], also before the
    /// next call makes it so; forced open is [`State::Open`], disabled [`State::Closed`].
    pub fn state(&self) -> State {
        self.root.shared.engine.state(&*self.root.shared)
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.root.shared.engine.mode()
    }

    /// When to try again at the earliest; none when calls are admitted, or nobody knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.check().and_then(|rejected| rejected.retry_after)
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<BreakerConfig> {
        self.root.shared.engine.read(|machine| Arc::clone(&machine.config))
    }

    /// Takes over another configuration. State, times and attempts stay; so do the counts, unless a
    /// rule got another window or another kind. The new rules are looked at right away.
    ///
    /// # Errors
    /// What [`BreakerConfig::check`] refuses, and a 32nd change of windows to ones not used before.
    /// Nothing is changed then.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), ConfigError> {
        config.check()?;
        if config.half_open.automatic && self.root.shared.runtime.is_none() {
            return Err(ConfigError::new("half_open.automatic", "needs a tokio runtime"));
        }
        self.root.shared.engine.reconfigure(Arc::new(config), &*self.root.shared)?;
        self.root.shared.start_timer();
        Ok(())
    }

    /// Everything that happens from now on, in order.
    pub fn subscribe(&self) -> Events {
        Events(self.root.shared.events.subscribe())
    }

    /// What would be stored if it were persisted now.
    pub fn snapshot(&self) -> BreakerRecord {
        let mut record =
            self.root.shared.engine.read(|machine| machine.record(&self.root.shared.name));
        self.root.shared.add_totals(&mut record);
        record
    }

    /// How it was found in the store when it was built; none when it was not there.
    pub fn restored(&self) -> Option<&Restored> {
        self.root.shared.restored.as_ref()
    }

    /// Resolves when everything that happened up to now survives a crash; at once without a store.
    /// Waits as long as the store is unavailable. Cancel safe.
    ///
    /// # Errors
    /// The store's, when it will not be tried again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.root.shared.flush().await
    }

    /// Puts what is not yet persisted into `batch`; see [`Permit::settle_into`] for a call's own
    /// transition. None when there is nothing to put there.
    pub fn stage(&self, store: &Store, batch: &mut Batch) -> Option<StagedTransition> {
        self.root.shared.take_persist_ticket(store)?.write(batch)
    }

    /// Notes the result of a health check, for [`metrics`](Self::metrics). Changes nothing else.
    pub fn note_health(&self, healthy: bool) {
        self.root.shared.health.store(if healthy { 2 } else { 1 }, Ordering::Relaxed);
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Breaker");
        out.field("name", &self.root.shared.name).field("state", &self.state());
        out.field("mode", &self.mode()).finish_non_exhaustive()
    }
}
