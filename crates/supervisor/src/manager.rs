//! The handle: who is supervised, starting and stopping, looking.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_breaker::Breaker;
use resurge_store::Store;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::alert::Alerts;
use crate::audit::AuditTrail;
use crate::builder::ManagerBuilder;
use crate::config::{StrategySettings, SupervisorConfig};
use crate::error::SupervisorError;
use crate::health::Health;
use crate::keeper;
use crate::machine::Machine;
use crate::repairable::Registration;
use crate::resource::{Resource, Shared, Tasks};
use crate::status::{
    CircuitStatus, HealthStatus, RecoveryStatus, RepairReport, ResourceStatus, ShownTime,
};
use crate::strategy::{Known, RecoveryStrategy};

/// Supervises resources: repairs those whose circuit opened, checks their health, alerts, and keeps an
/// audit trail. Cheap to clone; clones are the same manager. It stops when the last one is dropped.
///
/// See the [crate's documentation](crate) for an example.
#[derive(Clone)]
pub struct RecoveryManager {
    pub(crate) shared: Arc<Shared>,
    state: Arc<Running>,
}

/// Whether it runs; ends what runs with the last handle.
struct Running {
    shared: Arc<Shared>,
    on: Mutex<bool>,
    /// Held by who starts or stops.
    changing: tokio::sync::Mutex<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for resource in self.shared.resources.read().values() {
            if let Some(tasks) = resource.tasks.lock().take() {
                tasks.handles.iter().for_each(AbortHandle::abort);
            }
        }
    }
}

impl RecoveryManager {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let running = Running {
            shared: Arc::clone(&shared),
            on: Mutex::new(false),
            changing: tokio::sync::Mutex::new(()),
        };
        Self { shared, state: Arc::new(running) }
    }

    /// On `store` with this configuration. As [`ManagerBuilder::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(store: &Store, config: SupervisorConfig) -> Result<Self, SupervisorError> {
        Self::builder().config(config).open(store).await
    }

    /// With more than a configuration.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::new()
    }

    /// Supervises `resource` under `name`, from now on if it was started, and returns its breaker: the
    /// one it had before, with the attempts made before. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ResourceExists`](SupervisorError::ResourceExists),
    /// [`UnknownStrategy`](SupervisorError::UnknownStrategy), [`Config`](SupervisorError::Config),
    /// [`Breaker`](SupervisorError::Breaker).
    pub fn register(
        &self,
        name: &str,
        resource: impl Into<Registration>,
    ) -> Result<Breaker, SupervisorError> {
        let shared = &self.shared;
        let registration = resource.into();
        let configured = shared.config.resources.get(name).cloned();
        let config = registration.config.clone().or(configured).unwrap_or_default();
        shared.config.check_resource(&config)?;
        if *self.state.on.lock() {
            self.check_strategies(config.strategy.as_deref(), &config.strategies)?;
        }
        let breaker = config.breaker.clone().unwrap_or_else(|| shared.config.breaker.clone());
        let breaker = shared.breakers.get_with(name, breaker)?;
        let mut resources = shared.resources.write();
        if resources.contains_key(name) {
            return Err(SupervisorError::ResourceExists(name.to_owned()));
        }
        let name: Arc<str> = Arc::from(name);
        let history = shared.histories.lock().remove(&name).unwrap_or_default();
        let health_config = config.health.clone().unwrap_or_else(|| shared.config.health.clone());
        let resource = Arc::new(Resource {
            name: Arc::clone(&name),
            registration,
            config,
            health_config,
            breaker: breaker.clone(),
            machine: Mutex::new(Machine::new(Arc::clone(&shared.config), history)),
            health: Mutex::new(Health::default()),
            woken: Notify::new(),
            tasks: Mutex::new(None),
        });
        if *self.state.on.lock() {
            self.watch(&resource);
        }
        resources.insert(name, resource);
        Ok(breaker)
    }

    /// Supervises `name` no longer; an attempt under way is given up. False when it was not supervised.
    /// Its breaker, and the attempts made, are still there when it is registered again. Done also when
    /// this is dropped; a strategy may call it. Must be called inside a tokio runtime.
    pub async fn unregister(&self, name: &str) -> bool {
        let (manager, name) = (self.clone(), name.to_owned());
        whole(async move { manager.unregister_whole(&name).await }).await.unwrap_or(false)
    }

    async fn unregister_whole(&self, name: &str) -> bool {
        let _changing = self.state.changing.lock().await;
        let Some(resource) = self.shared.find(name) else { return false };
        end(&resource).await;
        let mut resources = self.shared.resources.write();
        if resources.remove(name).is_none() {
            return false;
        }
        let history = resource.machine.lock().history.clone();
        self.shared.histories.lock().insert(Arc::clone(&resource.name), history);
        true
    }

    /// Makes a strategy of your own known, for the failures it says it can recover.
    ///
    /// # Errors
    /// [`StrategyExists`](SupervisorError::StrategyExists).
    pub fn register_strategy(
        &self,
        strategy: impl RecoveryStrategy,
    ) -> Result<(), SupervisorError> {
        let name: Arc<str> = strategy.name().into();
        let mut known = self.shared.strategies.write();
        if known.iter().any(|known| known.name() == &*name) {
            return Err(SupervisorError::StrategyExists(name.to_string()));
        }
        known.push(Known::Custom(name, Arc::new(strategy)));
        Ok(())
    }

    /// Refuses the first one to try, or settings of one, that nobody knows: a slip would go unseen otherwise.
    fn check_strategies(
        &self,
        first: Option<&str>,
        settings: &BTreeMap<String, StrategySettings>,
    ) -> Result<(), SupervisorError> {
        let known = self.shared.strategies.read();
        let mut names = first.into_iter().chain(settings.keys().map(String::as_str));
        match names.find(|name| !known.iter().any(|known| known.name() == *name)) {
            Some(name) => Err(SupervisorError::UnknownStrategy(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Begins to repair and to check health: what is down already, too. Stopped, it can be started
    /// again. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`AlreadyRunning`](SupervisorError::AlreadyRunning);
    /// [`UnknownStrategy`](SupervisorError::UnknownStrategy) when the configuration names one
    /// that is not registered yet.
    pub async fn start(&self) -> Result<(), SupervisorError> {
        let _changing = self.state.changing.lock().await;
        let config = &self.shared.config;
        self.check_strategies(config.default_strategy.as_deref(), &config.strategies)?;
        let resources = self.shared.resources.read();
        for resource in resources.values() {
            let config = &resource.config;
            self.check_strategies(config.strategy.as_deref(), &config.strategies)?;
        }
        let mut running = self.state.on.lock();
        if *running {
            return Err(SupervisorError::AlreadyRunning);
        }
        *running = true;
        for resource in resources.values() {
            self.watch(resource);
        }
        Ok(())
    }

    /// Repairs and checks no more; an attempt under way is given up and audited as such. Calls go on
    /// through the breakers. Stopping what does not run does nothing. Done also when this is dropped; a
    /// strategy may call it. Must be called inside a tokio runtime.
    ///
    /// It waits for code of yours that blocks its thread instead of awaiting.
    pub async fn stop(&self) {
        let manager = self.clone();
        // Without the runtime nothing runs any more.
        let _ = whole(async move { manager.stop_whole().await }).await;
    }

    async fn stop_whole(&self) {
        let _changing = self.state.changing.lock().await;
        let resources: Vec<_> = {
            let resources = self.shared.resources.read();
            *self.state.on.lock() = false;
            resources.values().cloned().collect()
        };
        for tasks in resources.iter().filter_map(|resource| resource.tasks.lock().clone()) {
            tasks.stop.send_replace(true);
        }
        for resource in resources {
            end(&resource).await;
        }
    }

    fn watch(&self, resource: &Arc<Resource>) {
        let (stop, stopped) = watch::channel(false);
        let shared = &self.shared;
        // ORDER: heard from here on, so that nothing gets lost until the task runs.
        let events = resource.breaker.subscribe();
        let keeper =
            keeper::keep(Arc::clone(shared), Arc::clone(resource), events, stopped.clone());
        let mut handles = vec![tokio::spawn(keeper).abort_handle()];
        if shared.config.health_checking {
            let health = keeper::watch_health(Arc::clone(shared), Arc::clone(resource), stopped);
            handles.push(tokio::spawn(health).abort_handle());
        }
        *resource.tasks.lock() = Some(Arc::new(Tasks { stop, handles }));
    }

    /// Lets attempts for `name` count from 1 again, also when it was given up. Repairs it if it is down.
    ///
    /// # Errors
    /// [`UnknownResource`](SupervisorError::UnknownResource).
    pub fn revive(&self, name: &str) -> Result<(), SupervisorError> {
        let unknown = || SupervisorError::UnknownResource(name.to_owned());
        let resource = self.shared.find(name).ok_or_else(unknown)?;
        resource.machine.lock().revive(resource.breaker.state(), self.shared.at());
        resource.wake();
        self.shared.publish_later(&resource);
        Ok(())
    }

    /// The breaker of a resource, to be used where calls are made.
    pub fn breaker(&self, name: &str) -> Option<Breaker> {
        self.shared.find(name).map(|resource| resource.breaker.clone())
    }

    /// Alerts from now on.
    pub fn alerts(&self) -> Alerts {
        Alerts(self.shared.alerts.subscribe())
    }

    /// The audit trail as it is now.
    ///
    /// # Errors
    /// [`Journal`](SupervisorError::Journal).
    pub async fn audit(&self) -> Result<AuditTrail, SupervisorError> {
        Ok(AuditTrail(self.shared.journal.read().await?))
    }

    /// How everything is. Reads memory only.
    pub fn status(&self) -> RecoveryStatus {
        let resources: Vec<_> = self.shared.resources.read().values().cloned().collect();
        let shown = |resource: Arc<Resource>| (Arc::clone(&resource.name), show(&resource));
        RecoveryStatus {
            running: *self.state.on.lock(),
            auto_recovery: self.shared.config.auto_recovery,
            health_checking: self.shared.config.health_checking,
            plugins: resources.into_iter().map(shown).collect(),
        }
    }
}

/// Awaits `future` in a task of its own, so that it ends whoever gives up waiting. None: its runtime is
/// gone.
async fn whole<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    match tokio::spawn(future).await {
        Ok(value) => Some(value),
        Err(error) => {
            error.try_into_panic().map_or(None, |payload| std::panic::resume_unwind(payload))
        }
    }
}

/// Ends the tasks of a resource, and waits until they ended.
async fn end(resource: &Resource) {
    let Some(tasks) = resource.tasks.lock().clone() else { return };
    tasks.stop.send_replace(true);
    tasks.stop.closed().await;
    *resource.tasks.lock() = None;
}

fn show(resource: &Resource) -> ResourceStatus {
    let metrics = resource.breaker.metrics();
    let circuit_breaker = CircuitStatus {
        state: metrics.state,
        total_requests: metrics.total_requests,
        total_failures: metrics.total_failures,
        failure_rate: metrics.failure_rate,
        mode: metrics.mode,
        next_retry_time: metrics.next_retry_time.map(ShownTime),
    };
    let health = resource.health.lock();
    let health_check = HealthStatus {
        last_check: health.last.as_ref().map(|report| report.timestamp),
        last_result: health.last.clone(),
        consecutive_fails: health.consecutive_fails,
    };
    drop(health);
    let machine = resource.machine.lock();
    let history = &machine.history;
    let recovery = RepairReport {
        repairing: history.running.clone(),
        attempts: history.attempts,
        exhausted: history.exhausted,
        last_strategy: history.last.as_ref().map(|(strategy, _)| Arc::clone(strategy)),
        last_outcome: history.last.as_ref().map(|(_, outcome)| outcome.clone()),
        coalesced_failures: machine.coalesced,
        alerts: machine.alarms.raised().to_vec(),
    };
    drop(machine);
    ResourceStatus { circuit_breaker, health_check, recovery }
}

impl fmt::Debug for RecoveryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RecoveryManager");
        out.field("running", &*self.state.on.lock()).finish_non_exhaustive()
    }
}
