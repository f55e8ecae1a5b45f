//! Room, progress and failure: what committers, the drainer and those who close wait for.

use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use resurge_store::{CommitSeq, ErrorKind, Result, StoreError};

use super::generation::Size;
use crate::index::{IndexError, IndexErrorKind};

/// Always locked inside the generations' lock where both are held.
#[derive(Debug)]
pub(crate) struct Control {
    state: Mutex<State>,
    /// Something to drain, or to stop for.
    work: Condvar,
    /// Room, progress, failure or the drainer's end.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    reserved: usize,
    /// What the active generation holds; `None` when no group is in it.
    active: Option<Size>,
    draining: Option<Size>,
    applied: CommitSeq,
    /// The active generation is worth draining.
    enough: bool,
    /// How many wait for room or for everything to be applied: drain whatever there is.
    waiters: usize,
    /// The log became durable since the drainer last looked.
    synced: bool,
    failure: Option<IndexError>,
    stop: bool,
    drainers: usize,
}

/// What the drainer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There may be something to drain.
    Drain,
    Stop,
}

impl State {
    fn used(&self) -> usize {
        let held = |size: Option<Size>| size.map_or(0, |s| s.bytes);
        self.reserved + held(self.active) + held(self.draining)
    }

    fn has_room(&self, bytes: usize, max_bytes: usize) -> bool {
        let used = self.used();
        used == 0 || used.saturating_add(bytes) <= max_bytes
    }

    fn is_due(&self) -> bool {
        self.draining.is_some() || self.active.is_some() && (self.enough || self.waiters > 0)
    }

    fn ends(&self) -> bool {
        self.stop || self.failure.is_some()
    }

    fn check_failure(&self) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(error) => Err(failed_before(error).into()),
        }
    }
}

/// The error of every call after the one that failed.
pub(super) fn failed_before(error: &IndexError) -> IndexError {
    IndexError::with_source(IndexErrorKind::Closed, "it failed before", error.clone())
}

impl Control {
    pub(super) fn new(applied: CommitSeq) -> Self {
        Self {
            state: Mutex::new(State { applied, ..State::default() }),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    pub(super) fn reserve(&self, bytes: usize, max_bytes: usize, timeout: Duration) -> Result<()> {
        let mut state = self.state.lock();
        if !state.has_room(bytes, max_bytes) {
            self.wait(&mut state, timeout, |s| s.has_room(bytes, max_bytes) || s.ends());
        }
        state.check_failure()?;
        if !state.has_room(bytes, max_bytes) {
            let used = state.used();
            return Err(StoreError::new(
                ErrorKind::Unavailable,
                format!(
                    "the index is behind: {used} bytes wait for it, {bytes} more pass the limit of {max_bytes}"
                ),
            ));
        }
        state.reserved += bytes;
        Ok(())
    }

    pub(super) fn cancel(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(bytes);
        drop(state);
        self.progress.notify_all();
    }

    /// A group that had `reserved` bytes was put into the active generation, which holds `active`.
    pub(super) fn published(&self, reserved: usize, active: Size, enough: bool) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(reserved);
        let first = state.active.replace(active).is_none();
        let news = first || enough && !state.enough || state.waiters > 0;
        state.enough = enough;
        drop(state);
        if news {
            self.work.notify_one();
        }
    }

    /// The log is durable up to somewhere new.
    pub(super) fn synced(&self) {
        let mut state = self.state.lock();
        state.synced = true;
        let news = state.is_due();
        drop(state);
        if news {
            self.work.notify_one();
        }
    }

    /// The active generation became the draining one.
    pub(super) fn rotated(&self) {
        let mut state = self.state.lock();
        state.draining = state.active.take();
        state.enough = false;
        drop(state);
        self.work.notify_one();
    }

    /// The draining generation is in the index.
    pub(super) fn drained(&self, applied: CommitSeq) {
        let mut state = self.state.lock();
        state.draining = None;
        state.applied = applied;
        drop(state);
        self.progress.notify_all();
    }

    pub(super) fn applied(&self) -> CommitSeq {
        self.state.lock().applied
    }

    pub(super) fn used(&self) -> usize {
        self.state.lock().used()
    }

    pub(super) fn failure(&self) -> Option<IndexError> {
        self.state.lock().failure.clone()
    }

    /// The index failed; called once.
    pub(super) fn fail(&self, error: &IndexError) {
        self.state.lock().failure = Some(error.clone());
        self.work.notify_one();
        self.progress.notify_all();
    }

    /// For the drainer: waits until something is due, or until something was there for `drain_after`.
    /// With `blocked`, what is due could not be drained: waits for a sync first.
    pub(crate) fn next(&self, drain_after: Duration, blocked: bool) -> Next {
        let mut state = self.state.lock();
        if blocked {
            let waiting = |s: &mut State| !s.synced && !s.ends();
            self.work.wait_while(&mut state, waiting);
        }
        state.synced = false;
        let idle = |s: &mut State| s.active.is_none() && !s.is_due() && !s.ends();
        self.work.wait_while(&mut state, idle);
        self.work.wait_while_for(&mut state, |s| !s.is_due() && !s.ends(), drain_after);
        if state.ends() { Next::Stop } else { Next::Drain }
    }

    /// Waits until everything up to `seq` is in the index.
    pub(crate) fn wait_applied(&self, seq: CommitSeq, timeout: Duration) -> Result<()> {
        let mut state = self.state.lock();
        self.wait(&mut state, timeout, |s| s.applied >= seq || s.ends());
        state.check_failure()?;
        if state.applied >= seq {
            return Ok(());
        }
        let applied = state.applied;
        Err(StoreError::new(
            ErrorKind::Unavailable,
            format!("the index is at commit {applied}, it did not reach {seq} in {timeout:?}"),
        ))
    }

    /// A drainer runs from now on; false when there is one, or it may not.
    pub(crate) fn drainer_started(&self) -> bool {
        let mut state = self.state.lock();
        if state.drainers > 0 || state.ends() {
            return false;
        }
        state.drainers = 1;
        true
    }

    pub(crate) fn drainer_stopped(&self) {
        self.state.lock().drainers = 0;
        self.progress.notify_all();
    }

    /// Tells the drainer to stop after the step it is in; false when it had not in time.
    pub(crate) fn stop(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        state.stop = true;
        self.work.notify_one();
        self.progress.notify_all();
        self.progress.wait_while_for(&mut state, |s| s.drainers > 0, timeout);
        state.drainers == 0
    }

    /// Waits for progress while the drainer is made to drain whatever there is.
    fn wait(
        &self,
        state: &mut MutexGuard<'_, State>,
        timeout: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) {
        state.waiters += 1;
        self.work.notify_one();
        self.progress.wait_while_for(state, |s| !done(s), timeout);
        state.waiters -= 1;
    }
}
