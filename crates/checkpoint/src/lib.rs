#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod begin;
mod checkpoints;
mod claim;
mod entry;
mod error;
mod filter;
mod flight;
mod inspect;
mod key;
mod layout;
mod lookup;
mod metrics;
mod observe;
mod options;
mod owner;
mod remove;
mod run;
pub mod stored;

pub use begin::Begin;
pub use checkpoints::Checkpoints;
pub use claim::{Claim, Conflicted};
pub use error::{CheckpointError, Result, RunError};
pub use filter::Filter;
pub use inspect::{CheckpointInfo, CheckpointState, DamagedEntry, Listing};
pub use key::{CheckpointKey, KeyBuilder, MAX_STEP_LEN, MAX_WORKFLOW_LEN, Scope, StepId};
pub use observe::{CheckpointEvent, CheckpointObserver, CheckpointStats, Miss, Outcome};
pub use options::{CheckpointOptions, InDoubt, StepPolicy, StoreFailure};
pub use remove::{Removed, SweptCheckpoints};
