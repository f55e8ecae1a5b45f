//! Metric handles, registered once for each breaker.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;

use crate::state::State;
use crate::transition::Transition;

pub(crate) struct Meters {
    label: Arc<str>,
    pub(crate) success: Counter,
    pub(crate) failure: Counter,
    pub(crate) ignored: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) panicked: Counter,
    pub(crate) rejected: Counter,
    pub(crate) slow: Counter,
    pub(crate) duration: Histogram,
    pub(crate) store_errors: Counter,
    states: [(State, Gauge); 4],
    /// What it adds to the gauges: others of the same label add theirs.
    shown: Mutex<Option<State>>,
}

impl Meters {
    pub(crate) fn new(label: Arc<str>) -> Self {
        let calls = |outcome: &'static str| {
            let breaker = label.to_string();
            metrics::counter!("resurge_breaker_calls_total", "breaker" => breaker, "outcome" => outcome)
        };
        let state = |state: State| {
            let breaker = label.to_string();
            let gauge = metrics::gauge!("resurge_breaker_state", "breaker" => breaker, "state" => state.as_str());
            (state, gauge)
        };
        let breaker = || label.to_string();
        Self {
            success: calls("success"),
            failure: calls("failure"),
            ignored: calls("ignored"),
            cancelled: calls("cancelled"),
            panicked: calls("panicked"),
            rejected: calls("rejected"),
            slow: metrics::counter!("resurge_breaker_slow_calls_total", "breaker" => breaker()),
            duration: metrics::histogram!("resurge_breaker_call_seconds", "breaker" => breaker()),
            store_errors: metrics::counter!("resurge_breaker_store_errors_total", "breaker" => breaker()),
            states: State::ALL.map(state),
            shown: Mutex::new(None),
            label,
        }
    }

    pub(crate) fn transition(&self, transition: &Transition) {
        let Transition { from, to, reason, .. } = transition;
        let breaker = self.label.to_string();
        metrics::counter!(
            "resurge_breaker_transitions_total",
            "breaker" => breaker,
            "from" => from.as_str(),
            "to" => to.as_str(),
            "reason" => reason.as_str()
        )
        .increment(1);
        self.show(Some(*to));
    }

    /// Counts it among the breakers in that state, and no longer among those in the one before.
    pub(crate) fn show(&self, now: Option<State>) {
        let before = std::mem::replace(&mut *self.shown.lock(), now);
        for (state, gauge) in &self.states {
            match (before == Some(*state), now == Some(*state)) {
                (false, true) => gauge.increment(1.0),
                (true, false) => gauge.decrement(1.0),
                _ => {}
            }
        }
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.show(None);
    }
}
