//! Which images there are.

use resurge_commit_log::Vfs;
use resurge_store::{CommitSeq, ErrorKind, Result, StoreError};

use super::ImageReader;
use crate::error::io_error;
use crate::layout::{Layout, image_seq};
use crate::quarantine::Quarantine;
use crate::report::SkippedImage;
use crate::super_file::ImageSpan;

/// One image on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Every commit up to this one is in it. Its file is named after this number.
    pub begin: u64,
    /// No commit after this one is in it: with the log from `begin + 1` to here it is exact.
    pub end: u64,
    /// Keys in it.
    pub entries: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Whether this process has read all of it and found it whole.
    pub verified: bool,
}

impl ImageInfo {
    pub(crate) fn span(&self) -> ImageSpan {
        ImageSpan { begin: self.begin, end: self.end }
    }

    pub(crate) fn of(reader: &ImageReader, verified: bool) -> Self {
        let ImageSpan { begin, end } = reader.span();
        Self { begin, end, entries: reader.entries(), bytes: reader.file_len(), verified }
    }

    pub(crate) fn seq(&self) -> CommitSeq {
        CommitSeq(self.begin)
    }
}

/// The images of a store, newest first.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) images: Vec<ImageInfo>,
    pub(crate) skipped: Vec<SkippedImage>,
    /// Why an image could not be read, if it is not because of damage.
    pub(crate) unreadable: Option<StoreError>,
    /// Names of temporary files that were removed.
    pub(crate) swept: Vec<String>,
}

/// Reads the headers of all images. Temporary files are removed unread, damaged ones moved away.
pub(crate) fn find(
    vfs: &dyn Vfs,
    layout: &Layout,
    store_id: &[u8; 16],
    quarantine: &Quarantine<'_>,
) -> Result<Found> {
    let mut found = Found::default();
    let dir = &layout.images;
    for entry in vfs.list(dir).map_err(io_error("list", dir))? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            continue;
        }
        if entry.name.strip_suffix(".tmp").is_some() {
            vfs.remove_file(&path).map_err(io_error("remove", &path))?;
            found.swept.push(entry.name);
            continue;
        }
        let Some(seq) = image_seq(&entry.name) else { continue };
        match ImageReader::open(vfs, &path, store_id) {
            Ok(reader) if reader.span().begin == seq => {
                found.images.push(ImageInfo::of(&reader, false));
            }
            Ok(_) => {
                let moved = quarantine.take(&path, entry.len)?;
                let why = "it is named after another commit".to_owned();
                found.skipped.push(SkippedImage { name: entry.name, why, quarantined: moved });
            }
            Err(e) => {
                found.skipped.push(skip(quarantine, layout, seq, entry.len, &e)?);
                if e.kind() != ErrorKind::Corrupt {
                    found.unreadable = Some(e);
                }
            }
        }
    }
    found.images.sort_unstable_by_key(|image| std::cmp::Reverse(image.begin));
    Ok(found)
}

/// What cannot be read stays where it is, what is damaged goes to the quarantine.
pub(crate) fn skip(
    quarantine: &Quarantine<'_>,
    layout: &Layout,
    seq: u64,
    len: u64,
    error: &StoreError,
) -> Result<SkippedImage> {
    let path = layout.image(seq);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    tracing::warn!(image = %path.display(), error = %error, "an image cannot be used");
    metrics::counter!("resurge_sled_images_damaged_total").increment(1);
    let damaged = error.kind() == ErrorKind::Corrupt;
    let quarantined = if damaged { quarantine.take(&path, len)? } else { None };
    Ok(SkippedImage { name, why: error.to_string(), quarantined })
}
