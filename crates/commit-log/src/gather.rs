//! How long the committer waits for callers it has just woken.
//!
//! Callers that append again as soon as they are woken split into two groups that take turns: the
//! first of them to come back starts a sync, all others wait for the next one. Waiting a moment
//! for everybody who was in flight makes one group of them, and twice the throughput. Where
//! callers do not come back at once the wait is in vain, so it is given up, and tried again
//! rarely.

use std::time::Duration;

/// One round of waiting; the next one only starts if somebody came in this one.
pub(crate) const ROUND: Duration = Duration::from_micros(20);

const MAX_ROUNDS: u32 = 16;

/// More callers than this keep the processors busy for longer than a sync takes: two groups that
/// take turns are better then, one working while the other is synced.
const MAX_TARGET: u32 = 128;

/// At most this many groups go without a new try.
const MAX_PAUSE: u32 = 64;

#[derive(Debug, Default)]
pub(crate) struct Gather {
    target: u32,
    /// Groups to go before the next try, and how many the next failure costs.
    pause: u32,
    penalty: u32,
}

impl Gather {
    /// A group of `count` is about to be woken, while `queued` entries wait already.
    pub(crate) fn completed(&mut self, count: u32, queued: u32) {
        self.target = count.saturating_add(queued);
    }

    /// How many entries to wait for.
    pub(crate) fn target(&self) -> u32 {
        self.target
    }

    /// How often to wait for them.
    pub(crate) fn rounds(&self) -> u32 {
        // Alone, a caller has nobody to wait for.
        if self.target < 2 || self.target > MAX_TARGET || self.pause > 0 { 0 } else { MAX_ROUNDS }
    }

    /// The wait, if there was one, ended with `count` entries.
    pub(crate) fn gathered(&mut self, count: u32) {
        if self.target < 2 || self.target > MAX_TARGET {
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
    use super::*;

    #[test]
    fn a_lonely_caller_and_a_crowd_are_not_waited_for() {
        let mut gather = Gather::default();
        assert_eq!(gather.rounds(), 0);
        gather.completed(1, 0);
        assert_eq!(gather.rounds(), 0);
        gather.completed(1, 1);
        assert_eq!((gather.rounds(), gather.target()), (MAX_ROUNDS, 2));
        gather.completed(MAX_TARGET, 0);
        assert_eq!(gather.rounds(), MAX_ROUNDS);
        gather.completed(MAX_TARGET, 1);
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
        assert!(tries.windows(2).skip(8).all(|w| w[1] - w[0] == 65), "{tries:?}");

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
