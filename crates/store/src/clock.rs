//! Time, injected. Nothing else in the framework asks the system what time it is.

use std::fmt::{self, Debug};
use std::time::Duration;

use crate::BoxFuture;

mod system;
mod virtual_time;

pub use system::SystemClock;
pub use virtual_time::VirtualClock;

/// Wall time in milliseconds since 1970-01-01 UTC. Comparable across processes and restarts; may jump.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by `by`, in whole milliseconds, never overflowing.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How much later it is than `earlier`; zero when it is not.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Monotonic time: how long the clock has run. Never goes back, means nothing to another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// This long after the clock's origin.
    pub const fn from_origin(since: Duration) -> Self {
        Self(since)
    }

    /// Time since the clock's origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// Later by `by`, never overflowing.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// How much later it is than `earlier`; zero when it is not.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall time, monotonic time and sleeping.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall time; for deadlines that must hold across restarts.
    fn now(&self) -> Timestamp;

    /// Monotonic time; for measuring and for timeouts inside one process.
    fn monotonic(&self) -> Monotonic;

    /// Resolves once [`monotonic`](Self::monotonic) has reached `deadline`. Cancel safe.
    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()>;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.monotonic().saturating_add(duration))
    }
}
