#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod alert;
mod attempt;
mod audit;
mod builder;
mod catch;
mod config;
mod error;
mod execute;
mod failure;
mod health;
mod journal;
mod keeper;
mod machine;
mod manager;
mod meters;
mod repairable;
mod resource;
mod status;
mod strategy;

pub use alert::{Alert, AlertKind, Alerts};
pub use audit::{AttemptOutcome, AuditEvent, AuditRecord, AuditTrail};
pub use builder::ManagerBuilder;
pub use catch::capture_panic_stacks;
pub use config::{
    AlertThresholds, Delay, HealthConfig, Intensity, OnHealthy, RepairOn, ResourceConfig,
    StrategySettings, SupervisorConfig,
};
pub use error::{ExecuteError, SupervisorError};
pub use failure::{Failure, Severity};
pub use health::HealthReport;
pub use machine::History;
pub use manager::RecoveryManager;
pub use repairable::{BoxError, Health, Registration, Repairable};
pub use status::{
    CircuitStatus, HealthStatus, RecoveryStatus, RepairReport, ResourceStatus, ShownDuration,
    ShownTime,
};
pub use strategy::{Builtin, CustomStrategy, Recovered, RecoveryStrategy, RepairContext};

/// The guide's examples, run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/writing-a-strategy.md")]
struct Guide;
