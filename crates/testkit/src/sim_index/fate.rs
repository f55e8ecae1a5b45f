//! What becomes of an index in a crash.

use std::sync::Arc;

use bytes::Bytes;
use resurge_store::CommitSeq;
use resurge_store_sled::IndexErrorKind;

use super::{Place, State, Trouble, digest};

/// What a start finds of an index after a crash, in [`SimIndex::crash`](super::SimIndex::crash).
///
/// The first three can really happen to an index that keeps its contract; the others are lies and
/// defects that the store has to see through. Where there is no index there is nothing to lie about.
/// The same seed always chooses the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IndexFate {
    /// As it was.
    Intact,
    /// There is none.
    Gone,
    /// Some state it went through before.
    Old {
        /// Chooses the state.
        seed: u64,
    },
    /// A rebuild that did not come to its end: some entries only, not ready.
    Unfinished {
        /// Chooses how many.
        seed: u64,
    },
    /// It says that it holds so many commits more than it does.
    Ahead {
        /// How many.
        by: u64,
    },
    /// Some entries, at least one, are missing without a word.
    Lossy {
        /// Chooses them.
        seed: u64,
    },
    /// One value is not what was stored.
    Wrong {
        /// Chooses it.
        seed: u64,
    },
    /// A whole and sound index of some other store.
    Foreign,
    /// Opening it fails until it is destroyed.
    Unopenable,
    /// Opening it panics until it is destroyed.
    PanicsAtOpen,
    /// Neither opening nor destroying it works: the disk under it fails.
    Stuck,
    /// Intact, but every `apply` fails.
    FailsAtApply,
    /// Intact, but every `apply` panics.
    PanicsAtApply,
}

impl IndexFate {
    pub(super) fn of(self, place: &Place) -> Place {
        let mut state = match self {
            Self::Gone => None,
            Self::Old { seed } => pick(&place.history, seed).cloned(),
            _ => place.state.clone(),
        };
        if let Some(state) = &mut state {
            self.change(state);
        }
        let open = |kind, cured| Some(Trouble::Open { kind, cured });
        let trouble = match self {
            Self::Unopenable => open(IndexErrorKind::Corrupt, true),
            Self::PanicsAtOpen => open(IndexErrorKind::Panicked, true),
            Self::Stuck => open(IndexErrorKind::Io, false),
            Self::FailsAtApply => Some(Trouble::FailsAtApply),
            Self::PanicsAtApply => Some(Trouble::PanicsAtApply),
            _ => None,
        };
        Place { state, history: Vec::new(), trouble }
    }

    fn change(self, state: &mut State) {
        let State { entries, meta } = state;
        let entries = Arc::make_mut(entries);
        match self {
            Self::Unfinished { seed } => {
                let keep = choose(seed, entries.len());
                *entries = std::mem::take(entries).into_iter().take(keep).collect();
                meta.digest = digest(entries);
                meta.ready = false;
            }
            Self::Ahead { by } => meta.applied_seq = CommitSeq(meta.applied_seq.0 + by),
            Self::Lossy { seed } => {
                let first = choose(seed, entries.len());
                let mut n = 0;
                entries.retain(|_, _| {
                    n += 1;
                    n != first + 1 && !(mix(seed ^ n as u64)).is_multiple_of(3)
                });
            }
            Self::Wrong { seed } => {
                let chosen = choose(seed, entries.len());
                if let Some(value) = entries.values_mut().nth(chosen) {
                    let mut bytes = value.to_vec();
                    match bytes.first_mut() {
                        Some(byte) => *byte ^= 1,
                        None => bytes.push(0),
                    }
                    *value = Bytes::from(bytes);
                }
            }
            Self::Foreign => {
                for byte in &mut meta.store_id {
                    *byte ^= 0xff;
                }
                for value in entries.values_mut() {
                    *value = Bytes::from_static(b"foreign");
                }
                meta.digest = digest(entries);
            }
            _ => {}
        }
    }
}

/// One of the states before; none when there is none.
fn pick(states: &[State], seed: u64) -> Option<&State> {
    states.get(choose(seed, states.len()))
}

/// A number below `count`; 0 when there is none.
fn choose(seed: u64, count: usize) -> usize {
    usize::try_from(mix(seed) % (count as u64).max(1)).unwrap_or(0)
}

/// Seeds that are close together choose differently.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}
