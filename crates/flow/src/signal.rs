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

/// The task waits. Not raised by anybody else.
const ARMED: u8 = 128;

/// Wakes a run's task, and remembers what for. It is also the waker the flow is polled with.
#[derive(Debug, Default)]
pub(crate) struct RunSignal {
    flags: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl RunSignal {
    pub(crate) fn raise(&self, flag: u8) {
        // ORDER: the flag before the look at who waits; the task says that it waits before it looks at
        // the flags. A task that is at work sees the flag before it waits again.
        if self.flags.fetch_or(flag, Ordering::AcqRel) & ARMED == 0 {
            return;
        }
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
        drop(task);
        self.flags.fetch_or(ARMED, Ordering::AcqRel);
    }

    /// The task is at work.
    pub(crate) fn disarm(&self) {
        self.flags.fetch_and(!ARMED, Ordering::AcqRel);
    }

    pub(crate) fn take(&self, flags: u8) -> u8 {
        self.flags.fetch_and(!flags, Ordering::AcqRel) & flags
    }

    /// Whether nothing was raised.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.has(!ARMED)
    }

    /// Whether everybody who could wake the flow is among `known` holders of its waker. Otherwise it
    /// may wait for a turn of the runtime's that nobody has given it yet.
    pub(crate) fn is_held_by(self: &Arc<Self>, known: usize) -> bool {
        if Arc::strong_count(self) > known {
            return false;
        }
        // ORDER: who let go of the waker raised its flag before.
        std::sync::atomic::fence(Ordering::Acquire);
        true
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
