//! How an app is opened.

use std::fmt;
#[cfg(feature = "sled")]
use std::path::PathBuf;

use resurge_store::{Clock, Entropy, Store};

use crate::app::Resurge;
#[cfg(feature = "sled")]
use crate::error::Result;

/// Settings of an app; see [`Resurge::builder`].
#[derive(Default)]
#[must_use = "a builder does nothing until it is opened"]
pub struct Builder {
    clock: Option<Box<dyn FnOnce(Store) -> Store + Send>>,
    entropy: Option<Box<dyn FnOnce(Store) -> Store + Send>>,
    #[cfg(feature = "sled")]
    sled: Option<resurge_store_sled::SledOptions>,
    #[cfg(feature = "seal")]
    pub(crate) sealer: Option<resurge_seal::Sealer>,
    #[cfg(feature = "flow")]
    pub(crate) flows: resurge_flow::FlowsOptions,
    #[cfg(feature = "breaker")]
    pub(crate) breakers: Option<resurge_breaker::RegistryOptions>,
    #[cfg(feature = "supervisor")]
    pub(crate) supervisor: resurge_supervisor::SupervisorConfig,
    #[cfg(feature = "supervisor")]
    pub(crate) strategies: Vec<std::sync::Arc<dyn resurge_supervisor::RecoveryStrategy>>,
}

impl Builder {
    /// Another clock than the system's, for tests in virtual time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Box::new(move |store| store.with_clock(clock)));
        self
    }

    /// Other randomness than the system's, for repeatable tests. Never for production.
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Some(Box::new(move |store| store.with_entropy(entropy)));
        self
    }

    /// Settings of the embedded store: index, verification, images, limits.
    #[cfg(feature = "sled")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
    pub fn sled(mut self, options: resurge_store_sled::SledOptions) -> Self {
        self.sled = Some(options);
        self
    }

    /// Seals sensitive values of flows: with which keys, and what is sensitive.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge::{KeyRing, Resurge, Sealer, SensitivePolicy};
    /// let ring = KeyRing::from_bytes(1, &[7, 1, 8, 2].repeat(8))?; // better: `KeyRing::from_env`
    /// let policy = SensitivePolicy::new().names(["pwd", "password", "*_token"])?;
    /// let app = Resurge::builder().sealer(Sealer::new(ring, policy)).in_memory();
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "seal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
    pub fn sealer(mut self, sealer: resurge_seal::Sealer) -> Self {
        self.sealer = Some(sealer);
        self
    }

    /// Options of the app's flows. The sealer that the app is [given](Self::sealer) takes the place of
    /// theirs.
    #[cfg(feature = "flow")]
    #[cfg_attr(docsrs, doc(cfg(feature = "flow")))]
    pub fn flows(mut self, options: resurge_flow::FlowsOptions) -> Self {
        self.flows = options;
        self
    }

    /// Options of the app's breakers: the configuration of those nobody gave another one, and how many. Without this each has
    /// its own label in the metrics ([`label_each`](resurge_breaker::RegistryOptions::label_each)): their names should be few.
    #[cfg(feature = "breaker")]
    #[cfg_attr(docsrs, doc(cfg(feature = "breaker")))]
    pub fn breakers(mut self, options: resurge_breaker::RegistryOptions) -> Self {
        self.breakers = Some(options);
        self
    }

    /// The configuration of the app's supervisor.
    #[cfg(feature = "supervisor")]
    #[cfg_attr(docsrs, doc(cfg(feature = "supervisor")))]
    pub fn supervisor(mut self, config: resurge_supervisor::SupervisorConfig) -> Self {
        self.supervisor = config;
        self
    }

    /// A strategy of your own for the app's supervisor.
    #[cfg(feature = "supervisor")]
    #[cfg_attr(docsrs, doc(cfg(feature = "supervisor")))]
    pub fn strategy(mut self, strategy: impl resurge_supervisor::RecoveryStrategy) -> Self {
        self.strategies.push(std::sync::Arc::new(strategy));
        self
    }

    /// Opens the embedded store in `path`, or creates it when the directory is absent or empty.
    ///
    /// # Errors
    /// `Unavailable` when another process has it open, `Corrupt` naming the place when acknowledged
    /// data is damaged, and what the file system says.
    #[cfg(feature = "sled")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
    pub async fn open(mut self, path: impl Into<PathBuf>) -> Result<Resurge> {
        use resurge_store_sled::SledStore;
        use std::sync::Arc;

        let options = self.sled.take().unwrap_or_default();
        let (store, report) = SledStore::open(path.into(), options).await?;
        tracing::info!(%report, "store opened");
        let store = Arc::new(store);
        let app_store = self.dress(Store::from_arc(Arc::clone(&store) as _));
        Ok(Resurge::new(app_store, Some(crate::app::Embedded { store, report }), self))
    }

    /// Runs on a store you have: another backend, a shared one, or one under test.
    pub fn on(mut self, store: Store) -> Resurge {
        let store = self.dress(store);
        Resurge::new(store, None, self)
    }

    /// Runs in memory: nothing survives the process.
    pub fn in_memory(self) -> Resurge {
        self.on(Store::memory())
    }

    fn dress(&mut self, mut store: Store) -> Store {
        if let Some(clock) = self.clock.take() {
            store = clock(store);
        }
        if let Some(entropy) = self.entropy.take() {
            store = entropy(store);
        }
        store
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Builder");
        out.field("own_clock", &self.clock.is_some()).field("own_entropy", &self.entropy.is_some());
        #[cfg(feature = "sled")]
        out.field("sled", &self.sled);
        #[cfg(feature = "seal")]
        out.field("sealer", &self.sealer);
        #[cfg(feature = "flow")]
        out.field("flows", &self.flows);
        #[cfg(feature = "breaker")]
        out.field("breakers", &self.breakers);
        #[cfg(feature = "supervisor")]
        out.field("supervisor", &self.supervisor).field("strategies", &self.strategies.len());
        out.finish()
    }
}
