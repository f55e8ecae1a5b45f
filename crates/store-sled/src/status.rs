//! What a running store looks like.

use crate::IndexKind;
use crate::core::Core;
use crate::image::ImageInfo;
use crate::quarantine::QuarantineStatus;

/// A snapshot of a running store, for status pages. Sizes in bytes.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct SledStatus {
    /// What serves reads.
    pub index: IndexKind,
    /// The last commit readers see.
    pub published_seq: u64,
    /// The last commit that is durable.
    pub durable_seq: u64,
    /// The first commit the log still holds.
    pub log_first_seq: u64,
    /// Length of all log segments.
    pub log_bytes: u64,
    /// How many segments.
    pub log_segments: usize,
    /// Logged since the newest image began.
    pub log_bytes_since_image: u64,
    /// Newest first.
    pub images: Vec<ImageInfo>,
    /// Commits wait in memory for the index: how much of them.
    pub overlay: Option<OverlayLoad>,
    /// What damaged files take; `None` when the directory cannot be read.
    pub quarantine: Option<QuarantineStatus>,
    /// What the file system has left, when last asked; `None` when unknown.
    pub free_bytes: Option<u64>,
    /// Commits resolve `Full` below this.
    pub reserved_bytes: u64,
    /// What is wrong although the store works.
    pub alarms: Vec<String>,
    /// Why the store must be reopened, if it must.
    pub failure: Option<String>,
}

/// How far the index is behind.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct OverlayLoad {
    /// Keys that wait.
    pub keys: usize,
    /// Bytes that wait.
    pub bytes: usize,
    /// Every commit up to this one is in the index.
    pub applied_seq: u64,
}

impl Core {
    pub(crate) fn status(&self) -> SledStatus {
        let segments = self.reader.segments();
        let images = self.images.lock().clone();
        SledStatus {
            index: self.options.index,
            published_seq: self.progress.published(),
            durable_seq: self.reader.durable_seq(),
            log_first_seq: self.reader.first_seq(),
            log_bytes: segments.iter().map(|s| s.file_bytes).sum(),
            log_segments: segments.len(),
            log_bytes_since_image: self.growth.since_image(),
            images,
            overlay: self.view.overlay_status().map(|s| OverlayLoad {
                keys: s.keys,
                bytes: s.bytes,
                applied_seq: s.applied.0,
            }),
            quarantine: self.quarantine().status().ok(),
            free_bytes: self.space.last_known(),
            reserved_bytes: self.must_stay_free(),
            alarms: self.view.alarms(),
            failure: self.failure.get().map(ToString::to_string),
        }
    }
}
