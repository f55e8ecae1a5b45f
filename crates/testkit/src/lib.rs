#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod conformance;
mod evidence;
mod fault;
pub mod kill;
mod mangle;
pub mod sim;
mod sim_index;
mod sim_vfs;

pub use evidence::evidence;
pub use fault::{Call, Fault, FaultStore};
pub use mangle::mangle;
pub use sim::{Failure, SimStore, enumerate};
pub use sim_index::{IndexFate, SimIndex};
pub use sim_vfs::{DiskFault, DiskLoss, SimOp, SimOpKind, SimVfs};
