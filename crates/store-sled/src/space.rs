//! Free space: commits stop while there is still room for what keeps the store alive.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use resurge_commit_log::Vfs;
use resurge_store::{ErrorKind, Result, StoreError};

use crate::error::io_error;

/// The file system is asked again after this many bytes were logged.
const ASK_EVERY: u64 = 1 << 20;
/// Free space that is not known.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Watches free space without asking the file system at every commit.
#[derive(Debug)]
pub(crate) struct Space {
    /// Logged since the file system was asked; starts beyond the limit, so that the first asks.
    since: AtomicU64,
    /// What it said, less nothing: an upper bound.
    free: AtomicU64,
}

impl Space {
    pub(crate) fn new() -> Self {
        Self { since: AtomicU64::new(ASK_EVERY), free: AtomicU64::new(UNKNOWN) }
    }

    /// Whether a group of `bytes` may be logged while `needed` bytes must stay free.
    ///
    /// # Errors
    /// `Full` when not; nothing was written.
    pub(crate) fn admit(
        &self,
        vfs: &dyn Vfs,
        dir: &Path,
        bytes: u64,
        needed: impl FnOnce() -> u64,
    ) -> Result<()> {
        let since = self.since.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if since < ASK_EVERY {
            return Ok(());
        }
        let free = self.ask(vfs, dir)?;
        let needed = needed().saturating_add(bytes);
        if free < needed {
            // Not asking again would let the next one pass.
            self.since.store(ASK_EVERY, Ordering::Relaxed);
            return Err(StoreError::new(
                ErrorKind::Full,
                format!(
                    "{}: {free} bytes are free, {needed} are kept for index and images",
                    dir.display()
                ),
            ));
        }
        self.since.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Asks the file system; `u64::MAX` when it does not know.
    pub(crate) fn ask(&self, vfs: &dyn Vfs, dir: &Path) -> Result<u64> {
        let free = vfs.free_space(dir).map_err(io_error("ask for free space of", dir))?;
        let free = free.unwrap_or(UNKNOWN);
        self.free.store(free, Ordering::Relaxed);
        Ok(free)
    }

    /// What the file system said last; `None` when it does not know or was not asked.
    pub(crate) fn last_known(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed)).filter(|free| *free != UNKNOWN)
    }
}
