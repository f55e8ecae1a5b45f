//! Group commit, once for every embedded engine: many callers, one log write, one sync.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    Batch, BoxFuture, Clock, CommitSeq, Durability, Engine, ErrorKind, Key, KeyRange, Namespace,
    Page, Result, ScanOptions, StateStore, StoreError, StoreInfo, SystemClock, Watch,
};

mod committer;
mod completion;
mod gather;
mod pending;
mod publisher;
mod queue;
mod shared;

use committer::Committer;
use queue::Work;
use shared::Shared;

/// A scan page up to this many entries is read in place, a larger one on a blocking thread.
const INLINE_SCAN_ENTRIES: usize = 64;

/// How commits are grouped.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Commits resolve `Unavailable` while this many bytes wait to be published; 64 MiB by default.
    /// A single batch is always admitted when nothing else is pending.
    pub max_pending_bytes: usize,
    /// A group is closed at this many bytes; 16 MiB by default. A larger batch is a group of its own.
    pub max_group_bytes: usize,
    /// `Buffered` commits are synced at the latest this long after they were logged; 500 ms by
    /// default, one second at most.
    pub buffered_sync_interval: Duration,
    /// For the interval above and for metrics.
    pub clock: Arc<dyn Clock>,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            max_pending_bytes: 64 << 20,
            max_group_bytes: 16 << 20,
            buffered_sync_interval: Duration::from_millis(500),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// Makes a [`StateStore`] of an [`Engine`].
///
/// One thread collects what arrived, checks guards, logs and syncs; while it is busy, the next group
/// gathers. Visible and acknowledged is a commit only after `log -> sync -> publish` (`Durable`) or
/// `log -> publish` (`Buffered`), and never before an earlier commit is. The next group is logged
/// while the last one is published.
///
/// A failed log or sync poisons the store: the commits in it are `Indeterminate`, later calls
/// `Closed`, and only a reopen through recovery goes on. Dropping it makes everything submitted
/// durable and joins its threads; call [`close`](StateStore::close) first where blocking matters.
pub struct GroupCommit<E: Engine> {
    shared: Arc<Shared<E>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl<E: Engine> GroupCommit<E> {
    /// Starts the committer thread over `engine`.
    ///
    /// # Errors
    /// `Invalid` for options out of range, `Unavailable` when the thread cannot be started.
    pub fn new(engine: E, options: GroupOptions) -> Result<Self> {
        if options.buffered_sync_interval > Duration::from_secs(1) {
            let got = options.buffered_sync_interval;
            return Err(StoreError::invalid(format!(
                "buffered_sync_interval is {got:?}; at most 1s keeps what Buffered promises"
            )));
        }
        let store = Self::start(engine, options);
        match store.poisoned() {
            None => Ok(store),
            Some(e) => Err(e),
        }
    }

    /// As [`new`](Self::new) for options known to be right. Without a thread the store is poisoned.
    pub(crate) fn start(engine: E, options: GroupOptions) -> Self {
        let shared = Arc::new(Shared::new(engine, options));
        let committer = Committer::new(Arc::clone(&shared));
        let thread = thread::Builder::new().name("resurge-commit".to_owned());
        let handle = thread.spawn(move || committer.run()).map_err(|e| {
            let message = "cannot start the committer thread";
            shared.poison(&StoreError::with_source(ErrorKind::Unavailable, message, e));
        });
        Self { shared, committer: Mutex::new(handle.ok()) }
    }

    /// The engine, for its own status and maintenance calls.
    pub fn engine(&self) -> &E {
        &self.shared.engine
    }

    /// Why the store refuses calls, when it does because of a failure.
    pub fn poisoned(&self) -> Option<StoreError> {
        self.shared.poison_cause()
    }
}

impl<E: Engine> StateStore for GroupCommit<E> {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let result = self.shared.check_open().and_then(|()| self.shared.engine.get(key));
        Box::pin(std::future::ready(result))
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        if let Err(closed) = self.shared.check_open() {
            return Box::pin(std::future::ready(Err(closed)));
        }
        let inline =
            options.max_entries <= INLINE_SCAN_ENTRIES || !self.shared.engine.scans_block();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !inline => {
                let shared = Arc::clone(&self.shared);
                let page = runtime.spawn_blocking(move || shared.engine.scan(&range, &options));
                Box::pin(async move {
                    page.await.unwrap_or_else(|e| {
                        let message = "the runtime stopped during a scan";
                        Err(StoreError::with_source(ErrorKind::Unavailable, message, e))
                    })
                })
            }
            _ => Box::pin(std::future::ready(self.shared.engine.scan(&range, &options))),
        }
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        match batch.validate().and_then(|()| self.shared.submit(Work::Commit(batch, durability))) {
            Ok(outcome) => Box::pin(outcome),
            Err(e) => Box::pin(std::future::ready(Err(e))),
        }
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        match self.shared.submit(Work::Sync) {
            Ok(outcome) => Box::pin(async move { outcome.await.map(|_| ()) }),
            Err(e) => Box::pin(std::future::ready(Err(e))),
        }
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.shared.watches.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.shared.engine.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        let closed = self.shared.begin_close();
        Box::pin(async move { closed.await.map(|_| ()) })
    }
}

impl<E: Engine> Drop for GroupCommit<E> {
    fn drop(&mut self) {
        drop(self.shared.begin_close());
        // A waker run by one of our own threads may hold the last handle: it cannot join itself.
        let own = self.shared.is_own_thread();
        if let Some(handle) = self.committer.lock().take().filter(|_| !own)
            && handle.join().is_err()
        {
            tracing::error!("the committer thread panicked");
        }
    }
}

impl<E: Engine> fmt::Debug for GroupCommit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("engine", &self.shared.engine).finish_non_exhaustive()
    }
}
