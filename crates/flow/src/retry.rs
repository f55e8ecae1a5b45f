//! When a failed step is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::StepError;

/// The longest wait a policy computes unless it says otherwise.
const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(3600);

/// How often and how long apart a step is tried. Only transient errors are retried.
///
/// Attempts are counted in the journal, so they are not begun anew by a crash; the wait survives a
/// crash, too.
///
/// ```
/// use std::time::Duration;
/// use resurge_flow::Retry;
/// let retry = Retry::exponential(Duration::from_millis(100)).max_attempts(4).jitter(0.0);
/// let waits: Vec<u128> = (1..=4)
///     .filter_map(|failed| retry.delay(failed, 0.5))
///     .map(|wait| wait.as_millis())
///     .collect();
/// assert_eq!(waits, [100, 200, 400]); // no fifth attempt
/// ```
#[derive(Clone)]
pub struct Retry {
    delay: Delay,
    factor: f64,
    max_delay: Duration,
    max_attempts: Option<u32>,
    jitter: f64,
    only_if: Option<Arc<Filter>>,
}

type Filter = dyn Fn(&StepError) -> bool + Send + Sync;

#[derive(Clone)]
enum Delay {
    Growing(Duration),
    Custom(Arc<dyn Fn(u32) -> Option<Duration> + Send + Sync>),
}

impl Retry {
    /// Never again: one attempt. What a step does unless told otherwise.
    pub fn none() -> Self {
        Self::fixed(Duration::ZERO).max_attempts(1)
    }

    /// Waits the same time each time; for ever, unless [`max_attempts`](Self::max_attempts) says how often.
    pub fn fixed(delay: Duration) -> Self {
        Self {
            delay: Delay::Growing(delay),
            factor: 1.0,
            max_delay: DEFAULT_MAX_DELAY,
            max_attempts: None,
            jitter: 0.0,
            only_if: None,
        }
    }

    /// Doubles the wait each time, up to an hour, with 10 % of jitter.
    pub fn exponential(first: Duration) -> Self {
        Self { factor: 2.0, jitter: 0.1, ..Self::fixed(first) }
    }

    /// Asks `delay` with the number of failed attempts, from 1; `None` gives up.
    pub fn custom(delay: impl Fn(u32) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { delay: Delay::Custom(Arc::new(delay)), ..Self::fixed(Duration::ZERO) }
    }

    /// Attempts in all, the first one included; at least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// The wait grows by this factor, 1 or more; 2 for [`exponential`](Self::exponential).
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = if factor.is_finite() { factor.max(1.0) } else { 1.0 };
        self
    }

    /// No wait is longer than this, jitter included; an hour by default.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Lengthens or shortens each wait by up to this fraction, 0 to 1, so that many runs do not come
    /// back at once.
    #[must_use]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// Retries only errors for which this holds (and which are transient).
    #[must_use]
    pub fn only_if(mut self, retry: impl Fn(&StepError) -> bool + Send + Sync + 'static) -> Self {
        self.only_if = Some(Arc::new(retry));
        self
    }

    /// How long to wait after `failed` attempts, or `None` to give up. `random` is 0 to 1.
    pub fn delay(&self, failed: u32, random: f64) -> Option<Duration> {
        if self.max_attempts.is_some_and(|max| failed >= max) {
            return None;
        }
        let wait = match &self.delay {
            Delay::Custom(delay) => delay(failed)?,
            Delay::Growing(first) => {
                let power = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
                seconds(first.as_secs_f64() * self.factor.powi(power), self.max_delay)
            }
        };
        let jitter = 1.0 + self.jitter * (random.clamp(0.0, 1.0) * 2.0 - 1.0);
        Some(seconds(wait.as_secs_f64() * jitter, self.max_delay))
    }

    pub(crate) fn after(&self, failed: u32, error: &StepError, random: f64) -> Option<Duration> {
        let retried = error.class() == crate::Class::Transient
            && self.only_if.as_ref().is_none_or(|retry| retry(error));
        if retried { self.delay(failed, random) } else { None }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = match &self.delay {
            Delay::Growing(first) => format!("{first:?} x{}", self.factor),
            Delay::Custom(_) => "custom".to_owned(),
        };
        let mut out = f.debug_struct("Retry");
        out.field("delay", &delay)
            .field("max_delay", &self.max_delay)
            .field("max_attempts", &self.max_attempts)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}

fn seconds(seconds: f64, max: Duration) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(max).min(max)
}
