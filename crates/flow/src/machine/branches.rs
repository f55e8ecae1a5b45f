//! Branches of a flow that do not see each other's failures.
//!
//! Resuming a failed run voids what was claimed after a failure was revealed, because the code may
//! have reacted to it. The nodes of a graph, the items of a fan-out and processes cannot react to a
//! failure outside of them, so theirs is not voided.

use std::collections::HashMap;
use std::sync::Arc;

use super::Machine;
use crate::Position;
use crate::record::{Ordinal, Outcome};

/// For each branch, by its path, the last failure its code can have seen.
#[derive(Debug, Default)]
pub(crate) struct Branches(HashMap<Arc<str>, Ordinal>);

impl Branches {
    /// The innermost branch that `path` lies in.
    fn born(&self, path: &str) -> Option<Ordinal> {
        if self.0.is_empty() {
            return None;
        }
        paths(path).find_map(|path| self.0.get(path).copied())
    }

    /// A cancellation is seen everywhere.
    pub(super) fn cancelled(&mut self, ordinal: Ordinal) {
        self.0.values_mut().for_each(|seen| *seen = ordinal);
    }

    pub(super) fn revealed(&mut self, position: &Position, outcome: &Outcome, ordinal: Ordinal) {
        if self.0.is_empty() || matches!(outcome, Outcome::Ok(_)) {
            return;
        }
        for path in paths(&position.to_string()) {
            if let Some(seen) = self.0.get_mut(path) {
                *seen = ordinal;
            }
        }
    }
}

/// The path itself and those it lies in, innermost first.
fn paths(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(outer, _)| outer))
}

/// Whether something at `position` happened in what `path` stands for: a scope or a single position.
pub(crate) fn is_within(position: &Position, path: &str) -> bool {
    let scope = position.scope();
    let inside =
        scope.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    inside || position.to_string() == path
}

impl Machine {
    /// What is claimed in `scope` now can have seen failures up to here.
    pub(crate) fn born(&self, scope: &str) -> Ordinal {
        self.branches.born(scope).unwrap_or(self.revealed)
    }

    /// From here on what happens in `path` sees only failures up to `born` and its own.
    pub(crate) fn begin_branch(&mut self, path: Arc<str>, born: Ordinal) {
        self.branches.0.insert(path, born);
    }

    pub(crate) fn end_branch(&mut self, path: &str) {
        self.branches.0.remove(path);
    }

    /// Whether the run was resumed at a failure within `path`.
    pub(crate) fn resumed_within(&self, path: &str) -> bool {
        self.resumed.iter().flatten().any(|position| is_within(position, path))
    }

    /// Where the run was resumed.
    pub(crate) fn resumed(&self) -> Vec<Position> {
        let mut positions: Vec<Position> = self.resumed.iter().flatten().cloned().collect();
        positions.sort();
        positions
    }

    /// Whether bodies may begin at all.
    pub(crate) fn is_open(&self) -> bool {
        self.live && !self.held && !self.paused
    }
}
