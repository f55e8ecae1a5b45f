//! Half-open: how many probes, and what their results mean.

use std::time::Duration;

use super::{Machine, nanos};
use crate::config::{HalfOpenConfig, OnMaxWait, Trip, Verdict};
use crate::outcome::FailureKind;
use crate::state::State;
use crate::transition::{At, Reason};
use crate::window::Counts;

/// The probes of one half-open period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    /// Admitted, less those that gave their place back.
    pub(crate) admitted: u32,
    pub(crate) in_flight: u32,
    pub(crate) succeeded: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
    /// When one was admitted while none was under way, or one came back: none was heard of since.
    quiet_since_ns: u64,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeEnd {
    Success {
        slow: bool,
    },
    Failure {
        slow: bool,
    },
    /// A failure that says for how long to stay open.
    OpenFor {
        slow: bool,
        kind: FailureKind,
        length: Duration,
    },
    /// It said nothing: its place is free again.
    Returned,
}

impl Probes {
    pub(super) fn is_full(&self, config: &HalfOpenConfig) -> bool {
        let concurrent = config.concurrent.unwrap_or(config.probes);
        self.admitted >= config.probes || self.in_flight >= concurrent
    }

    /// When those under way are given up.
    pub(super) fn hung_at_ns(&self, config: &HalfOpenConfig) -> u64 {
        match config.max_wait {
            Some(wait) if self.in_flight > 0 => self.quiet_since_ns.saturating_add(nanos(wait)),
            _ => u64::MAX,
        }
    }

    pub(super) fn admit(&mut self, now: At) {
        if self.in_flight == 0 {
            self.quiet_since_ns = now.ns;
        }
        self.admitted += 1;
        self.in_flight += 1;
    }

    /// What they counted, as a window would.
    pub(crate) fn counts(&self) -> Counts {
        let calls = u64::from(self.done());
        Counts { calls, failures: self.failed.into(), slow: self.slow.into() }
    }

    fn done(&self) -> u32 {
        self.succeeded + self.failed
    }
}

impl Machine {
    /// A probe of this generation ended; false when it came too late to matter.
    pub(crate) fn probe_ended(&mut self, generation: u32, end: ProbeEnd, now: At) -> bool {
        if self.generation != generation || self.state != State::HalfOpen {
            return false;
        }
        self.probes.in_flight = self.probes.in_flight.saturating_sub(1);
        self.probes.quiet_since_ns = now.ns;
        match end {
            ProbeEnd::Returned => {
                self.probes.admitted = self.probes.admitted.saturating_sub(1);
                return true;
            }
            ProbeEnd::Success { slow } => {
                self.probes.succeeded += 1;
                self.probes.slow += u32::from(slow);
            }
            ProbeEnd::Failure { slow } => {
                self.probes.failed += 1;
                self.probes.slow += u32::from(slow);
            }
            ProbeEnd::OpenFor { slow, kind, length } => {
                self.probes.failed += 1;
                self.probes.slow += u32::from(slow);
                self.become_open(Reason::OpenFor { kind }, Some(length), now);
                return true;
            }
        }
        self.act_on_probes(now);
        true
    }

    /// Moves on when what came back is enough to decide.
    pub(crate) fn act_on_probes(&mut self, now: At) {
        if self.state != State::HalfOpen {
            return;
        }
        match self.judge() {
            None => {}
            Some(reason @ Reason::ProbesPassed) => self.become_closed(reason, now),
            Some(reason) => self.become_open(reason, None, now),
        }
    }

    fn judge(&self) -> Option<Reason> {
        let Probes { succeeded, failed, slow, .. } = self.probes;
        let done = u64::from(self.probes.done());
        let config = &self.config.half_open;
        let reached = |rate: crate::config::Rate, part: u32| rate.reached(part.into(), done);
        match config.verdict {
            Verdict::AllOf { .. } if failed > 0 => Some(Reason::ProbeFailed),
            Verdict::AllOf { successes } if succeeded < successes => None,
            Verdict::AllOf { .. } => {
                let too_slow = self.config.trip.iter().any(|rule| match rule {
                    Trip::SlowRate { rate, .. } => reached(*rate, slow),
                    _ => false,
                });
                Some(if too_slow { Reason::ProbesSlow } else { Reason::ProbesPassed })
            }
            Verdict::Rate { .. } if done < u64::from(config.probes) => None,
            Verdict::Rate { failure, .. } if reached(failure, failed) => Some(Reason::ProbeFailed),
            Verdict::Rate { slow: Some(rate), .. } if reached(rate, slow) => {
                Some(Reason::ProbesSlow)
            }
            Verdict::Rate { .. } => Some(Reason::ProbesPassed),
        }
    }

    /// The probes under way do not come back.
    pub(super) fn give_probes_up(&mut self, now: At) {
        match self.config.half_open.on_max_wait {
            OnMaxWait::Open => self.become_open(Reason::ProbesHung, None, now),
            OnMaxWait::Close => self.become_closed(Reason::ProbesHung, now),
        }
    }
}
