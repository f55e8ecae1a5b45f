//! The audit trail: what happened to whom, and what was done about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use resurge_breaker::State;
use resurge_store::Timestamp;
use resurge_wal::{Lsn, Replay};
use serde::{Deserialize, Serialize};

use crate::alert::AlertKind;
use crate::error::SupervisorError;
use crate::failure::Failure;
use crate::machine::History;

/// One entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// The resource; empty for what is about all of them.
    pub resource: Arc<str>,
    /// What.
    pub event: AuditEvent,
}

/// What happened to a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// Somebody recorded a failure, or it opened the circuit. Those that come while one is repaired are
    /// not recorded one by one.
    Recorded {
        /// What went wrong.
        failure: Failure,
    },
    /// The circuit changed its state.
    CircuitBreakerStateChange {
        /// The state before.
        from: State,
        /// The state after.
        to: State,
        /// Why.
        reason: String,
    },
    /// An attempt begins. On disk before anything is done.
    Began {
        /// Counts from 1 until the resource is well again.
        attempt: u32,
        /// The strategy.
        strategy: Arc<str>,
        /// What is to be repaired.
        failure: Failure,
    },
    /// That attempt ended.
    Ended {
        /// As it began.
        attempt: u32,
        /// The strategy.
        strategy: Arc<str>,
        /// How.
        outcome: AttemptOutcome,
        /// How long it took. Like `500ms` in JSON, whole milliseconds in the trail on disk.
        #[serde(with = "millis")]
        took: Duration,
    },
    /// No more attempts until it is well again, or somebody says so.
    Exhausted {
        /// How many were made.
        attempts: u32,
    },
    /// Its circuit was closed for the relapse window: attempts count from 1 again.
    Recovered {
        /// How many it took.
        attempts: u32,
    },
    /// Somebody asked for attempts to count from 1 again.
    Revived,
    /// Somebody was alerted.
    Alert(AlertKind),
    /// What the trail said so far about resources, so that what is older can be removed; all of them are in
    /// such records one after the other.
    Summary(BTreeMap<Arc<str>, History>),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The strategy says that it worked.
    Succeeded,
    /// Calls are suspended this long.
    Waiting {
        /// From the end of the attempt. Like `500ms` in JSON, whole milliseconds in the trail on disk.
        #[serde(with = "millis")]
        suspended: Duration,
    },
    /// It did not work.
    Failed {
        /// Why, for people.
        why: String,
    },
    /// It took too long.
    TimedOut,
    /// The supervisor was stopped, or the resource unregistered.
    Cancelled,
    /// The process died during it. Written by the next one.
    Interrupted,
}

impl AttemptOutcome {
    /// Whether it did what it could.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Waiting { .. })
    }

    /// A bounded name for it, as used in the labels of metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Waiting { .. } => "waiting",
            Self::Failed { .. } => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The audit trail, oldest first; made by [`RecoveryManager::audit`](crate::RecoveryManager::audit).
#[derive(Debug)]
pub struct AuditTrail(pub(crate) Replay<AuditRecord>);

impl AuditTrail {
    /// The next record and its number; none at the end. Cancel safe.
    ///
    /// # Errors
    /// [`Journal`](SupervisorError::Journal): damage, with the place; the store's.
    pub async fn next(&mut self) -> Result<Option<(Lsn, AuditRecord)>, SupervisorError> {
        Ok(self.0.next().await?)
    }

    /// All that is left of one resource.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn of(mut self, resource: &str) -> Result<Vec<AuditEvent>, SupervisorError> {
        let mut events = Vec::new();
        while let Some((_, record)) = self.next().await? {
            if &*record.resource == resource {
                events.push(record.event);
            }
        }
        Ok(events)
    }
}

/// `#[serde(with)]` for a `Duration`: whole milliseconds on disk, `500ms` for people.
pub(crate) mod millis {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    use crate::status::ShownDuration;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return to.collect_str(&ShownDuration(*value));
        }
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    struct EitherForm;

    impl Visitor<'_> for EitherForm {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("whole milliseconds, or a duration like `500ms`")
        }

        fn visit_u64<E: Error>(self, millis: u64) -> Result<Duration, E> {
            Ok(Duration::from_millis(millis))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text).map_err(E::custom)
        }
    }

    // Either form from whatever it is: what buffers a value forgets whether it was meant for people.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(EitherForm)
    }
}

#[cfg(test)]
mod tests;
