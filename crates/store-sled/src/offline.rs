//! Tools for a store that nobody has open.

mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use resurge_commit_log::{LockError, Vfs, VfsLock};
use resurge_store::{ErrorKind, Store, StoreError};

use crate::backup::{Copying, Source};
use crate::error::io_error;
use crate::layout::Layout;
use crate::verify::{self, Checked, Severity};
use crate::{BackupReport, SledOptions, VerifyReport};

/// Why an [`Offline`] tool did nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// A process, perhaps this one, has it open. A store that is open is backed up by
    /// [`SledStore::backup`](crate::SledStore::backup).
    #[error("{} is in use: a process has it open ({} is locked)", path.display(), path.join("LOCK").display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is absent, or holds no store.
    #[error("{} is no store: {what}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Acknowledged commits cannot be read: nothing is built from that. See
    /// [`Recovery::Salvage`](crate::Recovery::Salvage).
    #[error("{} is damaged: {}", report.path.display(), first(report))]
    Damaged {
        /// Everything that was found.
        report: Box<VerifyReport>,
    },
    /// As its [`kind`](StoreError::kind) says: `Invalid` for a destination that cannot be used,
    /// `Full`, `Unavailable` when the file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first(report: &VerifyReport) -> String {
    report.findings.first().map(ToString::to_string).unwrap_or_default()
}

impl From<OfflineError> for StoreError {
    fn from(error: OfflineError) -> Self {
        let kind = match &error {
            OfflineError::Store(e) => return e.clone(),
            OfflineError::InUse { .. } => ErrorKind::Unavailable,
            OfflineError::NotAStore { .. } => ErrorKind::Invalid,
            OfflineError::Damaged { .. } => ErrorKind::Corrupt,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

/// A state that was read without opening the store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// What its files look like.
    pub report: VerifyReport,
    /// The state, in memory. Every commit to it is refused. `None` when acknowledged commits are
    /// damaged.
    pub store: Option<Store>,
}

/// Verifies, copies and reads a store that nobody has open. All of it blocks.
///
/// The store is locked meanwhile, and nothing in it is changed.
///
/// ```
/// use resurge_store_sled::{Offline, SledOptions, SledStore};
/// # let dir = tempfile::tempdir()?;
/// # let (path, copy) = (dir.path().join("state"), dir.path().join("copy"));
/// let (store, _) = SledStore::open_blocking(&path, SledOptions::new())?;
/// let offline = Offline::new();
/// assert!(offline.verify(&path).is_err(), "it is in use");
/// drop(store);
///
/// let report = offline.verify(&path)?;
/// assert!(report.is_intact(), "{report}");
/// let restored = offline.restore(&path, &copy)?;
/// assert_eq!(restored.seq.0, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Offline {
    options: SledOptions,
    scratch: Option<PathBuf>,
}

impl Offline {
    /// For the operating system's file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// With file system, clock, entropy and segment sizes of these options.
    #[must_use]
    pub fn options(mut self, options: SledOptions) -> Self {
        self.options = options;
        self
    }

    /// Lets [`verify`](Self::verify) check a copy of the sled index, too: sled cannot read one
    /// without writing to it. `scratch` is created, and removed again; it must not exist. Without it
    /// the index is left out: it proves itself whenever the store is opened.
    #[must_use]
    pub fn check_index_in(mut self, scratch: impl Into<PathBuf>) -> Self {
        self.scratch = Some(scratch.into());
        self
    }

    /// Reads every byte of super file, log, images and ballast, and checks it. What is in quarantine
    /// and what is no file of a store is listed. Damage is in the report, as is a file that cannot be
    /// read.
    ///
    /// # Errors
    /// `InUse`, `NotAStore`; `Store` when a directory cannot be listed or locked, or the copy of the
    /// index not written.
    pub fn verify(&self, path: impl AsRef<Path>) -> Result<VerifyReport, OfflineError> {
        let layout = Layout::new(path.as_ref());
        let _lock = self.lock(&layout)?;
        Ok(self.check(&layout, self.scratch.as_deref())?.report)
    }

    /// Copies the store or backup in `backup` into `dest`, a directory that is absent or empty, and
    /// reads the copy back.
    ///
    /// The copy has an id of its own: no file of another copy, or of the original, which have gone
    /// different ways since, is ever taken for one of it. Sequence numbers go on after the last one
    /// restored. Damaged images are done without, if the log allows it; an unacknowledged tail of the
    /// log is left behind.
    ///
    /// # Errors
    /// `InUse`, `NotAStore`, `Damaged`; otherwise as [`SledStore::backup`](crate::SledStore::backup).
    /// Then `dest` is empty again, if it can be emptied.
    pub fn restore(
        &self,
        backup: impl AsRef<Path>,
        dest: impl AsRef<Path>,
    ) -> Result<BackupReport, OfflineError> {
        let layout = Layout::new(backup.as_ref());
        let _lock = self.lock(&layout)?;
        let checked = self.usable(&layout)?;
        let source = Source {
            vfs: Arc::clone(&self.options.vfs),
            layout: &layout,
            store_id: checked.slot.map_or([0; 16], |slot| slot.store_id),
            seq: checked.report.last_seq,
            images: checked.images,
            log: checked.log,
        };
        let copying = Copying { source, options: &self.options, stopping: &|| false };
        Ok(copying.run(dest.as_ref())?)
    }

    /// Copies a store that nobody has open: what [`SledStore::backup`](crate::SledStore::backup) does
    /// for one that is.
    ///
    /// # Errors
    /// As [`restore`](Self::restore), which is the same way back.
    pub fn backup(
        &self,
        path: impl AsRef<Path>,
        dest: impl AsRef<Path>,
    ) -> Result<BackupReport, OfflineError> {
        self.restore(path, dest)
    }

    /// Verifies the store and reads its state into memory.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Loaded, OfflineError> {
        let layout = Layout::new(path.as_ref());
        let _lock = self.lock(&layout)?;
        let checked = self.check(&layout, self.scratch.as_deref())?;
        let store = if checked.report.is_usable() {
            Some(state::load(&*self.options.vfs, &layout, &checked)?)
        } else {
            None
        };
        Ok(Loaded { report: checked.report, store })
    }

    fn usable(&self, layout: &Layout) -> Result<Checked, OfflineError> {
        let checked = self.check(layout, None)?;
        if checked.report.worst() == Some(Severity::Fatal) {
            return Err(OfflineError::Damaged { report: Box::new(checked.report) });
        }
        Ok(checked)
    }

    fn check(&self, layout: &Layout, scratch: Option<&Path>) -> Result<Checked, StoreError> {
        if let Some(scratch) = scratch.filter(|scratch| scratch.starts_with(&layout.root)) {
            let what = format!("{} lies inside the store", scratch.display());
            return Err(StoreError::invalid(what));
        }
        verify::check(&self.options.vfs, layout, scratch)
    }

    /// Keeps everybody else out. `None` when nobody can come in: there is nothing to lock, or the
    /// file system is read-only.
    fn lock(&self, layout: &Layout) -> Result<Option<Box<dyn VfsLock>>, OfflineError> {
        let vfs = &*self.options.vfs;
        let path = layout.root.clone();
        if !exists(vfs, &layout.root)? {
            return Err(OfflineError::NotAStore { path, what: "there is no such directory" });
        }
        // Whether it is a directory at all.
        if let Err(e) = vfs.exists(&layout.super_file)
            && e.kind() == std::io::ErrorKind::NotADirectory
        {
            return Err(OfflineError::NotAStore { path, what: "it is no directory" });
        }
        let mut any = false;
        for part in [&layout.super_file, &layout.log, &layout.images] {
            any |= exists(vfs, part)?;
        }
        if !any {
            let what = "it has neither super file nor log nor images";
            return Err(OfflineError::NotAStore { path, what });
        }
        if !exists(vfs, &layout.lock)? {
            return Ok(None);
        }
        match vfs.lock(&layout.lock) {
            Ok(lock) => Ok(Some(lock)),
            Err(LockError::Held) => Err(OfflineError::InUse { path }),
            Err(LockError::Io(e)) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            Err(LockError::Io(e)) => Err(io_error("lock", &layout.lock)(e).into()),
        }
    }
}

fn exists(vfs: &dyn Vfs, path: &Path) -> Result<bool, StoreError> {
    vfs.exists(path).map_err(io_error("look for", path))
}
