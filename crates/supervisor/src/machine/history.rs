//! What the audit trail says about a resource: the part of its state that survives a crash.

use std::collections::VecDeque;
use std::sync::Arc;

use resurge_breaker::State;
use resurge_store::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::AlertKind;
use crate::audit::{AttemptOutcome, AuditEvent};
use crate::failure::Failure;

/// More beginnings than any configuration asks for.
const BEGINNINGS: usize = 1_000;

/// Attempts made for a resource, as the audit trail tells; opaque.
// INVARIANT: changed by `apply` alone, live and in replay alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub(crate) attempts: u32,
    /// The strategies of those attempts.
    pub(crate) tried: Vec<Arc<str>>,
    /// When attempts began, the newest last; also those before it was well.
    pub(crate) beginnings: VecDeque<Timestamp>,
    /// Times calls were suspended.
    pub(crate) waits: u32,
    pub(crate) exhausted: bool,
    /// The attempt under way: its strategy.
    pub(crate) running: Option<Arc<str>>,
    /// Its number, whatever was forgotten since it began.
    #[serde(default)]
    pub(crate) number: u32,
    /// The last failure.
    pub(crate) failure: Option<Failure>,
    /// How the last attempt ended.
    pub(crate) last: Option<(Arc<str>, AttemptOutcome)>,
    /// Calls were suspended, and no probe was let through since.
    #[serde(default)]
    pub(crate) suspended: bool,
    /// Alerts that nothing but a closed circuit ends.
    #[serde(default)]
    pub(crate) alerts: Vec<AlertKind>,
}

impl History {
    pub(crate) fn apply(&mut self, at: Timestamp, event: &AuditEvent) {
        match event {
            AuditEvent::Recorded { failure } => self.failure = Some(failure.clone()),
            AuditEvent::Began { attempt, strategy, failure } => {
                self.number = *attempt;
                self.attempts = self.attempts.saturating_add(1);
                self.tried.push(Arc::clone(strategy));
                self.beginnings.push_back(at);
                if self.beginnings.len() > BEGINNINGS {
                    self.beginnings.pop_front();
                }
                self.running = Some(Arc::clone(strategy));
                self.failure = Some(failure.clone());
            }
            AuditEvent::Ended { strategy, outcome, .. } => {
                self.running = None;
                self.suspended = matches!(outcome, AttemptOutcome::Waiting { .. });
                self.waits = self.waits.saturating_add(self.suspended.into());
                self.last = Some((Arc::clone(strategy), outcome.clone()));
            }
            AuditEvent::Exhausted { .. } => self.exhausted = true,
            AuditEvent::Recovered { .. } => self.forget(),
            AuditEvent::Revived => {
                self.forget();
                self.beginnings.clear();
            }
            AuditEvent::CircuitBreakerStateChange { to, .. } => {
                self.suspended &= !matches!(to, State::HalfOpen | State::Closed);
                if *to == State::Closed {
                    self.alerts.clear();
                }
            }
            AuditEvent::Alert(alert) if alert.ends_when_closed() => {
                self.alerts.retain(|raised| raised.as_str() != alert.as_str());
                self.alerts.push(alert.clone());
            }
            AuditEvent::Alert(_) | AuditEvent::Summary(_) => {}
        }
    }

    fn forget(&mut self) {
        self.attempts = 0;
        self.tried.clear();
        self.waits = 0;
        self.exhausted = false;
    }

    /// Nothing in it that matters for later attempts.
    pub(crate) fn is_fresh(&self) -> bool {
        self.attempts == 0
            && self.beginnings.is_empty()
            && !self.exhausted
            && self.alerts.is_empty()
    }
}
