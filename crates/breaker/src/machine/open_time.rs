//! For how long a circuit stays open, and how often in a row it did.

use std::time::Duration;

use resurge_store::Timestamp;

use super::nanos;
use crate::config::OpenConfig;
use crate::transition::At;

#[derive(Clone, Debug)]
pub(super) struct OpenTime {
    opened_at: Timestamp,
    length: Duration,
    until_ns: u64,
    /// Openings before this one, forgotten when it closes or by decay.
    attempt: u32,
    /// The attempt the next opening gets.
    next: u32,
    closed_at: Option<At>,
    random: u64,
}

impl OpenTime {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            opened_at: Timestamp::default(),
            length: Duration::ZERO,
            until_ns: 0,
            attempt: 0,
            next: 0,
            closed_at: None,
            random: seed,
        }
    }

    pub(super) fn until_ns(&self) -> u64 {
        self.until_ns
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    pub(super) fn opened_at(&self) -> Timestamp {
        self.opened_at
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Opens for `open_for`, or as configured.
    pub(super) fn begin(&mut self, config: &OpenConfig, open_for: Option<Duration>, now: At) {
        self.next = self.decayed(config, now);
        self.closed_at = None;
        self.attempt = self.next;
        self.next = self.next.saturating_add(1);
        let length = open_for.unwrap_or_else(|| self.configured(config));
        self.rearm(length, now);
    }

    /// Open for this long, from now on.
    pub(super) fn rearm(&mut self, length: Duration, now: At) {
        self.opened_at = now.wall;
        self.length = length;
        self.until_ns = now.ns.saturating_add(nanos(length));
    }

    /// The open time is over now.
    pub(super) fn end(&mut self, now: At) {
        self.until_ns = now.ns;
    }

    pub(super) fn close(&mut self, config: &OpenConfig, now: At) {
        if config.decay.is_some() {
            self.closed_at = Some(now);
        } else {
            self.forget();
        }
    }

    pub(super) fn forget(&mut self) {
        self.attempt = 0;
        self.next = 0;
        self.closed_at = None;
    }

    /// As it was before a restart.
    pub(super) fn restore(
        &mut self,
        opened_at: Timestamp,
        length: Duration,
        remaining: Duration,
        attempts: (u32, u32),
        now: At,
    ) {
        self.opened_at = opened_at;
        self.length = length;
        self.until_ns = now.ns.saturating_add(nanos(remaining));
        (self.attempt, self.next) = attempts;
    }

    pub(super) fn restore_closed(&mut self, next: u32, now: At) {
        self.next = next;
        self.closed_at = Some(now);
    }

    /// What the next attempt would be now.
    pub(super) fn decayed(&self, config: &OpenConfig, now: At) -> u32 {
        let (Some(closed), Some(decay)) = (self.closed_at, config.decay) else { return self.next };
        let periods = now.ns.saturating_sub(closed.ns).checked_div(nanos(decay)).unwrap_or(0);
        self.next.saturating_sub(u32::try_from(periods).unwrap_or(u32::MAX))
    }

    fn configured(&mut self, config: &OpenConfig) -> Duration {
        let power = i32::try_from(self.attempt).unwrap_or(i32::MAX);
        let grown = config.initial.as_secs_f64() * config.factor.powi(power);
        // More than a duration can say is more than the longest.
        let length = Duration::try_from_secs_f64(grown).unwrap_or(config.max).min(config.max);
        if config.jitter == 0.0 {
            return length;
        }
        length.mul_f64((1.0 - config.jitter * self.draw()).clamp(0.0, 1.0))
    }

    /// A number in [0, 1). Split-mix, seeded when the breaker was built.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        f64::from((z >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}
