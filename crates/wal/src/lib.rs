#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod append;
mod chain;

mod driver;
mod error;
mod head;
mod intake;
mod keys;
mod log;
mod lsn;
mod metrics;
mod open;
mod options;
mod page;
mod replay;
mod salvage;
mod settle;
mod stage;
mod truncate;
mod verify;
mod wal;
mod walk;

pub mod inspect;

pub use append::{Append, AppendAll};
pub use error::{Damage, DamageKind, Result, WalError};
pub use lsn::Lsn;
pub use open::WalReport;
pub use options::{Claim, Policy, WalOptions};
pub use replay::{Replay, Tail};
pub use salvage::Salvaged;
pub use stage::{Stage, Staged, StagedCommit, Tickets};
pub use truncate::{Truncated, remove};
pub use verify::VerifyReport;
pub use wal::Wal;
