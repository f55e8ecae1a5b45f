//! What a log can be told when it is opened.

use std::path::PathBuf;

use crate::segment::{MAX_SEGMENT, MIN_SEGMENT};

/// How much of the log is read when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Every frame of every segment (the default): damage anywhere is found at open.
    All,
    /// Segment headers, and the frames of the active segment: opening takes the same time however
    /// long the log is; damage in an older segment is found when it is replayed or verified.
    Active,
}

/// Where the next segment is filled with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// On a thread of its own (the default), while appends go on.
    Background,
    /// Inside `append`: no thread, every I/O operation in a fixed order. For simulation.
    Inline,
}

/// Settings of a log. Fixed sizes are rounded up to whole 4 KiB blocks.
#[derive(Clone, Debug)]
pub struct LogOptions {
    pub(crate) log_id: [u8; 16],
    pub(crate) salt: u64,
    pub(crate) start_at: u64,
    pub(crate) first_segment: u64,
    pub(crate) max_segment: u64,
    pub(crate) quarantine: Option<PathBuf>,
    pub(crate) quarantine_cap: u64,
    pub(crate) salvage: bool,
    pub(crate) scan: Scan,
    pub(crate) preparation: Preparation,
    pub(crate) lock: bool,
    pub(crate) max_pending_bytes: u64,
}

impl LogOptions {
    /// Settings for the log with this identity. A segment that carries another identity is
    /// refused, so files of two logs cannot be mixed up.
    ///
    /// ```
    /// let options = resurge_commit_log::LogOptions::new(*b"orders, region 1").salvage(false);
    /// ```
    pub fn new(log_id: [u8; 16]) -> Self {
        Self {
            log_id,
            salt: 0,
            start_at: 1,
            first_segment: 1 << 20,
            max_segment: 16 << 20,
            quarantine: None,
            quarantine_cap: 64 << 20,
            salvage: false,
            scan: Scan::All,
            preparation: Preparation::Background,
            lock: true,
            max_pending_bytes: 32 << 20,
        }
    }

    /// Mixed into the salt of every new segment, so that stale data from an earlier life of the
    /// same blocks is never taken for a frame. Give a fresh random number at each open; without
    /// one the salt still depends on identity, position and content of the log.
    #[must_use]
    pub fn salt(mut self, salt: u64) -> Self {
        self.salt = salt;
        self
    }

    /// First sequence of a log that does not exist yet (default 1; 0 counts as 1). An existing
    /// log ignores it.
    #[must_use]
    pub fn start_at(mut self, seq: u64) -> Self {
        self.start_at = seq.max(1);
        self
    }

    /// Size of the first segment (default 1 MiB) and the largest one (default 16 MiB), in bytes;
    /// sizes double from the one to the other. A frame that needs more gets a larger segment.
    #[must_use]
    pub fn segment_sizes(mut self, first: u64, max: u64) -> Self {
        self.first_segment = round_up(first);
        self.max_segment = round_up(max).max(self.first_segment);
        self
    }

    /// Where copies of cut tails and salvaged files go (default `quarantine` in the log's
    /// directory). Must be on the same file system.
    #[must_use]
    pub fn quarantine(mut self, dir: impl Into<PathBuf>) -> Self {
        self.quarantine = Some(dir.into());
        self
    }

    /// Bytes the quarantine may hold (default 64 MiB). The copy of a cut tail is shortened to
    /// what fits. Files that salvage moves there are never deleted or shortened.
    #[must_use]
    pub fn quarantine_cap(mut self, bytes: u64) -> Self {
        self.quarantine_cap = bytes;
        self
    }

    /// On damage to acknowledged data, keep the valid prefix and move the rest to the quarantine
    /// instead of refusing to open (default off). An explicit act: entries are lost, and
    /// [`OpenedLog::salvaged`](crate::OpenedLog::salvaged) says which. Reads the whole log.
    #[must_use]
    pub fn salvage(mut self, on: bool) -> Self {
        self.salvage = on;
        self
    }

    /// How much is read at open (default [`Scan::All`]).
    #[must_use]
    pub fn scan(mut self, scan: Scan) -> Self {
        self.scan = scan;
        self
    }

    /// Where segments are prepared (default [`Preparation::Background`]).
    #[must_use]
    pub fn preparation(mut self, preparation: Preparation) -> Self {
        self.preparation = preparation;
        self
    }

    /// Take an exclusive lock on `LOCK` in the log's directory (default on). Switch it off only
    /// when a lock of your own covers the directory.
    #[must_use]
    pub fn lock(mut self, on: bool) -> Self {
        self.lock = on;
        self
    }

    /// Bytes that may wait in a [`CommitLog`](crate::CommitLog) before appends are refused with
    /// `Unavailable` (default 32 MiB). One entry of any allowed size is taken when nothing waits.
    #[must_use]
    pub fn max_pending_bytes(mut self, bytes: u64) -> Self {
        self.max_pending_bytes = bytes;
        self
    }
}

fn round_up(bytes: u64) -> u64 {
    bytes.clamp(MIN_SEGMENT, MAX_SEGMENT).next_multiple_of(4096)
}
