//! One resource under supervision, and what all of them share.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use resurge_breaker::{Breaker, BreakerRegistry, Reason, State};
use resurge_store::{Clock, Store};
use resurge_wal::Append;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::task::AbortHandle;

use crate::alert::Alert;
use crate::audit::{AuditEvent, AuditRecord};
use crate::config::{HealthConfig, ResourceConfig, StrategySettings, SupervisorConfig};
use crate::health::Health;
use crate::journal::{Histories, Journal};
use crate::machine::{At, Machine, Seen};
use crate::meters;
use crate::repairable::Registration;
use crate::strategy::{Known, candidates};

/// Makes a resource of a name.
pub(crate) type Unknown = Box<dyn Fn(&str) -> Option<Registration> + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<SupervisorConfig>,
    pub(crate) journal: Journal,
    pub(crate) breakers: Arc<BreakerRegistry<String>>,
    pub(crate) strategies: RwLock<Vec<Known>>,
    pub(crate) resources: RwLock<HashMap<Arc<str>, Arc<Resource>>>,
    /// Of resources that are not registered now.
    pub(crate) histories: Mutex<Histories>,
    pub(crate) repairs: Semaphore,
    pub(crate) checks: Semaphore,
    pub(crate) alerts: broadcast::Sender<Alert>,
    pub(crate) unknown: Option<Unknown>,
    /// Where it was opened.
    pub(crate) runtime: Handle,
}

pub(crate) struct Resource {
    pub(crate) name: Arc<str>,
    pub(crate) registration: Registration,
    pub(crate) config: ResourceConfig,
    pub(crate) health_config: HealthConfig,
    pub(crate) breaker: Breaker,
    pub(crate) machine: Mutex<Machine>,
    pub(crate) health: Mutex<Health>,
    /// Somebody told the machine something.
    pub(crate) woken: Notify,
    pub(crate) tasks: Mutex<Option<Arc<Tasks>>>,
}

pub(crate) struct Tasks {
    /// Closed when all of them ended.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) handles: Vec<AbortHandle>,
}

impl Shared {
    pub(crate) fn at(&self) -> At {
        At { mono: self.clock.monotonic(), wall: self.clock.now() }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Resource>> {
        self.resources.read().get(name).cloned()
    }

    /// Lets the machine decide, and hands that and what it decided before to the audit trail and to whoever
    /// is alerted. Returns its answer, and a record that is durable when all of them are.
    pub(crate) fn deciding<T>(
        self: &Arc<Self>,
        resource: &Resource,
        decide: impl FnOnce(&mut Machine) -> T,
    ) -> (T, Option<Append>) {
        let mut last: Option<Append> = None;
        // ORDER: decided and appended under the same lock, so that the trail has the machine's order, and
        // nobody else takes away what the caller is to wait for.
        let mut machine = resource.machine.lock();
        let decided = decide(&mut machine);
        for (at, event) in machine.take_outbox() {
            if let AuditEvent::Alert(kind) = &event {
                meters::alert(kind);
                tracing::warn!(resource = &*resource.name, alert = kind.as_str(), "alert");
                let resource = Arc::clone(&resource.name);
                // Nobody listens: the trail and the status have it all the same.
                let _ = self.alerts.send(Alert { resource, at, kind: kind.clone() });
            }
            let record = AuditRecord { at, resource: Arc::clone(&resource.name), event };
            let append = self.journal.append(&record);
            // Later ones may be taken where one was refused.
            if last.as_ref().is_none_or(|last| last.refused().is_none()) {
                last = Some(append);
            }
        }
        drop(machine);
        if last.is_some() && self.journal.wants_trimming() {
            self.trim();
        }
        (decided, last)
    }

    /// The same for who decided before, and does not wait.
    pub(crate) fn publish_later(self: &Arc<Self>, resource: &Resource) {
        let ((), written) = self.deciding(resource, |_| ());
        self.not_awaited(written);
    }

    /// Says so when it cannot be written.
    pub(crate) fn not_awaited(&self, written: Option<Append>) {
        if let Some(append) = written {
            self.spawn(async move {
                if let Err(error) = append.await {
                    meters::journal_error();
                    tracing::warn!(%error, "the audit trail cannot be written");
                }
            });
        }
    }

    /// Also where no runtime is: failures are told of by destructors, too.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = Handle::try_current();
        runtime.as_ref().unwrap_or(&self.runtime).spawn(task);
    }

    fn trim(self: &Arc<Self>) {
        // ORDER: resources, histories, machines by name: as everywhere, and all of them stand still until
        // the summary has its place in the trail.
        let registered = self.resources.read();
        let mut histories = self.histories.lock().clone();
        let mut resources: Vec<_> = registered.values().collect();
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        let machines: Vec<_> =
            resources.iter().map(|resource| (resource, resource.machine.lock())).collect();
        if machines.iter().any(|(_, machine)| machine.has_outbox()) {
            // What is decided and not yet in the trail would be told twice.
            return self.journal.do_not_trim();
        }
        for (resource, machine) in &machines {
            histories.insert(Arc::clone(&resource.name), machine.history.clone());
        }
        histories.retain(|_, history| !history.is_fresh());
        let summaries = self.journal.summaries(self.clock.now(), histories);
        drop(machines);
        let shared = Arc::clone(self);
        self.spawn(async move { shared.journal.trim(summaries).await });
    }

    /// The settings of a strategy for a resource.
    pub(crate) fn settings(&self, resource: &Resource, strategy: &str) -> StrategySettings {
        let own = resource.config.strategies.get(strategy);
        own.or_else(|| self.config.strategies.get(strategy)).cloned().unwrap_or_default()
    }

    pub(crate) fn candidates(
        &self,
        resource: &Resource,
        failure: &crate::failure::Failure,
    ) -> Vec<Arc<str>> {
        let preferred = resource.config.strategy.as_deref();
        let preferred = preferred.or(self.config.default_strategy.as_deref());
        // Their predicates are asked without any lock: they may use the manager.
        let known = self.strategies.read().clone();
        candidates(&known, failure, preferred, |name| self.settings(resource, name))
    }
}

impl Resource {
    /// What its breaker counted.
    pub(crate) fn seen(&self) -> Seen {
        let metrics = self.breaker.metrics();
        let by_probes = matches!(
            metrics.reason,
            Some(Reason::ProbeFailed | Reason::ProbesSlow | Reason::ProbesHung)
        );
        let of_calls = match metrics.state {
            State::Closed => true,
            State::Open => !by_probes,
            _ => false,
        };
        Seen {
            consecutive_failures: metrics.consecutive_failures,
            // A probe or two are no rate.
            failure_rate: metrics.window.failure_rate.filter(|_| of_calls),
            down_for: metrics.down_for,
        }
    }

    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("name", &self.name).finish_non_exhaustive()
    }
}
