#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod builder;
#[cfg(feature = "conformance")]
#[cfg_attr(docsrs, doc(cfg(feature = "conformance")))]
pub mod conformance;
mod error;
mod hooks;
mod indexed;
mod keys;
mod layout;
#[cfg(feature = "live")]
#[cfg_attr(docsrs, doc(cfg(feature = "live")))]
pub mod live;
mod manager;
mod metrics;
mod options;
mod own_store;
mod policy;
mod record_id;
mod reseal;
mod serializer;
mod standing;
mod stored;
mod token;
#[cfg(feature = "tower")]
mod tower;

pub use builder::SessionBuilder;
pub use error::{PublicError, Result, SessionError};
pub use hooks::{RecoverEvent, SessionHooks};
pub use indexed::CleanupReport;
#[cfg(feature = "live")]
#[cfg_attr(docsrs, doc(cfg(feature = "live")))]
pub use live::join_token;
pub use manager::{Peeked, Recovered, Saved, SessionInfo, SessionManager};
pub use metrics::SessionStats;
pub use own_store::{StoredState, TokenStore};
pub use policy::{Eviction, OnDuplicate, ReusePolicy, TokenKind};
pub use record_id::RecordId;
pub use reseal::SealedSessions;
pub use serializer::{Format, Serializer, StateValue};
pub use token::Token;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use tower::{Cookie, Recovery, RecoveryStatus, SameSite, SessionLayer, SessionService};

/// The guides' examples, run as doctests.
#[cfg(doctest)]
mod guides {
    #[cfg(feature = "live")]
    #[doc = include_str!("../../../docs/guide/recovering-a-live-connection.md")]
    struct Recovering;
    #[cfg(feature = "live")]
    #[doc = include_str!("../../../docs/live-protocol.md")]
    struct Live;
    #[doc = include_str!("../../../docs/guide/rotating-keys.md")]
    struct Rotating;
    #[doc = include_str!("../../../docs/guide/choosing-a-reuse-policy.md")]
    struct Choosing;
    #[doc = include_str!("../../../docs/guide/session-threat-model.md")]
    struct Threats;
}
