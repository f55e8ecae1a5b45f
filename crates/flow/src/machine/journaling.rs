//! What the run journals: completions, beginnings, failed attempts, parking, context values.

use std::borrow::Cow;
use std::sync::Arc;

use resurge_store::Timestamp;

use super::{Entry, Machine, SlotId, SlotState, What};
use crate::Kind;
use crate::payload::Payload;
use crate::record::{AttemptFailed, Completed, Mark, Opened, Outcome, Parked, Record, Set, Value};
use crate::step_error::ErrorRecord;

const SET_PREFIX: &str = "@set:";
const PATCH_PREFIX: &str = "@patch:";

impl Machine {
    /// Journals a completion, to be revealed in its turn.
    pub(crate) fn complete(
        &mut self,
        id: SlotId,
        outcome: Outcome,
        attempts: u32,
        sets: Vec<Value>,
    ) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if !matches!(slot.state, SlotState::Waiting | SlotState::Busy) {
            return;
        }
        slot.state = SlotState::Queued;
        slot.wait = None;
        self.facts.remove(&slot.position);
        let kind = slot.kind;
        let record = Completed {
            position: slot.position.clone(),
            kind,
            born: slot.born,
            outcome: outcome.clone(),
            attempts,
            sets: sets.clone(),
        };
        let what = What::Completion { position: None, slot: Some(id), kind, outcome, sets };
        let ordinal = self.journal(Record::Completed(record));
        self.queue.push_back(Entry { ordinal, what });
    }

    /// Journals the durable beginning of something.
    pub(crate) fn open(&mut self, id: SlotId, until: Option<Timestamp>, what: Option<String>) {
        let Some(slot) = self.slots.get(id) else { return };
        let (position, kind, born) = (slot.position.clone(), slot.kind, slot.born);
        self.journal(Record::Opened(Opened { position, kind, born, until, what }));
    }

    /// Journals a failed attempt that another one follows.
    pub(crate) fn attempt_failed(
        &mut self,
        id: SlotId,
        attempt: u32,
        error: ErrorRecord,
        next_at: Timestamp,
        sets: Vec<Value>,
    ) {
        let Some(slot) = self.slots.get(id) else { return };
        let (position, born) = (slot.position.clone(), slot.born);
        let visible = sets.clone();
        if let Some(fact) = self.facts.get_mut(&position) {
            fact.parked = None;
        }
        let failed = AttemptFailed { position, born, attempt, error, next_at, sets };
        let ordinal = self.journal(Record::AttemptFailed(failed));
        if !visible.is_empty() {
            self.queue.push_back(Entry { ordinal, what: What::Sets(visible) });
        }
    }

    /// Journals that a gate did not let a step begin.
    pub(crate) fn park(&mut self, id: SlotId, gate: &str, until: Option<Timestamp>, at: Timestamp) {
        let Some(slot) = self.slots.get(id) else { return };
        let (position, born) = (slot.position.clone(), slot.born);
        let parked = Parked { position, born, gate: gate.to_owned(), until, at };
        // Refused again, it is parked still.
        self.facts.entry(parked.position.clone()).or_default().parked = Some(parked.clone());
        self.journal(Record::Parked(parked));
    }

    /// Sets a context value from the flow's code. In replay the journal's value wins.
    pub(crate) fn set(&mut self, scope: &Arc<str>, name: String, value: Option<Payload>) {
        let position = self.next_position(scope, Cow::Owned(format!("{SET_PREFIX}{name}")));
        let known = self.facts.get_mut(&position).filter(|fact| fact.kind == Some(Kind::Set));
        if let Some(fact) = known {
            fact.claimed = true;
            // Applied from the journal when the fact was met: see `load`.
            let value = fact.set.take().unwrap_or(Value { name, value });
            self.apply(std::iter::once(value));
            return;
        }
        let value = Value { name, value };
        let set = Set { position, born: self.born(scope), value: value.clone() };
        self.journal(Record::Set(set));
        self.apply(std::iter::once(value));
    }

    /// Whether the code runs with the change called `name`: yes in runs that get here for the first
    /// time, and in those whose journal says so.
    pub(crate) fn patched(&mut self, scope: &Arc<str>, name: &str) -> bool {
        let position = self.next_position(scope, Cow::Owned(format!("{PATCH_PREFIX}{name}")));
        if let Some(fact) = self.facts.get_mut(&position).filter(|f| f.kind == Some(Kind::Patch)) {
            fact.claimed = true;
            return true;
        }
        if !self.at_end() {
            return false;
        }
        let born = self.born(scope);
        self.journal(Record::Patched(Mark { position, born }));
        true
    }

    pub(super) fn at_end(&self) -> bool {
        self.live || (self.queue.is_empty() && self.facts.values().all(|fact| fact.claimed))
    }

    /// A context value.
    pub(crate) fn value(&self, name: &str) -> Option<&Payload> {
        self.values.get(name)
    }

    pub(super) fn apply(&mut self, sets: impl IntoIterator<Item = Value>) {
        for Value { name, value } in sets {
            match value {
                Some(value) => drop(self.values.insert(name, value)),
                None => drop(self.values.remove(&name)),
            }
        }
    }
}
