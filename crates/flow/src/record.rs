//! What a run's journal holds.
//!
//! Two sorts: *completions* are revealed to the flow one at a time, in this order, live and in
//! replay alike; everything else is a fact about a position or about the run.

use resurge_store::Timestamp;
use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::{ErrorRecord, Kind, Position};

/// The number of a record in its journal, from 1.
pub(crate) type Ordinal = u64;

/// One record of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record {
    /// The run began. Always the first.
    #[serde(rename = "start")]
    Started(Started),
    /// Something the flow waits for has its outcome.
    #[serde(rename = "done")]
    Completed(Completed),
    /// Something with a durable beginning was begun: a timer, a wait with a deadline, a child.
    #[serde(rename = "open")]
    Opened(Opened),
    /// An attempt failed and another one follows.
    #[serde(rename = "retry")]
    AttemptFailed(AttemptFailed),
    /// A gate refused to let a step begin.
    #[serde(rename = "park")]
    Parked(Parked),
    /// The flow's code set a context value.
    #[serde(rename = "set")]
    Set(Set),
    /// The flow's code asked whether it is the changed code, and it is.
    #[serde(rename = "patch")]
    Patched(Mark),
    /// The run is to end early. From here on what waits, and what comes after, is cancelled.
    #[serde(rename = "cancel")]
    CancelRequested(CancelRequested),
    /// No new work is begun.
    #[serde(rename = "pause")]
    Paused(At),
    /// Work goes on.
    #[serde(rename = "unpause")]
    Unpaused(At),
    /// A failed run goes on at its failure points.
    #[serde(rename = "resume")]
    Resumed(Resumed),
    /// The run ended well.
    #[serde(rename = "ok")]
    Succeeded(Succeeded),
    /// The run ended with an error.
    #[serde(rename = "fail")]
    Failed(Failed),
    /// The run was cancelled.
    #[serde(rename = "cancelled")]
    Cancelled(Failed),
}

/// How a run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The flow's name.
    #[serde(rename = "f")]
    pub flow: String,
    /// The input.
    #[serde(rename = "i")]
    pub input: Payload,
    /// From which randomness, ids and idempotency keys of this run are derived.
    #[serde(rename = "s")]
    pub seed: [u64; 2],
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
    /// The run that began it.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// When it is cancelled if it has not ended.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// Who waits for a child run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent's id.
    #[serde(rename = "r")]
    pub run: String,
    /// Where the parent waits.
    #[serde(rename = "p")]
    pub position: Position,
}

/// A completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    /// Where.
    #[serde(rename = "p")]
    pub position: Position,
    /// What.
    #[serde(rename = "k")]
    pub kind: Kind,
    /// The completion that was revealed last when the position was claimed; 0 for none.
    #[serde(rename = "b")]
    pub born: u64,
    /// With what.
    #[serde(rename = "o")]
    pub outcome: Outcome,
    /// Attempts it took; 0 for what has none.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Context values set by the body.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Value>,
}

/// How something completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// With a value.
    #[serde(rename = "v")]
    Ok(Payload),
    /// With an error.
    #[serde(rename = "e")]
    Err(ErrorRecord),
}

/// A context value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Its name.
    #[serde(rename = "n")]
    pub name: String,
    /// Its value; `None` removes it.
    #[serde(rename = "v")]
    pub value: Option<Payload>,
}

/// Something with a durable beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Where.
    #[serde(rename = "p")]
    pub position: Position,
    /// What.
    #[serde(rename = "k")]
    pub kind: Kind,
    /// As in [`Completed`].
    #[serde(rename = "b")]
    pub born: u64,
    /// When it completes at the latest.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The child's id, or the signal's name.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// A failed attempt that is not the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// Where.
    #[serde(rename = "p")]
    pub position: Position,
    /// As in [`Completed`].
    #[serde(rename = "b")]
    pub born: u64,
    /// Which attempt, from 1.
    #[serde(rename = "n")]
    pub attempt: u32,
    /// Why.
    #[serde(rename = "e")]
    pub error: ErrorRecord,
    /// When the next one begins at the earliest.
    #[serde(rename = "u")]
    pub next_at: Timestamp,
    /// Context values set by the body.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Value>,
}

/// A step behind a gate that did not let it begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    /// Where.
    #[serde(rename = "p")]
    pub position: Position,
    /// As in [`Completed`].
    #[serde(rename = "b")]
    pub born: u64,
    /// The gate's name.
    #[serde(rename = "g")]
    pub gate: String,
    /// When the gate may open, if it knows.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
}

/// A context value set by the flow's code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Where.
    #[serde(rename = "p")]
    pub position: Position,
    /// As in [`Completed`].
    #[serde(rename = "b")]
    pub born: u64,
    /// The value.
    #[serde(rename = "c")]
    pub value: Value,
}

/// A marker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Where.
    #[serde(rename = "p")]
    pub position: Position,
    /// As in [`Completed`].
    #[serde(rename = "b")]
    pub born: u64,
}

/// Why a run is to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody asked for it.
    #[serde(rename = "asked")]
    Asked,
    /// Its deadline passed.
    #[serde(rename = "deadline")]
    Deadline,
    /// Its parent was cancelled.
    #[serde(rename = "parent")]
    Parent,
}

/// The run is to end early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Why.
    #[serde(rename = "w")]
    pub reason: CancelReason,
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
}

/// When something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
}

/// A failed run goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
    /// The failed positions that run again.
    #[serde(rename = "p")]
    pub positions: Vec<Position>,
}

/// A good end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Succeeded {
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
    /// The flow's output.
    #[serde(rename = "v")]
    pub output: Payload,
}

/// A bad end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// When.
    #[serde(rename = "a")]
    pub at: Timestamp,
    /// Why.
    #[serde(rename = "e")]
    pub error: ErrorRecord,
    /// The failed positions the error carried; where `resume` begins.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Position>,
    /// What resources left behind when they were suspended, by name.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<Value>,
}

impl Record {
    /// Bytes of users' values in it; the rest is small.
    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::Completed(done) => done.outcome.value_bytes() + value_bytes(&done.sets),
            Self::AttemptFailed(failed) => value_bytes(&failed.sets),
            Self::Set(set) => value_bytes(std::slice::from_ref(&set.value)),
            Self::Succeeded(ending) => ending.output.len(),
            _ => 0,
        }
    }
}

impl Outcome {
    fn value_bytes(&self) -> usize {
        match self {
            Self::Ok(payload) => payload.len(),
            Self::Err(_) => 0,
        }
    }
}

pub(crate) fn value_bytes(values: &[Value]) -> usize {
    values.iter().filter_map(|value| value.value.as_ref()).map(Payload::len).sum()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
