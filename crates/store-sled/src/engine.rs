//! The engine under group commit.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    CommitSeq, DurableMeans, Engine, Group, Key, KeyRange, Page, Result, ScanOptions, StoreError,
    StoreInfo,
};

use crate::core::Core;
use crate::image::ImageInfo;
use crate::open::open;
use crate::view::View;
use crate::{BackupReport, Maintenance, OpenReport, SledOptions, SledStatus, maintenance};

/// The store without group commit: for simulation and for tools that drive it step by step.
///
/// Everybody else wants [`SledStore`](crate::SledStore).
pub struct SledEngine {
    core: Arc<Core>,
    maintenance: Mutex<Option<JoinHandle<()>>>,
}

impl SledEngine {
    /// Opens the store in `path`, or creates it when the directory is absent or empty. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when acknowledged data is damaged (see [`Recovery`](crate::Recovery)), naming the
    /// place; `Unavailable` when another process has the store open, or the file system fails;
    /// `Full` when there is no room to open it.
    pub fn open(path: impl AsRef<Path>, options: SledOptions) -> Result<(Self, OpenReport)> {
        let background = options.maintenance == Maintenance::Background;
        let (core, report) = open(path.as_ref(), options)?;
        let core = Arc::new(core);
        let engine = Self { core: Arc::clone(&core), maintenance: Mutex::new(None) };
        core.signals.ballast();
        if background {
            *engine.maintenance.lock() = Some(maintenance::start(&core)?);
        }
        Ok((engine, report))
    }

    /// Takes an image now, unless nothing was committed since the last one. Blocks.
    ///
    /// # Errors
    /// `Full` when there is no room: everything is as before. `Closed` when the store is closing.
    /// After any other error the store must be reopened.
    pub fn image_now(&self) -> Result<ImageInfo> {
        let taken = self.core.take_image();
        let taken = taken.inspect_err(|e| {
            if e.kind() != resurge_store::ErrorKind::Full {
                self.core.failure.set("taking an image", e);
            }
        })?;
        taken.ok_or_else(|| StoreError::closed("the store is closing"))
    }

    /// Copies the store as it is after its last durable commit into `dest`, while commits go on. As
    /// [`SledStore::backup`](crate::SledStore::backup). Blocks.
    ///
    /// # Errors
    /// As [`SledStore::backup`](crate::SledStore::backup).
    pub fn backup(&self, dest: impl AsRef<Path>) -> Result<BackupReport> {
        self.core.backup(dest.as_ref())
    }

    /// What it looks like now.
    pub fn status(&self) -> SledStatus {
        self.core.status()
    }

    fn stop_maintenance(&self) {
        self.core.signals.stop();
        let handle = self.maintenance.lock().take();
        let own = |handle: &JoinHandle<()>| handle.thread().id() == thread::current().id();
        if let Some(handle) = handle.filter(|h| !own(h))
            && handle.join().is_err()
        {
            tracing::error!("the maintenance thread panicked");
        }
    }
}

impl Engine for SledEngine {
    fn last_seq(&self) -> CommitSeq {
        CommitSeq(self.core.progress.published())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.core.view.get(key)
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        self.core.view.scan(range, options)
    }

    fn log(&self, group: &Group) -> Result<()> {
        self.core.log(group)
    }

    fn sync(&self) -> Result<()> {
        self.core.sync()
    }

    fn publish(&self, group: &Arc<Group>) -> Result<()> {
        self.core.publish(group);
        Ok(())
    }

    fn info(&self) -> StoreInfo {
        let backend = match self.core.view {
            View::Memory(_) => "sled-memory-index",
            View::Indexed(_) => "sled",
        };
        StoreInfo::new(backend, DurableMeans::PowerLoss)
    }

    fn close(&self) -> Result<()> {
        self.stop_maintenance();
        self.core.close()
    }

    fn scans_block(&self) -> bool {
        matches!(self.core.view, View::Indexed(_))
    }
}

impl Drop for SledEngine {
    /// Stops its threads and releases its files. After `close` there is nothing left to do; without
    /// it, the next open starts from what is on disk.
    fn drop(&mut self) {
        self.stop_maintenance();
        self.core.view.abandon(self.core.options.close_within);
    }
}

impl fmt::Debug for SledEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledEngine").field("path", &self.core.layout.root).finish_non_exhaustive()
    }
}
