//! Ways to repair, and which of them come into question.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use resurge_breaker::FailureKind;
use resurge_store::{BoxFuture, Clock};
use serde::{Deserialize, Serialize};

use crate::config::StrategySettings;
use crate::failure::{Failure, Severity};
use crate::repairable::{BoxError, Repairable};

/// The strategies that are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Builtin {
    /// Shutdown, a pause, load. Priority 100.
    Restart,
    /// Initialises again. Priority 80.
    Reload,
    /// Closes the circuit and forgets what was counted. The only one that closes it without probes.
    /// Priority 60.
    Reset,
    /// Less than the full function. Priority 40.
    GracefulDegradation,
    /// Suspends calls, longer each time. Priority 20.
    Backoff,
}

impl Builtin {
    /// All of them, the highest priority first.
    pub const ALL: [Self; 5] =
        [Self::Restart, Self::Reload, Self::Reset, Self::GracefulDegradation, Self::Backoff];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Reset => "reset",
            Self::GracefulDegradation => "graceful_degradation",
            Self::Backoff => "backoff",
        }
    }

    /// Its priority.
    pub const fn priority(self) -> i32 {
        match self {
            Self::Restart => 100,
            Self::Reload => 80,
            Self::Reset => 60,
            Self::GracefulDegradation => 40,
            Self::Backoff => 20,
        }
    }

    /// Whether it may help. Without settings that say more.
    ///
    /// ```
    /// use resurge_breaker::FailureKind;
    /// use resurge_supervisor::{Builtin, Failure};
    /// let failure = Failure::new(FailureKind::Panic, "index out of bounds");
    /// assert!(Builtin::Restart.can_recover(&failure));
    /// assert!(!Builtin::Reload.can_recover(&failure));
    /// ```
    pub fn can_recover(self, failure: &Failure) -> bool {
        use FailureKind::{Error, HealthCheck, Initialization, Panic, ResourceLimit, Timeout};
        let kind = failure.kind;
        let critical = failure.severity == Severity::CRITICAL;
        let warning = failure.severity == Severity::WARNING;
        let here = match self {
            Self::Restart => match kind {
                Timeout | Error | Panic | HealthCheck => true,
                Initialization => !critical,
                _ => false,
            },
            Self::Reload => match kind {
                Timeout | Error => !critical,
                HealthCheck => true,
                Initialization => warning,
                _ => false,
            },
            Self::Reset => kind == HealthCheck || (kind == Timeout && warning),
            Self::GracefulDegradation => kind == ResourceLimit || (kind == Timeout && !critical),
            Self::Backoff => matches!(kind, Timeout | Error | HealthCheck) && !critical,
        };
        here && (failure.recoverable || self == Self::GracefulDegradation)
    }
}

/// What a strategy says when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// It worked, it says: probes find out.
    Repaired,
    /// Nothing to do but wait: calls are rejected for this long, then probes find out.
    Wait(Duration),
}

/// What a strategy gets to see of an attempt.
#[derive(Clone)]
#[non_exhaustive]
pub struct RepairContext {
    /// The resource's name.
    pub name: Arc<str>,
    /// The resource.
    pub resource: Arc<dyn Repairable>,
    /// What is to be repaired.
    pub failure: Failure,
    /// Counts from 1 until the resource is well again.
    pub attempt: u32,
    /// The settings of this strategy for this resource.
    pub settings: StrategySettings,
    /// Time, for whoever has to wait.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for RepairContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RepairContext");
        out.field("name", &self.name).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// A way to repair. See the guide, "Writing a strategy".
///
/// The future may be dropped: after `attempt_timeout`, and when the supervisor stops. A panic is a
/// failed attempt.
pub trait RecoveryStrategy: Send + Sync + 'static {
    /// Its name, unlike those of others; in the audit trail and in labels of metrics.
    fn name(&self) -> &str;

    /// The highest is tried first.
    fn priority(&self) -> i32;

    /// Whether it may help.
    fn can_recover(&self, failure: &Failure) -> bool;

    /// Repairs. What it claims is found out by probes.
    fn recover(&self, attempt: RepairContext) -> BoxFuture<'_, Result<Recovered, BoxError>>;
}

impl<S: RecoveryStrategy + ?Sized> RecoveryStrategy for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn priority(&self) -> i32 {
        (**self).priority()
    }

    fn can_recover(&self, failure: &Failure) -> bool {
        (**self).can_recover(failure)
    }

    fn recover(&self, attempt: RepairContext) -> BoxFuture<'_, Result<Recovered, BoxError>> {
        (**self).recover(attempt)
    }
}

type Predicate = Box<dyn Fn(&Failure) -> bool + Send + Sync>;
type Action =
    Box<dyn Fn(RepairContext) -> BoxFuture<'static, Result<Recovered, BoxError>> + Send + Sync>;

/// A strategy made of a predicate and an async function.
///
/// ```
/// use resurge_breaker::FailureKind;
/// use resurge_supervisor::{CustomStrategy, RecoveryStrategy, Failure};
/// let flush = CustomStrategy::new(
///     "flush-cache",
///     150,
///     |failure| failure.kind == FailureKind::Error && failure.severity.as_str() == "custom",
///     |attempt| async move {
///         attempt.resource.reload().await // whatever it takes
///     },
/// );
/// assert_eq!(flush.priority(), 150);
/// ```
pub struct CustomStrategy {
    name: String,
    priority: i32,
    can_recover: Predicate,
    recover: Action,
}

impl CustomStrategy {
    /// `Ok` of `recover` says that it worked.
    pub fn new<F, Fut>(
        name: impl Into<String>,
        priority: i32,
        can_recover: impl Fn(&Failure) -> bool + Send + Sync + 'static,
        recover: F,
    ) -> Self
    where
        F: Fn(RepairContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let recover = move |attempt| -> BoxFuture<'static, _> {
            let repaired = recover(attempt);
            Box::pin(async move { repaired.await.map(|()| Recovered::Repaired) })
        };
        let (can_recover, recover) = (Box::new(can_recover), Box::new(recover));
        Self { name: name.into(), priority, can_recover, recover }
    }
}

impl RecoveryStrategy for CustomStrategy {
    fn name(&self) -> &str {
        &self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn can_recover(&self, failure: &Failure) -> bool {
        (self.can_recover)(failure)
    }

    fn recover(&self, attempt: RepairContext) -> BoxFuture<'_, Result<Recovered, BoxError>> {
        (self.recover)(attempt)
    }
}

impl fmt::Debug for CustomStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("CustomStrategy");
        out.field("name", &self.name).field("priority", &self.priority).finish_non_exhaustive()
    }
}

/// A registered strategy.
#[derive(Clone)]
pub(crate) enum Known {
    Builtin(Builtin),
    /// With its name.
    Custom(Arc<str>, Arc<dyn RecoveryStrategy>),
}

impl Known {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Builtin(builtin) => builtin.name(),
            Self::Custom(name, _) => name,
        }
    }

    fn priority(&self, settings: &StrategySettings) -> i32 {
        settings.priority.unwrap_or_else(|| match self {
            Self::Builtin(builtin) => builtin.priority(),
            Self::Custom(_, custom) => custom.priority(),
        })
    }

    fn can_recover(&self, failure: &Failure, settings: &StrategySettings) -> bool {
        settings.enabled
            && match self {
                Self::Builtin(builtin) => {
                    let also = settings.also.contains(&failure.kind) && failure.recoverable;
                    also || builtin.can_recover(failure)
                }
                // It cannot, if it panics when it is asked.
                Self::Custom(_, custom) => {
                    let ask = AssertUnwindSafe(|| custom.can_recover(failure));
                    catch_unwind(ask).unwrap_or(false)
                }
            }
    }
}

/// Those that may help, in the order they are tried: the preferred one, then by priority, then by name.
pub(crate) fn candidates(
    known: &[Known],
    failure: &Failure,
    preferred: Option<&str>,
    settings: impl Fn(&str) -> StrategySettings,
) -> Vec<Arc<str>> {
    let mut able: Vec<_> = known
        .iter()
        .map(|strategy| (strategy, settings(strategy.name())))
        .filter(|(strategy, settings)| strategy.can_recover(failure, settings))
        .map(|(strategy, settings)| {
            let name = strategy.name();
            (preferred != Some(name), -i64::from(strategy.priority(&settings)), name)
        })
        .collect();
    able.sort_unstable();
    able.into_iter().map(|(.., name)| Arc::from(name)).collect()
}
