//! The last N calls: a ring of outcomes, and how many of them failed or were slow.

use super::Counts;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const FAILED: u32 = 1;
const SLOW: u32 = 2;
const SLOT_CYCLE: u32 = 2;

/// Slots are renewed once in so many cycles; less than half of all, so that older and newer differ.
const RENEWED: u16 = 1 << 14;

/// `cycle:16 | slow:24 | failed:24`.
const SUM_CYCLE: u32 = 48;
const SUM_SLOW: u32 = 24;
const SUM_MASK: u64 = (1 << 24) - 1;

/// On a cache line that nobody else writes to.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Calls {
    /// `cycle:16 | slow:1 | failed:1`; of an earlier cycle: empty.
    slots: Box<[AtomicU32]>,
    sum: AtomicU64,
}

impl Calls {
    pub(super) fn new(size: u32) -> Self {
        Self { slots: (0..size).map(|_| AtomicU32::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub(super) fn size(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Marks what is old as of the cycle before, so that it does not look new when cycles are counted
    /// from 1 again.
    pub(super) fn renew(&self, cycle: u16) {
        let before = u32::from(cycle.wrapping_sub(1)) << SLOT_CYCLE;
        for slot in &self.slots {
            slot.store(before, Ordering::SeqCst);
        }
    }

    pub(super) fn reset(&self, cycle: u16) {
        if cycle % RENEWED == 1 {
            self.renew(cycle);
        }
        self.sum.swap(u64::from(cycle) << SUM_CYCLE, Ordering::SeqCst);
    }

    /// Whether none of them failed, and none was slow.
    #[inline]
    pub(super) fn is_clean(&self, cycle: u16) -> bool {
        self.sum.load(Ordering::Relaxed) == u64::from(cycle) << SUM_CYCLE
    }

    /// Puts the outcome of the call with this number in, and the one it replaces out.
    #[inline]
    pub(super) fn put(&self, number: u64, cycle: u16, bits: u32) {
        let len = self.slots.len();
        // Dividing 32 bits is several times faster than 64.
        let place = match (u32::try_from(number), u32::try_from(len)) {
            (Ok(number), Ok(len)) => number.checked_rem(len).map(u64::from),
            _ => number.checked_rem(len as u64),
        };
        let place = place.and_then(|place| usize::try_from(place).ok());
        let Some(slot) = place.and_then(|place| self.slots.get(place)) else { return };
        let new = (u32::from(cycle) << SLOT_CYCLE) | bits;
        // A steady stream of successes finds what it would write.
        if slot.load(Ordering::Relaxed) != new {
            self.replace(slot, cycle, new);
        }
    }

    fn replace(&self, slot: &AtomicU32, cycle: u16, new: u32) {
        let bits = new & (FAILED | SLOW);
        let mut old = slot.load(Ordering::Relaxed);
        while old != new {
            let found = ((old >> SLOT_CYCLE) & 0xffff) as u16;
            if found != cycle && found.wrapping_sub(cycle) < 1 << 15 {
                // The cycle is over, and somebody of the next one was here.
                return;
            }
            match slot.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    let gone = if found == cycle { old & (FAILED | SLOW) } else { 0 };
                    return self.adjust(cycle, bits, gone);
                }
                Err(other) => old = other,
            }
        }
    }

    fn adjust(&self, cycle: u16, added: u32, gone: u32) {
        if added == gone {
            return;
        }
        let delta = |bit: u32, shift: u32| {
            let (plus, minus) = (u64::from(added & bit != 0), u64::from(gone & bit != 0));
            (plus << shift).wrapping_sub(minus << shift)
        };
        let delta = delta(FAILED, 0).wrapping_add(delta(SLOW, SUM_SLOW));
        let mut now = self.sum.load(Ordering::SeqCst);
        while (now >> SUM_CYCLE) as u16 == cycle {
            // INVARIANT: within a cycle both counts stay at or above 0: what is taken out was added
            // by whoever put it in, before it or right after. The cycle is put back on top because
            // the latter borrows for a moment.
            let sum = now.wrapping_add(delta) & ((1 << SUM_CYCLE) - 1);
            let then = (u64::from(cycle) << SUM_CYCLE) | sum;
            match self.sum.compare_exchange(now, then, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    pub(super) fn counts(&self, cycle: u16, recorded: u64) -> Counts {
        let sum = self.sum.load(Ordering::SeqCst);
        let calls = recorded.min(self.size());
        if (sum >> SUM_CYCLE) as u16 != cycle {
            return Counts::default();
        }
        Counts {
            calls,
            failures: (sum & SUM_MASK).min(calls),
            slow: ((sum >> SUM_SLOW) & SUM_MASK).min(calls),
        }
    }
}
