//! What can be supervised.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use resurge_store::BoxFuture;

use crate::config::ResourceConfig;

/// The error of other people's code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a health check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The verdict.
    pub healthy: bool,
    /// Why, for people.
    pub message: String,
    /// More about it.
    pub details: BTreeMap<String, String>,
}

impl Health {
    /// All is well.
    pub fn healthy() -> Self {
        Self { healthy: true, ..Self::default() }
    }

    /// Something is wrong.
    pub fn unhealthy(why: impl Into<String>) -> Self {
        Self { message: why.into(), ..Self::default() }
    }

    /// With one more detail.
    #[must_use]
    pub fn detail(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }
}

/// Something that can be repaired: a connection pool, a plugin, a child process.
///
/// Every future may be dropped before it ends: when an attempt takes longer than it may, and when the
/// supervisor stops. The next call must cope with what was left half done.
pub trait Repairable: Send + Sync + 'static {
    /// Ends it, gracefully if it can. Ending what does not run is no error.
    fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Starts it anew.
    fn load(&self) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Initialises it again without ending it. By default it cannot, and another strategy is tried.
    fn reload(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(std::future::ready(Err("it cannot be reloaded".into())))
    }

    /// Switches to less than its full function. By default it cannot, and another strategy is tried.
    fn degrade(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(std::future::ready(Err("it cannot be degraded".into())))
    }

    /// Looks whether it works. Called also while its circuit is open, and not through its breaker.
    /// `Err`, a panic and a timeout count as unhealthy.
    fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>>;
}

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<Health, BoxError>> + Send + Sync>;

/// What [`RecoveryManager::register`](crate::RecoveryManager::register) takes: the resource, its
/// configuration, and checks of your own.
#[must_use]
pub struct Registration {
    pub(crate) resource: Arc<dyn Repairable>,
    pub(crate) config: Option<ResourceConfig>,
    pub(crate) checks: Vec<(String, Check)>,
}

impl Registration {
    /// This resource, configured as the supervisor's configuration says.
    pub fn new(resource: impl Repairable) -> Self {
        Self::shared(Arc::new(resource))
    }

    /// The same for a resource somebody else holds, too.
    pub fn shared(resource: Arc<dyn Repairable>) -> Self {
        Self { resource, config: None, checks: Vec::new() }
    }

    /// Configured like this, whatever the supervisor's configuration says about it.
    pub fn config(mut self, config: ResourceConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// With a check of your own beside [`Repairable::health`]: it is healthy when all of them say so.
    pub fn check<F, Fut>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Health, BoxError>> + Send + 'static,
    {
        self.checks.push((name.into(), Arc::new(move || Box::pin(check()))));
        self
    }
}

impl<R: Repairable> From<R> for Registration {
    fn from(resource: R) -> Self {
        Self::new(resource)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("config", &self.config).finish_non_exhaustive()
    }
}
