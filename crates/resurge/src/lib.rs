#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(any(
        feature = "wal",
        feature = "snapshot",
        feature = "checkpoint",
        feature = "breaker",
        feature = "session-token"
    )),
    expect(dead_code, reason = "without any part there is nothing to reserve a name for")
)]

mod app;
#[cfg(feature = "breaker")]
mod breakers;
mod builder;
mod error;
#[cfg(feature = "flow")]
mod flows;
#[cfg(any(feature = "wal", feature = "snapshot", feature = "checkpoint"))]
mod parts;
#[cfg(feature = "session-token")]
mod sessions;
mod status;
#[cfg(feature = "supervisor")]
mod supervised;

#[cfg(feature = "breaker")]
#[cfg_attr(docsrs, doc(cfg(feature = "breaker")))]
#[doc(inline)]
pub use resurge_breaker as breaker;
#[cfg(feature = "checkpoint")]
#[cfg_attr(docsrs, doc(cfg(feature = "checkpoint")))]
#[doc(inline)]
pub use resurge_checkpoint as checkpoint;
#[cfg(feature = "flow")]
#[cfg_attr(docsrs, doc(cfg(feature = "flow")))]
#[doc(inline)]
pub use resurge_flow as flow;
#[cfg(feature = "journal")]
#[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
#[doc(inline)]
pub use resurge_journal as journal;
#[cfg(feature = "seal")]
#[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
#[doc(inline)]
pub use resurge_seal as seal;
#[cfg(feature = "session-token")]
#[cfg_attr(docsrs, doc(cfg(feature = "session-token")))]
#[doc(inline)]
pub use resurge_session_token as session_token;
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
#[cfg(feature = "supervisor")]
#[cfg_attr(docsrs, doc(cfg(feature = "supervisor")))]
#[doc(inline)]
pub use resurge_supervisor as supervisor;
#[cfg(feature = "wal")]
#[cfg_attr(docsrs, doc(cfg(feature = "wal")))]
#[doc(inline)]
pub use resurge_wal as wal;

pub use app::Resurge;
pub use builder::Builder;
pub use error::{Error, Result};
#[cfg(feature = "breaker")]
#[cfg_attr(docsrs, doc(cfg(feature = "breaker")))]
pub use resurge_breaker::{Breaker, BreakerConfig, BreakerError, BreakerLayer, RegistryOptions};
#[cfg(feature = "checkpoint")]
#[cfg_attr(docsrs, doc(cfg(feature = "checkpoint")))]
pub use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints, StepPolicy};
#[cfg(feature = "flow")]
#[cfg_attr(docsrs, doc(cfg(feature = "flow")))]
pub use resurge_flow::{
    Ctx, FlowError, FlowOptions, FlowRef, FlowResult, Flows, FlowsOptions, Graph, Retry, RunFilter,
    RunHandle, RunState, StepError, StepInfo,
};
#[cfg(feature = "journal")]
#[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
pub use resurge_journal::{JournalOptions, Journaled, PlainMachine, StateMachine};
#[cfg(feature = "seal")]
#[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
pub use resurge_seal::{KeyRing, Sealer, Sensitive, SensitivePolicy};
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use resurge_session_token::Recovery;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use resurge_session_token::SessionLayer;
#[cfg(feature = "session-token")]
#[cfg_attr(docsrs, doc(cfg(feature = "session-token")))]
pub use resurge_session_token::{ReusePolicy, SessionBuilder, SessionError, SessionManager, Token};
#[cfg(feature = "snapshot")]
#[cfg_attr(docsrs, doc(cfg(feature = "snapshot")))]
pub use resurge_snapshot::{SnapshotOptions, Snapshots};
pub use resurge_store::{Clock, Durability, Namespace, Store, Timestamp, VirtualClock};
#[cfg(feature = "supervisor")]
#[cfg_attr(docsrs, doc(cfg(feature = "supervisor")))]
pub use resurge_supervisor::{RecoveryManager, Repairable, SupervisorConfig};
#[cfg(feature = "wal")]
#[cfg_attr(docsrs, doc(cfg(feature = "wal")))]
pub use resurge_wal::{Lsn, Wal, WalOptions};
pub use status::{PartStatus, Status, StoreStatus};

/// The guide's examples, run as doctests.
#[cfg(all(doctest, feature = "flow", feature = "breaker"))]
mod guide {
    #[doc = include_str!("../../../docs/guide/first-flow.md")]
    struct FirstFlow;
    #[doc = include_str!("../../../docs/guide/retries-and-idempotency.md")]
    struct RetriesAndIdempotency;
    #[doc = include_str!("../../../docs/guide/breaker-in-a-flow.md")]
    struct BreakerInAFlow;
    #[doc = include_str!("../../../docs/guide/secrets.md")]
    struct Secrets;
    #[doc = include_str!("../../../docs/guide/failure-and-resume.md")]
    struct FailureAndResume;
}
