//! The model checker's primitives, under the names of the real ones.

pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A lock that cannot be poisoned, as the real one.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Two, so that threads meet in a place, and do not.
pub(crate) const STRIPES: usize = 2;

/// The place of this thread.
pub(crate) fn stripe() -> usize {
    let id = format!("{:?}", loom::thread::current().id());
    id.bytes().map(usize::from).sum::<usize>() % STRIPES
}
