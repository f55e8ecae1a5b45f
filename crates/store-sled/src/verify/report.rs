//! What checking a store found.

use std::fmt;
use std::path::{Path, PathBuf};

use resurge_commit_log::SegmentInfo;

use crate::image::ImageInfo;
use crate::quarantine::QuarantineStatus;
use crate::super_file::Slot;

/// What a [`Finding`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, nothing is wrong: a leftover that the next open removes, the unacknowledged
    /// tail that a crash left, a file that is none of ours.
    Note,
    /// Bytes are not what was written, or gone, but no acknowledged commit is: the next open does
    /// without them.
    Damage,
    /// Acknowledged commits cannot be read: the store does not open, except by
    /// [`Recovery::Salvage`](crate::Recovery::Salvage), which loses them, or with an index that still
    /// has them.
    Fatal,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// The file, relative to the store's directory.
    pub file: String,
    /// Where in it, in bytes, if that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// How far the index was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum IndexCheck {
    /// There is none.
    #[default]
    Absent,
    /// It was not read. It proves itself at every open, or is built again.
    NotChecked,
    /// A copy of it proved that it holds what it says.
    Proved {
        /// How many keys it holds.
        keys: u64,
        /// Every commit up to this one is in it.
        applied_seq: u64,
    },
    /// It is damaged: a finding says how. The next open builds it again.
    Damaged,
}

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SegmentSummary {
    /// Relative to the store's directory.
    pub file: String,
    /// Its first commit.
    pub first_seq: u64,
    /// Its last intact commit; `first_seq - 1` when it has none.
    pub last_seq: u64,
    /// Bytes of frames.
    pub used_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

/// What [`Offline::verify`](crate::Offline::verify) read and found.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The directory.
    pub path: PathBuf,
    /// The store's id, in hexadecimal; `None` when the super file does not tell.
    pub store_id: Option<String>,
    /// Whether it was closed in good order.
    pub clean: Option<bool>,
    /// The highest commit the super file knows to be durable.
    pub high_water: u64,
    /// The first commit in the log; 0 when it has no segment.
    pub first_seq: u64,
    /// The last commit in the log before any damage.
    pub last_seq: u64,
    /// Intact frames of the log.
    pub frames: u64,
    /// Intact commits in the log.
    pub commits: u64,
    /// The log's segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Images that are whole and that the log makes exact, newest first.
    pub images: Vec<ImageInfo>,
    /// How far the index was checked.
    pub index: IndexCheck,
    /// What the quarantine holds; it is listed, not checked.
    pub quarantine: QuarantineStatus,
    /// Files that were read from the first byte to the last.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            store_id: None,
            clean: None,
            high_water: 0,
            first_seq: 0,
            last_seq: 0,
            frames: 0,
            commits: 0,
            segments: Vec::new(),
            images: Vec::new(),
            index: IndexCheck::Absent,
            quarantine: QuarantineStatus::default(),
            files: 0,
            bytes: 0,
            findings: Vec::new(),
        }
    }

    /// The worst that was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// True when nothing is damaged. There may be notes.
    pub fn is_intact(&self) -> bool {
        self.worst().is_none_or(|worst| worst == Severity::Note)
    }

    /// True when no acknowledged commit is damaged: the store opens, or can be restored from.
    pub fn is_usable(&self) -> bool {
        self.worst() != Some(Severity::Fatal)
    }

    pub(super) fn describe(&mut self, slot: &Slot) {
        self.store_id = Some(hex(&slot.store_id));
        self.clean = Some(slot.clean);
        self.high_water = slot.high_water;
    }

    pub(super) fn log(&mut self, root: &Path, segments: &[SegmentInfo]) {
        self.segments = segments
            .iter()
            .map(|segment| SegmentSummary {
                file: relative(root, &segment.path),
                first_seq: segment.first_seq,
                last_seq: segment.last_seq,
                used_bytes: segment.used_bytes,
                file_bytes: segment.file_bytes,
            })
            .collect();
    }

    pub(super) fn read(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn found(
        &mut self,
        severity: Severity,
        path: &Path,
        offset: Option<u64>,
        what: impl fmt::Display,
    ) {
        let file = relative(&self.path, path);
        self.findings.push(Finding { severity, file, offset, what: what.to_string() });
    }
}

/// As people read it.
pub(crate) fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Damage => "damage",
            Self::Fatal => "FATAL",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<6}  {}", self.severity, self.file)?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl fmt::Display for IndexCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no index"),
            Self::NotChecked => f.write_str("index not checked"),
            Self::Proved { keys, applied_seq } => {
                write!(f, "index proved ({keys} keys, at commit {applied_seq})")
            }
            Self::Damaged => f.write_str("index damaged"),
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.worst() {
            None | Some(Severity::Note) => "intact",
            Some(Severity::Damage) => {
                "DAMAGED; opening it repairs it, nothing acknowledged is lost"
            }
            Some(Severity::Fatal) => "DAMAGED; acknowledged commits cannot be read",
        };
        writeln!(f, "{}: {verdict}", self.path.display())?;
        write!(f, "  log: commits {} to {}", self.first_seq, self.last_seq)?;
        writeln!(f, ", {} frames in {} segments", self.frames, self.segments.len())?;
        write!(f, "  images: {}", self.images.len())?;
        if let Some(newest) = self.images.first() {
            write!(f, ", the newest at commit {} with {} keys", newest.begin, newest.entries)?;
        }
        writeln!(f, "\n  {}", self.index)?;
        write!(f, "  read: {} bytes in {} files", self.bytes, self.files)?;
        if self.quarantine.files > 0 {
            let QuarantineStatus { files, bytes } = self.quarantine;
            write!(f, "\n  quarantine: {files} files, {bytes} bytes")?;
        }
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}
