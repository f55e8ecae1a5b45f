#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod begin;
mod chunks;
mod clean;
mod error;
mod layout;
mod load;
mod manifest;
mod metrics;
mod options;
mod snapshots;
mod take;

pub mod inspect;

pub use error::{Result, SnapshotError};
pub use load::{Latest, Loaded, OldState};
pub use manifest::{Damaged, Listing, SnapshotId, SnapshotInfo};
pub use options::SnapshotOptions;
pub use snapshots::Snapshots;
pub use take::Prepared;
