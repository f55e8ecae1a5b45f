//! The manager: what is shared by all its operations, and how it ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resurge_store::{Store, Timestamp};
use tokio::sync::{Mutex, Notify, RwLock, RwLockReadGuard};
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::builder::SessionBuilder;
use crate::error::{Result, SessionError};
use crate::hooks::SessionHooks;
use crate::keys::Keys;
use crate::metrics::{Metrics, SessionStats};
use crate::options::Options;
use crate::own_store::TokenStore;
use crate::token::purpose_tag;

mod background;
mod create;
mod end;
mod inspect;
mod mint;
mod recover;
mod save;
mod state;
mod verify;

pub use inspect::{Peeked, SessionInfo};
pub use recover::Recovered;
pub use save::Saved;

/// Sessions and their tokens. Cheap to clone; clones are the same manager.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resurge_session_token::SessionManager;
/// use resurge_store::Store;
/// # let key = [7, 1, 8, 2].repeat(8);
/// let sessions = SessionManager::builder(Store::memory()).key(1, &key).build()?;
/// let token = sessions.create("socket-7").await?;
/// sessions.save(&token, &("cart", 3)).await?;
///
/// let back = sessions.recover::<(String, u32)>(&token.expose().into()).await?;
/// assert_eq!(back.state, ("cart".to_owned(), 3));
/// assert_eq!(back.subject, "socket-7");
/// assert_ne!(back.token, token); // the client keeps this one from now on
/// sessions.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SessionManager {
    core: Arc<Core>,
    binding: Option<Arc<[u8]>>,
}

struct Core {
    backend: Backend,
    keys: Keys,
    options: Options,
    /// Of the purpose in `options`.
    purpose_tag: [u8; 8],
    metrics: Metrics,
    hooks: Option<Arc<dyn SessionHooks>>,
    /// Read by every operation while it runs; whoever writes waits for all of them.
    gate: RwLock<()>,
    closed: AtomicBool,
    stop: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager")
            .field("purpose", &self.core.options.purpose)
            .field("bound", &self.binding.is_some())
            .field("ring", self.core.keys.ring())
            .finish_non_exhaustive()
    }
}

impl SessionManager {
    /// Sessions in `store`, with everything this crate can do.
    pub fn builder(store: Store) -> SessionBuilder {
        SessionBuilder::on(store)
    }

    /// Sessions in storage of your own, with what it can do: no limits, no `list`, no `revoke_subject`, no
    /// `revoke_all_before` and no cleanup.
    ///
    /// ```
    /// use resurge_session_token::{ReusePolicy, SessionManager, TokenStore};
    /// fn on(mine: impl TokenStore) -> Result<SessionManager, resurge_session_token::SessionError> {
    ///     let key = [7, 1, 8, 2].repeat(8);
    ///     SessionManager::builder_over(mine).key(1, &key).reuse(ReusePolicy::UntilExpiry).build()
    /// }
    /// ```
    pub fn builder_over(store: impl TokenStore) -> SessionBuilder {
        SessionBuilder::over(Arc::new(store))
    }

    pub(crate) fn start(
        backend: Backend,
        keys: Keys,
        options: Options,
        metrics: Metrics,
        hooks: Option<Arc<dyn SessionHooks>>,
        cleanup: Option<Duration>,
    ) -> Result<Self> {
        let core = Arc::new(Core {
            backend,
            keys,
            purpose_tag: purpose_tag(&options.purpose),
            options,
            metrics,
            hooks,
            gate: RwLock::new(()),
            closed: AtomicBool::new(false),
            stop: Arc::new(Notify::new()),
            task: Mutex::new(None),
        });
        if let Some(interval) = cleanup {
            let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
                SessionError::config("background cleanup needs a tokio runtime; or switch it off")
            })?;
            let task = runtime.spawn(background::run(&core, interval));
            if let Ok(mut slot) = core.task.try_lock() {
                *slot = Some(task);
            }
        }
        Ok(Self { core, binding: None })
    }

    /// The same sessions for one client, named by something only it sends along: a cookie, a certificate's
    /// hash. Tokens made through this work only through it, or through one with the same context.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resurge_session_token::{SessionError, SessionManager};
    /// # let key = [7, 1, 8, 2].repeat(8);
    /// # let sessions = SessionManager::builder(resurge_store::Store::memory()).key(1, &key).build()?;
    /// let token = sessions.bound_to("cookie:abc").create("socket-7").await?;
    /// let other = sessions.bound_to("cookie:xyz").peek::<u8>(&token).await;
    /// assert!(matches!(other, Err(SessionError::WrongBinding)));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn bound_to(&self, context: impl AsRef<[u8]>) -> Self {
        Self { core: Arc::clone(&self.core), binding: Some(context.as_ref().into()) }
    }

    /// What it has done since it was built.
    pub fn stats(&self) -> SessionStats {
        self.core.metrics.stats()
    }

    /// How many sessions are live, expired ones included that are not cleaned up yet.
    ///
    /// # Errors
    /// `Unsupported` with storage of your own; `Closed`; the store's.
    pub async fn live(&self) -> Result<u64> {
        let _open = self.core.open()?;
        let live = self.core.backend.indexed("count")?.live().await?;
        self.core.metrics.set_entries(live);
        Ok(live)
    }

    /// Ends: operations that run are awaited, the background cleanup stops, what was written is made durable.
    /// Calls after it began are `Closed`. Idempotent: whoever calls it waits for the same end. When dropped, it is
    /// closed for new calls all the same.
    ///
    /// # Errors
    /// The store's.
    pub async fn close(&self) -> Result<()> {
        let core = &self.core;
        // ORDER: before anything is awaited, so that it holds whatever becomes of this future.
        core.closed.store(true, Ordering::SeqCst);
        core.stop.notify_one();
        drop(core.gate.write().await);
        let mut task = core.task.lock().await;
        if let Some(running) = task.as_mut()
            && running.await.is_err()
        {
            tracing::error!("the cleanup of sessions had panicked");
        }
        *task = None;
        core.backend.sync().await
    }
}

impl Core {
    /// Held by an operation while it runs.
    fn open(&self) -> Result<RwLockReadGuard<'_, ()>> {
        // Only `close` writes. Nobody waits here: a call from within another one, by a hook, would wait for itself.
        let gate = self.gate.try_read().map_err(|_| SessionError::Closed)?;
        // ORDER: after the gate. A call that does not see it closed is one that `close` waits for.
        if self.closed.load(Ordering::SeqCst) { Err(SessionError::Closed) } else { Ok(gate) }
    }

    fn now(&self) -> u64 {
        self.wall().as_millis()
    }

    fn wall(&self) -> Timestamp {
        self.backend.clock().now()
    }
}
