//! What a store can be told when it is opened.

use std::sync::Arc;
use std::time::Duration;

use resurge_commit_log::{OsVfs, Vfs};
use resurge_store::{Clock, Entropy, GroupOptions, OsEntropy, SystemClock};

use crate::index::IndexFactory;
use crate::super_file::MAX_IMAGES;

/// What serves reads. The log, and with it every promise, is the same for both; it can be changed
/// at any open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum IndexKind {
    /// sled: the state may be larger than memory, opening is quick.
    #[default]
    Sled,
    /// An ordered map, filled from image and log at open: the state must fit in memory, throughput
    /// is several times higher.
    Memory,
}

/// How the index proves at open that it holds what the log says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Everything in it is read and compared with its count and sum.
    #[default]
    Full,
    /// After a clean close in the same boot of the machine it is believed unread. Damage to its
    /// files since then is found late or not at all.
    Trust,
}

/// What happens when acknowledged data is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// Opening fails with `Corrupt`, naming the place; nothing is changed.
    #[default]
    Strict,
    /// The valid prefix is kept, everything else is moved to the quarantine, and
    /// [`OpenReport`](crate::OpenReport) says what is lost. The index is built anew.
    Salvage,
}

/// Where images are taken and what is only pending is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Maintenance {
    /// On a thread of its own.
    #[default]
    Background,
    /// Inside `publish`: no thread, every I/O operation in a fixed order. For simulation.
    Inline,
}

/// Settings of a [`SledStore`](crate::SledStore). The defaults suit a service that owns its machine.
///
/// ```
/// use resurge_store_sled::{IndexKind, SledOptions, Verify};
/// let options = SledOptions::new().index(IndexKind::Memory).verify(Verify::Trust).images_kept(3);
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
pub struct SledOptions {
    pub(crate) index: IndexKind,
    pub(crate) factory: Option<Arc<dyn IndexFactory>>,
    pub(crate) verify: Verify,
    pub(crate) recovery: Recovery,
    pub(crate) maintenance: Maintenance,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) boot_id: Option<[u8; 16]>,
    pub(crate) group: GroupOptions,
    pub(crate) cache_bytes: u64,
    pub(crate) overlay_bytes: usize,
    pub(crate) overlay_wait: Duration,
    pub(crate) segment_sizes: (u64, u64),
    pub(crate) image_after: u64,
    pub(crate) images_kept: usize,
    pub(crate) reserve: u64,
    pub(crate) ballast: u64,
    pub(crate) quarantine_cap: u64,
    pub(crate) close_within: Duration,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SledOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            index: IndexKind::Sled,
            factory: None,
            verify: Verify::Full,
            recovery: Recovery::Strict,
            maintenance: Maintenance::Background,
            vfs: Arc::new(OsVfs),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(OsEntropy),
            boot_id: crate::boot::boot_id(),
            group: GroupOptions::default(),
            cache_bytes: 64 << 20,
            overlay_bytes: 128 << 20,
            overlay_wait: Duration::from_secs(5),
            segment_sizes: (1 << 20, 16 << 20),
            image_after: 64 << 20,
            images_kept: 2,
            reserve: 32 << 20,
            ballast: 16 << 20,
            quarantine_cap: 64 << 20,
            close_within: Duration::from_secs(30),
        }
    }

    /// What serves reads; sled by default.
    #[must_use]
    pub fn index(mut self, kind: IndexKind) -> Self {
        self.index = kind;
        self
    }

    /// Another index in the place of sled. For simulation.
    #[must_use]
    pub fn index_factory(mut self, factory: Arc<dyn IndexFactory>) -> Self {
        self.index = IndexKind::Sled;
        self.factory = Some(factory);
        self
    }

    /// How the index proves itself at open; by a full scan by default.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// What happens when acknowledged data is damaged; opening fails by default.
    #[must_use]
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// Where maintenance runs; in the background by default.
    #[must_use]
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// The file system; the operating system's by default.
    #[must_use]
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// For group commit and for the times in reports.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.group.clock = Arc::clone(&clock);
        self.clock = clock;
        self
    }

    /// For the store's id and the log's salts.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Which boot of the machine this is, `None` when unknown; asked of Linux by default.
    #[must_use]
    pub fn boot_id(mut self, id: Option<[u8; 16]>) -> Self {
        self.boot_id = id;
        self
    }

    /// How commits are grouped. Its clock is replaced by a later call of [`clock`](Self::clock).
    #[must_use]
    pub fn group(mut self, options: GroupOptions) -> Self {
        self.group = options;
        self
    }

    /// Memory for sled's page cache; 64 MiB by default.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Commits that the index does not hold yet may take this much memory (128 MiB by default).
    /// Beyond it commits wait for `wait` (5 s by default), then resolve `Unavailable`.
    #[must_use]
    pub fn overlay(mut self, bytes: usize, wait: Duration) -> Self {
        self.overlay_bytes = bytes;
        self.overlay_wait = wait;
        self
    }

    /// Size of the first log segment (default 1 MiB) and the largest one (default 16 MiB), in bytes.
    #[must_use]
    pub fn segment_sizes(mut self, first: u64, max: u64) -> Self {
        self.segment_sizes = (first, max);
        self
    }

    /// An image is taken when the log grew by this much since the last one (64 MiB by default), or
    /// by the size of the last one, if that is more.
    #[must_use]
    pub fn image_after(mut self, log_bytes: u64) -> Self {
        self.image_after = log_bytes;
        self
    }

    /// How many images are kept, 2 (the default) to 8. The log is kept back to the oldest of them.
    #[must_use]
    pub fn images_kept(mut self, images: usize) -> Self {
        self.images_kept = images.clamp(2, MAX_IMAGES);
        self
    }

    /// Free space that commits leave alone, beside what the index and an image may need; 32 MiB by
    /// default. Below it they resolve `Full`.
    #[must_use]
    pub fn free_space_reserve(mut self, bytes: u64) -> Self {
        self.reserve = bytes;
        self
    }

    /// Size of the file that is given up to open on a full disk; 16 MiB by default, 0 for none.
    #[must_use]
    pub fn ballast(mut self, bytes: u64) -> Self {
        self.ballast = bytes;
        self
    }

    /// Bytes that copies of damaged files may take; 64 MiB by default. What salvage moves away is
    /// kept beyond it.
    #[must_use]
    pub fn quarantine_cap(mut self, bytes: u64) -> Self {
        self.quarantine_cap = bytes;
        self
    }

    /// How long closing waits for the index; 30 s by default. What is not in the index by then
    /// comes from the log at the next open.
    #[must_use]
    pub fn close_within(mut self, deadline: Duration) -> Self {
        self.close_within = deadline;
        self
    }
}
