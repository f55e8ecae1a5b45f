//! Every promise of this crate as a case, on a store of yours.
//!
//! ```
//! mod memory {
//!     resurge_session_token::session_conformance!(|| {
//!         std::sync::Arc::new(resurge_store::MemoryStore::in_memory())
//!     });
//! }
//! # fn main() {}
//! ```
//!
//! Cases run in virtual time and return a [`CaseFailure`] instead of panicking, so that [`check`] can also show
//! that a broken store is caught.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use resurge_seal::{KeyRing, SealError};
use resurge_store::{BoxFuture, StateStore, Store, StoreError, VirtualClock};

use crate::{SessionBuilder, SessionError, SessionManager};

/// Fails a case, with a message, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::CaseFailure::new(format!($($message)+)));
        }
    };
}

/// Fails a case unless the result is this error.
macro_rules! ensure_err {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            Err(other) => {
                let what = format!("expected {}, got {other:?}", stringify!($pattern));
                return Err($crate::conformance::CaseFailure::new(what).at(line!()));
            }
            Ok(_) => {
                let what = format!("expected {}, it succeeded", stringify!($pattern));
                return Err($crate::conformance::CaseFailure::new(what).at(line!()));
            }
        }
    };
}

mod hostile;
mod keys;
mod lifecycle;
mod limits;
mod list;
mod reuse;
mod saving;
mod schema;
mod tokens;

pub use list::CASES;

/// Makes the stores one case works on. Every `Fn() -> Arc<impl StateStore>` is one; a store that keeps its state
/// implements the trait, to be opened again as well.
pub trait Harness: Send + Sync + 'static {
    /// Opens an empty store. Called once for each case.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>, StoreError>>;

    /// Opens again what the last one left; that one has been closed. `None`, the default: it keeps nothing.
    fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>, StoreError>>> {
        None
    }
}

impl<F, S> Harness for F
where
    F: Fn() -> Arc<S> + Send + Sync + 'static,
    S: StateStore,
{
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>, StoreError>> {
        Box::pin(async { Ok(self() as Arc<dyn StateStore>) })
    }
}

/// Why a case failed.
#[derive(Clone, PartialEq, Eq)]
pub struct CaseFailure(String);

impl CaseFailure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    pub(crate) fn at(self, line: u32) -> Self {
        Self(format!("line {line}: {}", self.0))
    }
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As `Display`: this is what `unwrap` shows.
impl fmt::Debug for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CaseFailure {}

impl From<SessionError> for CaseFailure {
    #[track_caller]
    fn from(error: SessionError) -> Self {
        Self(format!("{}: {error:?}", std::panic::Location::caller()))
    }
}

impl From<StoreError> for CaseFailure {
    #[track_caller]
    fn from(error: StoreError) -> Self {
        Self(format!("{}: {error}", std::panic::Location::caller()))
    }
}

impl From<SealError> for CaseFailure {
    #[track_caller]
    fn from(error: SealError) -> Self {
        Self(format!("{}: {error}", std::panic::Location::caller()))
    }
}

/// What a case returns.
pub type CaseResult = Result<(), CaseFailure>;

/// One promise.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    run: fn(World) -> BoxFuture<'static, CaseResult>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A store, a virtual clock, and keys.
pub(crate) struct World {
    harness: Arc<dyn Harness>,
    pub(crate) backend: Arc<dyn StateStore>,
    pub(crate) clock: VirtualClock,
    pub(crate) ring: KeyRing,
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn key(n: u8) -> Vec<u8> {
    (n..n + 32).collect()
}

impl World {
    pub(crate) fn store(&self) -> Store {
        Store::from_arc(Arc::clone(&self.backend)).with_clock(self.clock.clone())
    }

    /// A manager without background cleanup.
    pub(crate) fn builder(&self) -> SessionBuilder {
        SessionManager::builder(self.store()).ring(self.ring.clone()).cleanup_interval(None)
    }

    /// Closes the store and opens what it left; false when it keeps nothing.
    pub(crate) async fn restart(&mut self) -> Result<bool, CaseFailure> {
        let harness = Arc::clone(&self.harness);
        let Some(reopening) = harness.reopen() else { return Ok(false) };
        self.backend.close().await?;
        self.backend = reopening.await?;
        Ok(true)
    }
}

/// Runs one case, by name.
///
/// # Errors
/// What it found; that there is no such case; that it hangs.
pub async fn check(name: &str, harness: impl Harness) -> CaseResult {
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        return Err(CaseFailure::new(format!("there is no case `{name}`")));
    };
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let backend = harness.open().await?;
    let ring = KeyRing::from_bytes(1, &key(1))?;
    let world = World { harness, backend, clock: VirtualClock::new(), ring };
    (case.run)(world).await
}

/// A case, run to its end on a runtime of its own. For [`session_conformance!`](crate::session_conformance).
///
/// # Errors
/// As [`check`].
pub fn run(name: &str, harness: impl Harness) -> CaseResult {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CaseFailure::new(e.to_string()))?;
    runtime.block_on(check(name, harness))
}

fn boxed<F>(future: F) -> BoxFuture<'static, CaseResult>
where
    F: Future<Output = CaseResult> + Send + 'static,
{
    Box::pin(future)
}
