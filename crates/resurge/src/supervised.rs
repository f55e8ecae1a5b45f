//! The app's supervisor: over the app's breakers, started when it is asked for, ended with the app.

use std::sync::Arc;

use resurge_supervisor::{RecoveryManager, RecoveryStrategy, SupervisorConfig};
use tokio::sync::OnceCell;

use crate::app::{Part, Resurge};
use crate::error::{Error, Result};
use crate::status::PartStatus;

/// The app's supervisor, once somebody asked for it.
pub(crate) struct Slot {
    config: SupervisorConfig,
    strategies: Vec<Arc<dyn RecoveryStrategy>>,
    manager: OnceCell<RecoveryManager>,
}

impl Slot {
    pub(crate) fn new(
        config: SupervisorConfig,
        strategies: Vec<Arc<dyn RecoveryStrategy>>,
    ) -> Self {
        Self { config, strategies, manager: OnceCell::new() }
    }
}

impl Resurge {
    /// The app's supervisor, running. A resource registered under a name is behind the app's breaker of
    /// that name. [`shutdown`](Self::shutdown) stops it before everything else.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge::store::BoxFuture;
    /// use resurge::supervisor::{BoxError, Health, Repairable};
    ///
    /// struct Mailer;
    /// impl Repairable for Mailer {
    ///     fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>> {
    ///         Box::pin(async { Ok(()) })
    ///     }
    ///     fn load(&self) -> BoxFuture<'_, Result<(), BoxError>> {
    ///         Box::pin(async { Ok(()) })
    ///     }
    ///     fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>> {
    ///         Box::pin(async { Ok(Health::healthy()) })
    ///     }
    /// }
    ///
    /// let app = resurge::Resurge::in_memory();
    /// let mailer = app.supervisor().await?.register("mailer", Mailer)?;
    /// mailer.run(async { Ok::<_, std::io::Error>(()) }).await?;
    /// app.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Supervisor`](Error::Supervisor): the configuration, damage of the audit trail, the store's; as
    /// [`breakers`](Self::breakers).
    pub async fn supervisor(&self) -> Result<RecoveryManager> {
        let slot = &self.inner.supervisor;
        if self.is_shut_down() {
            return Err(Error::ShutDown);
        }
        Ok(slot.manager.get_or_try_init(|| self.open_supervisor(slot)).await?.clone())
    }

    async fn open_supervisor(&self, slot: &Slot) -> Result<RecoveryManager> {
        let breakers = self.breakers().await?;
        let claim = self.claim("supervisor", "supervisor")?;
        let builder = RecoveryManager::builder().config(slot.config.clone()).breakers(breakers);
        let manager = builder.open(self.store()).await?;
        for strategy in &slot.strategies {
            manager.register_strategy(Arc::clone(strategy))?;
        }
        manager.start().await?;
        let (closing, shown) = (manager.clone(), manager.clone());
        let part = Part {
            kind: "supervisor",
            name: "supervisor".to_owned(),
            order: 0,
            close: Box::new(move || {
                Box::pin(async move {
                    closing.stop().await;
                    Ok(())
                })
            }),
            status: Box::new(move || PartStatus::Supervisor(shown.status())),
        };
        // Shut down meanwhile: nothing is registered in it, so there is nothing to end.
        claim.keep(part).map_err(|_| Error::ShutDown)?;
        Ok(manager)
    }
}
