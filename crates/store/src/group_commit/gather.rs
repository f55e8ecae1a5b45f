//! How long the committer waits for the callers it has just told.
//!
//! Callers that commit again as soon as they are told split into two groups that take turns: the first
//! to come back starts a sync, the others wait for the next. Waiting a moment for everybody who was in
//! flight makes one group of them. Where they do not come back at once the wait is given up, and tried
//! again rarely.

use std::time::Duration;

/// One round of waiting; the next one only starts if somebody came in this one.
pub(super) const ROUND: Duration = Duration::from_micros(20);

const MAX_ROUNDS: u32 = 16;

/// Fewer are not worth a wait; more keep the processors busy for longer than a sync takes, and two
/// groups that take turns are better then.
const TARGETS: std::ops::RangeInclusive<usize> = 4..=128;

/// At most this many groups go without a new try.
const MAX_PAUSE: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Gather {
    target: usize,
    /// Groups to go before the next try, and how many the next failure costs.
    pause: u32,
    penalty: u32,
}

impl Gather {
    /// A group of `count` is about to be told, while `waiting` calls wait already.
    pub(super) fn completed(&mut self, count: usize, waiting: usize) {
        self.target = count.saturating_add(waiting);
    }

    /// How many calls to wait for.
    pub(super) fn target(&self) -> usize {
        self.target
    }

    /// How often to wait for them.
    pub(super) fn rounds(&self) -> u32 {
        if TARGETS.contains(&self.target) && self.pause == 0 { MAX_ROUNDS } else { 0 }
    }

    /// The wait, if there was one, ended with `count` calls.
    pub(super) fn gathered(&mut self, count: usize) {
        if !TARGETS.contains(&self.target) {
            return;
        }
        if self.pause > 0 {
            self.pause -= 1;
        } else if count.saturating_mul(4) >= self.target.saturating_mul(3) {
            self.penalty = 0;
        } else {
            self.penalty = (self.penalty * 2).clamp(1, MAX_PAUSE);
            self.pause = self.penalty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gather, MAX_ROUNDS, TARGETS};

    #[test]
    fn a_few_callers_and_a_crowd_are_not_waited_for() {
        let mut gather = Gather::default();
        assert_eq!(gather.rounds(), 0);
        gather.completed(TARGETS.start() - 1, 0);
        assert_eq!(gather.rounds(), 0);
        gather.completed(2, TARGETS.start() - 2);
        assert_eq!((gather.rounds(), gather.target()), (MAX_ROUNDS, *TARGETS.start()));
        gather.completed(*TARGETS.end(), 0);
        assert_eq!(gather.rounds(), MAX_ROUNDS);
        gather.completed(*TARGETS.end(), 1);
        assert_eq!(gather.rounds(), 0);
    }

    #[test]
    fn waiting_in_vain_becomes_rare_and_success_makes_it_usual_again() {
        let mut gather = Gather::default();
        let mut tries = Vec::new();
        for n in 0..1000 {
            gather.completed(8, 0);
            if gather.rounds() > 0 {
                tries.push(n);
            }
            gather.gathered(1);
        }
        assert_eq!(tries[..5], [0, 2, 5, 10, 19]);
        while gather.rounds() == 0 {
            gather.gathered(0);
        }
        for _ in 0..10 {
            gather.completed(8, 0);
            assert_eq!(gather.rounds(), MAX_ROUNDS);
            gather.gathered(7);
        }
    }
}
