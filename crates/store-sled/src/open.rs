//! Opening: in which order what is believed.
//!
//! Lock; the super file; the images' headers; the log, with everything known to be durable; then
//! the state, from the index if it can prove itself, otherwise from image and log. Nothing is
//! served before all of it is done.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_commit_log::{Frame, LockError, Log, LogOptions, OpenedLog, Preparation, Vfs, VfsLock};
use resurge_store::{CommitSeq, ErrorKind, MemoryMap, Result, StoreError};

use crate::core::{Core, Growth, Metrics, Progress, Writer};
use crate::error::{io_error, while_opening};
use crate::failure::Failure;
use crate::image::{self, ImageInfo};
use crate::layout::Layout;
use crate::maintenance::Signals;
use crate::quarantine::Quarantine;
use crate::report::SkippedImage;
use crate::space::Space;
use crate::super_file::{Slot, SuperFile};
use crate::view::View;
use crate::{How, IndexKind, Maintenance, OpenReport, Recovery, SledOptions, ballast};

mod base;
pub(crate) mod changes;
pub(crate) mod identity;
mod index;
mod memory;

/// Opens the store in `path`.
pub(crate) fn open(path: &Path, options: SledOptions) -> Result<(Core, OpenReport)> {
    let clock = Arc::clone(&options.clock);
    let started = clock.monotonic();
    let layout = Layout::new(path);
    let mut opening = Opening {
        report: OpenReport {
            path: path.to_owned(),
            index: options.index,
            how: How::Fresh,
            last_seq: CommitSeq(0),
            replayed: 0,
            from_image: None,
            tail_cut: None,
            salvaged: None,
            images_skipped: Vec::new(),
            super_slot: None,
            quarantined: Vec::new(),
            swept: Vec::new(),
            ballast_freed: false,
            duration: std::time::Duration::ZERO,
        },
        images: Vec::new(),
        unreadable: None,
        store_id: [0; 16],
        failure: Arc::default(),
        layout,
        options,
    };
    let core = opening.run()?;
    let mut report = opening.report;
    report.duration = clock.monotonic().saturating_since(started);
    let how = match report.how {
        How::Fresh => "fresh",
        How::Trusted => "trusted",
        How::Verified => "verified",
        How::Loaded => "loaded",
        How::Rebuilt { .. } => "rebuilt",
    };
    metrics::counter!("resurge_sled_opens_total", "how" => how).increment(1);
    metrics::histogram!("resurge_sled_open_seconds").record(report.duration.as_secs_f64());
    if report.salvaged.is_some() || matches!(report.how, How::Rebuilt { .. }) {
        tracing::warn!(%report, "opened a store");
    } else {
        tracing::info!(%report, "opened a store");
    }
    Ok((core, report))
}

struct Opening {
    options: SledOptions,
    layout: Layout,
    /// Known once the super file was read.
    store_id: [u8; 16],
    /// For what runs in the background from now on.
    failure: Arc<Failure>,
    report: OpenReport,
    /// Newest first.
    images: Vec<ImageInfo>,
    /// Why an image could not be read, though it may be whole.
    unreadable: Option<StoreError>,
}

impl Opening {
    fn run(&mut self) -> Result<Core> {
        let lock = self.lock()?;
        self.prepare_directories()?;
        let vfs = Arc::clone(&self.options.vfs);
        self.report.ballast_freed = ballast::give_up(&*vfs, &self.layout, self.options.reserve)?;
        let (super_file, fresh) = self.super_file()?;
        let before = super_file.slot();
        self.store_id = before.store_id;
        let salvage = self.options.recovery == Recovery::Salvage;
        if salvage || self.options.index == IndexKind::Memory {
            self.remove_index()?;
        }
        let named = self.find_images(&before)?;
        let (log, opened) = self.open_log(&before, named)?;
        if salvage {
            self.drop_images_past(opened.last_seq)?;
        }
        let boot_id = self.options.boot_id.unwrap_or_default();
        // ORDER: not clean any more, on disk, before the index is touched or anything is committed.
        super_file.update(|slot| {
            slot.clean = false;
            slot.boot_id = boot_id;
            slot.high_water = opened.last_seq;
            slot.set_images(self.images.iter().map(ImageInfo::span));
        })?;
        let listed = self.images.clone();
        let view = match self.options.index {
            IndexKind::Memory => View::Memory(self.load_memory(&log)?),
            IndexKind::Sled => self.open_indexed(&log, &before)?,
        };
        if fresh {
            self.report.how = How::Fresh;
        }
        if listed != self.images {
            super_file.update(|slot| slot.set_images(self.images.iter().map(ImageInfo::span)))?;
        }
        self.report.last_seq = CommitSeq(opened.last_seq);
        Ok(self.assemble(lock, super_file, log, view, opened.last_seq))
    }

    fn assemble(
        &self,
        lock: Box<dyn VfsLock>,
        super_file: SuperFile,
        log: Log,
        view: View,
        last_seq: u64,
    ) -> Core {
        let since = log.bytes_since(self.images.first().map_or(0, |image| image.begin));
        let newest = self.images.first().map_or(0, |image| image.bytes);
        Core {
            layout: self.layout.clone(),
            store_id: super_file.slot().store_id,
            super_file,
            reader: log.reader(),
            writer: Mutex::new(Writer { log: Some(log), frame: Frame::new() }),
            view,
            progress: Progress::new(last_seq),
            images: Mutex::new(self.images.clone()),
            taking: Mutex::new(()),
            growth: Growth::new(since, self.options.image_after.max(newest)),
            space: Space::new(),
            failure: Arc::clone(&self.failure),
            signals: Signals::default(),
            metrics: Metrics::new(),
            lock: Mutex::new(Some(lock)),
            options: self.options.clone(),
        }
    }

    fn lock(&self) -> Result<Box<dyn VfsLock>> {
        create_dir(&*self.options.vfs, &self.layout.root)?;
        let path = &self.layout.lock;
        self.options.vfs.lock(path).map_err(|e| match e {
            LockError::Held => StoreError::new(
                ErrorKind::Unavailable,
                format!(
                    "the store in {} is open already, in this process or another one ({} is locked)",
                    self.layout.root.display(),
                    path.display()
                ),
            ),
            LockError::Io(e) => io_error("lock", path)(e),
        })
    }

    fn prepare_directories(&self) -> Result<()> {
        for dir in [&self.layout.images, &self.layout.quarantine] {
            create_dir(&*self.options.vfs, dir)?;
        }
        Ok(())
    }

    /// The super file, and whether the store is new.
    fn super_file(&mut self) -> Result<(SuperFile, bool)> {
        let vfs = Arc::clone(&self.options.vfs);
        let path = self.layout.super_file.clone();
        let tmp = self.layout.super_tmp.clone();
        if vfs.exists(&tmp).map_err(io_error("look for", &tmp))? {
            vfs.remove_file(&tmp).map_err(io_error("remove", &tmp))?;
            self.report.swept.push("super.tmp".to_owned());
        }
        let problem = match SuperFile::read(&*vfs, &path) {
            Ok(Some(read)) => {
                self.report.super_slot = read.damaged;
                return Ok((SuperFile::open(&*vfs, &path, &read)?, false));
            }
            Ok(None) if !self.holds_data()? => {
                let mut store_id = [0; 16];
                self.options.entropy.fill(&mut store_id)?;
                let slot = Slot::new(store_id);
                return Ok((SuperFile::create(&*vfs, &path, &tmp, slot)?, true));
            }
            Ok(None) => StoreError::new(
                ErrorKind::Corrupt,
                format!("{} is gone, though there is data beside it", path.display()),
            ),
            Err(e) => e,
        };
        // Never a fresh start over data: who the store is can be read elsewhere, how far it was
        // acknowledged cannot.
        if self.options.recovery == Recovery::Strict || problem.kind() != ErrorKind::Corrupt {
            return Err(problem);
        }
        let Some(store_id) = identity::find(&*vfs, &self.layout)? else { return Err(problem) };
        tracing::warn!(error = %problem, "writing a new super file");
        if vfs.exists(&path).map_err(io_error("look for", &path))? {
            let kept = self.quarantine().keep(&path)?;
            self.report.quarantined.push(kept);
        }
        self.report.super_slot = Some("the super file was lost and written anew");
        let slot = Slot::new(store_id);
        Ok((SuperFile::create(&*vfs, &path, &tmp, slot)?, false))
    }

    /// Whether there is anything that only an existing store leaves behind.
    fn holds_data(&self) -> Result<bool> {
        let vfs = &*self.options.vfs;
        for dir in [&self.layout.log, &self.layout.images, &self.layout.index] {
            let exists = vfs.exists(dir).map_err(io_error("look for", dir))?;
            if exists && !vfs.list(dir).map_err(io_error("list", dir))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn remove_index(&self) -> Result<()> {
        let vfs = &*self.options.vfs;
        let dir = &self.layout.index;
        if vfs.exists(dir).map_err(io_error("look for", dir))? {
            vfs.remove_dir_all(dir).map_err(io_error("remove", dir))?;
            let root = &self.layout.root;
            vfs.sync_dir(root).map_err(io_error("sync", root))?;
        }
        match &self.options.factory {
            Some(factory) => factory.destroy().map_err(index::opening),
            None => Ok(()),
        }
    }

    /// Finds the images. Returns the highest commit that they, or the super file's list of them,
    /// show to be durable.
    fn find_images(&mut self, slot: &Slot) -> Result<u64> {
        let vfs = Arc::clone(&self.options.vfs);
        let found = image::find(&*vfs, &self.layout, &slot.store_id, &self.quarantine())?;
        // ORDER: before the super file lists them; a kill may have come between a name and its sync.
        let dir = &self.layout.images;
        vfs.sync_dir(dir).map_err(io_error("sync", dir))?;
        for span in slot.images() {
            let name = format!("{:016x}.img", span.begin);
            let there = found.images.iter().any(|image| image.begin == span.begin);
            if !there && !found.skipped.iter().any(|s| s.name == name) {
                let why = "it is missing, though the super file lists it".to_owned();
                self.report.images_skipped.push(SkippedImage { name, why, quarantined: None });
            }
        }
        self.report.images_skipped.extend(found.skipped);
        self.report.swept.extend(found.swept);
        self.unreadable = found.unreadable;
        self.images = found.images;
        let ends = self.images.iter().map(|image| image.end);
        Ok(ends.chain(slot.images().iter().map(|span| span.end)).max().unwrap_or(0))
    }

    fn open_log(&mut self, slot: &Slot, images_end: u64) -> Result<(Log, OpenedLog)> {
        let salvage = self.options.recovery == Recovery::Salvage;
        let preparation = match self.options.maintenance {
            Maintenance::Background => Preparation::Background,
            Maintenance::Inline => Preparation::Inline,
        };
        let (first, max) = self.options.segment_sizes;
        let options = LogOptions::new(slot.store_id)
            .salt(self.options.entropy.next_u64()?)
            .segment_sizes(first, max)
            .quarantine(&self.layout.quarantine)
            .quarantine_cap(self.options.quarantine_cap)
            .salvage(salvage)
            .preparation(preparation)
            .lock(false)
            .start_at(if salvage { self.exact_image().saturating_add(1) } else { 1 });
        let high_water = slot.high_water.max(images_end);
        let vfs = Arc::clone(&self.options.vfs);
        let (log, opened) =
            Log::open(vfs, &self.layout.log, options, high_water).map_err(while_opening)?;
        // ORDER: before anything is served; a kill may have come between a name in it and its sync.
        let root = &self.layout.root;
        self.options.vfs.sync_dir(root).map_err(io_error("sync", root))?;
        self.report.tail_cut.clone_from(&opened.tail_cut);
        self.report.salvaged.clone_from(&opened.salvaged);
        if let Some(copy) = opened.tail_cut.as_ref().and_then(|cut| cut.copy.clone()) {
            self.report.quarantined.push(copy);
        }
        if let Some(salvaged) = &opened.salvaged {
            self.report.quarantined.extend(salvaged.quarantined.iter().cloned());
        }
        Ok((log, opened))
    }

    /// Where a log that is gone altogether may start again: after an image that needs none of it.
    fn exact_image(&self) -> u64 {
        self.images.iter().find(|image| image.begin == image.end).map_or(0, |image| image.begin)
    }

    /// Salvage: an image that holds commits the log lost is no prefix of anything.
    fn drop_images_past(&mut self, last_seq: u64) -> Result<()> {
        for image in std::mem::take(&mut self.images) {
            if image.end <= last_seq {
                self.images.push(image);
                continue;
            }
            let kept = self.quarantine().keep(&self.layout.image(image.begin))?;
            self.report.images_skipped.push(SkippedImage {
                name: format!("{:016x}.img", image.begin),
                why: format!("it holds commits up to {}, the log ends at {last_seq}", image.end),
                quarantined: Some(kept),
            });
        }
        Ok(())
    }

    fn load_memory(&mut self, log: &Log) -> Result<MemoryMap> {
        self.report.how = How::Loaded;
        self.build_from_newest(log, memory::load)
    }

    fn quarantine(&self) -> Quarantine<'_> {
        Quarantine {
            vfs: &*self.options.vfs,
            layout: &self.layout,
            cap: self.options.quarantine_cap,
        }
    }
}

/// Creates a directory, if it is missing, and makes its name durable, and those of the parents it
/// creates. Also the name of one that is there: a kill may have come between creating and syncing.
pub(crate) fn create_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let mut path = Vec::new();
    for ancestor in dir.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        path.push(ancestor);
        if vfs.exists(ancestor).map_err(io_error("look for", ancestor))? {
            break;
        }
    }
    // ORDER: one after the other, so that a kill leaves at most the last name in doubt.
    for (depth, dir) in path.into_iter().rev().enumerate() {
        vfs.create_dir_all(dir).map_err(io_error("create", dir))?;
        let Some(parent) = dir.parent() else { continue };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match vfs.sync_dir(parent) {
            // Somebody else made it, in a directory that is not ours to open.
            Err(e) if depth == 0 && e.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(io_error("sync", parent))?,
        }
    }
    Ok(())
}
