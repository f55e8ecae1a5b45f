//! Taking an image, and what may be removed once it is there.

use std::sync::atomic::Ordering;

use resurge_store::{ErrorKind, KeyRange, Result, StoreError};

use super::{ImageInfo, ImageReader, ImageWriter, skip};
use crate::core::Core;
use crate::error::{io_error, while_opening};

/// A page is short, so that publishing hardly waits for it.
const PAGE_ENTRIES: usize = 256;

impl Core {
    /// Takes an image of the published state while commits go on, then removes the images and the
    /// part of the log that are not needed any more. `None` when the store is closing.
    ///
    /// # Errors
    /// `Full` when there is no room: everything is as before. Any other error must end the store.
    pub(crate) fn take_image(&self) -> Result<Option<ImageInfo>> {
        let _taking = self.taking.lock();
        self.failure.check()?;
        if self.signals.stopping() {
            return Ok(None);
        }
        let begin = self.progress.published();
        let newest = self.images.lock().first().copied();
        if let Some(newest) = newest.filter(|i| i.begin == begin && i.end == begin && i.verified) {
            return Ok(Some(newest));
        }
        self.has_room()?;
        let clock = &self.options.clock;
        let started = clock.monotonic();
        let grown = self.growth.since_image.load(Ordering::Relaxed);
        let Some(image) = self.write_image(begin).inspect_err(|_| self.remove_tmp(begin))? else {
            self.remove_tmp(begin);
            return Ok(None);
        };
        self.growth.since_image.fetch_sub(grown, Ordering::Relaxed);
        self.retire(image)?;
        self.growth.image_due_at.store(self.image_interval(), Ordering::Relaxed);
        self.cut_log()?;
        let took = clock.monotonic().saturating_since(started);
        self.metrics.images.increment(1);
        self.metrics.image_seconds.record(took.as_secs_f64());
        // Lossy above 2^52 bytes.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.metrics.image_bytes.set(image.bytes as f64);
        tracing::debug!(begin, end = image.end, entries = image.entries, ?took, "took an image");
        Ok(Some(image))
    }

    /// An image that would not fit must not fill the disk first.
    fn has_room(&self) -> Result<()> {
        let root = &self.layout.root;
        let free = self.space.ask(&*self.options.vfs, root)?;
        let needed = self.image_estimate();
        if free >= needed {
            return Ok(());
        }
        let what = format!("{}: {free} bytes are free, an image may need {needed}", root.display());
        Err(StoreError::new(ErrorKind::Full, what))
    }

    /// Dumps, syncs, reads again, and only then gives the file its name.
    fn write_image(&self, begin: u64) -> Result<Option<ImageInfo>> {
        let vfs = &*self.options.vfs;
        let tmp = self.layout.image_tmp(begin);
        let mut writer = ImageWriter::create(vfs, tmp.clone(), self.store_id, begin)?;
        let mut range = Some(KeyRange::everything());
        while let Some(rest) = range {
            if self.signals.stopping() {
                return Ok(None);
            }
            range = self.view.dump(&rest, PAGE_ENTRIES, &mut writer)?;
        }
        let end = self.progress.publishing();
        writer.finish(end)?;
        // ORDER: what is in the image is durable in the log before the image counts.
        if self.reader.durable_seq() < end {
            self.sync()?;
        }
        let reader = ImageReader::open(vfs, &tmp, &self.store_id)?;
        let image = ImageInfo::of(&reader, true);
        reader.verify()?;
        let path = self.layout.image(begin);
        vfs.rename(&tmp, &path).map_err(io_error("rename", &tmp))?;
        let dir = &self.layout.images;
        vfs.sync_dir(dir).map_err(io_error("sync", dir))?;
        Ok(Some(image))
    }

    /// Puts the new image first and removes those beyond the number to keep.
    fn retire(&self, image: ImageInfo) -> Result<()> {
        let mut list = self.images.lock().clone();
        list.retain(|old| old.begin != image.begin);
        list.insert(0, image);
        let mut kept: Vec<ImageInfo> = Vec::new();
        let mut surplus = Vec::new();
        for old in list {
            if kept.len() >= self.options.images_kept {
                surplus.push(old);
            } else if let Some(whole) = self.verified(old)? {
                kept.push(whole);
            }
        }
        self.images.lock().clone_from(&kept);
        // ORDER: the super file no longer names what is about to go.
        self.super_file.update(|slot| slot.set_images(kept.iter().map(ImageInfo::span)))?;
        let vfs = &*self.options.vfs;
        for old in &surplus {
            let path = self.layout.image(old.begin);
            vfs.remove_file(&path).map_err(io_error("remove", &path))?;
        }
        if surplus.is_empty() {
            return Ok(());
        }
        let dir = &self.layout.images;
        vfs.sync_dir(dir).map_err(io_error("sync", dir))
    }

    /// Reads the image unless this process has; one that is not whole is moved away.
    fn verified(&self, image: ImageInfo) -> Result<Option<ImageInfo>> {
        if image.verified {
            return Ok(Some(image));
        }
        let path = self.layout.image(image.begin);
        let whole = ImageReader::open(&*self.options.vfs, &path, &self.store_id)
            .and_then(ImageReader::verify);
        match whole {
            Ok(()) => Ok(Some(ImageInfo { verified: true, ..image })),
            Err(e) => {
                skip(&self.quarantine(), &self.layout, image.begin, image.bytes, &e)?;
                Ok(None)
            }
        }
    }

    /// Removes the segments that no image and no index needs.
    fn cut_log(&self) -> Result<()> {
        let oldest = {
            let images = self.images.lock();
            // Nothing is cut until two images are known to be whole.
            if images.len() < 2 || images.iter().any(|image| !image.verified) {
                return Ok(());
            }
            images.last().map_or(0, |image| image.begin)
        };
        let upto = oldest.min(self.view.applied(oldest)?);
        for segment in self.reader.segments() {
            if segment.last_seq > upto {
                break;
            }
            // Commits go on: removing a large file takes longer than many syncs.
            let cut = self.reader.cut_before(segment.last_seq.saturating_add(1));
            self.metrics.segments_cut.increment(cut.map_err(while_opening)? as u64);
        }
        Ok(())
    }

    fn remove_tmp(&self, begin: u64) {
        let tmp = self.layout.image_tmp(begin);
        if let Err(e) = self.options.vfs.remove_file(&tmp)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            // The next open removes it.
            let error = StoreError::with_source(ErrorKind::Unavailable, "leftover", e);
            tracing::warn!(path = %tmp.display(), error = %error, "cannot remove");
        }
    }
}
