//! How others reach a run: flags and one waker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The flow, or what it waits for, can make progress.
pub(crate) const WOKEN: u8 = 1;
/// There may be messages in the run's inbox.
pub(crate) const MAIL: u8 = 2;
/// The engine shuts down, or lets the run go on.
pub(crate) const CONTROL: u8 = 4;
/// A gate lets the run go on.
pub(crate) const RELEASED: u8 = 8;

/// Wakes a run's task, and remembers what for. It is also the waker the flow is polled with.
#[derive(Debug, Default)]
pub(crate) struct RunSignal {
    flags: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl RunSignal {
    pub(crate) fn raise(&self, flag: u8) {
        // ORDER: the flag before the waker is read; the task registers before it looks at the flags.
        self.flags.fetch_or(flag, Ordering::AcqRel);
        let waker = self.task.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn register(&self, waker: &Waker) {
        let mut task = self.task.lock();
        match &mut *task {
            Some(kept) => kept.clone_from(waker),
            None => *task = Some(waker.clone()),
        }
    }

    pub(crate) fn take(&self, flags: u8) -> u8 {
        self.flags.fetch_and(!flags, Ordering::AcqRel) & flags
    }

    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flags != 0
    }
}

impl Wake for RunSignal {
    fn wake(self: Arc<Self>) {
        self.raise(WOKEN);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise(WOKEN);
    }
}

/// The engine does not wait for bodies any longer.
pub(crate) const ABORT: u8 = 16;
