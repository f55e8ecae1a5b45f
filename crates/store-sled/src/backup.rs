//! Backups: an image and the log after it, copied while commits go on.

mod copy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use resurge_store::{CommitSeq, Result, StoreError};

use crate::core::Core;

pub(crate) use copy::{Copying, Source};

/// What a backup, or a restored store, holds.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct BackupReport {
    /// The directory.
    pub path: PathBuf,
    /// Every commit up to this one is in it, no later one is. The next commit after a restore gets
    /// the next number.
    #[serde(serialize_with = "number")]
    pub seq: CommitSeq,
    /// The image it was made from: every commit up to this one was in it.
    #[serde(serialize_with = "maybe_number")]
    pub from_image: Option<CommitSeq>,
    /// Commits that were copied from the log.
    pub commits: u64,
    /// Its own id, in hexadecimal.
    pub store_id: String,
    /// The id of what was copied.
    pub source_id: String,
    /// Length of all its files.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn number<S: serde::Serializer>(seq: &CommitSeq, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(seq.0)
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn maybe_number<S: serde::Serializer>(seq: &Option<CommitSeq>, to: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&seq.map(|seq| seq.0), to)
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: everything up to commit {}", self.path.display(), self.seq)?;
        if let Some(image) = self.from_image {
            write!(f, ", from image {image}")?;
        }
        let ms = self.duration.as_millis();
        write!(f, ", {} from the log, {} bytes, {ms} ms", self.commits, self.bytes)
    }
}

impl Core {
    /// See [`SledStore::backup`](crate::SledStore::backup).
    pub(crate) fn backup(&self, dest: &Path) -> Result<BackupReport> {
        let report = {
            // No image is taken or removed and nothing is cut from the log.
            let _taking = self.taking.lock();
            self.failure.check()?;
            if self.signals.stopping() {
                return Err(StoreError::closed("the store is closing"));
            }
            // What was acknowledged as `Buffered` belongs to it, too.
            self.sync()?;
            let source = Source {
                vfs: Arc::clone(&self.options.vfs),
                layout: &self.layout,
                store_id: self.store_id,
                images: self.images.lock().clone(),
                log: Some(self.reader.clone()),
                seq: self.reader.durable_seq(),
            };
            let stopping = || self.signals.stopping();
            Copying { source, options: &self.options, stopping: &stopping }.run(dest)
        };
        let growth = &self.growth;
        if growth.since_image() >= growth.image_due_at.load(Ordering::Relaxed) {
            self.signals.image_due();
        }
        let report = report?;
        self.metrics.backups.increment(1);
        self.metrics.backup_seconds.record(report.duration.as_secs_f64());
        tracing::info!(%report, "took a backup");
        Ok(report)
    }
}
