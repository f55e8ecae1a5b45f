//! What waits for the committer, already divided into groups.

use std::collections::VecDeque;
use std::sync::Arc;

use super::completion::{Completion, Outcomes};
use crate::{Batch, Durability, StoreError};

/// One call of a user.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Batch, Durability),
    Sync,
}

impl Work {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Commit(batch, _) => batch.size(),
            Self::Sync => 0,
        }
    }

    pub(super) fn wants_sync(&self) -> bool {
        matches!(self, Self::Commit(_, Durability::Durable) | Self::Sync)
    }
}

/// Calls that will share one log write and one sync.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    pub(super) work: Vec<Work>,
    pub(super) bytes: usize,
    pub(super) completion: Arc<Completion>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Open,
    /// Drain what is queued, then stop.
    Closing,
    /// Stop at once.
    Poisoned(StoreError),
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) groups: VecDeque<Gathering>,
    pub(super) phase: Phase,
    /// The committer sleeps until this many calls wait.
    pub(super) awaited: Option<usize>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { groups: VecDeque::new(), phase: Phase::Open, awaited: None }
    }

    /// Calls that will be in the next group; all one could wait for when that is full.
    pub(super) fn waiting(&self) -> usize {
        match self.groups.front() {
            Some(_) if self.groups.len() > 1 => usize::MAX,
            next => next.map_or(0, |group| group.work.len()),
        }
    }

    /// Whether the committer is to be woken; it is not to be woken again then.
    pub(super) fn wakes(&mut self) -> bool {
        let wakes = self.awaited.is_some_and(|count| count <= self.waiting());
        if wakes {
            self.awaited = None;
        }
        wakes
    }

    pub(super) fn push(&mut self, work: Work, max_group_bytes: usize) -> Outcomes {
        let size = work.size();
        let starts = self.groups.back().is_none_or(|g| g.bytes + size > max_group_bytes);
        let mut group =
            if starts { Gathering::default() } else { self.groups.pop_back().unwrap_or_default() };
        let index = group.work.len();
        group.bytes += size;
        group.work.push(work);
        let outcome = Outcomes::new(Arc::clone(&group.completion), index);
        self.groups.push_back(group);
        outcome
    }
}
