#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod app;
mod builder;
mod error;
#[cfg(any(feature = "wal", feature = "snapshot", feature = "checkpoint"))]
mod parts;
mod status;

#[cfg(feature = "checkpoint")]
#[cfg_attr(docsrs, doc(cfg(feature = "checkpoint")))]
#[doc(inline)]
pub use resurge_checkpoint as checkpoint;
#[cfg(feature = "journal")]
#[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
#[doc(inline)]
pub use resurge_journal as journal;
#[cfg(feature = "snapshot")]
#[cfg_attr(docsrs, doc(cfg(feature = "snapshot")))]
#[doc(inline)]
pub use resurge_snapshot as snapshot;
#[doc(inline)]
pub use resurge_store as store;
#[cfg(feature = "sled")]
#[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
#[doc(inline)]
pub use resurge_store_sled as store_sled;
#[cfg(feature = "wal")]
#[cfg_attr(docsrs, doc(cfg(feature = "wal")))]
#[doc(inline)]
pub use resurge_wal as wal;

pub use app::Resurge;
pub use builder::Builder;
pub use error::{Error, Result};
#[cfg(feature = "checkpoint")]
#[cfg_attr(docsrs, doc(cfg(feature = "checkpoint")))]
pub use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints, StepPolicy};
#[cfg(feature = "journal")]
#[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
pub use resurge_journal::{JournalOptions, Journaled, PlainMachine, StateMachine};
#[cfg(feature = "snapshot")]
#[cfg_attr(docsrs, doc(cfg(feature = "snapshot")))]
pub use resurge_snapshot::{SnapshotOptions, Snapshots};
pub use resurge_store::{Clock, Durability, Namespace, Store, Timestamp, VirtualClock};
#[cfg(feature = "wal")]
#[cfg_attr(docsrs, doc(cfg(feature = "wal")))]
pub use resurge_wal::{Lsn, Wal, WalOptions};
pub use status::{PartStatus, Status, StoreStatus};
