#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backup;
mod ballast;
mod boot;
mod core;
mod drain;
mod engine;
mod error;
mod failure;
mod image;
mod index;
mod layout;
mod maintenance;
mod offline;
mod open;
mod options;
mod overlay;
mod quarantine;
mod report;
mod space;
mod status;
mod store;
mod super_file;
mod verify;
mod view;

pub use backup::BackupReport;
pub use drain::Drainer;
pub use engine::SledEngine;
pub use image::ImageInfo;
pub use index::{
    Change, Digest, Index, IndexError, IndexErrorKind, IndexFactory, IndexMeta, IndexResult,
    OpenedIndex, SledIndex, SledIndexFactory, SledIndexOptions,
};
pub use offline::{Loaded, Offline, OfflineError};
pub use options::{IndexKind, Maintenance, Recovery, SledOptions, Verify};
pub use overlay::{OnIndexFailure, Overlay, OverlayOptions, OverlayStatus};
pub use quarantine::QuarantineStatus;
pub use report::{How, OpenReport, SkippedImage};
pub use status::{OverlayLoad, SledStatus};
pub use store::SledStore;
pub use verify::{Finding, IndexCheck, SegmentSummary, Severity, VerifyReport};

/// The guide's examples, run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/backup.md")]
struct Guide;
