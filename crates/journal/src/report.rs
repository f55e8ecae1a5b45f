//! What a journal tells about itself.

use std::time::Duration;

use resurge_snapshot::{Damaged, SnapshotId, SnapshotInfo};
use resurge_wal::{Lsn, Salvaged};

/// How a journal came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The snapshot that was used; `None` when all was replayed.
    pub snapshot: Option<SnapshotId>,
    /// The last event in that snapshot; 0 without one.
    pub snapshot_lsn: Lsn,
    /// The serialised size of that snapshot, in bytes; 0 without one.
    pub snapshot_bytes: u64,
    /// Events applied after the snapshot.
    pub replayed: u64,
    /// The last event there is; 0 for none.
    pub last_lsn: Lsn,
    /// Damaged snapshots that were not used, newest first, each with what is wrong. An older one and
    /// a longer replay gave the same state. Empty when all is well.
    pub fell_back: Vec<Damaged>,
    /// What was cut from a damaged log; only under [`Policy::Salvage`](crate::Policy::Salvage).
    pub salvaged: Option<Salvaged>,
    /// The journal did not exist.
    pub created: bool,
    /// How long it took.
    pub duration: Duration,
}

/// A journal's numbers at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// The last event applied; 0 for none.
    pub last_lsn: Lsn,
    /// The last event known to be durable.
    pub durable_lsn: Lsn,
    /// The oldest event the log still holds.
    pub first_lsn: Lsn,
    /// Events since the last snapshot.
    pub events_since_snapshot: u64,
    /// The newest snapshot that this handle used or took.
    pub last_snapshot: Option<SnapshotInfo>,
    /// Snapshots that failed since it was opened.
    pub snapshot_failures: u64,
}
