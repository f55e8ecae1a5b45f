//! What somebody should look at.

use std::sync::Arc;
use std::time::Duration;

use resurge_store::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Something about a resource that somebody should look at. Raised once, until it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alert {
    /// The resource.
    pub resource: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: AlertKind,
}

/// Why somebody is alerted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertKind {
    /// The circuit opened. Over when it closes.
    CircuitBreakerOpen,
    /// So many failures in a row. Over with the next success.
    ConsecutiveFailures {
        /// How many.
        failures: u64,
    },
    /// Too many of the calls fail. Over below four fifths of the threshold.
    FailureRate {
        /// The fraction.
        rate: f64,
    },
    /// It takes too long until the circuit closes. Over when it does.
    RecoveryTime {
        /// How long it was not closed. Like `500ms` in JSON, whole milliseconds in the trail on disk.
        #[serde(with = "crate::audit::millis")]
        down_for: Duration,
    },
    /// No more attempts are made: too many failed. Over when it was well for the relapse window.
    Exhausted {
        /// How many were made.
        attempts: u32,
    },
    /// No strategy may help. Over when the circuit closes.
    Unrecoverable,
    /// An attempt could not be journaled, so it was not made. Over with one that is.
    JournalFailed,
}

impl AlertKind {
    /// Whether it is over when the circuit closes, and not before.
    pub(crate) fn ends_when_closed(&self) -> bool {
        matches!(self, Self::CircuitBreakerOpen | Self::RecoveryTime { .. } | Self::Unrecoverable)
    }

    /// A bounded name for it, as used in the labels of metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::CircuitBreakerOpen => "circuit_breaker_open",
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::FailureRate { .. } => "failure_rate",
            Self::RecoveryTime { .. } => "recovery_time",
            Self::Exhausted { .. } => "exhausted",
            Self::Unrecoverable => "unrecoverable",
            Self::JournalFailed => "journal_failed",
        }
    }
}

/// Alerts as they are raised, from when it was made. Who falls 256 behind misses the oldest; the status
/// document has those in force.
#[derive(Debug)]
pub struct Alerts(pub(crate) broadcast::Receiver<Alert>);

impl Alerts {
    /// The next one; none when the supervisor is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Alert> {
        loop {
            match self.0.recv().await {
                Ok(alert) => return Some(alert),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next one that is already there.
    pub fn try_recv(&mut self) -> Option<Alert> {
        loop {
            match self.0.try_recv() {
                Ok(alert) => return Some(alert),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}
