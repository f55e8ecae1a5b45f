//! The primitives of the hot path, in one place: the model checker puts its own here.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) use parking_lot::Mutex;

/// Into so many places threads spread what they all count.
pub(crate) const STRIPES: usize = 8;

/// The place of this thread: another one for each of the first threads, so that they do not meet.
#[inline]
pub(crate) fn stripe() -> usize {
    const NONE: usize = usize::MAX;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(NONE) };
    }
    let own = |mine: &Cell<usize>| {
        if mine.get() == NONE {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    };
    MINE.try_with(own).unwrap_or(0)
}
