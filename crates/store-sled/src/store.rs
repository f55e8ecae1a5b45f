//! [`SledStore`]: the embedded store as users open it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, ErrorKind, GroupCommit, Key, KeyRange, Namespace,
    Page, Result, ScanOptions, StateStore, StoreError, StoreInfo, Watch,
};

use crate::image::ImageInfo;
use crate::{BackupReport, OpenReport, SledEngine, SledOptions, SledStatus};

/// Above this a single batch could not be a frame of the log.
const MAX_GROUP: usize = 64 << 20;

/// The embedded, crash-safe store: a directory, one process at a time.
///
/// What [`Durability::Durable`] acknowledged survives `kill -9`, an OS crash and power loss. Use it
/// through [`Store`](resurge_store::Store).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_store::StoreError> {
/// use resurge_store::{Batch, Durability, Namespace, StateStore};
/// use resurge_store_sled::{SledOptions, SledStore};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("state");
/// let (store, report) = SledStore::open(&path, SledOptions::new()).await?;
/// println!("{report}");
/// let key = Namespace::new("app")?.key("greeting")?;
/// let mut batch = Batch::new();
/// batch.put(key.clone(), "hello");
/// store.commit(batch, Durability::Durable).await?;
/// store.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SledStore {
    inner: Arc<GroupCommit<SledEngine>>,
}

impl SledStore {
    /// Opens the store in `path`, or creates it when the directory is absent or empty. Works on a
    /// blocking thread of the runtime; when the future is dropped, it opens and closes all the same.
    ///
    /// # Errors
    /// As [`SledEngine::open`].
    pub async fn open(
        path: impl Into<PathBuf>,
        options: SledOptions,
    ) -> Result<(Self, OpenReport)> {
        let path = path.into();
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(path, options));
        opened.await.unwrap_or_else(|e| Err(stopped(e)))
    }

    /// The same on this thread.
    ///
    /// # Errors
    /// As [`SledEngine::open`].
    pub fn open_blocking(
        path: impl AsRef<Path>,
        options: SledOptions,
    ) -> Result<(Self, OpenReport)> {
        let mut group = options.group.clone();
        group.max_group_bytes = group.max_group_bytes.min(MAX_GROUP);
        let (engine, report) = SledEngine::open(path, options)?;
        let inner = Arc::new(GroupCommit::new(engine, group)?);
        Ok((Self { inner }, report))
    }

    /// Takes an image now, on a blocking thread; for backups and tests, images come by themselves.
    /// Cancel safe: once polled it is finished even if dropped.
    ///
    /// # Errors
    /// As [`SledEngine::image_now`].
    pub async fn image_now(&self) -> Result<ImageInfo> {
        let inner = Arc::clone(&self.inner);
        let taken = tokio::task::spawn_blocking(move || inner.engine().image_now());
        taken.await.unwrap_or_else(|e| Err(stopped(e)))
    }

    /// Copies the store into `dest`, a directory that is absent or empty, while commits go on.
    ///
    /// The copy is the state after one commit: [`seq`](BackupReport::seq), no earlier than the last
    /// one acknowledged before the call. It is synced and read back before this returns, is a store
    /// of its own, with an id of its own, and can be opened as it is or restored by
    /// [`Offline::restore`](crate::Offline::restore). Its super file is written last: without one it
    /// is no backup.
    ///
    /// Images are not taken meanwhile, so the log grows until it is done; readers and commits do not
    /// wait. Works on a blocking thread. Cancel safe: once polled it is finished even if dropped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_store::StoreError> {
    /// # use resurge_store::StateStore;
    /// use resurge_store_sled::{SledOptions, SledStore};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, dest) = (dir.path().join("state"), dir.path().join("backup"));
    /// let (store, _) = SledStore::open(&path, SledOptions::new()).await?;
    /// let report = store.backup(&dest).await?;
    /// println!("{report}");
    /// # store.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Invalid` when `dest` holds something or lies inside the store; `Full` when there is no room
    /// for it; `Closed` when the store is closing; `Corrupt` when what is to be copied, or the copy,
    /// is damaged; `Unavailable` when the file system fails. Then `dest` is empty again, if it can be
    /// emptied, and the store goes on.
    pub async fn backup(&self, dest: impl Into<PathBuf>) -> Result<BackupReport> {
        let (inner, dest) = (Arc::clone(&self.inner), dest.into());
        let taken = tokio::task::spawn_blocking(move || inner.engine().backup(dest));
        taken.await.unwrap_or_else(|e| Err(stopped(e)))
    }

    /// What it looks like now. Lists the quarantine directory, nothing else on disk.
    pub fn status(&self) -> SledStatus {
        self.inner.engine().status()
    }
}

fn stopped(e: tokio::task::JoinError) -> StoreError {
    StoreError::with_source(ErrorKind::Unavailable, "the runtime stopped or the call panicked", e)
}

impl StateStore for SledStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        self.inner.commit(batch, durability)
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}
