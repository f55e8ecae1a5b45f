//! One breaker for each key, and not more of them than were asked for.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use resurge_store::{Clock, ScanOptions, Store, SystemClock};
use tokio::runtime::Handle;

use crate::breaker::Breaker;
use crate::builder::{BreakerBuilder, OnUnreadable};
use crate::config::BreakerConfig;
use crate::engine::Host;
use crate::error::BuildError;
use crate::machine::{BreakerRecord, nanos};
use crate::persist::namespace;
use crate::record;
use crate::share::Root;

/// Options of a [`BreakerRegistry`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// The configuration of breakers nobody gave another one.
    pub config: BreakerConfig,
    /// The most breakers at once; 10,000 by default.
    pub capacity: usize,
    /// A closed breaker nobody asked for this long may be forgotten; 1 hour by default.
    pub idle_ttl: Duration,
    /// What to do with stored states that cannot be used.
    pub on_unreadable: OnUnreadable,
    /// True: each breaker's metrics have its own name as their label. False (default): all of them the
    /// registry's, so that there are few labels however many keys there are.
    pub label_each: bool,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            config: BreakerConfig::default(),
            capacity: 10_000,
            idle_ttl: Duration::from_secs(3_600),
            on_unreadable: OnUnreadable::Fail,
            label_each: false,
        }
    }
}

impl RegistryOptions {
    /// With this configuration for breakers nobody gave another one.
    #[must_use]
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// With at most so many breakers.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// With this time until an idle breaker may be forgotten.
    #[must_use]
    pub fn idle_ttl(mut self, idle_ttl: Duration) -> Self {
        self.idle_ttl = idle_ttl;
        self
    }

    /// With a label of its own for each breaker's metrics, or without.
    #[must_use]
    pub fn label_each(mut self, each: bool) -> Self {
        self.label_each = each;
        self
    }

    /// With this answer to stored states that cannot be used.
    #[must_use]
    pub fn on_unreadable(mut self, then: OnUnreadable) -> Self {
        self.on_unreadable = then;
        self
    }
}

/// One breaker for each key: the same one for everybody who asks, also across restarts when it is on
/// a store.
///
/// What is forgotten would have been made the same again: only breakers that are closed and active,
/// have seen no failure since the last success, remember no openings, and that nobody holds.
/// All breakers of a registry share one value of the metrics' label: the registry's name; unless
/// [`label_each`](RegistryOptions::label_each) says otherwise.
///
/// ```
/// use resurge_breaker::{BreakerRegistry, RegistryOptions};
/// let hosts = BreakerRegistry::<String>::new("hosts", RegistryOptions::default());
/// let breaker = hosts.get("db-1.internal")?;
/// assert_eq!(&**breaker.name(), "hosts/db-1.internal");
/// # Ok::<(), resurge_breaker::BuildError>(())
/// ```
pub struct BreakerRegistry<K> {
    name: Arc<str>,
    options: RegistryOptions,
    clock: Arc<dyn Clock>,
    store: Option<(Store, Handle)>,
    breakers: RwLock<Kept<K>>,
}

struct Kept<K> {
    live: HashMap<K, Entry>,
    /// Found in the store, and not yet asked for.
    stored: HashMap<String, BreakerRecord>,
}

struct Entry {
    breaker: Breaker,
    used_ns: AtomicU64,
    /// Made of what was stored; nobody asked for it yet, and nobody said how it is configured.
    unasked: bool,
}

impl<K: Eq + Hash> BreakerRegistry<K> {
    /// In memory only.
    pub fn new(name: impl Into<Arc<str>>, options: RegistryOptions) -> Self {
        Self::make(name.into(), options, Arc::new(SystemClock::new()), None, HashMap::new())
    }

    /// In memory only, on this clock.
    pub fn on_clock(
        name: impl Into<Arc<str>>,
        options: RegistryOptions,
        clock: impl Clock,
    ) -> Self {
        Self::make(name.into(), options, Arc::new(clock), None, HashMap::new())
    }

    /// On `store`, with what it holds of this registry's breakers: those that were not simply closed.
    ///
    /// # Errors
    /// [`BuildError::Unreadable`] unless the options say otherwise; the store's.
    pub async fn open(
        store: &Store,
        name: impl Into<Arc<str>>,
        options: RegistryOptions,
    ) -> Result<Self, BuildError> {
        let name = name.into();
        options.config.check()?;
        let mut stored = HashMap::new();
        let mut rest = Some(namespace()?.prefix(format!("{name}/")));
        while let Some(range) = rest {
            let page = store.scan(range, ScanOptions::new()).await?;
            rest = page.next;
            for entry in page.entries {
                match record::decode(&entry.key, &entry.value) {
                    Ok(record) => {
                        stored.insert(record.name.clone(), record);
                    }
                    Err(error) if options.on_unreadable == OnUnreadable::Closed => {
                        tracing::warn!(registry = &*name, %error, "a stored state was unusable");
                    }
                    Err(source) => {
                        let name = String::from_utf8_lossy(entry.key.bytes()).into();
                        return Err(BuildError::Unreadable { name, source });
                    }
                }
            }
        }
        let clock = Arc::clone(store.clock());
        let store = Some((store.clone(), Handle::current()));
        Ok(Self::make(name, options, clock, store, stored))
    }

    fn make(
        name: Arc<str>,
        options: RegistryOptions,
        clock: Arc<dyn Clock>,
        store: Option<(Store, Handle)>,
        stored: HashMap<String, BreakerRecord>,
    ) -> Self {
        let breakers = RwLock::new(Kept { live: HashMap::new(), stored });
        Self { name, options, clock, store, breakers }
    }

    /// The breaker of `key`, made with the registry's configuration if there is none yet. Keep it
    /// where it is used often: finding it costs more than a call.
    ///
    /// # Errors
    /// [`BuildError::RegistryFull`]; a configuration that makes no sense.
    pub fn get<Q>(&self, key: &Q) -> Result<Breaker, BuildError>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K> + fmt::Display,
    {
        self.get_or_make(key, || self.options.config.clone(), false)
    }

    /// The breaker of `key`, made with this configuration if there is none yet.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_with<Q>(&self, key: &Q, config: BreakerConfig) -> Result<Breaker, BuildError>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K> + fmt::Display,
    {
        self.get_or_make(key, || config, false)
    }

    fn get_or_make<Q>(
        &self,
        key: &Q,
        config: impl FnOnce() -> BreakerConfig,
        unasked: bool,
    ) -> Result<Breaker, BuildError>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K> + fmt::Display,
    {
        let now = self.now_ns();
        if let Some(entry) = self.breakers.read().live.get(key).filter(|entry| !entry.unasked) {
            entry.used_ns.store(now, Ordering::Relaxed);
            return Ok(entry.breaker.clone());
        }
        let mut kept = self.breakers.write();
        if let Some(entry) = kept.live.get_mut(key) {
            if entry.unasked && !unasked {
                // What was open before a crash is configured like any other from here on.
                entry.breaker.reconfigure(config())?;
                entry.unasked = false;
            }
            return Ok(entry.breaker.clone());
        }
        if kept.live.len() >= self.options.capacity {
            kept.forget(now, 0);
        } else if kept.live.len().is_power_of_two() {
            // Now and then, so that looking at all of them costs little for each.
            kept.forget(now, nanos(self.options.idle_ttl));
        }
        if kept.live.len() >= self.options.capacity {
            let (registry, capacity) = (Arc::clone(&self.name), self.options.capacity);
            return Err(BuildError::RegistryFull { registry, capacity });
        }
        let name = format!("{}/{key}", self.name);
        let label =
            if self.options.label_each { name.as_str().into() } else { Arc::clone(&self.name) };
        let builder = BreakerBuilder::new(name.as_str().into())
            .config(config())
            .metrics_label(label)
            .shared_clock(Arc::clone(&self.clock));
        let breaker = match &self.store {
            None => builder.build()?,
            Some((store, runtime)) => {
                builder.open_with(store, runtime.clone(), kept.stored.get(&name))?
            }
        };
        // ORDER: only now; what could not be built must not begin closed the next time.
        kept.stored.remove(&name);
        let entry = Entry { breaker: breaker.clone(), used_ns: AtomicU64::new(now), unasked };
        kept.live.insert(key.to_owned(), entry);
        Ok(breaker)
    }

    /// All breakers there are now, in no order.
    pub fn all(&self) -> Vec<Breaker> {
        self.breakers.read().live.values().map(|entry| entry.breaker.clone()).collect()
    }

    /// Makes breakers of everything found in the store and not asked for yet, so that
    /// [`all`](Self::all) shows them. `key` makes a key of a breaker's name without the registry's. They
    /// have the registry's configuration until somebody asks for them with another one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn load_all(&self, key: impl Fn(&str) -> Option<K>) -> Result<(), BuildError>
    where
        K: Clone + fmt::Display,
    {
        let names: Vec<String> = self.breakers.read().stored.keys().cloned().collect();
        for name in names {
            let own = name.strip_prefix(&*self.name).and_then(|name| name.strip_prefix('/'));
            if let Some(key) = own.and_then(&key) {
                self.get_or_make(&key, || self.options.config.clone(), true)?;
            }
        }
        Ok(())
    }

    /// How many breakers there are.
    pub fn len(&self) -> usize {
        self.breakers.read().live.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets every idle breaker that may be forgotten; returns how many. It happens by itself when
    /// breakers are made.
    pub fn forget_idle(&self) -> usize {
        let now = self.now_ns();
        self.breakers.write().forget(now, nanos(self.options.idle_ttl))
    }

    /// [`Breaker::flush`] for all of them.
    ///
    /// # Errors
    /// The first one's.
    pub async fn flush(&self) -> Result<(), resurge_store::StoreError> {
        for breaker in self.all() {
            breaker.flush().await?;
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        nanos(self.clock.monotonic().since_origin())
    }
}

impl<K> Kept<K> {
    fn forget(&mut self, now_ns: u64, idle_ns: u64) -> usize {
        let before = self.live.len();
        self.live.retain(|_, entry| {
            let idle = now_ns.saturating_sub(entry.used_ns.load(Ordering::Relaxed)) >= idle_ns;
            !(idle && entry.breaker.is_forgettable())
        });
        before - self.live.len()
    }
}

impl Breaker {
    /// Nobody holds it, and a new one would be the same.
    fn is_forgettable(&self) -> bool {
        let now = self.root.shared.at();
        Root::is_alone(&self.root)
            && self.root.shared.engine.read(|machine| machine.is_fresh(now))
            && self.root.shared.engine.view(now.ns).streak == 0
    }
}

impl<K> fmt::Debug for BreakerRegistry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BreakerRegistry");
        out.field("name", &self.name).field("options", &self.options).finish_non_exhaustive()
    }
}
