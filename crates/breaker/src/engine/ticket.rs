//! The right to one call, in two words.

use super::Host;
use crate::machine::Admission;

pub(super) const NOT_TIMED: u64 = u64::MAX;

/// The right to one call. Two whole words: parts of words would cost more to copy than to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// `admission:32 | generation:32`.
    pub(super) meta: u64,
    pub(super) start_ns: u64,
}

impl Ticket {
    #[inline]
    pub(super) fn new(generation: u32, admission: Admission, start_ns: u64) -> Self {
        let admission = match admission {
            Admission::Counted => 0,
            Admission::Probe => 1,
            Admission::Uncounted => 2,
        };
        Self { meta: admission << 32 | u64::from(generation), start_ns }
    }

    /// The call begins only now.
    pub(crate) fn begin_now(&mut self, host: &impl Host) {
        if self.start_ns != NOT_TIMED {
            self.start_ns = host.ns();
        }
    }

    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        (self.meta & 0xffff_ffff) as u32
    }

    #[inline]
    pub(crate) fn admission(&self) -> Admission {
        match self.meta >> 32 {
            0 => Admission::Counted,
            1 => Admission::Probe,
            _ => Admission::Uncounted,
        }
    }
}
