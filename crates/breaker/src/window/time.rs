//! The calls of the last T: a ring of slices that expire one by one.

use std::time::Duration;

use super::Counts;
use super::tagged::Tagged;
use crate::sync::{AtomicU64, Ordering};

/// A thread may be this many cycles late and still finds where its own began.
const CYCLES: usize = 4;
const NOT_SETTLED: u64 = u64::MAX;

#[derive(Debug)]
struct Slice {
    calls: Tagged,
    failures: Tagged,
    slow: Tagged,
}

/// Where a cycle began: in time, and in the count of slices that goes on through all cycles.
#[derive(Debug)]
struct Origin {
    ns: AtomicU64,
    tag: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Slices {
    slice_ns: u64,
    ring: Box<[Slice]>,
    origins: [Origin; CYCLES],
    /// The cycle that was begun last.
    cycle: AtomicU64,
    /// The slice in which the rules were looked at with enough calls: a success cannot trip in it.
    settled: AtomicU64,
}

impl Slices {
    pub(super) fn new(length: Duration, slices: u32) -> Self {
        let slices = slices.max(1);
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let slice =
            |_| Slice { calls: Tagged::new(), failures: Tagged::new(), slow: Tagged::new() };
        let origin = |_| Origin { ns: AtomicU64::new(0), tag: AtomicU64::new(0) };
        Self {
            slice_ns: (length / u64::from(slices)).max(1),
            ring: (0..slices).map(slice).collect(),
            origins: [0; CYCLES].map(origin),
            cycle: AtomicU64::new(0),
            settled: AtomicU64::new(NOT_SETTLED),
        }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.slice_ns == other.slice_ns && self.ring.len() == other.ring.len()
    }

    fn origin(&self, cycle: u16) -> Option<&Origin> {
        self.origins.get(usize::from(cycle) % CYCLES)
    }

    /// Empties every slice.
    pub(super) fn reset(&self, cycle: u16, now_ns: u64) {
        let Some(origin) = self.origin(cycle) else { return };
        let ends = (self.cycle.swap(u64::from(cycle), Ordering::SeqCst) & 0xffff) as u16;
        // After every tag of the cycle that ends, so that who is late for it is known to be.
        let cleared = self.slice(ends, now_ns) + self.ring.len() as u64;
        origin.ns.store(now_ns, Ordering::SeqCst);
        origin.tag.store(cleared + 1, Ordering::SeqCst);
        self.settled.store(NOT_SETTLED, Ordering::SeqCst);
        for slice in &self.ring {
            for count in [&slice.calls, &slice.failures, &slice.slow] {
                count.set(low32(cleared));
            }
        }
    }

    /// The slice `now_ns` is in, counted through all cycles.
    fn slice(&self, cycle: u16, now_ns: u64) -> u64 {
        let Some(origin) = self.origin(cycle) else { return 0 };
        let since = now_ns.saturating_sub(origin.ns.load(Ordering::SeqCst));
        origin.tag.load(Ordering::SeqCst) + since.checked_div(self.slice_ns).unwrap_or(0)
    }

    fn at(&self, slice: u64) -> Option<&Slice> {
        let place = slice.checked_rem(self.ring.len() as u64)?;
        self.ring.get(usize::try_from(place).ok()?)
    }

    /// Adds a call; whether the rules must be looked at, even if it was a success.
    pub(super) fn add(&self, cycle: u16, failed: bool, slow: bool, now_ns: u64) -> bool {
        let number = self.slice(cycle, now_ns);
        let Some(slice) = self.at(number) else { return false };
        let tag = low32(number);
        slice.calls.add(tag);
        if failed {
            slice.failures.add(tag);
        }
        if slow {
            slice.slow.add(tag);
        }
        self.settled.load(Ordering::SeqCst) != number
    }

    pub(super) fn settle(&self, cycle: u16, now_ns: u64) {
        self.settled.store(self.slice(cycle, now_ns), Ordering::SeqCst);
    }

    /// The rules have changed.
    pub(super) fn unsettle(&self) {
        self.settled.store(NOT_SETTLED, Ordering::SeqCst);
    }

    pub(super) fn counts(&self, cycle: u16, now_ns: u64) -> Counts {
        let newest = self.slice(cycle, now_ns);
        // Slices of before the cycle are there, and empty.
        let oldest = (newest + 1).saturating_sub(self.ring.len() as u64);
        let mut counts = Counts::default();
        for number in oldest..=newest {
            let Some(slice) = self.at(number) else { continue };
            let tag = low32(number);
            counts.calls += slice.calls.get(tag);
            counts.failures += slice.failures.get(tag);
            counts.slow += slice.slow.get(tag);
        }
        counts
    }
}

/// What a tag holds of a slice's number.
fn low32(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}
