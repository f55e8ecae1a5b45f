#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod builder;
mod error;
mod hooks;
mod indexed;
mod keys;
mod layout;
mod manager;
mod metrics;
mod options;
mod own_store;
mod policy;
mod record_id;
mod serializer;
mod standing;
mod stored;
mod token;

pub use builder::SessionBuilder;
pub use error::{PublicError, Result, SessionError};
pub use hooks::{RecoverEvent, SessionHooks};
pub use indexed::CleanupReport;
pub use manager::{Peeked, Recovered, Saved, SessionInfo, SessionManager};
pub use metrics::SessionStats;
pub use own_store::{StoredState, TokenStore};
pub use policy::{Eviction, OnDuplicate, ReusePolicy, TokenKind};
pub use record_id::RecordId;
pub use serializer::{Format, Serializer, StateValue};
pub use token::Token;
