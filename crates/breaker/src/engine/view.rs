//! What an engine shows of itself.

use std::time::Duration;

use super::{Engine, Host, NEVER};
use crate::state::{Mode, State};
use crate::sync::Ordering;
use crate::window::Counts;

/// What the windows show, and what they want to see before a rate means something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) counts: Counts,
    pub(crate) min_calls: u64,
    pub(crate) streak: u64,
    pub(crate) requests: u64,
}

impl Engine {
    /// State as a caller would meet it now.
    pub(crate) fn state(&self, host: &impl Host) -> State {
        let word = self.word();
        match (word.mode(), word.state()) {
            (Mode::ForcedOpen, _) => State::Open,
            (Mode::Disabled, _) => State::Closed,
            (_, state @ (State::Open | State::Repairing)) => {
                let over = host.ns() >= self.until_ns.load(Ordering::Acquire);
                if over { State::HalfOpen } else { state }
            }
            (_, state) => state,
        }
    }

    /// Whether callers wait instead of being rejected.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed) != 0
    }

    /// How long a call may take.
    #[inline]
    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        let ns = self.call_timeout_ns.load(Ordering::Relaxed);
        (ns != NEVER).then(|| Duration::from_nanos(ns))
    }

    pub(crate) fn mode(&self) -> Mode {
        self.word().mode()
    }

    /// What was counted.
    pub(crate) fn view(&self, now_ns: u64) -> View {
        let inner = self.inner.lock();
        let (mut streak, mut requests) = (0, self.tallies.requests_before.load(Ordering::Relaxed));
        let mut frozen = inner.frozen;
        if let Some(set) = self.set(inner.set) {
            streak = set.streak();
            requests = requests.saturating_add(set.recorded(inner.cycle));
            match inner.machine.state() {
                State::Closed => frozen = set.view(inner.cycle, now_ns),
                State::HalfOpen => frozen = (inner.machine.facts().probes.counts(), 0),
                State::Open | State::Repairing => {}
            }
        }
        let (counts, min_calls) = frozen;
        View { counts, min_calls, streak, requests }
    }
}
