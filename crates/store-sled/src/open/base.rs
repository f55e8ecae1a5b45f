//! What a state is built from: the newest valid image and the log after it.

use std::sync::Arc;

use resurge_commit_log::Log;
use resurge_store::{ErrorKind, Result, StoreError};

use super::Opening;
use crate::image::{self, ImageInfo, ImageReader};
use crate::report::SkippedImage;

/// What building a state failed of.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The image: an older one may do.
    Image(StoreError),
    /// Anything else.
    Other(StoreError),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

/// What a state is built from.
#[derive(Debug)]
pub(super) struct Base<'a> {
    /// `None`: from nothing.
    pub(super) image: Option<ImageReader>,
    pub(super) log: &'a Log,
    /// Counts what is taken from the log.
    pub(super) replayed: &'a mut u64,
}

impl Base<'_> {
    /// The first commit that is to be taken from the log.
    pub(super) fn replay_from(&self) -> u64 {
        self.image.as_ref().map_or(1, |image| image.span().begin.saturating_add(1))
    }
}

impl Opening {
    /// Builds a state with `load`, from the newest image that turns out to be whole.
    ///
    /// # Errors
    /// `Corrupt` when none is, and the log does not reach back to the first commit; what kept one
    /// from being read, when that was it.
    pub(super) fn build_from_newest<T>(
        &mut self,
        log: &Log,
        mut load: impl FnMut(Base<'_>) -> Result<T, LoadError>,
    ) -> Result<T> {
        let vfs = Arc::clone(&self.options.vfs);
        let mut candidates = std::mem::take(&mut self.images).into_iter();
        while let Some(candidate) = candidates.next() {
            if let Some(why) = misfit(&candidate, log) {
                let name = format!("{:016x}.img", candidate.begin);
                self.report.images_skipped.push(SkippedImage { name, why, quarantined: None });
                continue;
            }
            let path = self.layout.image(candidate.begin);
            let replayed = &mut self.report.replayed;
            *replayed = 0;
            let reader = ImageReader::open(&*vfs, &path, &self.store_id);
            let loaded = reader
                .map_err(LoadError::Image)
                .and_then(|reader| load(Base { image: Some(reader), log, replayed }));
            match loaded {
                Ok(state) => {
                    self.report.from_image = Some(candidate.seq());
                    self.images.push(ImageInfo { verified: true, ..candidate });
                    self.images.extend(candidates);
                    return Ok(state);
                }
                Err(LoadError::Other(e)) => return Err(e),
                Err(LoadError::Image(e)) => {
                    let (seq, len) = (candidate.begin, candidate.bytes);
                    let skipped = image::skip(&self.quarantine(), &self.layout, seq, len, &e)?;
                    self.report.quarantined.extend(skipped.quarantined.clone());
                    self.report.images_skipped.push(skipped);
                    if e.kind() != ErrorKind::Corrupt {
                        self.unreadable = Some(e);
                    }
                }
            }
        }
        if log.first_seq() > 1 {
            // What failed to be read is no reason to give it up.
            if let Some(e) = self.unreadable.take() {
                return Err(e);
            }
            let first = log.first_seq();
            return Err(StoreError::new(
                ErrorKind::Corrupt,
                format!(
                    "{}: no image is whole, and the log begins only at commit {first}",
                    self.layout.root.display()
                ),
            ));
        }
        let replayed = &mut self.report.replayed;
        *replayed = 0;
        match load(Base { image: None, log, replayed }) {
            Ok(state) => Ok(state),
            Err(LoadError::Image(e) | LoadError::Other(e)) => Err(e),
        }
    }
}

/// Why the log does not make the image exact, if it does not.
fn misfit(image: &ImageInfo, log: &Log) -> Option<String> {
    let (from, first, last) = (image.begin.saturating_add(1), log.first_seq(), log.last_seq());
    (from < first || image.end > last).then(|| {
        format!("it needs the log from {from} to {}, which holds {first} to {last}", image.end)
    })
}
