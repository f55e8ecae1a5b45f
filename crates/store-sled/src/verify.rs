//! Checking every byte of a store that nobody has open. Nothing on disk is changed.

mod files;
mod index;
mod report;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use resurge_commit_log::{LogFindingKind, LogReader, Vfs};
use resurge_store::{Batch, Result};

use crate::error::{io_error, while_opening};
use crate::image::{ImageInfo, ImageReader};
use crate::layout::{Layout, image_seq};
use crate::open::identity;
use crate::super_file::{ImageSpan, Slot};

pub(crate) use report::hex;
pub use report::{Finding, IndexCheck, SegmentSummary, Severity, VerifyReport};

/// What was found, and what is needed to go on from it.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) report: VerifyReport,
    pub(crate) slot: Option<Slot>,
    /// Those that are whole and that the log makes exact, newest first.
    pub(crate) images: Vec<ImageInfo>,
    /// `None` when the log is damaged or has no segment.
    pub(crate) log: Option<LogReader>,
}

/// Checks a store whose lock the caller holds.
///
/// # Errors
/// Those of the file system when a directory cannot be listed. A file that cannot be read is a
/// finding.
pub(crate) fn check(
    vfs: &Arc<dyn Vfs>,
    layout: &Layout,
    scratch: Option<&Path>,
) -> Result<Checked> {
    let mut check = Check::new(vfs, layout);
    let slot = check.super_file();
    check.root_files()?;
    // Without it, segments and images say who the store is, so that they can be checked at least.
    let known = match slot {
        Some(slot) => Some(slot),
        None => identity::find(&**vfs, layout)?.map(Slot::new),
    };
    if let Some(slot) = &known {
        check.contents(slot)?;
        match scratch {
            Some(scratch) => check.index(slot, scratch)?,
            None => check.index_unread()?,
        }
    }
    Ok(check.finish(slot))
}

/// Checks the images and the log of a store that has no super file yet.
pub(crate) fn check_contents(vfs: &Arc<dyn Vfs>, layout: &Layout, slot: &Slot) -> Result<Checked> {
    let mut check = Check::new(vfs, layout);
    check.contents(slot)?;
    Ok(check.finish(Some(*slot)))
}

struct Check<'a> {
    vfs: &'a Arc<dyn Vfs>,
    layout: &'a Layout,
    report: VerifyReport,
    /// Their files are whole; whether the log makes them exact is seen later.
    images: Vec<ImageInfo>,
    log: Option<LogReader>,
}

impl<'a> Check<'a> {
    fn new(vfs: &'a Arc<dyn Vfs>, layout: &'a Layout) -> Self {
        let report = VerifyReport::new(&layout.root);
        Self { vfs, layout, report, images: Vec::new(), log: None }
    }

    fn finish(mut self, slot: Option<Slot>) -> Checked {
        self.report.images.clone_from(&self.images);
        if let Some(slot) = &slot {
            self.report.describe(slot);
        }
        self.report.findings.sort_by(|a, b| {
            (std::cmp::Reverse(a.severity), &a.file, a.offset).cmp(&(
                std::cmp::Reverse(b.severity),
                &b.file,
                b.offset,
            ))
        });
        Checked { report: self.report, slot, images: self.images, log: self.log }
    }

    /// Images and log, and whether they fit together.
    fn contents(&mut self, slot: &Slot) -> Result<()> {
        let images_end = self.image_files(slot)?;
        let known = slot.high_water.max(images_end);
        self.log_files(slot, known)?;
        self.fit();
        Ok(())
    }

    /// Returns the highest commit that images, or the super file's list of them, show to be durable.
    fn image_files(&mut self, slot: &Slot) -> Result<u64> {
        let mut end = slot.images().iter().map(|span| span.end).max().unwrap_or(0);
        let mut seen = BTreeSet::new();
        for entry in self.list(&self.layout.images)? {
            let path = self.layout.images.join(&entry.name);
            let Some(seq) = image_seq(&entry.name).filter(|_| !entry.is_dir) else {
                let leftover = !entry.is_dir && entry.name.strip_suffix(".tmp").is_some();
                let what = if leftover { files::LEFTOVER } else { files::UNKNOWN };
                self.found(Severity::Note, &path, None, what);
                continue;
            };
            self.report.read(entry.len);
            seen.insert(seq);
            match ImageReader::open(&**self.vfs, &path, &slot.store_id) {
                Ok(reader) if reader.span().begin != seq => {
                    self.found(
                        Severity::Damage,
                        &path,
                        Some(0),
                        "it is named after another commit",
                    );
                }
                Ok(reader) => {
                    end = end.max(reader.span().end);
                    let image = ImageInfo::of(&reader, true);
                    match reader.verify() {
                        Ok(()) => self.images.push(image),
                        Err(e) => self.found(Severity::Damage, &path, None, e),
                    }
                }
                Err(e) => self.found(Severity::Damage, &path, None, e),
            }
        }
        for ImageSpan { begin, .. } in slot.images() {
            if !seen.contains(begin) {
                let what = "it is missing, though the super file lists it";
                self.found(Severity::Damage, &self.layout.image(*begin), None, what);
            }
        }
        self.images.sort_unstable_by_key(|image| std::cmp::Reverse(image.begin));
        Ok(end)
    }

    fn log_files(&mut self, slot: &Slot, known: u64) -> Result<()> {
        let mut senseless = Vec::new();
        let mut decode = |seq, bytes: &[u8]| {
            if let Err(e) = Batch::decode_ops(Bytes::copy_from_slice(bytes)) {
                senseless.push(format!("commit {seq} is whole but makes no sense: {e}"));
            }
        };
        let log = &self.layout.log;
        let checked = resurge_commit_log::check(self.vfs, log, slot.store_id, known, &mut decode);
        let checked = checked.map_err(while_opening)?;
        for finding in checked.findings {
            let severity = match finding.kind {
                LogFindingKind::Damage => Severity::Fatal,
                LogFindingKind::Slack => Severity::Damage,
                // Closing in good order leaves none.
                LogFindingKind::Tail if slot.clean => Severity::Damage,
                _ => Severity::Note,
            };
            self.found(severity, &finding.path, Some(finding.offset), finding.what);
        }
        for what in senseless {
            self.found(Severity::Fatal, log, None, what);
        }
        self.report.log(&self.layout.root, &checked.segments);
        (self.report.first_seq, self.report.last_seq) = (checked.first_seq, checked.last_seq);
        (self.report.frames, self.report.commits) = (checked.frames, checked.entries);
        self.report.files += checked.files;
        self.report.bytes = self.report.bytes.saturating_add(checked.bytes);
        self.log = checked.reader;
        Ok(())
    }

    /// Is there an image and enough log to build the state from? Keeps the images that do.
    fn fit(&mut self) {
        let first = self.report.first_seq.max(1);
        let last = self.report.last_seq;
        for image in std::mem::take(&mut self.images) {
            let from = image.begin.saturating_add(1);
            if from >= first && image.end <= last {
                self.images.push(image);
                continue;
            }
            let what = format!(
                "it needs the log from {from} to {}, which holds {first} to {last}",
                image.end
            );
            self.found(Severity::Damage, &self.layout.image(image.begin), None, what);
        }
        if self.images.is_empty() && first > 1 {
            let what = format!(
                "no image is whole, and the log begins only at commit {first}: nothing but the \
                 index, if it proves good, still has the state"
            );
            self.found(Severity::Fatal, &self.layout.images, None, what);
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<resurge_commit_log::DirEntry>> {
        if !self.vfs.exists(dir).map_err(io_error("look for", dir))? {
            return Ok(Vec::new());
        }
        let mut entries = self.vfs.list(dir).map_err(io_error("list", dir))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn found(
        &mut self,
        severity: Severity,
        path: &Path,
        offset: Option<u64>,
        what: impl std::fmt::Display,
    ) {
        self.report.found(severity, path, offset, what);
    }
}
