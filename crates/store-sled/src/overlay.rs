//! What is published but not yet in the index, in front of the index.
//!
//! Two generations: groups are published into the *active* one; the *draining* one is being
//! applied and keeps shadowing the index, tombstones too, until it is. So readers need no lock
//! against the apply: whatever it is changing they see in the generation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use resurge_store::{
    Batch, CommitSeq, Group, Key, KeyRange, Op, Page, Result, ScanOptions, StoreError,
};

use crate::index::{Index, IndexError};

mod control;
mod generation;
mod merge;

use control::Control;
pub(crate) use control::Next;
pub(crate) use generation::Generation;

/// A scan that was overtaken by this many rotations holds the next one off.
const OPTIMISTIC_SCANS: usize = 3;

/// How much the overlay may hold and when it is worth draining.
#[derive(Clone, Debug)]
pub struct OverlayOptions {
    /// Commits wait while it holds this many bytes; 128 MiB by default. A larger group is let in when
    /// it holds nothing.
    pub max_bytes: usize,
    /// It is drained at this many keys; 16,384 by default.
    pub drain_keys: usize,
    /// It is drained at this many bytes; 4 MiB by default.
    pub drain_bytes: usize,
    /// It is drained, whatever it holds, about this long after something was published; 100 ms by
    /// default.
    pub drain_after: Duration,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self {
            max_bytes: 128 << 20,
            drain_keys: 16 << 10,
            drain_bytes: 4 << 20,
            drain_after: Duration::from_millis(100),
        }
    }
}

/// How full the overlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayStatus {
    /// Keys not yet in the index, counted once per generation.
    pub keys: usize,
    /// Bytes they take in memory, about, and what is reserved.
    pub bytes: usize,
    /// Every commit up to this one is visible.
    pub published: CommitSeq,
    /// Every commit up to this one is in the index.
    pub applied: CommitSeq,
}

/// Told the first failure of the index, on the thread that met it.
pub type OnIndexFailure = Box<dyn Fn(&IndexError) + Send + Sync>;

/// The published state: the newest groups in memory over the index.
///
/// Every read of the store goes through it. A page never tears a group; a key read is the newest
/// published one. After the first index error it serves what is in memory, refuses the rest with
/// `Closed`, and nothing more is applied.
///
/// The calls of an engine, per group: [`reserve`](Self::reserve), log, sync,
/// [`made_durable`](Self::made_durable), [`publish`](Self::publish).
pub struct Overlay {
    index: Arc<dyn Index>,
    options: OverlayOptions,
    generations: RwLock<Generations>,
    /// Held shared by a scan that was overtaken too often, exclusively to rotate.
    gate: RwLock<()>,
    durable: AtomicU64,
    control: Control,
    on_failure: OnIndexFailure,
    failing: AtomicBool,
}

#[derive(Debug)]
struct Generations {
    active: Generation,
    draining: Option<Arc<Generation>>,
    /// How often the active generation became the draining one. While it stays the same, the index
    /// changes only in keys that the draining generation holds.
    rotations: u64,
    published: CommitSeq,
}

impl Overlay {
    /// Over an index that holds everything up to `applied`. Nothing reaches the index before a
    /// [`Drainer`](crate::Drainer) is started on it.
    pub fn new(
        index: Arc<dyn Index>,
        applied: CommitSeq,
        options: OverlayOptions,
        on_failure: OnIndexFailure,
    ) -> Self {
        let generations = Generations {
            active: Generation::default(),
            draining: None,
            rotations: 0,
            published: applied,
        };
        Self {
            index,
            options,
            generations: RwLock::new(generations),
            gate: RwLock::new(()),
            durable: AtomicU64::new(applied.0),
            control: Control::new(applied),
            on_failure,
            failing: AtomicBool::new(false),
        }
    }

    /// The published value of `key`.
    ///
    /// # Errors
    /// `Corrupt` or `Closed` when the index failed.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        {
            let generations = self.generations.read();
            if let Some(value) = generations.find(key) {
                return Ok(value.clone());
            }
        }
        // ORDER: generations first. What was in neither is in the index, or newer by now.
        self.ask(|index| index.get(key))
    }

    /// One page of published entries, each group whole or not at all in it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        for _ in 0..OPTIMISTIC_SCANS {
            if let Some(page) = self.scan_once(range, options)? {
                return Ok(page);
            }
        }
        let _no_rotation = self.gate.read();
        let page = self.scan_once(range, options)?;
        // INVARIANT: rotating takes the gate.
        page.ok_or_else(|| StoreError::closed("a page was overtaken behind the gate"))
    }

    /// A page, unless the active generation was rotated meanwhile: then the index may hold keys of
    /// a group that the pinned generations show without others of it.
    fn scan_once(&self, range: &KeyRange, options: &ScanOptions) -> Result<Option<Page>> {
        let (pinned, rotations) = {
            let generations = self.generations.read();
            let active = generations.active.copy_page(range, options);
            let draining = generations.draining.clone();
            (merge::Pinned { active, draining }, generations.rotations)
        };
        let page = merge::page(pinned, range, options, |range, options| {
            self.ask(|index| index.scan(range, options))
        })?;
        Ok((self.generations.read().rotations == rotations).then_some(page))
    }

    /// Takes room for a group of `bytes` that is about to be logged, waiting at most `timeout`.
    ///
    /// The room is used up by [`publish`](Self::publish) or given back by [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// `Unavailable` when there is none in time: nothing may be written. `Closed` when the index
    /// failed.
    pub fn reserve(&self, bytes: usize, timeout: Duration) -> Result<()> {
        self.control.reserve(bytes, self.options.max_bytes, timeout)
    }

    /// Gives back what [`reserve`](Self::reserve) took, for a group that was not logged.
    pub fn cancel(&self, bytes: usize) {
        self.control.cancel(bytes);
    }

    /// True when what it holds cannot be drained before the log is synced: a caller that finds no
    /// room syncs first.
    pub fn waits_for_sync(&self) -> bool {
        let generations = self.generations.read();
        generations.draining.is_none() && generations.active.last() > self.durable()
    }

    /// The log is durable up to `seq`. Only that may reach the index.
    pub fn made_durable(&self, seq: CommitSeq) {
        self.durable.fetch_max(seq.0, Ordering::AcqRel);
        // Right now all that is published may be durable; a moment later it is not any more.
        if self.worth_draining() {
            // A committer does not wait for a page; the drainer will.
            self.rotate_if_free();
        }
        self.control.synced();
    }

    /// What [`reserve`](Self::reserve) is to be asked for a group.
    pub fn size_of(group: &Group) -> usize {
        let ops = group.batches.iter().flat_map(Batch::ops);
        ops.map(|op| generation::cost(op.key(), op.value())).sum()
    }

    /// Makes a group visible, whole, and uses up the room reserved for it.
    pub fn publish(&self, group: &Group) {
        let mut size = 0;
        let mut generations = self.generations.write();
        for op in group.batches.iter().flat_map(Batch::ops) {
            size += generation::cost(op.key(), op.value());
            let value = match op {
                Op::Put { value, .. } => Some(value.clone()),
                Op::Delete { .. } => None,
            };
            generations.active.insert(op.key().clone(), value);
        }
        generations.active.reached(group.last());
        generations.published = group.last();
        let active = generations.active.size();
        self.control.published(size, active, self.is_enough(active));
    }

    /// Every commit up to this one is in the index; the log before it is no longer needed for it.
    pub fn applied(&self) -> CommitSeq {
        self.control.applied()
    }

    /// Every commit up to this one is visible.
    pub fn published(&self) -> CommitSeq {
        self.generations.read().published
    }

    /// How full it is.
    pub fn status(&self) -> OverlayStatus {
        let (keys, published) = {
            let generations = self.generations.read();
            let draining = generations.draining.as_ref().map_or(0, |g| g.size().keys);
            (generations.active.size().keys + draining, generations.published)
        };
        OverlayStatus { keys, bytes: self.control.used(), published, applied: self.applied() }
    }

    /// The index below.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// Why nothing more is applied, once the index has failed.
    pub fn failure(&self) -> Option<IndexError> {
        self.control.failure()
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn options(&self) -> &OverlayOptions {
        &self.options
    }

    /// The index failed: nothing is applied from now on, and who started the overlay is told.
    pub(crate) fn fail(&self, error: &IndexError) {
        if self.failing.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(error = %error, "the index failed; the store must be reopened");
        // ORDER: whoever hears of it from a call finds the owner told.
        (self.on_failure)(error);
        self.control.fail(error);
    }

    /// The draining generation, made from the active one if there is none and it may be drained.
    pub(crate) fn rotate(&self) -> Option<Arc<Generation>> {
        if !self.rotate_if_free() {
            let _gate = self.gate.write();
            self.rotate_now(&mut self.generations.write());
        }
        self.generations.read().draining.clone()
    }

    /// The same without waiting; false when a page holds the gate.
    fn rotate_if_free(&self) -> bool {
        let mut generations = self.generations.write();
        // ORDER: the other way round than anywhere else, which is why it only tries.
        let Some(_gate) = self.gate.try_write() else { return false };
        self.rotate_now(&mut generations);
        true
    }

    fn rotate_now(&self, generations: &mut Generations) {
        let active = &generations.active;
        // INVARIANT: what is not durable never reaches the index.
        let may = !active.is_empty() && active.last() <= self.durable();
        if generations.draining.is_none() && may {
            generations.rotations += 1;
            generations.draining = Some(Arc::new(std::mem::take(&mut generations.active)));
            self.control.rotated();
        }
    }

    /// The draining generation is in the index.
    pub(crate) fn drained(&self, generation: Arc<Generation>) {
        let held = {
            let mut generations = self.generations.write();
            self.control.drained(generation.last());
            generations.draining.take()
        };
        // Freed outside the lock: it may be large.
        drop((held, generation));
    }

    fn durable(&self) -> CommitSeq {
        CommitSeq(self.durable.load(Ordering::Acquire))
    }

    fn worth_draining(&self) -> bool {
        self.is_enough(self.generations.read().active.size())
    }

    fn is_enough(&self, size: generation::Size) -> bool {
        size.keys >= self.options.drain_keys || size.bytes >= self.options.drain_bytes
    }

    /// Asks the index. Its first error ends it.
    fn ask<T>(&self, call: impl FnOnce(&dyn Index) -> Result<T, IndexError>) -> Result<T> {
        if let Some(error) = self.control.failure() {
            return Err(control::failed_before(&error).into());
        }
        call(self.index.as_ref()).map_err(|error| {
            self.fail(&error);
            error.into()
        })
    }
}

impl Generations {
    /// What the generations say about `key`; `None` when the index decides.
    fn find(&self, key: &Key) -> Option<&Option<Bytes>> {
        self.active.find(key).or_else(|| self.draining.as_ref()?.find(key))
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay")
            .field("index", &self.index)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
