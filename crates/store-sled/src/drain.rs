//! The thread that brings what is published into the index.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resurge_store::{ErrorKind, Result, StoreError};

use crate::index::{IndexError, IndexErrorKind, IndexResult};
use crate::overlay::{Generation, Next, Overlay};

/// Applies an [`Overlay`] to its index, in order, in large sorted steps, on a thread of its own.
///
/// It never passes the durable sequence. The first error or panic of the index ends it: the overlay
/// keeps what was not applied, its failure callback is told, and every later call says so.
/// Dropping it stops the thread without waiting; what was not applied is in the log.
pub struct Drainer {
    overlay: Arc<Overlay>,
}

impl Drainer {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Unavailable` when the thread cannot be started, `Invalid` when the overlay has had a drainer
    /// or has failed.
    pub fn start(overlay: Arc<Overlay>) -> Result<Self> {
        if !overlay.control().drainer_started() {
            let message = "the overlay has a drainer, had one, or has failed";
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let thread = thread::Builder::new().name("resurge-drain".to_owned());
        let run = Run(Arc::clone(&overlay));
        thread.spawn(move || run.run()).map_err(|e| {
            StoreError::with_source(ErrorKind::Unavailable, "cannot start the drainer thread", e)
        })?;
        Ok(Self { overlay })
    }

    /// Waits, at most `deadline`, until everything published before the call is in the index.
    ///
    /// # Errors
    /// `Unavailable` when it was not in time (also: not everything is durable); `Closed` when the
    /// index failed.
    pub fn drain_all(&self, deadline: Duration) -> Result<()> {
        self.overlay.control().wait_applied(self.overlay.published(), deadline)
    }

    /// Stops the thread after the step it is in, without draining; waits at most `deadline`.
    ///
    /// # Errors
    /// `Unavailable` when it was still in a step: it ends with it, and no other one follows.
    pub fn stop(&self, deadline: Duration) -> Result<()> {
        if self.overlay.control().stop(deadline) {
            return Ok(());
        }
        let message = format!("the drainer is still in the index after {deadline:?}");
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.overlay.control().stop(Duration::ZERO);
    }
}

impl fmt::Debug for Drainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drainer").field("applied", &self.overlay.applied()).finish_non_exhaustive()
    }
}

/// The thread's side. Dropped when it ends, however it ends, and when it never started.
struct Run(Arc<Overlay>);

impl Run {
    fn run(self) {
        let drain_after = self.0.options().drain_after;
        let mut blocked = false;
        while self.0.control().next(drain_after, blocked) == Next::Drain {
            let generation = self.0.rotate();
            blocked = generation.is_none();
            if let Some(generation) = generation {
                match apply(&self.0, &generation) {
                    Ok(()) => self.0.drained(generation),
                    Err(error) => {
                        self.0.fail(&error);
                        return;
                    }
                }
            }
        }
    }
}

/// Brings everything that is published and durable into the index, on this thread: for a store
/// without threads. Nobody else may drain the overlay.
pub(crate) fn drain_here(overlay: &Overlay) {
    while overlay.failure().is_none()
        && let Some(generation) = overlay.rotate()
    {
        match apply(overlay, &generation) {
            Ok(()) => overlay.drained(generation),
            Err(error) => overlay.fail(&error),
        }
    }
}

fn apply(overlay: &Overlay, generation: &Generation) -> IndexResult<()> {
    let changes = generation.changes();
    let last = generation.last();
    let applied = catch_unwind(AssertUnwindSafe(|| overlay.index().apply(&changes, last)));
    let meta = applied.unwrap_or_else(|panic| Err(IndexError::panicked("apply", &*panic)))?;
    if meta.applied_seq == last {
        return Ok(());
    }
    Err(IndexError::new(
        IndexErrorKind::Corrupt,
        format!("it says it is at commit {} after applying {last}", meta.applied_seq),
    ))
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.control().drainer_stopped();
    }
}
