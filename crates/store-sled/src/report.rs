//! What opening a store found and did.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use resurge_commit_log::{Salvaged, TailCut};
use resurge_store::CommitSeq;

use crate::IndexKind;

/// What opening a store found and did. Nothing here needs action, except where
/// [`salvaged`](Self::salvaged) is set; log it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenReport {
    /// The directory.
    pub path: PathBuf,
    /// What serves reads.
    pub index: IndexKind,
    /// How the state was found.
    pub how: How,
    /// The last commit it holds.
    pub last_seq: CommitSeq,
    /// Commits that were taken from the log.
    pub replayed: u64,
    /// The image that was loaded: every commit up to this one was in it.
    pub from_image: Option<CommitSeq>,
    /// The incomplete, unacknowledged end of the log that was cut.
    pub tail_cut: Option<TailCut>,
    /// What [`Recovery::Salvage`](crate::Recovery::Salvage) gave up: acknowledged data is lost.
    pub salvaged: Option<Salvaged>,
    /// Images that could not be used.
    pub images_skipped: Vec<SkippedImage>,
    /// One slot of the super file was damaged, and how; the other one was used. Normal after a power
    /// loss.
    pub super_slot: Option<&'static str>,
    /// Files moved to or copied into the quarantine.
    pub quarantined: Vec<PathBuf>,
    /// Leftovers of an interrupted run that were removed.
    pub swept: Vec<String>,
    /// The disk was so full that the ballast was given up.
    pub ballast_freed: bool,
    /// How long it took.
    pub duration: Duration,
}

/// How the state was found at open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// There was no store: this one is new.
    Fresh,
    /// The index was believed unread.
    Trusted,
    /// The index proved that it is what the log says.
    Verified,
    /// The index in memory was filled from image and log.
    Loaded,
    /// The index on disk was deleted and built again from image and log.
    Rebuilt {
        /// What was wrong with it.
        why: String,
    },
}

/// An image that could not be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SkippedImage {
    /// Its file name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// Where it is now, when it was moved to the quarantine.
    pub quarantined: Option<PathBuf>,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("new"),
            Self::Trusted => f.write_str("index trusted after a clean close"),
            Self::Verified => f.write_str("index verified"),
            Self::Loaded => f.write_str("loaded into memory"),
            Self::Rebuilt { why } => write!(f, "index rebuilt ({why})"),
        }
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.duration.as_millis();
        write!(f, "{}: {}, commit {}", self.path.display(), self.how, self.last_seq)?;
        if let Some(seq) = self.from_image {
            write!(f, ", from image {seq}")?;
        }
        write!(f, ", {} replayed, {ms} ms", self.replayed)?;
        if let Some(cut) = &self.tail_cut {
            write!(f, "; cut an unacknowledged tail of {} bytes after commit ", cut.bytes)?;
            write!(f, "{}", cut.seq.saturating_sub(1))?;
        }
        if let Some(salvaged) = &self.salvaged {
            write!(
                f,
                "; SALVAGED, commits from {} on are lost: {}",
                salvaged.first_lost, salvaged.damage
            )?;
        }
        for image in &self.images_skipped {
            write!(f, "; skipped image {}: {}", image.name, image.why)?;
        }
        if let Some(what) = self.super_slot {
            write!(f, "; used the other super slot: {what}")?;
        }
        if !self.quarantined.is_empty() {
            write!(f, "; {} files in quarantine", self.quarantined.len())?;
        }
        if !self.swept.is_empty() {
            write!(f, "; {} leftovers removed", self.swept.len())?;
        }
        if self.ballast_freed {
            f.write_str("; gave up the ballast on a full disk")?;
        }
        Ok(())
    }
}
