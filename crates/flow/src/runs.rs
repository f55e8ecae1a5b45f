//! What is stored of a run beside its journal: enough to list it, wake it and answer for it.

use std::fmt;

use bytes::Bytes;
use resurge_store::{Codec, Key, Record as Envelope, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::record::Parent;
use crate::values::InputMark;
use crate::{BlockReason, ErrorRecord, Position};

/// SHA-256 of an input in clear: stored only when the input is not sensitive.
pub(crate) type InputHash = [u8; 32];

/// An unfinished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    #[serde(rename = "f")]
    pub(crate) flow: String,
    #[serde(rename = "h")]
    pub(crate) input: InputMark,
    #[serde(rename = "c")]
    pub(crate) created: Timestamp,
    #[serde(rename = "n")]
    pub(crate) since: Timestamp,
    #[serde(rename = "s")]
    pub(crate) state: Waiting,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Parent>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
}

/// What an unfinished run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Waiting {
    /// It runs, or will as soon as there is room.
    #[serde(rename = "run")]
    Running,
    /// It waits for a timer.
    #[serde(rename = "sleep")]
    Sleeping {
        /// Which one.
        position: Position,
        /// When it fires.
        until: Timestamp,
    },
    /// It waits for a signal.
    #[serde(rename = "signal")]
    Signal {
        /// Where.
        position: Position,
        /// The signal's name.
        signal: String,
        /// When it stops waiting, if ever.
        until: Option<Timestamp>,
    },
    /// It waits for a child run.
    #[serde(rename = "child")]
    Child {
        /// Where.
        position: Position,
        /// The child's id.
        run: String,
    },
    /// A gate, such as a circuit breaker, does not let a step begin.
    #[serde(rename = "park")]
    Parked {
        /// Which step.
        position: Position,
        /// The gate's name.
        gate: String,
        /// When it may open, if it knows.
        until: Option<Timestamp>,
    },
    /// A step failed and is tried again later.
    #[serde(rename = "retry")]
    Retrying {
        /// Which step.
        position: Position,
        /// When.
        at: Timestamp,
    },
    /// Somebody paused it.
    #[serde(rename = "pause")]
    Paused,
    /// It cannot go on as things are.
    #[serde(rename = "block")]
    Blocked(BlockReason),
}

impl Waiting {
    /// When it goes on by itself.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Sleeping { until, .. } => Some(*until),
            Self::Retrying { at, .. } => Some(*at),
            Self::Signal { until, .. } | Self::Parked { until, .. } => *until,
            _ => None,
        }
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    #[serde(rename = "f")]
    pub(crate) flow: String,
    #[serde(rename = "h")]
    pub(crate) input: InputMark,
    #[serde(rename = "c")]
    pub(crate) created: Timestamp,
    #[serde(rename = "e")]
    pub(crate) ended: Timestamp,
    #[serde(rename = "s")]
    pub(crate) end: End,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Parent>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum End {
    #[serde(rename = "ok")]
    Succeeded(Payload),
    #[serde(rename = "fail")]
    Failed { error: ErrorRecord, positions: Vec<Position>, resumable: bool },
    #[serde(rename = "cancelled")]
    Cancelled(ErrorRecord),
    /// The run was swept; its id stays taken.
    #[serde(rename = "gone")]
    Swept,
}

impl End {
    pub(crate) fn state(&self) -> RunState {
        match self {
            Self::Succeeded(_) => RunState::Succeeded,
            Self::Failed { .. } => RunState::Failed,
            Self::Cancelled(_) => RunState::Cancelled,
            Self::Swept => RunState::Swept,
        }
    }
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunState {
    /// It runs, or will as soon as there is room.
    Running,
    /// It waits for a timer.
    Sleeping,
    /// It waits for a signal or a child run.
    Waiting,
    /// A gate, such as a circuit breaker, does not let a step begin.
    Parked,
    /// A step failed and is tried again later.
    Retrying,
    /// Somebody paused it.
    Paused,
    /// Something must change before it can go on.
    Blocked,
    /// It returned `Ok`.
    Succeeded,
    /// It returned an error. `resume` lets it go on.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It ended and was swept; only its id is kept.
    Swept,
}

impl RunState {
    /// Whether the run has ended. A failed run can be resumed.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Swept)
    }
}

impl From<&Waiting> for RunState {
    fn from(waiting: &Waiting) -> Self {
        match waiting {
            Waiting::Running => Self::Running,
            Waiting::Sleeping { .. } => Self::Sleeping,
            Waiting::Signal { .. } | Waiting::Child { .. } => Self::Waiting,
            Waiting::Parked { .. } => Self::Parked,
            Waiting::Retrying { .. } => Self::Retrying,
            Waiting::Paused => Self::Paused,
            Waiting::Blocked(_) => Self::Blocked,
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Blocked => "blocked",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Swept => "swept",
        })
    }
}

pub(crate) fn store<T: Serialize>(key: &Key, value: &T) -> Result<Bytes, StoreError> {
    Ok(Envelope::new(Codec::Cbor.encode(value)?).encode(key))
}

pub(crate) fn load<T: serde::de::DeserializeOwned>(
    key: &Key,
    stored: &Bytes,
) -> Result<T, StoreError> {
    let envelope = Envelope::decode(key, stored)?;
    Codec::Cbor
        .decode(envelope.payload())
        .map_err(|e| StoreError::corrupt(key.clone(), format!("record of a run: {e}")))
}
