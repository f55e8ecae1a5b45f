//! One completion after the other, in journal order, and from replay to live.

use std::collections::{HashMap, HashSet};
use std::task::Waker;

use super::slots::Slot;
use super::{Entry, Machine, SlotId, SlotState, What};
use crate::{Kind, Position};

/// Names in one page of an error's text.
const SHOWN: usize = 8;

/// Today's code asks for something else than the journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) position: Position,
    pub(crate) journal: String,
    pub(crate) code: String,
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

impl Machine {
    /// Whether something waits to be revealed.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
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

    /// Reveals the next completion. Call it only when the flow waits for nothing else.
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
}
