//! The number of a record.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The log sequence number of a record: 1 for the first, strictly increasing, across restarts too.
///
/// Consecutive records have consecutive numbers, with two exceptions, both recorded in the log itself
/// and verified when it is read: numbers given up by a [`Staged`](crate::Staged) that was dropped
/// after others had queued behind it, and numbers of records that a salvage had to cut.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every record: reading from here begins with the oldest record kept.
    pub const START: Self = Self(0);
    /// The first record a log ever holds.
    pub const FIRST: Self = Self(1);

    /// The number after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
