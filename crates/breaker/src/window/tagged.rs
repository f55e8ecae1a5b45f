//! A count that belongs to a slice of time: adding to what is over does nothing.

use crate::sync::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 32;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// A thread may be this many slices late and is still known to be late.
const LATE: u32 = 1 << 20;

/// `tag:32 | count:32`. The count saturates.
#[derive(Debug)]
pub(super) struct Tagged(AtomicU64);

impl Tagged {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Empty, for `tag`.
    pub(super) fn set(&self, tag: u32) {
        self.0.swap(u64::from(tag) << COUNT_BITS, Ordering::SeqCst);
    }

    /// Adds 1 for `tag`, from nothing when what is there is older; not at all when it is newer.
    pub(super) fn add(&self, tag: u32) {
        let mut now = self.0.load(Ordering::SeqCst);
        loop {
            let found = (now >> COUNT_BITS) as u32;
            let ahead = found.wrapping_sub(tag);
            if ahead != 0 && ahead < LATE {
                return;
            }
            let count = if ahead == 0 { now & COUNT } else { 0 };
            let then = (u64::from(tag) << COUNT_BITS) | (count + 1).min(COUNT);
            match self.0.compare_exchange(now, then, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    pub(super) fn get(&self, tag: u32) -> u64 {
        let now = self.0.load(Ordering::SeqCst);
        if (now >> COUNT_BITS) as u32 == tag { now & COUNT } else { 0 }
    }
}
