//! A count that begins anew with each cycle, and refuses who is late for one.

use crate::sync::{AtomicU64, Ordering};

pub(super) const COUNT_BITS: u32 = 48;
pub(super) const COUNT: u64 = (1 << COUNT_BITS) - 1;
const TURNS: usize = 4;
/// Of no cycle.
const ENDED: u64 = 0;

/// Nothing counted in this cycle.
#[inline]
pub(super) fn none(cycle: u16) -> u64 {
    u64::from(cycle) << COUNT_BITS
}

/// `cycle:16 | count:48`, in turns: who is late for a cycle adds to its own count, not to the next one's.
/// Only a thread that slept through four cycles could, and is then counted as a success.
#[derive(Debug)]
pub(super) struct Turns([AtomicU64; TURNS]);

impl Turns {
    pub(super) fn new() -> Self {
        Self([ENDED; TURNS].map(AtomicU64::new))
    }

    #[inline]
    fn of(&self, cycle: u16) -> &AtomicU64 {
        let [a, b, c, d] = &self.0;
        match cycle % 4 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
    }

    /// Counts one more; which one it is, from 0. None when the cycle is over.
    #[inline]
    pub(super) fn add(&self, cycle: u16) -> Option<u64> {
        let before = self.of(cycle).fetch_add(1, Ordering::SeqCst);
        ((before >> COUNT_BITS) as u16 == cycle).then_some(before & COUNT)
    }

    pub(super) fn get(&self, cycle: u16) -> u64 {
        self.of(cycle).load(Ordering::SeqCst) & COUNT
    }

    /// Whether there were so many in this cycle.
    #[inline]
    pub(super) fn has(&self, cycle: u16, many: u64) -> bool {
        let now = self.of(cycle).load(Ordering::Relaxed);
        (now >> COUNT_BITS) as u16 == cycle && now & COUNT >= many
    }

    /// Begins a cycle; returns what was counted in the one before.
    pub(super) fn begin(&self, cycle: u16) -> u64 {
        let counted = self.0.iter().map(|count| match count.load(Ordering::SeqCst) {
            // What late threads add to one that ended means nothing.
            ended if ended >> COUNT_BITS == 0 => 0,
            _ => count.swap(ENDED, Ordering::SeqCst) & COUNT,
        });
        let counted = counted.sum();
        self.of(cycle).swap(none(cycle), Ordering::SeqCst);
        counted
    }
}
