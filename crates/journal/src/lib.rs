#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod core;
mod error;
mod journaled;
mod machine;
mod metrics;
mod options;
mod recover;
mod report;
mod snapshotter;
mod stage;
mod write;

pub use error::{JournalError, Result};
pub use journaled::Journaled;
pub use machine::{PlainMachine, StateMachine};
pub use options::JournalOptions;
pub use report::{JournalStats, RecoveryReport};
pub use resurge_snapshot::{Damaged, OldState, SnapshotId, SnapshotInfo};
pub use resurge_wal::{Lsn, Policy, Salvaged};
pub use stage::{JournalCommit, JournalStage, JournalStaged};

/// The guide's examples, run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/state-machine.md")]
struct Guide;
