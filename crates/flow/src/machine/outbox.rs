//! Records on their way to the journal, and whether there may be more of them.

use std::task::Waker;

use super::Machine;
use crate::record::{Ordinal, Record};

/// Bytes of users' values in one commit: it must fit into one page of a journal.
pub(super) const ROOM: usize = 8 << 20;
/// Bytes of users' values in one record.
pub(crate) const MAX_RECORD: usize = 12 << 20;

/// Why a run stops where it is.
#[derive(Debug)]
pub(crate) enum Frozen {
    /// A value cannot be sealed or opened.
    Sealed(String),
    /// The store failed under a memoised step, before its body began.
    Store(resurge_store::StoreError),
}

impl Machine {
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
}
