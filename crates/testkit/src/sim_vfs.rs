//! [`SimVfs`]: a file system in memory that can be cut off at every single operation.

mod content;
mod disk;
mod fault;
mod files;
mod random;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use fault::{DiskFault, SimOp, SimOpKind};

use content::Change;
use disk::{Disk, Id};
use fault::Planned;

/// What a power cut does to changes that were not synced.
///
/// The same seed on the same disk always chooses the same changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskLoss {
    /// All are lost.
    All,
    /// None is lost.
    Nothing,
    /// Each 512-byte sector of a file, each length of a file and each change of a name reaches the
    /// disk or does not, whatever was asked for before or after it.
    Subset {
        /// Chooses the subset.
        seed: u64,
    },
    /// Everything up to some change reaches the disk, in order, and nothing after it; a write at
    /// that place is torn between two sectors.
    Torn {
        /// Chooses the place.
        seed: u64,
    },
}

/// A file system in memory for crash tests: it knows what is on disk and what is only in the page
/// cache, and it can crash or fail at every operation.
///
/// * **Durable** is what was synced: content and length of a file by `sync_data`, the names in a
///   directory by `sync_dir`. Everything else is only in the page cache.
/// * **Operations are numbered** from 1, reads included ([`operations`](Self::operations)), and
///   always come in the same order if the code under test does the same.
/// * [`crash_at`](Self::crash_at) makes operation `k` and all later ones fail; then
///   [`power_cut`](Self::power_cut) gives the disk as the next start finds it, by a [`DiskLoss`] rule,
///   and [`kill`](Self::kill) gives it with its page cache. Both can be asked many times.
/// * [`fail_at`](Self::fail_at) and [`fail_from`](Self::fail_from) make operations fail, once or for
///   ever, without a crash.
///
/// Clones are handles of the same machine; [`fork`](Self::fork) makes an independent copy that shares
/// unchanged pages, so trying thousands of continuations is cheap. Renames between directories
/// reach the new name first. A `sync_dir` that fails can be repeated; of syncs of files,
/// [`DiskFault::LostSync`] says what really happens.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use resurge_commit_log::{Frame, Log, LogOptions, Preparation};
/// use resurge_testkit::{DiskLoss, SimVfs};
///
/// /// Appends until something fails; returns the last acknowledged sequence.
/// fn run(disk: &SimVfs) -> u64 {
///     let mut acked = 0;
///     let mut work = || -> resurge_commit_log::Result<()> {
///         let mut log = open(disk)?;
///         for n in 0..3_u8 {
///             let mut frame = Frame::new();
///             frame.push(&[n])?;
///             log.append(&mut frame)?;
///             acked = log.sync()?;
///         }
///         Ok(())
///     };
///     let _ = work();
///     acked
/// }
///
/// fn open(disk: &SimVfs) -> resurge_commit_log::Result<Log> {
///     let options = LogOptions::new(*b"simulated log   ")
///         .segment_sizes(8192, 8192)
///         .preparation(Preparation::Inline); // every operation in a fixed order
///     Ok(Log::open(Arc::new(disk.clone()), Path::new("/state/log"), options, 0)?.0)
/// }
///
/// let whole = SimVfs::new();
/// assert_eq!(run(&whole), 3);
/// for k in 1..=whole.operations() {
///     let disk = SimVfs::new();
///     disk.crash_at(k);
///     let acked = run(&disk);
///     for loss in [DiskLoss::All, DiskLoss::Subset { seed: k }, DiskLoss::Torn { seed: k }] {
///         let log = open(&disk.power_cut(loss))?;
///         assert!(log.last_seq() >= acked, "lost by a crash at operation {k}, {loss:?}");
///     }
/// }
/// # Ok::<(), resurge_commit_log::LogError>(())
/// ```
#[derive(Clone)]
pub struct SimVfs {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Clone, Debug)]
struct Machine {
    disk: Disk,
    ops: u64,
    crash: Option<Crash>,
    crashed: bool,
    faults: Vec<Planned>,
    /// Bytes of all files and what is free.
    capacity: Option<u64>,
    stale: bool,
    locked: Vec<Id>,
    trace: Option<Vec<SimOp>>,
}

#[derive(Clone, Copy, Debug)]
struct Crash {
    op: u64,
    within: bool,
}

/// What is to be done instead of the operation.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Fault(DiskFault),
    /// The machine stops in the middle of it.
    CrashWithin,
}

impl Default for SimVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine.lock();
        f.debug_struct("SimVfs")
            .field("operations", &machine.ops)
            .field("crashed", &machine.crashed)
            .finish_non_exhaustive()
    }
}

impl SimVfs {
    /// An empty disk: only the root directory, no limit of space.
    ///
    /// ```
    /// use resurge_commit_log::Vfs;
    ///
    /// let disk = resurge_testkit::SimVfs::new();
    /// assert!(disk.list("/".as_ref())?.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::with(Machine {
            disk: Disk::new(),
            ops: 0,
            crash: None,
            crashed: false,
            faults: Vec::new(),
            capacity: None,
            stale: false,
            locked: Vec::new(),
            trace: None,
        })
    }

    fn with(machine: Machine) -> Self {
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// Operations so far, those that failed included. After a restart they count from 0 again.
    pub fn operations(&self) -> u64 {
        self.machine.lock().ops
    }

    /// Records every operation from now on, for [`trace`](Self::trace).
    pub fn record(&self) {
        self.machine.lock().trace.get_or_insert_default();
    }

    /// The operations since [`record`](Self::record), in order.
    pub fn trace(&self) -> Vec<SimOp> {
        self.machine.lock().trace.clone().unwrap_or_default()
    }

    /// The machine stops right before operation `op`: it and all later ones fail and do nothing.
    pub fn crash_at(&self, op: u64) {
        self.machine.lock().crash = Some(Crash { op, within: false });
    }

    /// The machine stops in the middle of operation `op`: of a write or `allocate` the first half is
    /// in the page cache; any other operation does nothing.
    pub fn crash_within(&self, op: u64) {
        self.machine.lock().crash = Some(Crash { op, within: true });
    }

    /// Has it crashed? Also true once [`power_cut`](Self::power_cut) or [`kill`](Self::kill) was
    /// called.
    pub fn crashed(&self) -> bool {
        self.machine.lock().crashed
    }

    /// Makes operation `op` fail, if the fault applies to it. Several can be planned.
    pub fn fail_at(&self, op: u64, fault: DiskFault) {
        self.machine.lock().faults.push(Planned { op, sticky: false, fault });
    }

    /// Makes every operation from `op` on fail that the fault applies to.
    pub fn fail_from(&self, op: u64, fault: DiskFault) {
        self.machine.lock().faults.push(Planned { op, sticky: true, fault });
    }

    /// Changes of files and names that are not synced: what a power cut can take.
    pub fn unsynced(&self) -> usize {
        self.machine.lock().disk.unsynced_stamps().len()
    }

    /// Forgets all planned faults and crashes.
    pub fn clear_faults(&self) {
        let mut machine = self.machine.lock();
        machine.faults.clear();
        machine.crash = None;
    }

    /// Leaves `bytes` free: files that grow use them up, files removed give theirs back, and a write
    /// beyond fails half done. `None` (as at first) is a disk without limit. Kept after a crash.
    pub fn set_free_space(&self, bytes: Option<u64>) {
        let mut machine = self.machine.lock();
        let used = machine.disk.used();
        machine.capacity = bytes.map(|free| free.saturating_add(used));
    }

    /// Sectors that were added to a file and lost by [`DiskLoss::Subset`] hold what a removed file held
    /// before, instead of zeros. Off at first; kept after a crash.
    pub fn recycle_sectors(&self, on: bool) {
        self.machine.lock().stale = on;
    }

    /// Drops clean pages from the cache: what a [`DiskFault::LostSync`] hid is then no longer read.
    pub fn evict(&self) {
        self.machine.lock().disk.evict();
    }

    /// The power goes: the machine stops, and this is what the next start finds. Locks, faults and
    /// the count of operations are gone. Other rules can be tried on the same machine.
    #[must_use]
    pub fn power_cut(&self, loss: DiskLoss) -> Self {
        let mut machine = self.machine.lock();
        machine.crashed = true;
        machine.restarted(machine.disk.survive(loss, machine.stale))
    }

    /// The process is killed: the page cache survives, still not synced. Locks, faults and the
    /// count of operations are gone.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut machine = self.machine.lock();
        machine.crashed = true;
        let mut disk = machine.disk.clone();
        disk.forget_unreachable();
        machine.restarted(disk)
    }

    /// A copy of the whole machine, independent from now on; handles of files and locks stay with
    /// the original.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with(Machine { locked: Vec::new(), ..self.machine.lock().clone() })
    }

    /// All files that can be read, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.machine.lock().disk.files()
    }

    /// What can be read of a file. Not an operation.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.machine.lock().disk.contents(path)
    }

    /// Replaces what a file holds, in the cache and on disk: damage. Not an operation.
    pub fn damage(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.machine.lock().disk.damage(path, contents)
    }

    /// Removes a file, its name on disk included. Not an operation.
    pub fn lose(&self, path: &Path) -> io::Result<()> {
        self.machine.lock().disk.lose(path)
    }
}

impl Machine {
    fn restarted(&self, disk: Disk) -> SimVfs {
        SimVfs::with(Self {
            disk,
            ops: 0,
            crash: None,
            crashed: false,
            faults: Vec::new(),
            capacity: self.capacity,
            stale: self.stale,
            locked: Vec::new(),
            trace: None,
        })
    }

    /// Counts the operation and says what goes wrong with it.
    fn begin(&mut self, kind: SimOpKind, path: &Path) -> io::Result<Option<Trouble>> {
        self.ops += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(SimOp { kind, path: path.to_owned() });
        }
        let op = self.ops;
        if !self.crashed
            && let Some(crash) = self.crash.filter(|crash| op >= crash.op)
        {
            self.crashed = true;
            if crash.within && op == crash.op {
                return Ok(Some(Trouble::CrashWithin));
            }
        }
        if self.crashed {
            return Err(stopped());
        }
        Ok(self.faults.iter().find(|f| f.hits(op, kind)).map(|f| Trouble::Fault(f.fault)))
    }

    /// For operations that happen whole or not at all.
    fn begin_whole(&mut self, kind: SimOpKind, path: &Path) -> io::Result<()> {
        match self.begin(kind, path)? {
            None => Ok(()),
            Some(Trouble::CrashWithin) => Err(stopped()),
            Some(Trouble::Fault(fault)) => Err(fault.error()),
        }
    }

    /// A write, or zeros, or half of it.
    fn change(&mut self, id: Id, change: &Change, kind: SimOpKind, path: &Path) -> io::Result<()> {
        let half = |machine: &mut Self| {
            let (_, touched) = change.effect(0);
            let middle = touched.start.midpoint(touched.end);
            if let Some(part) = change.within(&(0..middle)) {
                machine.disk.change_file(id, part);
            }
        };
        match self.begin(kind, path)? {
            None => {}
            Some(Trouble::CrashWithin) => {
                half(self);
                return Err(stopped());
            }
            Some(Trouble::Fault(fault)) => {
                if fault == DiskFault::ShortWrite {
                    half(self);
                }
                return Err(fault.error());
            }
        }
        if let Some(capacity) = self.capacity {
            let len = self.disk.file(id).map_or(0, |f| f.cached.len());
            let growth = change.effect(len).0.saturating_sub(len);
            if growth > 0 && self.disk.used().saturating_add(growth) > capacity {
                half(self);
                return Err(fault::no_space());
            }
        }
        self.disk.change_file(id, change.clone());
        Ok(())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}
