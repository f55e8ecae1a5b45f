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
use crate::record::{
    AttemptFailed, CancelReason, CancelRequested, Completed, Mark, Opened, Ordinal, Outcome,
    Parked, Record, Set, Value,
};
use crate::step_error::{Class, ErrorRecord, StepErrorKind};
use crate::{Kind, Position};

mod branches;
mod load;
mod slots;
#[cfg(test)]
mod tests;

use branches::Branches;
pub(crate) use load::{Ending, Journal};
pub(crate) use slots::SlotId;
use slots::{Slot, SlotState, Slots};

/// Wakers that are counted after every poll.
const COUNTED: usize = 32;
/// Names in one page of an error's text.
const SHOWN: usize = 8;

/// Bytes of users' values in one commit: it must fit into one page of a journal.
const ROOM: usize = 8 << 20;
/// Bytes of users' values in one record.
pub(crate) const MAX_RECORD: usize = 12 << 20;

/// Today's code asks for something else than the journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) position: Position,
    pub(crate) journal: String,
    pub(crate) code: String,
}

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

/// What [`Machine::reveal`] did.
#[derive(Debug)]
pub(crate) enum Reveal {
    /// A completion was revealed; poll the flow before the next.
    One(Option<Waker>),
    /// There is nothing to reveal.
    Nothing,
    /// The journal's next completion belongs to a position the code has not claimed.
    Mismatch(Mismatch),
}

/// Why a run stops where it is.
#[derive(Debug)]
pub(crate) enum Frozen {
    /// A value cannot be sealed or opened.
    Sealed(String),
    /// The store failed under a memoised step, before its body began.
    Store(resurge_store::StoreError),
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

    /// Whether a body may begin now, as far as the machine knows; otherwise the waker is kept.
    pub(crate) fn may_begin(&mut self, id: SlotId, waker: &Waker) -> bool {
        let waits = self.slots.get(id).is_some_and(|slot| {
            matches!(slot.state, SlotState::Waiting) && (slot.shielded || !self.cancel_asked)
        });
        if self.live && !self.held && !self.paused && waits {
            return true;
        }
        self.waiting.push(waker.clone());
        false
    }

    /// Keeps a waker that [`wake_all`](Self::take_waiting) wakes.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        self.waiting.push(waker.clone());
    }

    pub(crate) fn take_waiting(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting)
    }

    /// A body begins or ends: what is busy is not cancelled from outside and keeps the run running.
    pub(crate) fn set_busy(&mut self, id: SlotId, busy: bool) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.state = match (&slot.state, busy) {
                (SlotState::Waiting, true) => SlotState::Busy,
                (SlotState::Busy, false) => SlotState::Waiting,
                _ => return,
            };
        }
    }

    /// What the slot waits for, so that the run can say why it waits.
    pub(crate) fn set_wait(&mut self, id: SlotId, wait: Option<Wait>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.wait = wait;
        }
    }

    /// Gives a claimed position up: its future was dropped.
    pub(crate) fn abandon(&mut self, id: SlotId) {
        self.awaited.remove(&id);
        let Some(slot) = self.slots.get_mut(id) else { return };
        match slot.state {
            SlotState::Taken | SlotState::Revealed(_) => {}
            SlotState::Queued => {
                // Skipped when its turn comes.
                slot.state = SlotState::Gone;
                slot.waker = None;
                return;
            }
            SlotState::Waiting | SlotState::Busy | SlotState::Gone => {
                if !self.live {
                    self.open.remove(&slot.position);
                    self.gone.insert(slot.position.clone());
                }
            }
        }
        self.slots.remove(id);
    }

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

    /// A context value.
    pub(crate) fn value(&self, name: &str) -> Option<&Payload> {
        self.values.get(name)
    }

    fn apply(&mut self, sets: impl IntoIterator<Item = Value>) {
        for Value { name, value } in sets {
            match value {
                Some(value) => drop(self.values.insert(name, value)),
                None => drop(self.values.remove(&name)),
            }
        }
    }

    /// Journals that the run is to end, and completes what waits with an error. What is busy goes on.
    pub(crate) fn cancel(&mut self, reason: CancelReason, at: Timestamp) {
        if std::mem::replace(&mut self.cancel_asked, true) {
            return;
        }
        let ordinal = self.journal(Record::CancelRequested(CancelRequested { reason, at }));
        self.queue.push_back(Entry { ordinal, what: What::Cancel(reason) });
        self.cancel_waiting(reason);
    }

    /// Completes what waits, unless the journal may still know how it completed: then `go_live` does.
    fn cancel_waiting(&mut self, reason: CancelReason) {
        if !self.live {
            return;
        }
        for id in self.slots.waiting() {
            let child = self.slots.get(id).and_then(|slot| match &slot.wait {
                Some(Wait::Child(run)) => Some(run.clone()),
                _ => self.facts.get(&slot.position).and_then(Fact::child),
            });
            self.orphans.extend(child);
            self.complete(id, Outcome::Err(cancelled_error(reason)), 0, Vec::new());
        }
    }

    pub(crate) fn take_orphans(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orphans)
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

    /// The journal's winner of a race is not there yet. It needed no completion that is still to be
    /// revealed; so if it does not wait for one, the next is not revealed before it is there.
    pub(crate) fn set_awaited(&mut self, id: SlotId, awaited: bool) {
        if awaited && !self.live {
            self.awaited.insert(id);
        } else {
            self.awaited.remove(&id);
        }
    }

    pub(crate) fn cancelled(&self) -> Option<CancelReason> {
        self.cancelled
    }

    /// Whether a failed run was resumed at this position.
    pub(crate) fn resumed_at(&self, position: &Position) -> bool {
        self.resumed.as_ref().is_some_and(|points| points.contains(position))
    }

    /// Whether the run was resumed after a failure.
    pub(crate) fn was_resumed(&self) -> bool {
        self.resumed.is_some()
    }

    /// Puts a record into the outbox.
    pub(crate) fn journal(&mut self, record: Record) -> Ordinal {
        if self.is_frozen() {
            return self.last;
        }
        self.last = self.last.saturating_add(1);
        self.outbox_bytes = self.outbox_bytes.saturating_add(record.value_bytes());
        self.outbox.push(record);
        self.last
    }

    /// Journals nothing more: what the flow does from here on, it would not have done with the key.
    pub(crate) fn freeze(&mut self, why: Frozen) {
        self.frozen.get_or_insert(why);
        self.held = true;
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub(crate) fn thaw(&mut self) -> Option<Frozen> {
        self.frozen.take()
    }

    /// The last record, journaled or in the outbox.
    pub(crate) fn last(&self) -> Ordinal {
        self.last
    }

    pub(crate) fn take_outbox(&mut self) -> Vec<Record> {
        self.outbox_bytes = 0;
        std::mem::take(&mut self.outbox)
    }

    /// Whether a record of this size fits into the next commit; otherwise the waker is kept until
    /// what is there is committed.
    pub(crate) fn has_room(&mut self, bytes: usize, waker: &Waker) -> bool {
        let fits = self.outbox.is_empty() || self.outbox_bytes.saturating_add(bytes) <= ROOM;
        if !fits {
            self.crowded.push(waker.clone());
        }
        fits
    }

    /// Whether the next commit is full.
    pub(crate) fn is_crowded(&self) -> bool {
        self.outbox_bytes > ROOM
    }

    /// Who waits for room.
    pub(crate) fn take_crowded(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.crowded)
    }

    pub(crate) fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(crate) fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// What would be journaled next.
    pub(crate) fn outbox(&self) -> Vec<Record> {
        self.outbox.clone()
    }

    /// Takes records back whose commit wrote nothing.
    pub(crate) fn put_back(&mut self, records: Vec<Record>) {
        self.outbox = records;
    }

    /// Whether something waits to be revealed.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many of its wakers are this one; `None` when there are too many to count each time.
    pub(crate) fn wakers_like(&self, waker: &Waker) -> Option<usize> {
        if self.slots.len() + self.waiting.len() > COUNTED {
            return None;
        }
        let slots = self.slots.iter().filter_map(|slot| slot.waker.as_ref());
        Some(slots.chain(&self.waiting).filter(|known| known.will_wake(waker)).count())
    }

    /// Whether a body is at work.
    pub(crate) fn is_busy(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, SlotState::Busy))
    }

    fn at_end(&self) -> bool {
        self.live || (self.queue.is_empty() && self.facts.values().all(|fact| fact.claimed))
    }

    /// Reveals the next completion. Call it only when the flow waits for nothing else; `ended` says
    /// that the flow has returned.
    pub(crate) fn reveal(&mut self) -> Reveal {
        if !self.awaited.is_empty() {
            return Reveal::Nothing;
        }
        while let Some(Entry { ordinal, what }) = self.queue.pop_front() {
            match what {
                What::Sets(sets) => self.apply(sets),
                What::Cancel(reason) => {
                    self.cancelled = Some(reason);
                    self.revealed = ordinal;
                    self.branches.cancelled(ordinal);
                    // A body that was at work when it was asked for may wait for its next attempt now.
                    self.cancel_waiting(reason);
                }
                What::Completion { position, slot, kind, outcome, sets } => {
                    let id = match (slot, &position) {
                        (Some(id), _) => id,
                        (None, Some(position)) if self.gone.contains(position) => {
                            self.apply(sets);
                            self.revealed = ordinal;
                            continue;
                        }
                        (None, Some(position)) => match self.open.get(position) {
                            Some(id) if self.slots.get(*id).is_some_and(|s| s.kind == kind) => *id,
                            found => {
                                let found = found.copied();
                                return Reveal::Mismatch(self.mismatch(position, kind, found));
                            }
                        },
                        (None, None) => continue,
                    };
                    self.apply(sets);
                    self.revealed = ordinal;
                    let Some(slot) = self.slots.get_mut(id) else { continue };
                    self.branches.revealed(&slot.position, &outcome, ordinal);
                    if matches!(slot.state, SlotState::Gone) {
                        self.slots.remove(id);
                        continue;
                    }
                    slot.state = SlotState::Revealed(outcome);
                    slot.wait = None;
                    let waker = slot.waker.take();
                    if let Some(position) = position {
                        self.open.remove(&position);
                    }
                    return Reveal::One(waker);
                }
            }
        }
        Reveal::Nothing
    }

    fn mismatch(&self, position: &Position, kind: Kind, found: Option<SlotId>) -> Mismatch {
        let code = match found.and_then(|id| self.slots.get(id)) {
            Some(slot) => format!("{} {position:?}", slot.kind),
            None => self.claimed_now(),
        };
        Mismatch { position: position.clone(), journal: format!("{kind} {position:?}"), code }
    }

    pub(crate) fn claimed_now(&self) -> String {
        let mut waits: Vec<String> = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.state, SlotState::Waiting | SlotState::Busy))
            .map(|slot| format!("{} {:?}", slot.kind, slot.position))
            .collect();
        waits.sort();
        let more = waits.len().saturating_sub(SHOWN);
        waits.truncate(SHOWN);
        match (waits.is_empty(), more) {
            (true, _) => "nothing more".to_owned(),
            (false, 0) => waits.join(", "),
            (false, more) => format!("{} and {more} more", waits.join(", ")),
        }
    }

    /// After the last journaled completion was revealed and the flow polled: work may begin, if the
    /// code has claimed everything the journal knows of. True when this changed something.
    pub(crate) fn go_live(&mut self) -> Result<bool, Mismatch> {
        if self.live || !self.queue.is_empty() || !self.awaited.is_empty() {
            return Ok(false);
        }
        if let Some((position, fact)) = self.facts.iter().find(|(_, fact)| !fact.claimed) {
            let kind = fact.kind.unwrap_or(Kind::Step);
            return Err(self.mismatch(position, kind, None));
        }
        for (position, fact) in &self.facts {
            let claimed = self.open.get(position).and_then(|id| self.slots.get(*id));
            let other = |slot: &Slot| match fact.kind {
                Some(kind) => kind != slot.kind,
                // Attempts have no kind of their own; these have no attempts.
                None => matches!(
                    slot.kind,
                    Kind::Sleep | Kind::Signal | Kind::Child | Kind::Select | Kind::Now
                ),
            };
            if claimed.is_some_and(other) {
                let kind = fact.kind.unwrap_or(Kind::Step);
                let found = self.open.get(position).copied();
                return Err(self.mismatch(position, kind, found));
            }
        }
        self.live = true;
        self.open = HashMap::new();
        self.gone = HashSet::new();
        // Bodies that a crash interrupted after the cancellation do not begin again.
        if let Some(reason) = self.cancelled {
            self.cancel_waiting(reason);
        }
        Ok(true)
    }

    /// Why the run waits; `None` while a body runs or something can begin.
    pub(crate) fn waits(&self) -> Option<Vec<(&Position, &Wait)>> {
        let mut waits = Vec::new();
        for slot in self.slots.iter() {
            match (&slot.state, &slot.wait) {
                // Claimed and never polled: nobody waits for it yet.
                (SlotState::Waiting, _) if !slot.polled => {}
                (SlotState::Waiting, Some(wait)) => waits.push((&slot.position, wait)),
                (SlotState::Waiting | SlotState::Busy, _) => return None,
                _ => {}
            }
        }
        Some(waits)
    }

    /// Slots that wait for something of this sort.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = (SlotId, &Wait)> {
        self.slots.with_ids().filter_map(|(id, slot)| Some((id, slot.wait.as_ref()?)))
    }
}

/// What a claimed position waits for, when it is not a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A timer.
    Timer(Timestamp),
    /// The next attempt.
    Retry(Timestamp),
    /// A signal, perhaps not for ever.
    Signal(String, Option<Timestamp>),
    /// A child run.
    Child(String),
    /// A gate.
    Gate(String, Option<Timestamp>),
}

impl Wait {
    /// When it ends by itself.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Timer(at) | Self::Retry(at) => Some(*at),
            Self::Signal(_, until) => *until,
            Self::Gate(..) | Self::Child(_) => None,
        }
    }
}

pub(crate) const SET_PREFIX: &str = "@set:";
pub(crate) const PATCH_PREFIX: &str = "@patch:";

pub(crate) fn cancelled_error(reason: CancelReason) -> ErrorRecord {
    let (kind, message) = match reason {
        CancelReason::Asked => (StepErrorKind::Cancelled, "the run was cancelled"),
        CancelReason::Parent => (StepErrorKind::Cancelled, "the parent run was cancelled"),
        CancelReason::Deadline => (StepErrorKind::DeadlineExceeded, "the run's deadline passed"),
    };
    let message = message.to_owned();
    ErrorRecord {
        message,
        causes: Vec::new(),
        class: Class::Permanent,
        kind,
        code: None,
        sealed: None,
    }
}
