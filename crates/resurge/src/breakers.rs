//! Breakers of the app: one registry on its store.

use std::sync::Arc;

use resurge_breaker::{Breaker, BreakerConfig, BreakerRegistry, RegistryOptions};
use tokio::sync::OnceCell;

use crate::app::{Part, Resurge};
use crate::error::{Error, Result};
use crate::status::PartStatus;

/// The registry's name, and so the beginning of every breaker's.
const NAME: &str = "app";

/// The app's breakers, once somebody asked for one.
pub(crate) struct Slot {
    options: RegistryOptions,
    registry: OnceCell<Arc<BreakerRegistry<String>>>,
}

impl Slot {
    pub(crate) fn new(options: Option<RegistryOptions>) -> Self {
        // An app has few breakers, with names its programmer gave them: which one is open should be seen.
        let options = options.unwrap_or_else(|| RegistryOptions::default().label_each(true));
        Self { options, registry: OnceCell::new() }
    }
}

impl Resurge {
    /// The breaker called `name`: the same one for everybody who asks, as it was before a crash. A step
    /// of a flow goes through it with `.through(&breaker)`, an HTTP service by [`BreakerLayer`](crate::BreakerLayer). Keep it
    /// where it is used often. In errors, metrics and the status it is called `app/` and that name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let app = resurge::Resurge::in_memory();
    /// let payments = app.breaker("payments").await?;
    /// let charged = payments.run(async { Ok::<_, std::io::Error>(7) }).await?;
    /// # assert_eq!(charged, 7);
    /// # app.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Breaker`](Error::Breaker): a configuration that makes no sense, too many breakers, what is
    /// stored cannot be used. [`ShutDown`](Error::ShutDown).
    pub async fn breaker(&self, name: &str) -> Result<Breaker> {
        Ok(self.breakers().await?.get(name)?)
    }

    /// The same, made with this configuration if nobody asked for one of that name yet; what was open before a restart stays
    /// so, and has this configuration from here on. To change the one of a breaker that was asked for:
    /// [`reconfigure`](Breaker::reconfigure).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge::BreakerConfig;
    /// let app = resurge::Resurge::in_memory();
    /// let config: BreakerConfig = serde_json::from_str(r#"{ "open": { "initial": "10s" } }"#)?; // a file's text
    /// let search = app.breaker_with("search", config).await?;
    /// assert_eq!(search.config().open.initial.as_secs(), 10);
    /// # app.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`breaker`](Self::breaker).
    pub async fn breaker_with(&self, name: &str, config: BreakerConfig) -> Result<Breaker> {
        Ok(self.breakers().await?.get_with(name, config)?)
    }

    /// The app's breakers.
    ///
    /// # Errors
    /// As [`breaker`](Self::breaker).
    pub async fn breakers(&self) -> Result<Arc<BreakerRegistry<String>>> {
        let slot = &self.inner.breakers;
        if self.is_shut_down() {
            return Err(Error::ShutDown);
        }
        let registry = slot.registry.get_or_try_init(|| self.open_breakers(&slot.options)).await?;
        Ok(Arc::clone(registry))
    }

    async fn open_breakers(
        &self,
        options: &RegistryOptions,
    ) -> Result<Arc<BreakerRegistry<String>>> {
        let claim = self.claim("breakers", NAME)?;
        let registry = BreakerRegistry::open(self.store(), NAME, options.clone()).await?;
        // So that the status shows those nobody asked for yet.
        registry.load_all(|name| Some(name.to_owned()))?;
        let registry = Arc::new(registry);
        let (closing, shown) = (Arc::clone(&registry), Arc::clone(&registry));
        let part = Part {
            kind: "breakers",
            name: NAME.to_owned(),
            order: 1,
            close: Box::new(move || Box::pin(async move { Ok(closing.flush().await?) })),
            status: Box::new(move || {
                let mut breakers: Vec<_> = shown.all().iter().map(Breaker::metrics).collect();
                breakers.sort_by(|a, b| a.name.cmp(&b.name));
                PartStatus::Breakers { breakers }
            }),
        };
        // Shut down meanwhile: nothing happened in them yet, so there is nothing to write down.
        claim.keep(part).map_err(|_| Error::ShutDown)?;
        Ok(registry)
    }
}
