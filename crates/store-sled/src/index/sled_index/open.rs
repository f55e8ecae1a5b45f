//! Opening and destroying the sled index.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::{IndexError, IndexErrorKind, IndexFactory, IndexResult, OpenedIndex};
use super::{SledIndex, directory, fault};

/// How much sled may hold in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledIndexOptions {
    /// Bytes of sled's page cache; 64 MiB by default. Not a limit of its memory: it takes two to four
    /// times as much, and about 1.3 bytes a key are ours.
    pub cache_bytes: u64,
}

impl Default for SledIndexOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// Opens the [`SledIndex`] in one directory.
///
/// ```
/// use resurge_store_sled::{IndexFactory, SledIndexFactory, SledIndexOptions};
/// let dir = tempfile::tempdir()?;
/// let factory = SledIndexFactory::new(dir.path().join("index"), SledIndexOptions::default());
/// let opened = factory.open()?;
/// assert!(opened.index.meta()?.is_none(), "new and empty");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SledIndexFactory {
    path: PathBuf,
    options: SledIndexOptions,
}

impl SledIndexFactory {
    /// For the index in `path`, a directory that holds nothing else.
    pub fn new(path: impl Into<PathBuf>, options: SledIndexOptions) -> Self {
        Self { path: path.into(), options }
    }

    fn open_sled(&self) -> IndexResult<SledIndex> {
        let db = sled::Config::new()
            .path(&self.path)
            .cache_capacity(self.options.cache_bytes)
            // Garbage is collected by the flusher.
            .flush_every_ms(Some(500))
            .use_compression(false)
            .open()
            .map_err(|e| fault::of("open", e))?;
        SledIndex::new(self.path.clone(), db)
    }
}

impl IndexFactory for SledIndexFactory {
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn open(&self) -> IndexResult<OpenedIndex> {
        // ORDER: sled takes an unfinished snapshot for a finished one.
        let swept = directory::sweep(&self.path)?;
        for name in &swept {
            tracing::warn!(file = name, "removed a snapshot that sled had not finished");
        }
        let index = catch_unwind(AssertUnwindSafe(|| self.open_sled()))
            .unwrap_or_else(|panic| Err(IndexError::panicked("open", &*panic)))?;
        Ok(OpenedIndex { index: Arc::new(index), swept })
    }

    fn destroy(&self) -> IndexResult<()> {
        if self.path.parent().is_none() {
            let message = format!("{} is not a directory of ours", self.path.display());
            return Err(IndexError::new(IndexErrorKind::Misuse, message));
        }
        directory::remove(&self.path)
    }
}
