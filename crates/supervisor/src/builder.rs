//! Making a manager.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use resurge_breaker::{BreakerRegistry, RegistryOptions};
use resurge_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast};

use crate::config::SupervisorConfig;
use crate::error::SupervisorError;
use crate::journal::Journal;
use crate::manager::RecoveryManager;
use crate::repairable::Registration;
use crate::resource::{Shared, Unknown};
use crate::strategy::{Builtin, Known};

/// Alerts kept for listeners that are behind.
const ALERTS: usize = 256;

/// Makes a [`RecoveryManager`].
#[must_use]
pub struct ManagerBuilder {
    config: SupervisorConfig,
    name: String,
    breakers: Option<Arc<BreakerRegistry<String>>>,
    unknown: Option<Unknown>,
}

impl ManagerBuilder {
    pub(crate) fn new() -> Self {
        let (config, name) = (SupervisorConfig::default(), "resurge/supervisor".to_owned());
        Self { config, name, breakers: None, unknown: None }
    }

    /// With this configuration.
    pub fn config(mut self, config: SupervisorConfig) -> Self {
        self.config = config;
        self
    }

    /// With this name for the log of its audit trail, and for the registry of its breakers unless one
    /// is given; `resurge/supervisor` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With the breakers of this registry, so that others meet the same circuits. The manager's
    /// configuration of breakers is for those that are not there yet.
    pub fn breakers(mut self, breakers: Arc<BreakerRegistry<String>>) -> Self {
        self.breakers = Some(breakers);
        self
    }

    /// Makes a resource of a name nobody registered when a call or a failure names it; none refuses it.
    /// Without this every such name is refused. Names should come from a bounded set: what was made
    /// stays until it is unregistered.
    pub fn on_unknown(
        mut self,
        make: impl Fn(&str) -> Option<Registration> + Send + Sync + 'static,
    ) -> Self {
        self.unknown = Some(Box::new(make));
        self
    }

    /// On `store`, whose clock and randomness it uses, with the attempts its audit trail tells of.
    /// Takes the trail over: an earlier manager on it makes no more attempts. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`SupervisorError`]: the configuration; damage of the trail or of a stored breaker; the store's.
    pub async fn open(self, store: &Store) -> Result<RecoveryManager, SupervisorError> {
        self.config.check()?;
        let (journal, histories) = Journal::open(store, &self.name, self.config.audit_keep).await?;
        let breakers = if let Some(breakers) = self.breakers {
            breakers
        } else {
            let options = RegistryOptions::default().config(self.config.breaker.clone());
            Arc::new(BreakerRegistry::open(store, self.name, options).await?)
        };
        let shared = Shared {
            store: store.clone(),
            clock: Arc::clone(store.clock()),
            journal,
            breakers,
            strategies: RwLock::new(Builtin::ALL.map(Known::Builtin).to_vec()),
            resources: RwLock::new(HashMap::new()),
            histories: Mutex::new(histories),
            repairs: Semaphore::new(self.config.concurrency.min(Semaphore::MAX_PERMITS)),
            checks: Semaphore::new(self.config.health_concurrency.min(Semaphore::MAX_PERMITS)),
            alerts: broadcast::channel(ALERTS).0,
            unknown: self.unknown,
            runtime: Handle::current(),
            config: Arc::new(self.config),
        };
        Ok(RecoveryManager::new(Arc::new(shared)))
    }
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ManagerBuilder");
        out.field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}
