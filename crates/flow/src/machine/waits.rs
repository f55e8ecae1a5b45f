//! What futures of the run wait for, and who is woken when that changes.

use std::task::Waker;

use resurge_store::Timestamp;

use super::{Machine, SlotId, SlotState};
use crate::Position;

/// Wakers that are counted after every poll.
pub(super) const COUNTED: usize = 32;

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

impl Machine {
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

    /// Whether a body is at work.
    pub(crate) fn is_busy(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, SlotState::Busy))
    }

    /// What the slot waits for, so that the run can say why it waits.
    pub(crate) fn set_wait(&mut self, id: SlotId, wait: Option<Wait>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.wait = wait;
        }
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

    /// What somebody awaits and has no outcome of.
    pub(crate) fn at_work(&self) -> Vec<(SlotId, Position)> {
        let slots = self.slots.with_ids().filter(|(_, slot)| match slot.state {
            SlotState::Waiting => slot.polled,
            SlotState::Busy | SlotState::Queued => true,
            SlotState::Revealed(_) | SlotState::Taken => false,
        });
        slots.map(|(id, slot)| (id, slot.position.clone())).collect()
    }

    /// Slots that wait for something of this sort.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = (SlotId, &Wait)> {
        self.slots.with_ids().filter_map(|(id, slot)| Some((id, slot.wait.as_ref()?)))
    }

    /// How many of its wakers are this one; `None` when there are too many to count each time.
    pub(crate) fn wakers_like(&self, waker: &Waker) -> Option<usize> {
        if self.slots.len() + self.waiting.len() > COUNTED {
            return None;
        }
        let slots = self.slots.iter().filter_map(|slot| slot.waker.as_ref());
        Some(slots.chain(&self.waiting).filter(|known| known.will_wake(waker)).count())
    }
}
