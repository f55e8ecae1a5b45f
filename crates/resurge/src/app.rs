//! The app: one store opened once, everything on it, one way to end.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_store::{BoxFuture, Store};

use crate::builder::Builder;
use crate::error::{Error, Result};

/// One store, opened once, and what lives on it.
///
/// Cheap to clone; clones are the same app. Handles it gives out (logs, snapshots, journals) stay
/// usable until [`shutdown`](Self::shutdown).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("state");
/// let app = resurge::Resurge::open(&path).await?;
/// let (audit, _) = app.wal::<String>("audit").await?;
/// audit.append(&"service started".to_owned()).await?; // on disk when it returns
/// app.shutdown().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Resurge {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    store: Store,
    #[cfg(feature = "sled")]
    embedded: Option<Embedded>,
    opened: Mutex<Opened>,
    #[cfg(feature = "checkpoint")]
    pub(crate) checkpoints: tokio::sync::OnceCell<resurge_checkpoint::Checkpoints>,
    #[cfg(feature = "flow")]
    pub(crate) flows: crate::flows::Slot,
    #[cfg(feature = "breaker")]
    pub(crate) breakers: crate::breakers::Slot,
    #[cfg(feature = "supervisor")]
    pub(crate) supervisor: crate::supervised::Slot,
    #[cfg(feature = "seal")]
    pub(crate) sealer: resurge_seal::Sealer,
    /// Held by whoever shuts down, so that a second caller waits for the first.
    ending: tokio::sync::Mutex<bool>,
}

#[derive(Default)]
struct Opened {
    names: HashSet<(&'static str, String)>,
    parts: Vec<Part>,
    ended: bool,
}

/// Something that ends before the store does, and says how it is.
pub(crate) struct Part {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// Smaller ones end first.
    pub(crate) order: u8,
    pub(crate) close: Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>,
    pub(crate) status: Box<dyn Fn() -> crate::status::PartStatus + Send + Sync>,
}

/// The embedded store and how it was found.
#[cfg(feature = "sled")]
#[derive(Debug)]
pub(crate) struct Embedded {
    pub(crate) store: Arc<resurge_store_sled::SledStore>,
    pub(crate) report: resurge_store_sled::OpenReport,
}

#[cfg(not(feature = "sled"))]
type Embedded = std::convert::Infallible;

impl Resurge {
    /// Opens the embedded store in `path` with the default settings, or creates it.
    ///
    /// # Errors
    /// As [`Builder::open`].
    #[cfg(feature = "sled")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
    pub async fn open(path: impl Into<std::path::PathBuf>) -> Result<Self> {
        Self::builder().open(path).await
    }

    /// Runs in memory: nothing survives the process. For tests.
    pub fn in_memory() -> Self {
        Self::builder().in_memory()
    }

    /// Other settings than the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    #[cfg_attr(
        not(all(feature = "sled", any(feature = "flow", feature = "seal", feature = "breaker"))),
        expect(unused_variables, reason = "without the feature there is nothing to keep")
    )]
    pub(crate) fn new(store: Store, embedded: Option<Embedded>, builder: Builder) -> Self {
        #[cfg(feature = "flow")]
        let (flows, sealer) = {
            let mut flows = builder.flows;
            let sealer = builder.sealer.unwrap_or_else(|| flows.sealer.clone());
            flows.sealer = sealer.clone();
            (flows, sealer)
        };
        #[cfg(all(feature = "seal", not(feature = "flow")))]
        let sealer = builder.sealer.unwrap_or_default();
        let inner = Inner {
            store,
            #[cfg(feature = "sled")]
            embedded,
            opened: Mutex::default(),
            #[cfg(feature = "checkpoint")]
            checkpoints: tokio::sync::OnceCell::new(),
            #[cfg(feature = "flow")]
            flows: crate::flows::Slot::new(flows),
            #[cfg(feature = "breaker")]
            breakers: crate::breakers::Slot::new(builder.breakers),
            #[cfg(feature = "supervisor")]
            supervisor: crate::supervised::Slot::new(builder.supervisor, builder.strategies),
            #[cfg(feature = "seal")]
            sealer,
            ending: tokio::sync::Mutex::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The ring and policy the app was opened with.
    #[cfg(feature = "seal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
    pub fn sealer(&self) -> &resurge_seal::Sealer {
        &self.inner.sealer
    }

    /// The store, for data of your own.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What opening the embedded store found and did; `None` on another store.
    #[cfg(feature = "sled")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
    pub fn open_report(&self) -> Option<&resurge_store_sled::OpenReport> {
        self.inner.embedded.as_ref().map(|embedded| &embedded.report)
    }

    /// Copies the embedded store into `dest`, a directory that is absent or empty, while everything
    /// goes on. As [`SledStore::backup`](resurge_store_sled::SledStore::backup).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, dest) = (dir.path().join("state"), dir.path().join("backup"));
    /// let app = resurge::Resurge::open(&path).await?;
    /// println!("{}", app.backup(&dest).await?);
    /// app.shutdown().await?;
    ///
    /// let restored = resurge::Resurge::open(&dest).await?;
    /// # restored.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there; `Invalid` on another store.
    #[cfg(feature = "sled")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
    pub async fn backup(
        &self,
        dest: impl Into<std::path::PathBuf>,
    ) -> Result<resurge_store_sled::BackupReport> {
        let Some(embedded) = &self.inner.embedded else {
            let what = "only the embedded store is backed up here";
            return Err(resurge_store::StoreError::invalid(what).into());
        };
        Ok(embedded.store.backup(dest).await?)
    }

    #[cfg(feature = "sled")]
    pub(crate) fn embedded(&self) -> Option<&Embedded> {
        self.inner.embedded.as_ref()
    }

    /// Ends in order: the supervisor stops, flows stop at a step's boundary, breakers write down their
    /// state, journals take a final snapshot and close, then
    /// logs, then the store, which makes
    /// everything submitted durable. Later calls on any handle answer that it is closed.
    ///
    /// Idempotent: a second call waits for the first and is `Ok`. Not cancel safe: when dropped, what
    /// was not ended yet ends with its last handle, without a final snapshot. Nothing acknowledged is
    /// lost either way.
    ///
    /// # Errors
    /// The first error met; the rest is ended all the same.
    pub async fn shutdown(&self) -> Result<()> {
        let mut ended = self.inner.ending.lock().await;
        if *ended {
            return Ok(());
        }
        let mut parts = {
            let mut opened = self.inner.opened.lock();
            opened.ended = true;
            std::mem::take(&mut opened.parts)
        };
        parts.sort_by_key(|part| part.order);
        let mut first_error = None;
        for part in parts {
            if let Err(error) = (part.close)().await {
                tracing::error!(kind = part.kind, name = part.name, %error, "did not end cleanly");
                first_error.get_or_insert(error);
            }
        }
        // ORDER: the store last; everything above writes to it until it is closed.
        if let Err(error) = self.inner.store.close().await {
            tracing::error!(%error, "the store did not end cleanly");
            first_error.get_or_insert(error.into());
        }
        *ended = true;
        tracing::info!("shut down");
        first_error.map_or(Ok(()), Err)
    }

    /// Reserves `name` for one handle.
    pub(crate) fn claim(&self, kind: &'static str, name: &str) -> Result<Claim> {
        let mut opened = self.inner.opened.lock();
        if opened.ended {
            return Err(Error::ShutDown);
        }
        if !opened.names.insert((kind, name.to_owned())) {
            return Err(Error::AlreadyOpen { kind, name: name.to_owned() });
        }
        Ok(Claim { app: self.clone(), kind, name: name.to_owned(), kept: false })
    }

    pub(crate) fn part_statuses(&self) -> Vec<crate::status::PartStatus> {
        self.inner.opened.lock().parts.iter().map(|part| (part.status)()).collect()
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.inner.opened.lock().ended
    }
}

/// A reserved name; given back when opening fails.
pub(crate) struct Claim {
    app: Resurge,
    kind: &'static str,
    name: String,
    kept: bool,
}

impl Claim {
    /// Opening succeeded: ends `part` at shutdown. When that came first, `part` is given back, to be
    /// ended by the caller.
    pub(crate) fn keep(mut self, part: Part) -> std::result::Result<(), Part> {
        let mut opened = self.app.inner.opened.lock();
        if opened.ended {
            return Err(part);
        }
        opened.parts.push(part);
        drop(opened);
        self.kept = true;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            let name = std::mem::take(&mut self.name);
            self.app.inner.opened.lock().names.remove(&(self.kind, name));
        }
    }
}

impl fmt::Debug for Resurge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resurge").field("store", &self.inner.store).finish_non_exhaustive()
    }
}
