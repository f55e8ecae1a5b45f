//! The one word every call reads: what to do with it, and which cycle of the circuit it belongs to.

use crate::state::{Mode, State};

/// `generation:32 | (6 unused) | cycle:16 | set:5 | full:1 | mode:2 | state:2`, from the top.
///
/// * `generation` changes with every transition and mode; a permit remembers it.
/// * `cycle` names the counts of one closed period; never 0.
/// * `set` is the place of the windows in use.
/// * `full`: half-open, and no probe may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

const STATE_BITS: u64 = 0b11;
const MODE_SHIFT: u32 = 2;
const FULL: u64 = 1 << 4;
const SET_SHIFT: u32 = 5;
const SET_BITS: u64 = 0b1_1111;
const CYCLE_SHIFT: u32 = 10;
const GENERATION_SHIFT: u32 = 32;

/// How many sets of windows a word can tell apart.
pub(crate) const MAX_SETS: usize = 32;

impl Word {
    pub(crate) fn new(
        state: State,
        mode: Mode,
        full: bool,
        set: usize,
        cycle: u16,
        generation: u32,
    ) -> Self {
        let state = match state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
            State::Repairing => 3,
        };
        let mode = match mode {
            Mode::Active => 0,
            Mode::Shadow => 1,
            Mode::ForcedOpen => 2,
            Mode::Disabled => 3,
        };
        let full = if full { FULL } else { 0 };
        let set = (set as u64 & SET_BITS) << SET_SHIFT;
        let cycle = u64::from(cycle) << CYCLE_SHIFT;
        let generation = u64::from(generation) << GENERATION_SHIFT;
        Self(generation | cycle | set | full | (mode << MODE_SHIFT) | state)
    }

    /// Closed and active: the common case, in one comparison.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.0 & (STATE_BITS | (STATE_BITS << MODE_SHIFT)) == 0
    }

    pub(crate) fn state(self) -> State {
        match self.0 & STATE_BITS {
            0 => State::Closed,
            1 => State::Open,
            2 => State::HalfOpen,
            _ => State::Repairing,
        }
    }

    pub(crate) fn mode(self) -> Mode {
        match (self.0 >> MODE_SHIFT) & STATE_BITS {
            0 => Mode::Active,
            1 => Mode::Shadow,
            2 => Mode::ForcedOpen,
            _ => Mode::Disabled,
        }
    }

    pub(crate) fn is_full(self) -> bool {
        self.0 & FULL != 0
    }

    #[inline]
    pub(crate) fn set(self) -> usize {
        ((self.0 >> SET_SHIFT) & SET_BITS) as usize
    }

    #[inline]
    pub(crate) fn cycle(self) -> u16 {
        ((self.0 >> CYCLE_SHIFT) & 0xffff) as u16
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_comes_back() {
        for state in State::ALL {
            for mode in Mode::ALL {
                for (full, set, cycle, generation) in
                    [(false, 0, 1, 0), (true, 31, u16::MAX, u32::MAX), (true, 5, 300, 70_000)]
                {
                    let word = Word::new(state, mode, full, set, cycle, generation);
                    assert_eq!((word.state(), word.mode(), word.is_full()), (state, mode, full));
                    assert_eq!((word.set(), word.cycle()), (set, cycle));
                    assert_eq!(word.generation(), generation);
                    let plain = state == State::Closed && mode == Mode::Active;
                    assert_eq!(word.is_plain(), plain);
                }
            }
        }
    }
}
