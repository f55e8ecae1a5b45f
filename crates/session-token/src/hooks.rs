//! What a service wants to be told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{Result, SessionError};
use crate::serializer::StateValue;

/// Told what happens to sessions. Called after it is durable, on the task that asked; return soon. A hook that
/// panics is reported in the log and changes nothing. It may use the manager, but must not wait for its `close`.
pub trait SessionHooks: Send + Sync + 'static {
    /// A session was recovered.
    fn on_recover(&self, event: &RecoverEvent<'_>) {
        let _ = event;
    }

    /// A recovery failed. The subject is known only if the token is authentic and its session still there.
    fn on_recover_error(&self, subject: Option<&str>, error: &SessionError) {
        let _ = (subject, error);
    }

    /// So many sessions were evicted to make room.
    fn on_evict(&self, sessions: u64) {
        let _ = sessions;
    }
}

/// A session that was recovered.
pub struct RecoverEvent<'a> {
    pub(crate) subject: &'a str,
    pub(crate) age: Duration,
    pub(crate) version: u64,
    pub(crate) state: &'a dyn Fn() -> Result<StateValue>,
}

impl RecoverEvent<'_> {
    /// Whose it is.
    pub fn subject(&self) -> &str {
        self.subject
    }

    /// How long ago it was created.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// The version of its state.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its state.
    ///
    /// # Errors
    /// `Corrupt` when it is no `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        (self.state)()?
            .deserialized()
            .map_err(|_| SessionError::Corrupt("its state is no such value"))
    }
}

/// Without subject and state.
impl std::fmt::Debug for RecoverEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecoverEvent").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Calls a hook; what it panics with stays here.
pub(crate) fn call(hook: impl FnOnce()) {
    quietly("a session hook", || {
        hook();
        Some(())
    });
}

/// Calls what is not ours. A panic is `None`, and a line in the log: it would hit again whenever the client comes back.
pub(crate) fn quietly<T>(what: &'static str, call: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        tracing::error!("{what} panicked");
        None
    })
}
