//! The settings a manager works with, checked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::hooks::quietly;
use crate::policy::{OnDuplicate, ReusePolicy, TokenKind};
use crate::serializer::{Format, StateValue};

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) purpose: String,
    pub(crate) kind: TokenKind,
    pub(crate) reuse: ReusePolicy,
    pub(crate) duplicate: OnDuplicate,
    pub(crate) lifetime: Lifetime,
    pub(crate) leeway: Duration,
    pub(crate) max_state: usize,
    pub(crate) max_token_len: usize,
    pub(crate) format: Format,
    pub(crate) known: Vec<Format>,
    pub(crate) schema: u32,
    /// By the version they begin with.
    pub(crate) migrations: BTreeMap<u32, Migration>,
    pub(crate) seal: bool,
    pub(crate) require_binding: bool,
}

/// In milliseconds; `idle` is not above `absolute`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) idle: u64,
    pub(crate) absolute: u64,
}

impl Lifetime {
    /// The deadline after a use at `now`.
    pub(crate) fn deadline(self, now: u64, absolute_end: u64) -> u64 {
        now.saturating_add(self.idle).min(absolute_end)
    }

    /// Whether moving a deadline is worth a write: by a tenth of the idle lifetime or more.
    pub(crate) fn worth(self, old: u64, new: u64) -> bool {
        new.saturating_sub(old) >= (self.idle / 10).max(1)
    }
}

/// One step from a version of the state to the next.
pub(crate) type MigrationStep = dyn Fn(StateValue) -> Result<StateValue, String> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Migration(pub(crate) Arc<MigrationStep>);

impl Migration {
    /// `None` when it fails or panics.
    pub(crate) fn run(&self, value: StateValue) -> Option<StateValue> {
        quietly("a migration of sessions", || (self.0)(value).ok())
    }
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Migration")
    }
}
