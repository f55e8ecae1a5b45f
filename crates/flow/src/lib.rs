#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod child;
mod core;
mod ctx;
mod current;
mod driver;
mod engine;
mod error;
mod flows;
mod gate;
mod handle;
mod inbox;
mod keys;
mod machine;
mod metrics;
mod options;
mod parking;
mod payload;
mod position;
pub mod record;
mod register;
mod retry;
mod runs;
mod signal;
mod start;
mod step;
mod step_error;
mod sweep;
mod timers;
mod values;
mod waits;

pub use ctx::{Ctx, futures};
pub use error::{BlockReason, FlowError, Result};
pub use flows::{Flows, StartReport};
pub use gate::{Admission, Attempt, Gate, IntoGate, Permit, Settled};
pub use handle::RunHandle;
pub use keys::{MAX_FLOW_NAME_LEN, MAX_RUN_ID_LEN};
pub use options::{FlowOptions, FlowsOptions};
pub use payload::Payload;
pub use position::{Kind, MAX_NAME_LEN, MAX_SCOPE_LEN, Position};
pub use retry::Retry;
pub use runs::{RunState, Waiting};
pub use start::FlowRef;
pub use step::{Step, StepInfo};
pub use step_error::{Class, ErrorRecord, FlowResult, StepError, StepErrorKind};
pub use waits::Either;
