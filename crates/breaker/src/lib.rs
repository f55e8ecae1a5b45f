#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod breaker;
mod builder;
mod config;
mod control;
mod engine;
mod error;
mod event;
mod machine;
mod meters;
mod outcome;
mod permit;
mod persist;
mod record;
mod registry;
mod repair;
mod report;
mod run;
mod share;
mod shared;
mod stage;
mod state;
mod sync;
mod tower;
mod transition;
mod wait;
mod window;
mod word;

pub use breaker::Breaker;
pub use builder::{BreakerBuilder, OnUnreadable};
pub use config::{
    BreakerConfig, DropPolicy, HalfOpenConfig, OnMaxWait, OpenConfig, Rate, Trip, Verdict, Window,
};
pub use error::{BreakerError, BuildError, ConfigError, IllegalTransition, Rejected, TimedOut};
pub use event::{BreakerEvent, Events};
pub use machine::{BreakerRecord, Restored};
pub use outcome::{ByResult, Classify, FailureKind, Outcome};
pub use permit::Permit;
pub use registry::{BreakerRegistry, RegistryOptions};
pub use repair::Repair;
pub use report::{BreakerMetrics, WindowMetrics};
pub use stage::{StagedTransition, TransitionCommit};
pub use state::{Mode, State};
pub use tower::{
    AsError, AsResponse, BreakerFuture, BreakerLayer, BreakerService, OnRefused, Refused,
};
pub use transition::{Reason, Transition};

/// The guide's examples, run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/breaker-thresholds.md")]
#[doc = include_str!("../../../docs/guide/breaker-in-tower.md")]
struct Guide;
