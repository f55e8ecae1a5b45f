//! What the engine and its maintenance thread share: one open store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;
use resurge_commit_log::{Frame, Log, LogReader, VfsLock};
use resurge_store::{Batch, Group, Result, StoreError};

use crate::error::while_writing;
use crate::failure::Failure;
use crate::image::ImageInfo;
use crate::layout::Layout;
use crate::maintenance::Signals;
use crate::quarantine::Quarantine;
use crate::space::Space;
use crate::super_file::SuperFile;
use crate::view::View;
use crate::{Maintenance, SledOptions};

/// A frame buffer that grew beyond this is given back.
const KEEP_FRAME: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) layout: Layout,
    pub(crate) options: SledOptions,
    pub(crate) store_id: [u8; 16],
    pub(crate) super_file: SuperFile,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) reader: LogReader,
    pub(crate) view: View,
    pub(crate) progress: Progress,
    /// Newest first.
    pub(crate) images: Mutex<Vec<ImageInfo>>,
    /// Held while one is taken, and while a backup needs those there are, and the log after them.
    pub(crate) taking: Mutex<()>,
    pub(crate) growth: Growth,
    pub(crate) space: Space,
    pub(crate) failure: Arc<Failure>,
    pub(crate) signals: Signals,
    pub(crate) metrics: Metrics,
    pub(crate) lock: Mutex<Option<Box<dyn VfsLock>>>,
}

/// The log, until it is closed, and the one buffer that frames are built in.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) log: Option<Log>,
    pub(crate) frame: Frame,
}

/// How far groups are visible.
#[derive(Debug)]
pub(crate) struct Progress {
    /// All of it is visible up to here.
    published: AtomicU64,
    /// Nothing of a later group is visible.
    publishing: AtomicU64,
}

impl Progress {
    pub(crate) fn new(seq: u64) -> Self {
        Self { published: AtomicU64::new(seq), publishing: AtomicU64::new(seq) }
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn publishing(&self) -> u64 {
        self.publishing.load(Ordering::Acquire)
    }
}

/// How much was logged since something was last done about it.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Since the newest image began.
    pub(crate) since_image: AtomicU64,
    /// At this value of `since_image` the next image is due.
    pub(crate) image_due_at: AtomicU64,
    /// Since the super file was synced.
    pub(crate) since_super: AtomicU64,
}

impl Growth {
    pub(crate) fn new(since_image: u64, image_due_at: u64) -> Self {
        Self {
            since_image: AtomicU64::new(since_image),
            image_due_at: AtomicU64::new(image_due_at),
            since_super: AtomicU64::new(0),
        }
    }

    pub(crate) fn since_image(&self) -> u64 {
        self.since_image.load(Ordering::Relaxed)
    }
}

/// Handles, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) logged_bytes: Counter,
    pub(crate) full: Counter,
    pub(crate) images: Counter,
    pub(crate) image_failures: Counter,
    pub(crate) image_seconds: Histogram,
    pub(crate) image_bytes: Gauge,
    pub(crate) segments_cut: Counter,
    pub(crate) backups: Counter,
    pub(crate) backup_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            logged_bytes: metrics::counter!("resurge_sled_logged_bytes_total"),
            full: metrics::counter!("resurge_sled_full_total"),
            images: metrics::counter!("resurge_sled_images_total"),
            image_failures: metrics::counter!("resurge_sled_image_failures_total"),
            image_seconds: metrics::histogram!("resurge_sled_image_seconds"),
            image_bytes: metrics::gauge!("resurge_sled_image_bytes"),
            segments_cut: metrics::counter!("resurge_sled_segments_cut_total"),
            backups: metrics::counter!("resurge_sled_backups_total"),
            backup_seconds: metrics::histogram!("resurge_sled_backup_seconds"),
        }
    }
}

impl Core {
    /// Writes the group as one frame. See [`Engine::log`](resurge_store::Engine::log).
    pub(crate) fn log(&self, group: &Group) -> Result<()> {
        self.failure.check()?;
        let bytes = group.batches.iter().map(|b| b.size() as u64).sum();
        self.admit(bytes)?;
        let wait = self.options.overlay_wait;
        let reserved = self.view.reserve(group, wait, || self.sync())?;
        self.append(group).inspect_err(|e| {
            self.view.cancel(reserved);
            if e.kind().nothing_written() {
                self.metrics.full.increment(u64::from(e.kind() == resurge_store::ErrorKind::Full));
            } else {
                self.failure.set("writing the log", e);
            }
        })?;
        self.metrics.logged_bytes.increment(bytes);
        self.grew(bytes);
        Ok(())
    }

    fn admit(&self, bytes: u64) -> Result<()> {
        let root = &self.layout.root;
        let admitted = self.space.admit(&*self.options.vfs, root, bytes, || self.must_stay_free());
        admitted.inspect_err(|_| {
            self.metrics.full.increment(1);
            self.make_room();
        })
    }

    /// Behind a new image old segments can go, if there are any. It has room in the reserve.
    fn make_room(&self) {
        let since = self.growth.since_image();
        if since >= self.options.segment_sizes.1 {
            self.growth.image_due_at.fetch_min(since, Ordering::Relaxed);
            self.signals.image_due();
        }
    }

    fn append(&self, group: &Group) -> Result<()> {
        let mut writer = self.writer.lock();
        let Writer { log, frame } = &mut *writer;
        let log = log.as_mut().ok_or_else(closed)?;
        if log.last_seq().checked_add(1) != Some(group.first.0) {
            let (first, last) = (group.first, log.last_seq());
            let message = format!("group {first} does not follow commit {last} of the log");
            return Err(StoreError::invalid(message));
        }
        frame.clear();
        for batch in &group.batches {
            frame.entry(|out| Batch::encode_ops(batch, out)).map_err(while_writing)?;
        }
        log.append(frame).map_err(while_writing)?;
        frame.shrink_to(KEEP_FRAME);
        Ok(())
    }

    /// Makes everything logged durable, and notes how far that is.
    pub(crate) fn sync(&self) -> Result<()> {
        let durable = {
            let mut writer = self.writer.lock();
            writer.log.as_mut().ok_or_else(closed)?.sync()
        };
        let durable = durable.map_err(while_writing);
        let durable = durable.inspect_err(|e| self.failure.set("syncing the log", e))?;
        // ORDER: noted before anybody is told.
        let dirty = self.super_file.note_high_water(durable);
        if dirty.inspect_err(|e| self.failure.set("writing the super file", e))? {
            self.signals.super_dirty();
        }
        self.view.made_durable(durable);
        Ok(())
    }

    /// Makes a logged group visible.
    pub(crate) fn publish(&self, group: &Group) {
        let last = group.last().0;
        // ORDER: first what may be visible, last what certainly is; an image relies on both.
        self.progress.publishing.store(last, Ordering::SeqCst);
        self.view.publish(group);
        self.progress.published.store(last, Ordering::SeqCst);
        if self.options.maintenance == Maintenance::Inline {
            self.maintain();
        }
    }

    fn grew(&self, bytes: u64) {
        let growth = &self.growth;
        let since = growth.since_image.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if since >= growth.image_due_at.load(Ordering::Relaxed) {
            self.signals.image_due();
        }
        // About once a segment: what the frames themselves say covers the time before.
        let since = growth.since_super.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if since >= self.options.segment_sizes.1 {
            growth.since_super.store(0, Ordering::Relaxed);
            self.signals.super_due();
        }
    }

    /// What commits must leave free: room for the index to take what waits for it, and for an image
    /// of what there is.
    pub(crate) fn must_stay_free(&self) -> u64 {
        let waiting = self.view.overlay_status().map_or(0, |s| s.bytes as u64);
        let index = waiting.saturating_mul(3);
        self.options.reserve.saturating_add(self.image_estimate()).saturating_add(index)
    }

    /// When the next image is due, in bytes logged since the last one.
    pub(crate) fn image_interval(&self) -> u64 {
        let newest = self.images.lock().first().map_or(0, |image| image.bytes);
        self.options.image_after.max(newest)
    }

    pub(crate) fn quarantine(&self) -> Quarantine<'_> {
        Quarantine {
            vfs: &*self.options.vfs,
            layout: &self.layout,
            cap: self.options.quarantine_cap,
        }
    }

    /// What an image taken now takes at most.
    pub(crate) fn image_estimate(&self) -> u64 {
        let newest = self.images.lock().first().map_or(0, |image| image.bytes);
        newest.saturating_add(self.growth.since_image())
    }

    /// Ends the store in good order. Maintenance has stopped.
    pub(crate) fn close(&self) -> Result<()> {
        // Somebody else may be taking an image or a backup; it sees the signal to stop.
        let _taking = self.taking.lock();
        let synced = self.sync();
        let indexed = self.view.close(self.options.close_within);
        let log = self.writer.lock().log.take();
        let logged = log.map_or(Ok(()), |log| log.close().map_err(while_writing));
        let clean = self.failure.check().is_ok() && indexed.is_ok() && logged.is_ok();
        let boot_id = self.options.boot_id.unwrap_or_default();
        let noted = if synced.is_ok() {
            self.super_file.update(|slot| {
                slot.clean = clean;
                slot.boot_id = boot_id;
            })
        } else {
            Ok(())
        };
        // ORDER: last; whoever opens next finds everything written.
        *self.lock.lock() = None;
        if let Err(e) = indexed {
            // Nothing is lost: the next open takes it from the log.
            tracing::warn!(error = %e, "the index was not closed in time");
        }
        synced.and(logged).and(noted)
    }
}

pub(crate) fn closed() -> StoreError {
    StoreError::closed("the store is closed")
}
