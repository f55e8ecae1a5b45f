//! [`CommitLog`]: many async callers, one committer thread, one `fdatasync` per group.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{LogError, Result};
use crate::frame::{Frame, MAX_ENTRY};
use crate::gather::{self, Gather};
use crate::group::{Append, Close, Group};
use crate::log::Log;
use crate::open::OpenedLog;
use crate::options::LogOptions;
use crate::os::OsVfs;
use crate::reader::{LogReader, Replay};
use crate::vfs::Vfs;

/// Memory that a large group leaves behind in a frame is given back beyond this.
const KEEP: usize = 4 << 20;

/// How long dropping the last handle waits for what is in flight.
const DROP_LIMIT: Duration = Duration::from_secs(10);

/// A log for many concurrent callers: everything that arrives while a group is being synced
/// becomes the next group, one frame, one write, one `fdatasync`.
///
/// Cheap to clone. Works with any async runtime. Dropping the last clone writes and syncs what was
/// submitted and blocks until that is done, ten seconds at most; [`close`](Self::close) does it
/// without blocking, and reports errors.
///
/// ```
/// use resurge_commit_log::{CommitLog, LogOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("log");
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (log, opened) = CommitLog::open(&path, LogOptions::new(*b"an example's log"))?;
/// assert_eq!(opened.last_seq, 0);
/// let first = log.append("one"); // submitted
/// let second = log.append("two");
/// assert_eq!((first.await?, second.await?), (1, 2)); // durable
/// assert_eq!(log.replay(1)?.count(), 2);
/// log.close().await?;
/// # Ok::<(), resurge_commit_log::LogError>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CommitLog {
    owner: Arc<Owner>,
}

/// Dropped with the last handle.
#[derive(Debug)]
struct Owner {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// Something arrived for the parked committer, or the log is closing.
    work: Condvar,
    /// The committer ended.
    ended: Condvar,
    closed: Arc<Group>,
    reader: LogReader,
    max_pending_bytes: u64,
}

#[derive(Debug)]
struct Queue {
    /// The next group. The committer swaps it for the one it has written.
    frame: Frame,
    group: Arc<Group>,
    in_flight_bytes: usize,
    /// The committer sleeps until there are this many entries.
    parked_for: Option<u32>,
    closing: bool,
    ended: bool,
}

impl Queue {
    fn pending(&self) -> usize {
        self.frame.payload_len().saturating_add(self.in_flight_bytes)
    }
}

impl CommitLog {
    /// Opens the log in `dir`, or creates it when the directory is absent or empty; see
    /// [`Log::open`].
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<(Self, OpenedLog)> {
        Self::open_with(Arc::new(OsVfs), dir.as_ref(), options, 0)
    }

    /// The same with another file system, and the highest sequence known to be acknowledged (0
    /// when unknown).
    pub fn open_with(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: LogOptions,
        high_water: u64,
    ) -> Result<(Self, OpenedLog)> {
        let max_pending_bytes = options.max_pending_bytes;
        let (log, opened) = Log::open(vfs, dir, options, high_water)?;
        let inner = Arc::new(Inner {
            queue: Mutex::new(Queue {
                frame: Frame::new(),
                group: Group::new(1),
                in_flight_bytes: 0,
                parked_for: None,
                closing: false,
                ended: false,
            }),
            work: Condvar::new(),
            ended: Condvar::new(),
            closed: Group::new(1),
            reader: log.reader(),
            max_pending_bytes,
        });
        let committer = Committer(Arc::clone(&inner));
        let thread = std::thread::Builder::new()
            .name("commit-log".to_owned())
            .spawn(move || committer.run(log))
            .map_err(LogError::io("start a thread for", dir))?;
        Ok((Self { owner: Arc::new(Owner { inner, thread: Some(thread) }) }, opened))
    }

    /// Submits one entry, now; the future resolves with its sequence when it is durable, and
    /// every entry submitted before it is durable too.
    ///
    /// `TooLarge`, `Unavailable` (too much waits; try again) and `Full` wrote nothing.
    pub fn append(&self, bytes: impl AsRef<[u8]>) -> Append {
        self.submit(bytes.as_ref()).unwrap_or_else(Append::refused)
    }

    fn submit(&self, bytes: &[u8]) -> Result<Append> {
        let inner = &*self.owner.inner;
        if bytes.len() > MAX_ENTRY {
            let (len, limit) = (bytes.len() as u64, MAX_ENTRY as u64);
            return Err(LogError::TooLarge { len, limit });
        }
        let mut queue = inner.queue.lock();
        if queue.closing {
            return Err(LogError::Closed);
        }
        let pending = queue.pending();
        let after = (pending + bytes.len() + 4) as u64;
        if pending > 0 && (after > inner.max_pending_bytes || !queue.frame.fits(bytes.len())) {
            return Err(LogError::Unavailable { pending: pending as u64 });
        }
        let index = u64::from(queue.frame.count());
        queue.frame.push(bytes)?;
        let group = Arc::clone(&queue.group);
        let wake = queue.parked_for.is_some_and(|count| count <= queue.frame.count());
        if wake {
            queue.parked_for = None;
        }
        drop(queue);
        if wake {
            inner.work.notify_one();
        }
        Ok(Append::waiting(group, index))
    }

    /// Last sequence that is durable.
    pub fn durable_seq(&self) -> u64 {
        self.owner.inner.reader.durable_seq()
    }

    /// The durable entries from `from` on; see [`LogReader::replay`]. Blocks on the disk.
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.owner.inner.reader.replay(from)
    }

    /// A handle for reading, for other threads and after this one is gone.
    pub fn reader(&self) -> LogReader {
        self.owner.inner.reader.clone()
    }

    /// Removes whole segments below `seq`; see [`Log::cut_before`]. Blocks on the disk.
    pub fn cut_before(&self, seq: u64) -> Result<usize> {
        self.owner.inner.reader.cut_before(seq)
    }

    /// Refuses new entries, now; the future resolves when everything submitted is durable and the
    /// log is unlocked. Dropping the future does not stop it.
    pub fn close(&self) -> Close {
        let inner = &self.owner.inner;
        inner.start_closing();
        Close { closed: Arc::clone(&inner.closed), slot: None }
    }
}

impl Inner {
    fn start_closing(&self) {
        self.queue.lock().closing = true;
        self.work.notify_one();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.inner.start_closing();
        let Some(thread) = self.thread.take() else { return };
        // The committer itself drops the last handle when a waker it wakes owns it.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        let mut queue = self.inner.queue.lock();
        while !queue.ended {
            if self.inner.ended.wait_for(&mut queue, DROP_LIMIT).timed_out() {
                tracing::error!("the disk does not answer; the log's thread is left behind");
                return;
            }
        }
        drop(queue);
        let _ = thread.join();
    }
}

/// The thread that owns the log.
#[derive(Debug)]
struct Committer(Arc<Inner>);

impl Committer {
    fn run(self, mut log: Log) {
        let mut frame = Frame::new();
        let mut gather = Gather::default();
        while let Some(group) = self.next_group(&mut frame, &mut gather) {
            let group = InFlight(group);
            let count = frame.count();
            let outcome = log.append(&mut frame).and_then(|seqs| log.sync().map(|_| *seqs.start()));
            frame.clear();
            frame.shrink_to(KEEP);
            {
                let mut queue = self.0.queue.lock();
                // Given free before anybody is woken, so that who was woken is not refused.
                queue.in_flight_bytes = 0;
                gather.completed(count, queue.frame.count());
            }
            group.0.complete(outcome);
        }
        let closed = log.close();
        self.end(closed);
    }

    /// Waits for entries and takes them all; `None` when the log is closing and nothing is left.
    fn next_group(&self, frame: &mut Frame, gather: &mut Gather) -> Option<Arc<Group>> {
        let fresh = Group::new(gather.target() as usize);
        let mut queue = self.0.queue.lock();
        let mut rounds = gather.rounds();
        while rounds > 0 && !queue.closing && queue.frame.count() < gather.target() {
            let before = queue.frame.count();
            queue.parked_for = Some(gather.target());
            let timeout = self.0.work.wait_for(&mut queue, gather::ROUND).timed_out();
            queue.parked_for = None;
            rounds = if timeout && queue.frame.count() == before { 0 } else { rounds - 1 };
        }
        gather.gathered(queue.frame.count());
        while queue.frame.is_empty() {
            if queue.closing {
                return None;
            }
            queue.parked_for = Some(1);
            self.0.work.wait(&mut queue);
            queue.parked_for = None;
        }
        std::mem::swap(&mut queue.frame, frame);
        queue.in_flight_bytes = frame.payload_len();
        Some(std::mem::replace(&mut queue.group, fresh))
    }

    fn end(&self, closed: Result<()>) {
        let left = {
            let mut queue = self.0.queue.lock();
            queue.closing = true;
            queue.ended = true;
            Arc::clone(&queue.group)
        };
        self.0.ended.notify_all();
        left.complete(Err(LogError::Closed));
        self.0.closed.complete(closed.map(|()| 0));
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Only after a panic is there anybody left to tell.
        self.end(Err(LogError::Closed));
    }
}

/// Nobody waits for ever, even if the thread panics while it writes.
#[derive(Debug)]
struct InFlight(Arc<Group>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.complete(Err(LogError::Closed));
    }
}
