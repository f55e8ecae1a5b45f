#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod callback;
mod child;
mod core;
mod ctx;
mod current;
mod driver;
mod engine;
mod error;
mod fan_out;
mod flows;
mod gate;
mod graph;
mod handle;
mod inbox;
mod keys;
mod list;
mod machine;
mod memo;
mod metrics;
mod options;
mod owner;
mod parking;
mod payload;
mod position;
pub mod record;
mod register;
pub mod replay;
mod reseal;
mod resource;
mod retry;
mod runs;
mod signal;
mod start;
mod step;
mod step_error;
mod sweep;
mod time_limit;
mod timers;
mod values;
mod waits;

pub use callback::{Callback, CallbackInfo, Level};
pub use ctx::{Ctx, futures};
pub use error::{BlockReason, FlowError, Result};
pub use flows::{Flows, StartReport};
pub use gate::{Admission, Attempt, Gate, IntoGate, Permit, Settled};
pub use graph::{Graph, GraphBuilder, GraphError, Node, NodeResults};
pub use handle::RunHandle;
pub use keys::{MAX_FLOW_NAME_LEN, MAX_RUN_ID_LEN, MAX_SIGNAL_ID_LEN};
pub use list::{FlowsStatus, RunFilter, RunInfo};
pub use options::{FlowOptions, FlowsOptions};
pub use payload::Payload;
pub use position::{Kind, MAX_NAME_LEN, MAX_SCOPE_LEN, Position};
pub use reseal::SealedRuns;
pub use resource::{Attached, Resource};
pub use resurge_checkpoint::{InDoubt, Scope, StepPolicy, StoreFailure};
pub use retry::Retry;
pub use runs::{RunState, Waiting};
pub use start::FlowRef;
pub use step::{Step, StepInfo};
pub use step_error::{Class, ErrorRecord, FlowResult, StepError, StepErrorKind};
pub use waits::Either;

/// The guide's examples, run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/larger-flows.md")]
struct Guide;
