//! The pure heart of a run: what was claimed, what completed, what is revealed next.
//!
//! No I/O, no clock. The journal's records go in, records to be journaled come out of the outbox.
//! A completion is revealed to the flow one at a time, in journal order, live and in replay alike:
//! between two, the driver polls the flow until it waits for nothing but completions. Two branches
//! that use the same step names therefore get the same positions in every execution.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use resurge_store::Timestamp;

use crate::payload::Payload;
use crate::record::{CancelReason, Ordinal, Outcome, Parked, Record, Value};
use crate::step_error::ErrorRecord;
use crate::{Kind, Position};

mod branches;
mod cancel;
mod journaling;
mod load;
mod outbox;
mod reveal;
mod slots;
#[cfg(test)]
mod tests;
mod waits;

use branches::Branches;
pub(crate) use cancel::cancelled_error;
pub(crate) use load::{Ending, Journal};
pub(crate) use outbox::{Frozen, MAX_RECORD};
pub(crate) use reveal::{Mismatch, Reveal};
pub(crate) use slots::SlotId;
use slots::{Slot, SlotState, Slots};
pub(crate) use waits::Wait;

/// What is known of a position from the journal, beside its completion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fact {
    pub(crate) kind: Option<Kind>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) opened: bool,
    pub(crate) what: Option<String>,
    /// Attempts that failed.
    pub(crate) attempts: u32,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) last_error: Option<ErrorRecord>,
    pub(crate) parked: Option<Parked>,
    /// The value, for a context value set by the flow's code.
    set: Option<Value>,
    claimed: bool,
}

impl Fact {
    /// The child run begun here.
    fn child(&self) -> Option<String> {
        self.what.clone().filter(|_| self.kind == Some(Kind::Child) && self.opened)
    }
}

#[derive(Debug)]
struct Entry {
    ordinal: Ordinal,
    what: What,
}

#[derive(Debug)]
enum What {
    Completion {
        position: Option<Position>,
        slot: Option<SlotId>,
        kind: Kind,
        outcome: Outcome,
        sets: Vec<Value>,
    },
    /// Context values that become visible here, of something that is not revealed.
    Sets(Vec<Value>),
    Cancel(CancelReason),
}

/// See the [module](self).
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one run")]
pub(crate) struct Machine {
    queue: VecDeque<Entry>,
    facts: HashMap<Position, Fact>,
    slots: Slots,
    /// Replay only: what is claimed and not revealed, and what was given up before it was.
    open: HashMap<Position, SlotId>,
    gone: HashSet<Position>,
    counts: HashMap<(Arc<str>, Cow<'static, str>), u32>,
    branches: Branches,
    /// The last completion revealed.
    revealed: Ordinal,
    /// The last record, journaled or in the outbox.
    last: Ordinal,
    outbox: Vec<Record>,
    outbox_bytes: usize,
    crowded: Vec<Waker>,
    values: HashMap<String, Payload>,
    cancelled: Option<CancelReason>,
    /// A cancellation is journaled; it may not be revealed yet.
    cancel_asked: bool,
    /// Children whose parent no longer waits for them, because it is cancelled.
    orphans: Vec<String>,
    /// Races that are decided, whose winner is not there yet and waits for nothing durable.
    awaited: HashSet<SlotId>,
    /// How often a future found its position incomplete.
    pended: u64,
    /// Everything the journal holds is revealed, and the code has claimed what the journal knows.
    live: bool,
    /// Bodies may not begin: the engine shuts down.
    pub(crate) held: bool,
    /// Bodies may not begin: somebody paused the run.
    pub(crate) paused: bool,
    /// Failure points of the last resume, if there was one.
    resumed: Option<HashSet<Position>>,
    /// Who waits for `live`, for `held` to end, or for records to become durable.
    waiting: Vec<Waker>,
    /// Why nothing more is journaled: the run stops where it is.
    frozen: Option<Frozen>,
}

impl Machine {
    /// Takes a position. Always succeeds; whether it fits the journal is seen when it is revealed.
    pub(crate) fn claim(
        &mut self,
        scope: &Arc<str>,
        name: Cow<'static, str>,
        kind: Kind,
        shielded: bool,
    ) -> SlotId {
        let position = self.next_position(scope, name);
        let id = self.slots.add(Slot::new(position, kind, self.born(scope), shielded));
        if !self.live
            && let Some(slot) = self.slots.get(id)
        {
            if let Some(fact) = self.facts.get_mut(&slot.position) {
                fact.claimed = true;
            }
            self.open.insert(slot.position.clone(), id);
        }
        // What is claimed after the cancellation was revealed never begins.
        if let Some(reason) = self.cancelled.filter(|_| !shielded)
            && let Some(slot) = self.slots.get_mut(id)
        {
            slot.state = SlotState::Revealed(Outcome::Err(cancelled_error(reason)));
            self.open.remove(&slot.position);
        }
        id
    }

    /// A position without anything to wait for.
    pub(crate) fn next_position(&mut self, scope: &Arc<str>, name: Cow<'static, str>) -> Position {
        let nth = self.counts.entry((Arc::clone(scope), name.clone())).or_insert(0);
        let position = Position::in_scope(Arc::clone(scope), name, *nth);
        *nth = nth.saturating_add(1);
        position
    }

    pub(crate) fn position(&self, id: SlotId) -> Option<&Position> {
        self.slots.get(id).map(|slot| &slot.position)
    }

    /// What the journal knows of a position that has not completed.
    pub(crate) fn fact(&self, id: SlotId) -> Option<&Fact> {
        self.facts.get(&self.slots.get(id)?.position)
    }

    /// The outcome, once revealed; otherwise the waker is kept.
    pub(crate) fn take_revealed(&mut self, id: SlotId, waker: &Waker) -> Option<Outcome> {
        let slot = self.slots.get_mut(id)?;
        match std::mem::replace(&mut slot.state, SlotState::Taken) {
            SlotState::Revealed(outcome) => Some(outcome),
            other => {
                slot.state = other;
                slot.polled = true;
                self.pended = self.pended.wrapping_add(1);
                slot.keep(waker);
                None
            }
        }
    }

    /// Gives a claimed position up: its future was dropped.
    pub(crate) fn abandon(&mut self, id: SlotId) {
        self.awaited.remove(&id);
        let Some(slot) = self.slots.get(id) else { return };
        // What is queued finds nobody when its turn comes.
        if !self.live && matches!(slot.state, SlotState::Waiting | SlotState::Busy) {
            self.open.remove(&slot.position);
            self.gone.insert(slot.position.clone());
        }
        self.slots.remove(id);
    }

    /// Whether somebody still waits at the position.
    pub(crate) fn is_waiting(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| matches!(slot.state, SlotState::Waiting))
    }

    pub(crate) fn is_shielded(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.shielded)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn pended(&self) -> u64 {
        self.pended
    }

    /// Whether a failed run was resumed at this position.
    pub(crate) fn resumed_at(&self, position: &Position) -> bool {
        self.resumed.as_ref().is_some_and(|points| points.contains(position))
    }

    /// Whether the run was resumed after a failure.
    pub(crate) fn was_resumed(&self) -> bool {
        self.resumed.is_some()
    }
}
