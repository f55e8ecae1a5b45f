//! The positions claimed and not yet done with, in a slab.

use std::task::Waker;

use super::Wait;
use crate::record::{Ordinal, Outcome};
use crate::{Kind, Position};

/// A claimed position. Its generation tells a reused place from the one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    index: usize,
    generation: u64,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) position: Position,
    pub(crate) kind: Kind,
    pub(crate) born: Ordinal,
    pub(crate) shielded: bool,
    pub(crate) state: SlotState,
    /// Somebody awaits it.
    pub(crate) polled: bool,
    pub(crate) wait: Option<Wait>,
    pub(crate) waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) enum SlotState {
    /// Claimed; nothing of the user's runs.
    Waiting,
    /// A body runs.
    Busy,
    /// Completed, to be revealed in its turn.
    Queued,
    /// Revealed, to be taken by its future.
    Revealed(Outcome),
    /// Its future has it.
    Taken,
}

impl Slot {
    pub(crate) fn new(position: Position, kind: Kind, born: Ordinal, shielded: bool) -> Self {
        let (state, wait, waker) = (SlotState::Waiting, None, None);
        Self { position, kind, born, shielded, state, polled: false, wait, waker }
    }

    pub(crate) fn keep(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(kept) => kept.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    places: Vec<(u64, Option<Slot>)>,
    free: Vec<usize>,
}

impl Slots {
    pub(crate) fn add(&mut self, slot: Slot) -> SlotId {
        if let Some(index) = self.free.pop()
            && let Some((generation, place)) = self.places.get_mut(index)
        {
            *generation += 1;
            *place = Some(slot);
            return SlotId { index, generation: *generation };
        }
        self.places.push((0, Some(slot)));
        SlotId { index: self.places.len() - 1, generation: 0 }
    }

    pub(crate) fn get(&self, id: SlotId) -> Option<&Slot> {
        let (generation, slot) = self.places.get(id.index)?;
        slot.as_ref().filter(|_| *generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        let (generation, slot) = self.places.get_mut(id.index)?;
        slot.as_mut().filter(|_| *generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: SlotId) {
        if self.get(id).is_some()
            && let Some((_, place)) = self.places.get_mut(id.index)
        {
            *place = None;
            self.free.push(id.index);
        }
    }

    /// How many places there are, taken or not.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.places.iter().filter_map(|(_, slot)| slot.as_ref())
    }

    pub(crate) fn with_ids(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.places.iter().enumerate().filter_map(|(index, (generation, slot))| {
            Some((SlotId { index, generation: *generation }, slot.as_ref()?))
        })
    }

    /// What can be cancelled from outside: claimed, not shielded, without a body at work.
    pub(crate) fn waiting(&self) -> Vec<SlotId> {
        self.with_ids()
            .filter(|(_, slot)| matches!(slot.state, SlotState::Waiting) && !slot.shielded)
            .map(|(id, _)| id)
            .collect()
    }
}
