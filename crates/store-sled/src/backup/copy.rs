//! Copying one consistent state into a directory of its own.

use std::path::Path;
use std::sync::Arc;

use resurge_commit_log::{Frame, LockError, Log, LogOptions, LogReader, Preparation, Vfs, VfsLock};
use resurge_store::{CommitSeq, ErrorKind, Result, StoreError};

use super::BackupReport;
use crate::SledOptions;
use crate::core::closed;
use crate::error::{corrupt, io_error, while_opening};
use crate::image::{ImageInfo, ImageReader, ImageWriter};
use crate::layout::Layout;
use crate::open::create_dir;
use crate::super_file::{ImageSpan, Slot, SuperFile};
use crate::verify::{self, hex};

/// A frame of the copy's log is closed at this many bytes.
const FRAME: usize = 1 << 20;
/// Beside image and log: the super file, the first segment, directories.
const FIXED: u64 = 2 << 20;

/// What is copied. Nothing of it is removed meanwhile.
pub(crate) struct Source<'a> {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) layout: &'a Layout,
    pub(crate) store_id: [u8; 16],
    /// Newest first.
    pub(crate) images: Vec<ImageInfo>,
    /// Holds everything after one of them, or from the first commit on, up to `seq` at least.
    /// `None` when nothing was ever committed.
    pub(crate) log: Option<LogReader>,
    pub(crate) seq: u64,
}

pub(crate) struct Copying<'a> {
    pub(crate) source: Source<'a>,
    /// Of the copy.
    pub(crate) options: &'a SledOptions,
    /// Asked from time to time.
    pub(crate) stopping: &'a dyn Fn() -> bool,
}

/// What the copy is made of.
struct Filled {
    image: Option<ImageSpan>,
    commits: u64,
}

impl Copying<'_> {
    /// Copies into `dest`, reads the copy back, and only then makes it a store.
    pub(crate) fn run(&self, dest: &Path) -> Result<BackupReport> {
        let clock = &self.options.clock;
        let started = clock.monotonic();
        let layout = Layout::new(dest);
        let lock = self.take_over(&layout)?;
        let report = self.fill_and_check(&layout);
        if report.is_err() {
            self.clear(&layout);
        }
        drop(lock);
        let mut report = report?;
        report.duration = clock.monotonic().saturating_since(started);
        Ok(report)
    }

    /// Makes sure that there is nothing in the directory and that nobody else puts anything there.
    fn take_over(&self, layout: &Layout) -> Result<Box<dyn VfsLock>> {
        let vfs = self.vfs();
        let dest = &layout.root;
        let invalid = |why: &str| StoreError::invalid(format!("{} {why}", dest.display()));
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if absolute(dest).starts_with(absolute(&self.source.layout.root)) {
            return Err(invalid("lies inside the store that is to be copied"));
        }
        if vfs.exists(dest).map_err(io_error("look for", dest))?
            && !vfs.list(dest).map_err(io_error("list", dest))?.is_empty()
        {
            return Err(invalid("is not empty"));
        }
        self.has_room(layout)?;
        create_dir(vfs, dest)?;
        let lock = vfs.lock(&layout.lock).map_err(|e| match e {
            LockError::Held => invalid("is being written by somebody else"),
            LockError::Io(e) => io_error("lock", &layout.lock)(e),
        })?;
        // Somebody may have come in between.
        match vfs.list(dest) {
            Ok(there) if there.len() > 1 => Err(invalid("is not empty")),
            Ok(_) => Ok(lock),
            Err(e) => {
                ignore_absent(vfs.remove_file(&layout.lock), &layout.lock);
                Err(io_error("list", dest)(e))
            }
        }
    }

    fn has_room(&self, layout: &Layout) -> Result<()> {
        let vfs = self.vfs();
        let mut there = None;
        for path in layout.root.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            if vfs.exists(path).map_err(io_error("look for", path))? {
                there = Some(path);
                break;
            }
        }
        let there = there.unwrap_or(Path::new("."));
        let free = vfs.free_space(there).map_err(io_error("ask for free space of", there))?;
        let image = self.source.images.first();
        let log = self.source.log.as_ref();
        let log = log.map_or(0, |log| log.bytes_since(image.map_or(0, |image| image.begin)));
        let needed = FIXED.saturating_add(image.map_or(0, |image| image.bytes)).saturating_add(log);
        match free {
            Some(free) if free < needed => Err(StoreError::new(
                ErrorKind::Full,
                format!("{}: {free} bytes are free, a copy needs {needed}", there.display()),
            )),
            _ => Ok(()),
        }
    }

    fn fill_and_check(&self, layout: &Layout) -> Result<BackupReport> {
        let mut store_id = [0; 16];
        self.options.entropy.fill(&mut store_id)?;
        let filled = self.fill(layout, store_id)?;
        let seq = self.source.seq;
        // Nothing but zeros follows the log's last frame.
        let mut slot = Slot::new(store_id);
        slot.high_water = seq;
        slot.clean = true;
        slot.set_images(filled.image);
        let checked = verify::check_contents(&self.source.vfs, layout, &slot)?.report;
        if let Some(finding) = checked.findings.first() {
            return Err(corrupt(&layout.root, format_args!("the copy read back: {finding}")));
        }
        if checked.last_seq != seq {
            let last = checked.last_seq;
            let what = format_args!("the copy ends at commit {last}, not at {seq}");
            return Err(corrupt(&layout.root, what));
        }
        // ORDER: last; it is what makes a store of the directory.
        SuperFile::create(self.vfs(), &layout.super_file, &layout.super_tmp, slot)?;
        Ok(BackupReport {
            path: layout.root.clone(),
            seq: CommitSeq(seq),
            from_image: filled.image.map(|span| CommitSeq(span.begin)),
            commits: filled.commits,
            store_id: hex(&store_id),
            source_id: hex(&self.source.store_id),
            bytes: self.bytes(layout)?,
            duration: std::time::Duration::ZERO,
        })
    }

    /// Image, then log. An image that turns out to be damaged is passed over for an older one and
    /// more of the log.
    fn fill(&self, layout: &Layout, store_id: [u8; 16]) -> Result<Filled> {
        create_dir(self.vfs(), &layout.images)?;
        let first = self.source.log.as_ref().map_or(1, LogReader::first_seq);
        let mut image = None;
        for candidate in &self.source.images {
            let fits =
                candidate.begin.saturating_add(1) >= first && candidate.end <= self.source.seq;
            if !fits {
                continue;
            }
            match self.image(layout, store_id, candidate) {
                Ok(span) => {
                    image = Some(span);
                    break;
                }
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    let tmp = layout.image_tmp(candidate.begin);
                    ignore_absent(self.vfs().remove_file(&tmp), &tmp);
                    tracing::warn!(error = %e, "backing up from an older image");
                }
                Err(e) => return Err(e),
            }
        }
        if image.is_none() && first > 1 {
            let what = format_args!("no image is whole, and the log begins only at commit {first}");
            return Err(corrupt(&self.source.layout.root, what));
        }
        let after = image.map_or(0, |span: ImageSpan| span.begin);
        Ok(Filled { image, commits: self.log(layout, store_id, after)? })
    }

    /// Writes the image anew: chunk checksums depend on the store's id.
    fn image(&self, layout: &Layout, store_id: [u8; 16], image: &ImageInfo) -> Result<ImageSpan> {
        let vfs = self.vfs();
        let from = self.source.layout.image(image.begin);
        let mut reader = ImageReader::open(vfs, &from, &self.source.store_id)?;
        let span = reader.span();
        let tmp = layout.image_tmp(span.begin);
        let mut writer = ImageWriter::create(vfs, tmp.clone(), store_id, span.begin)?;
        while let Some(entries) = reader.next_chunk()? {
            self.go_on()?;
            for (key, value) in entries {
                writer.add(&key, &value)?;
            }
        }
        writer.finish(span.end)?;
        let path = layout.image(span.begin);
        vfs.rename(&tmp, &path).map_err(io_error("rename", &tmp))?;
        let dir = &layout.images;
        vfs.sync_dir(dir).map_err(io_error("sync", dir))?;
        Ok(span)
    }

    /// Copies every commit after `after` up to the last one. Returns how many.
    fn log(&self, layout: &Layout, store_id: [u8; 16], after: u64) -> Result<u64> {
        let (first, max) = self.options.segment_sizes;
        let options = LogOptions::new(store_id)
            .salt(self.options.entropy.next_u64()?)
            .segment_sizes(first, max)
            .start_at(after.saturating_add(1))
            .preparation(Preparation::Inline)
            .lock(false);
        let vfs = Arc::clone(&self.source.vfs);
        let (mut log, _) = Log::open(vfs, &layout.log, options, 0).map_err(while_opening)?;
        let last = self.source.seq;
        let mut commits = 0;
        if let Some(source) = self.source.log.as_ref().filter(|_| last > after) {
            let mut replay = source.replay(after.saturating_add(1)).map_err(while_opening)?;
            let mut frame = Frame::new();
            while let Some((seq, entry)) = replay.next_entry().map_err(while_opening)? {
                if !frame.is_empty() && frame.payload_len().saturating_add(entry.len()) > FRAME {
                    self.go_on()?;
                    log.append(&mut frame).map_err(while_opening)?;
                }
                frame.push(entry).map_err(while_opening)?;
                commits += 1;
                if seq >= last {
                    break;
                }
            }
            if !frame.is_empty() {
                log.append(&mut frame).map_err(while_opening)?;
            }
        }
        log.close().map_err(while_opening)?;
        Ok(commits)
    }

    fn go_on(&self) -> Result<()> {
        if (self.stopping)() { Err(closed()) } else { Ok(()) }
    }

    fn bytes(&self, layout: &Layout) -> Result<u64> {
        let mut bytes = 0_u64;
        for dir in [&layout.root, &layout.log, &layout.images] {
            for entry in self.vfs().list(dir).map_err(io_error("list", dir))? {
                bytes = bytes.saturating_add(entry.len);
            }
        }
        Ok(bytes)
    }

    /// Takes back what was written, so that the directory can be used again.
    fn clear(&self, layout: &Layout) {
        let vfs = self.vfs();
        // ORDER: the name that makes it a store goes first.
        for file in [&layout.super_file, &layout.super_tmp] {
            ignore_absent(vfs.remove_file(file), file);
        }
        for dir in [&layout.log, &layout.images] {
            if vfs.exists(dir).unwrap_or(true) {
                ignore_absent(vfs.remove_dir_all(dir), dir);
            }
        }
        ignore_absent(vfs.remove_file(&layout.lock), &layout.lock);
    }

    fn vfs(&self) -> &dyn Vfs {
        &*self.source.vfs
    }
}

fn ignore_absent(removed: std::io::Result<()>, path: &Path) {
    if let Err(error) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove what is left of a copy");
    }
}
