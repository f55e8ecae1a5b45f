//! What happens beside commits: images, syncing the super file, the ballast.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use resurge_store::{ErrorKind, Result, StoreError};

use crate::core::Core;

/// The super file is synced when it was left alone for this long.
const IDLE: Duration = Duration::from_millis(100);

/// How the maintenance thread is woken.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    /// Copies of the flags, so that setting them twice costs nothing.
    image: AtomicBool,
    stop: AtomicBool,
}

#[expect(clippy::struct_excessive_bools, reason = "independent wishes, any set of them at once")]
#[derive(Debug, Default)]
struct Wanted {
    stop: bool,
    image: bool,
    /// The super file is to be synced now.
    super_due: bool,
    /// It is to be synced once it is left alone.
    super_dirty: bool,
    ballast: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Image,
    SyncSuper,
    Ballast,
    Stop,
}

impl Signals {
    pub(crate) fn image_due(&self) {
        if !self.image.swap(true, Ordering::AcqRel) {
            self.want(|wanted| wanted.image = true);
        }
    }

    pub(crate) fn super_due(&self) {
        self.want(|wanted| wanted.super_due = true);
    }

    pub(crate) fn super_dirty(&self) {
        self.want(|wanted| wanted.super_dirty = true);
    }

    pub(crate) fn ballast(&self) {
        self.want(|wanted| wanted.ballast = true);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.want(|wanted| wanted.stop = true);
    }

    /// Long work looks here from time to time.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock());
        self.changed.notify_one();
    }

    /// What is due now.
    fn take(&self, wanted: &mut Wanted) -> Option<Task> {
        if wanted.stop {
            return Some(Task::Stop);
        }
        if std::mem::take(&mut wanted.super_due) {
            wanted.super_dirty = false;
            return Some(Task::SyncSuper);
        }
        if std::mem::take(&mut wanted.image) {
            self.image.store(false, Ordering::Release);
            return Some(Task::Image);
        }
        std::mem::take(&mut wanted.ballast).then_some(Task::Ballast)
    }

    /// Waits for something to do. `noted` tells how often the super file changed.
    fn next(&self, noted: impl Fn() -> u64) -> Task {
        let mut wanted = self.wanted.lock();
        loop {
            if let Some(task) = self.take(&mut wanted) {
                return task;
            }
            if !wanted.super_dirty {
                self.changed.wait(&mut wanted);
                continue;
            }
            let before = noted();
            let left_alone = self.changed.wait_for(&mut wanted, IDLE).timed_out();
            if left_alone && noted() == before {
                wanted.super_dirty = false;
                return Task::SyncSuper;
            }
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// `Unavailable` when the system refuses one.
pub(crate) fn start(core: &Arc<Core>) -> Result<JoinHandle<()>> {
    let core = Arc::clone(core);
    let thread = thread::Builder::new().name("resurge-maintain".to_owned());
    thread.spawn(move || run(&core)).map_err(|e| {
        let message = "cannot start the maintenance thread";
        StoreError::with_source(ErrorKind::Unavailable, message, e)
    })
}

fn run(core: &Core) {
    let _guard = FailOnPanic(core);
    loop {
        let task = core.signals.next(|| core.super_file.slot().generation);
        if task == Task::Stop {
            return;
        }
        core.perform(&task);
        if core.failure.check().is_err() {
            return;
        }
    }
}

impl Core {
    /// Everything that is due, on this thread.
    pub(crate) fn maintain(&self) {
        loop {
            let task = self.signals.take(&mut self.signals.wanted.lock());
            match task {
                None | Some(Task::Stop) => return,
                Some(task) => self.perform(&task),
            }
        }
    }

    fn perform(&self, task: &Task) {
        match task {
            Task::Image => self.image_due(),
            Task::SyncSuper => {
                if let Err(e) = self.super_file.sync() {
                    self.failure.set("syncing the super file", &e);
                }
            }
            Task::Ballast => {
                if let Err(e) = self.make_ballast() {
                    tracing::warn!(error = %e, "no ballast: opening on a full disk may fail");
                }
            }
            Task::Stop => {}
        }
    }

    fn image_due(&self) {
        let growth = &self.growth;
        // Commits went on while the last one was taken, and asked again.
        if growth.since_image() < growth.image_due_at.load(Ordering::Relaxed) {
            return;
        }
        // A backup takes its time, and the super file is to be synced meanwhile; the backup asks for
        // the image when it is done.
        if self.taking.is_locked() {
            return;
        }
        if let Err(e) = self.take_image() {
            self.metrics.image_failures.increment(1);
            if e.kind() != ErrorKind::Full {
                return self.failure.set("taking an image", &e);
            }
            tracing::warn!(error = %e, "no room for an image; the log grows until there is");
            let later = growth.since_image().saturating_add(self.image_interval() / 4);
            growth.image_due_at.store(later, Ordering::Relaxed);
        }
        self.signals.ballast();
    }
}

/// A panic on the maintenance thread is a failure like any other.
struct FailOnPanic<'a>(&'a Core);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let panicked = StoreError::closed("the maintenance thread panicked");
            self.0.failure.set("maintenance", &panicked);
        }
    }
}
