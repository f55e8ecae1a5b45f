//! The conformance suite: what every [`StateStore`] promises, as one list of cases.
//!
//! A backend may be claimed only when it passes. One line gives one `#[test]` per case:
//!
//! ```
//! mod memory {
//!     resurge_testkit::conformance!(resurge_store::MemoryStore::in_memory);
//! }
//! ```
//!
//! A function that returns an empty store is a [`Harness`]; a backend that keeps its state implements
//! the trait to be reopened as well. Cases return a [`CaseFailure`] instead of panicking, so that
//! [`check`] can also show that a broken backend is caught.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use resurge_store::{BoxFuture, Result, StateStore, StoreError};

/// Fails a case, with a message, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::CaseFailure::new(format!($($message)+)));
        }
    };
}

/// Fails a case, showing both sides, unless they are equal.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => ensure!(
                *found == *expected,
                "{}: expected {:?}, found {:?}", format!($($what)+), expected, found
            ),
        }
    };
}

mod batches;
mod concurrency;
mod durability;
mod guards;
mod lifecycle;
mod limits;
mod list;
mod maintenance;
mod order;
mod records;
mod scans;
mod subject;
mod watches;

pub use list::CASES;
pub use subject::Subject;

/// How long a case may take before it counts as hanging. No passing case waits for time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the stores one case works on. Made anew for each case.
///
/// Every `Fn() -> impl StateStore` is one, so `MemoryStore::in_memory` is all a backend without a
/// disk needs; see [`opened_by`] for an async function. A backend that keeps its state implements
/// [`reopen`](Self::reopen) too:
///
/// ```
/// use std::sync::Arc;
/// use resurge_store::{BoxFuture, Result, StateStore};
/// use resurge_testkit::SimStore;
/// use resurge_testkit::conformance::Harness;
///
/// struct OnDisk(SimStore);
///
/// impl Harness for OnDisk {
///     fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
///         Box::pin(async { Ok(Arc::new(self.0.clone()) as Arc<dyn StateStore>) })
///     }
///     fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>>>> {
///         let again = self.0.reopen();
///         Some(Box::pin(async { Ok(Arc::new(again) as Arc<dyn StateStore>) }))
///     }
/// }
///
/// mod on_disk {
///     use super::OnDisk;
///     resurge_testkit::conformance!(OnDisk(resurge_testkit::SimStore::new(1)));
/// }
/// # fn main() {}
/// ```
pub trait Harness: Send + Sync + 'static {
    /// Opens an empty store. Called once.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>>;

    /// Opens again what the last store left behind; that one has been closed or dropped. `None`, the
    /// default, for backends that keep nothing: cases that need it then do not apply.
    fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>>>> {
        None
    }
}

impl<F, S> Harness for F
where
    F: Fn() -> S + Send + Sync + 'static,
    S: StateStore,
{
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
        Box::pin(async { Ok(Arc::new(self()) as Arc<dyn StateStore>) })
    }
}

/// A [`Harness`] from an async function, for backends that connect.
///
/// ```
/// use resurge_store::MemoryStore;
/// use resurge_testkit::conformance;
///
/// async fn connect() -> resurge_store::Result<MemoryStore> {
///     Ok(MemoryStore::in_memory())
/// }
/// conformance::check("an_empty_batch_commits", conformance::opened_by(connect)).unwrap();
/// ```
pub fn opened_by<F, Fut, S>(open: F) -> impl Harness
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S>> + Send + 'static,
    S: StateStore,
{
    OpenedBy(move || {
        let opening = open();
        let opened: BoxFuture<'static, _> =
            Box::pin(async move { Ok(Arc::new(opening.await?) as Arc<dyn StateStore>) });
        opened
    })
}

struct OpenedBy<F>(F);

impl<F> Harness for OpenedBy<F>
where
    F: Fn() -> BoxFuture<'static, Result<Arc<dyn StateStore>>> + Send + Sync + 'static,
{
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
        (self.0)()
    }
}

/// Whether a case said something about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend keeps the promise.
    Passed,
    /// The promise is about something this backend does not have.
    NotApplicable(&'static str),
}

/// A broken promise: which, and where it was noticed.
#[derive(Clone, PartialEq, Eq)]
pub struct CaseFailure {
    message: String,
    at: &'static Location<'static>,
}

impl CaseFailure {
    /// A failure noticed by the caller.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: Location::caller() }
    }
}

impl From<StoreError> for CaseFailure {
    #[track_caller]
    fn from(error: StoreError) -> Self {
        Self { message: format!("unexpected error: {error}"), at: Location::caller() }
    }
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.message, self.at)
    }
}

/// As `Display`: this is what a failing `#[test]` shows.
impl fmt::Debug for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for CaseFailure {}

/// One promise.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The promise, as the name of its test.
    pub name: &'static str,
    run: for<'a> fn(&'a Subject) -> BoxFuture<'a, Result<Verdict, CaseFailure>>,
}

impl Case {
    /// Holds the backend to it, on a runtime of its own. A case that takes longer than `patience`
    /// hangs, and that is a failure.
    ///
    /// # Errors
    /// What was broken.
    pub fn check(&self, harness: impl Harness, patience: Duration) -> Result<Verdict, CaseFailure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .map_err(|e| CaseFailure::new(format!("no runtime: {e}")))?;
        let subject = Subject::new(harness);
        let verdict = runtime.block_on(async {
            let case = tokio::time::timeout(patience, (self.run)(&subject)).await;
            case.unwrap_or_else(|_| Err(CaseFailure::new(format!("hangs for {patience:?}"))))
        });
        runtime.shutdown_background();
        verdict
    }
}

/// Checks the case of this name. What the tests of [`conformance!`](crate::conformance!) call.
///
/// ```
/// use resurge_store::MemoryStore;
/// use resurge_testkit::conformance;
/// conformance::check("an_empty_batch_commits", MemoryStore::in_memory).unwrap();
/// assert!(conformance::check("no_such_case", MemoryStore::in_memory).is_err());
/// ```
///
/// # Errors
/// What was broken, or that there is no such case.
pub fn check(name: &str, harness: impl Harness) -> Result<Verdict, CaseFailure> {
    match CASES.iter().find(|case| case.name == name) {
        Some(case) => case.check(harness, PATIENCE),
        None => Err(CaseFailure::new(format!("there is no case `{name}`"))),
    }
}
