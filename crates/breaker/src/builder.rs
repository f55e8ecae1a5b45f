//! Making a breaker: in memory, or loaded from a store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use resurge_store::{Clock, Entropy, ErrorKind, OsEntropy, Store, SystemClock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};

use crate::breaker::Breaker;
use crate::config::BreakerConfig;
use crate::engine::Engine;
use crate::error::{BuildError, ConfigError};
use crate::event::{BreakerEvent, Hook};
use crate::machine::{BreakerRecord, Machine, nanos};
use crate::meters::Meters;
use crate::persist::{Persist, namespace};
use crate::record;
use crate::share::Root;
use crate::shared::Shared;
use crate::transition::At;

/// Events kept for subscribers that are behind.
const EVENTS: usize = 256;

/// What to do when what is stored under a breaker's name cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnUnreadable {
    /// Do not build the breaker.
    #[default]
    Fail,
    /// Begin closed; the next transition replaces what is stored.
    Closed,
}

/// Makes a [`Breaker`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resurge_breaker::{Breaker, BreakerConfig, State};
/// use resurge_store::Store;
/// let store = Store::memory();
/// let breaker = Breaker::builder("payments").config(BreakerConfig::fast()).open(&store).await?;
/// breaker.trip("maintenance");
/// breaker.flush().await?; // survives a crash from here on
///
/// let again = Breaker::builder("payments").open(&store).await?;
/// assert_eq!(again.state(), State::Open);
/// # Ok(()) }
/// ```
#[must_use]
pub struct BreakerBuilder {
    name: Arc<str>,
    config: BreakerConfig,
    clock: Option<Arc<dyn Clock>>,
    entropy: Option<Arc<dyn Entropy>>,
    label: Option<Arc<str>>,
    hook: Option<Hook>,
    on_unreadable: OnUnreadable,
}

impl BreakerBuilder {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            config: BreakerConfig::default(),
            clock: None,
            entropy: None,
            label: None,
            hook: None,
            on_unreadable: OnUnreadable::default(),
        }
    }

    /// With this configuration.
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// On this clock; otherwise on the store's, or the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    pub(crate) fn shared_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// With this randomness for the jitter; otherwise with the store's, or the system's.
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Some(Arc::new(entropy));
        self
    }

    /// The value of the label `breaker` of its metrics; its name by default. Several breakers may
    /// share one, so that the number of labels stays bounded.
    pub fn metrics_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Calls `hook` with every event, in order, by the thread that caused it, without any lock: it may
    /// use the breaker. It should be quick. [`Breaker::subscribe`] is the alternative.
    pub fn on_event(mut self, hook: impl Fn(&BreakerEvent) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook(Box::new(hook)));
        self
    }

    /// What to do when what is stored cannot be used.
    pub fn on_unreadable(mut self, then: OnUnreadable) -> Self {
        self.on_unreadable = then;
        self
    }

    /// In memory only.
    ///
    /// # Errors
    /// A configuration that makes no sense, or one that needs a tokio runtime where there is none.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        self.check()?;
        Ok(self.build_unchecked())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.config.check()?;
        if self.config.half_open.automatic && Handle::try_current().is_err() {
            return Err(ConfigError::new("half_open.automatic", "needs a tokio runtime"));
        }
        Ok(())
    }

    pub(crate) fn build_unchecked(self) -> Breaker {
        self.assemble(None, None)
    }

    /// Kept in `store`: as it was found there, and every transition persisted from now on.
    ///
    /// Its clock and randomness are the store's unless others were given. Only one breaker of a name
    /// should be open on a store; [`BreakerRegistry`](crate::BreakerRegistry) sees to that.
    ///
    /// # Errors
    /// As [`build`](Self::build); [`BuildError::Unreadable`]; the store's.
    pub async fn open(mut self, store: &Store) -> Result<Breaker, BuildError> {
        self.check()?;
        let key = namespace()?.key(self.name.as_bytes())?;
        let found = match store.get(&key).await? {
            None => None,
            Some(stored) => match record::decode(&key, &stored) {
                Ok(record) => Some(record),
                Err(error) if self.on_unreadable == OnUnreadable::Closed => {
                    tracing::warn!(breaker = &*self.name, %error, "a stored state was unusable");
                    None
                }
                Err(source) if source.kind() == ErrorKind::Corrupt => {
                    return Err(BuildError::Unreadable { name: self.name, source });
                }
                Err(other) => return Err(other.into()),
            },
        };
        self.clock.get_or_insert_with(|| Arc::clone(store.clock()));
        self.entropy.get_or_insert_with(|| Arc::clone(store.entropy()));
        let number = found.as_ref().map_or(0, |record| record.number);
        let persist = Persist::new(store.clone(), key, Handle::current(), number);
        Ok(self.assemble(Some(persist), found.as_ref()))
    }

    /// As [`open`](Self::open), with what the store is known to hold.
    pub(crate) fn open_with(
        mut self,
        store: &Store,
        runtime: Handle,
        found: Option<&BreakerRecord>,
    ) -> Result<Breaker, BuildError> {
        self.config.check()?;
        let key = namespace()?.key(self.name.as_bytes())?;
        self.clock.get_or_insert_with(|| Arc::clone(store.clock()));
        self.entropy.get_or_insert_with(|| Arc::clone(store.entropy()));
        let number = found.map_or(0, |record| record.number);
        let persist = Persist::new(store.clone(), key, runtime, number);
        Ok(self.assemble(Some(persist), found))
    }

    fn assemble(self, persist: Option<Persist>, found: Option<&BreakerRecord>) -> Breaker {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let entropy = self.entropy.unwrap_or_else(|| Arc::new(OsEntropy));
        // Without randomness there is no jitter between processes, which is no reason to fail.
        let seed = entropy.next_u64().unwrap_or_default();
        let now = At { ns: nanos(clock.monotonic().since_origin()), wall: clock.now() };
        let mut machine = Machine::new(Arc::new(self.config), seed, now);
        let restored = found.map(|record| machine.restore(record, now));
        let state = machine.state();
        let engine = Engine::new(machine, now.ns);
        if let Some(record) = found {
            let tallies = &engine.tallies;
            tallies.requests_before.store(record.total_requests, Ordering::Relaxed);
            tallies.failures.store(record.total_failures, Ordering::Relaxed);
            let last = record.last_failure.map_or(0, |at| at.as_millis().saturating_add(1));
            tallies.last_failure_ms.store(last, Ordering::Relaxed);
        }
        let label = self.label.unwrap_or_else(|| Arc::clone(&self.name));
        let shared = Arc::new_cyclic(|me| Shared {
            engine,
            meters: Meters::new(label),
            name: self.name,
            clock,
            moved: Notify::new(),
            events: broadcast::channel(EVENTS).0,
            hook: self.hook,
            telling: AtomicBool::new(false),
            runtime: persist.as_ref().map(Persist::runtime).or_else(|| Handle::try_current().ok()),
            persist,
            health: AtomicU8::new(0),
            store_errors: AtomicU64::new(0),
            restored,
            me: me.clone(),
        });
        shared.meters.show(Some(state));
        if let Some(restored) = &shared.restored {
            shared.emit(BreakerEvent::Restored(restored.clone()));
        }
        shared.start_timer();
        Breaker { root: Arc::new(Root::new(shared)) }
    }
}

impl fmt::Debug for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BreakerBuilder");
        out.field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}
