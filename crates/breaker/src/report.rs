//! What a breaker shows of itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use resurge_store::Timestamp;
use serde::Serialize;

use crate::breaker::Breaker;
use crate::engine::Host;
use crate::shared::Shared;
use crate::state::{Mode, State};
use crate::transition::Reason;

mod shown;

/// Everything there is to know about a breaker at one moment. Serialises for people: moments like
/// `2024-01-01T12:00:00.000Z`, durations like `1m 2s 500ms`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BreakerMetrics {
    /// Its name.
    pub name: Arc<str>,
    /// What calls meet, as [`Breaker::state`].
    pub state: State,
    /// The mode.
    pub mode: Mode,
    /// Calls that were admitted and succeeded or failed, since it was built (and before, where it was
    /// restored). Rejected, ignored and cancelled ones are apart.
    pub total_requests: u64,
    /// Failures among them.
    pub total_failures: u64,
    /// Successes among them.
    pub total_successes: u64,
    /// Failures of all of them, as a fraction; 0 before the first. What rules look at is in `window`.
    pub failure_rate: f64,
    /// The last failure.
    #[serde(serialize_with = "shown::times")]
    pub last_failure: Option<Timestamp>,
    /// A success that was noticed, at most 64 of each thread before the last one; the last one when
    /// calls are timed.
    #[serde(serialize_with = "shown::times")]
    pub last_success: Option<Timestamp>,
    /// The last change of state, or when it was built.
    #[serde(serialize_with = "shown::time")]
    pub state_change_time: Timestamp,
    /// How long it was not closed, in all.
    #[serde(serialize_with = "shown::duration")]
    pub circuit_open_time: Duration,
    /// The last health check somebody noted.
    pub health_check_success: Option<bool>,
    /// When calls are admitted again, if they are not and it is known.
    #[serde(serialize_with = "shown::times")]
    pub next_retry_time: Option<Timestamp>,
    /// Changes of state since it was built.
    pub state_changes: u64,
    /// Closed since.
    #[serde(serialize_with = "shown::times")]
    pub up_since: Option<Timestamp>,
    /// Not closed since.
    #[serde(serialize_with = "shown::times")]
    pub down_since: Option<Timestamp>,
    /// How long that is, by a clock nobody sets.
    #[serde(serialize_with = "shown::durations")]
    pub down_for: Option<Duration>,
    /// What the first rule with a window sees; half-open, the probes; open, what it saw last.
    pub window: WindowMetrics,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// How often in a row it opened before.
    pub attempt: u32,
    /// Why it opened last.
    pub reason: Option<Reason>,
    /// Calls that were not admitted.
    pub rejected: u64,
    /// Calls whose result meant nothing.
    pub ignored: u64,
    /// Calls that were dropped before they ended.
    pub cancelled: u64,
    /// Calls that panicked; they are failures, too.
    pub panicked: u64,
    /// Calls that took `slow_after` or longer.
    pub slow: u64,
    /// Probes under way.
    pub probes_in_flight: u32,
    /// Times the state could not be persisted.
    pub store_errors: u64,
}

/// What a rule sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WindowMetrics {
    /// Calls in the window.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Slow ones among them.
    pub slow: u64,
    /// Failures as a fraction; none before there are enough calls to judge.
    pub failure_rate: Option<f64>,
    /// Slow calls as a fraction; none before there are enough calls to judge.
    pub slow_rate: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "shown to people; nothing is decided by it")]
fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Shared {
    pub(crate) fn total_failures(&self) -> u64 {
        self.engine.tallies.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn last_failure(&self) -> Option<Timestamp> {
        let ms = self.engine.tallies.last_failure_ms.load(Ordering::Relaxed);
        ms.checked_sub(1).map(Timestamp::from_millis)
    }
}

impl Breaker {
    /// Everything there is to know at this moment. What is old expires before it is shown.
    pub fn metrics(&self) -> BreakerMetrics {
        let shared = &*self.root.shared;
        let now = shared.at();
        let state = self.state();
        let view = shared.engine.view(now.ns);
        let facts = shared.engine.read(crate::machine::Machine::facts);
        let tallies = &shared.engine.tallies;
        let load = |tally: &crate::sync::AtomicU64| tally.load(Ordering::Relaxed);
        let total_failures = shared.total_failures().min(view.requests);
        let counts = view.counts;
        let judged = counts.calls > 0 && counts.calls >= view.min_calls;
        let rate = |part| judged.then(|| fraction(part, counts.calls));
        let down = facts.down_since.map(|down| now.ns.saturating_sub(down.ns));
        BreakerMetrics {
            name: Arc::clone(&shared.name),
            state,
            mode: self.mode(),
            total_requests: view.requests,
            total_failures,
            total_successes: view.requests - total_failures,
            failure_rate: fraction(total_failures, view.requests),
            last_failure: shared.last_failure(),
            last_success: load(&tallies.last_success_ns)
                .checked_sub(1)
                .map(|ns| Shared::wall_of(ns, now)),
            state_change_time: facts.since.wall,
            circuit_open_time: Duration::from_nanos(
                facts.down_ns.saturating_add(down.unwrap_or(0)),
            ),
            health_check_success: match shared.health.load(Ordering::Relaxed) {
                0 => None,
                health => Some(health == 2),
            },
            next_retry_time: self.retry_after().map(|after| now.wall.saturating_add(after)),
            state_changes: facts.state_changes,
            up_since: facts.up_since.map(|at| at.wall),
            down_since: facts.down_since.map(|at| at.wall),
            down_for: down.map(Duration::from_nanos),
            window: WindowMetrics {
                calls: counts.calls,
                failures: counts.failures,
                slow: counts.slow,
                failure_rate: rate(counts.failures),
                slow_rate: rate(counts.slow),
            },
            consecutive_failures: view.streak,
            attempt: facts.attempt,
            reason: facts.reason,
            rejected: load(&tallies.rejected),
            ignored: load(&tallies.ignored),
            cancelled: load(&tallies.cancelled),
            panicked: load(&tallies.panicked),
            slow: load(&tallies.slow),
            probes_in_flight: facts.probes.in_flight,
            store_errors: shared.store_errors.load(Ordering::Relaxed),
        }
    }
}
