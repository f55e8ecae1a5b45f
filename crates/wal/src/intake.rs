//! Taking records: encode, number, copy into the open page. All that happens under its lock is a
//! copy; serialising happens before.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use crate::append::{AppendAll, Completion};
use crate::log::Log;
use crate::page::{HEADER, close_record};
use crate::{Lsn, Result, WalError};

/// A scratch buffer larger than this is not kept.
const KEEP_SCRATCH: usize = 64 << 10;

/// Records that are numbered and not yet part of a sealed page.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// The next number to give.
    pub(crate) next: u64,
    /// Pages being filled; only the last one takes more.
    pub(crate) drafts: VecDeque<Draft>,
    /// Bytes taken whose outcome is not known yet.
    pub(crate) queued_bytes: usize,
    /// A driver is responsible for what is queued and in flight.
    pub(crate) running: bool,
    /// A stage stands between what is in flight and what is queued.
    pub(crate) held: bool,
    /// Why nothing is taken any more.
    pub(crate) ended: Option<WalError>,
    /// How large the last page got: what to reserve for the next one.
    last_len: usize,
}

/// A page being filled.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) closed: bool,
    /// Room for the header, then framed records.
    pub(crate) bytes: Vec<u8>,
    pub(crate) completion: Arc<Completion>,
}

impl Draft {
    pub(crate) fn new(first: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + capacity);
        bytes.resize(HEADER, 0);
        Self { first, count: 0, closed: false, bytes, completion: Arc::default() }
    }
}

impl Intake {
    pub(crate) fn starting_at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Copies framed records into the open page, or into a new one where they do not fit.
    fn put(&mut self, framed: &[u8], count: u32, page_bytes: usize) -> Arc<Completion> {
        let fits = |d: &Draft| !d.closed && d.bytes.len() + framed.len() <= page_bytes;
        if !self.drafts.back().is_some_and(fits) {
            if let Some(full) = self.drafts.back_mut() {
                full.closed = true;
            }
            let capacity = self.last_len.clamp(framed.len(), framed.len().max(page_bytes));
            self.drafts.push_back(Draft::new(self.next, capacity));
        }
        self.next = self.next.saturating_add(u64::from(count));
        self.queued_bytes += framed.len();
        let Some(open) = self.drafts.back_mut() else { return Arc::default() };
        open.bytes.extend_from_slice(framed);
        open.count = open.count.saturating_add(count);
        open.closed = open.bytes.len() >= page_bytes;
        Arc::clone(&open.completion)
    }

    /// Takes the first draft if it is closed, or whatever it is when `open_too`.
    pub(crate) fn take_draft(&mut self, open_too: bool) -> Option<Draft> {
        let ready = self.drafts.len() > 1 || self.drafts.front().is_some_and(|d| d.closed);
        let draft = if ready || open_too { self.drafts.pop_front() } else { None };
        if let Some(draft) = &draft {
            self.last_len = draft.bytes.len();
        }
        draft
    }

    /// Records queued, counted up to the first page's worth.
    pub(crate) fn gathered(&self) -> (u32, bool) {
        let first = self.drafts.front();
        (first.map_or(0, |d| d.count), self.drafts.len() > 1 || first.is_some_and(|d| d.closed))
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encoded records of one call.
#[derive(Debug, Default)]
pub(crate) struct Framed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
}

impl Framed {
    fn scratch() -> Self {
        Self { bytes: SCRATCH.take(), count: 0 }
    }

    fn recycle(mut self) {
        if self.bytes.capacity() <= KEEP_SCRATCH {
            self.bytes.clear();
            SCRATCH.set(self.bytes);
        }
    }

    /// Adds one record; on error nothing is added.
    pub(crate) fn push<T: Serialize>(&mut self, log: &Log, value: &T) -> Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let done = log.options.codec.encode_into(value, &mut self.bytes).map_err(WalError::Encode);
        let done = done.and_then(|()| {
            let fits = close_record(&mut self.bytes, start)
                && HEADER + self.bytes.len() <= log.max_page
                && self.count < u32::MAX;
            let len = HEADER + self.bytes.len();
            if fits { Ok(()) } else { Err(WalError::TooLarge { len, limit: log.max_page }) }
        });
        match &done {
            Ok(()) => self.count += 1,
            Err(_) => self.bytes.truncate(start),
        }
        done
    }
}

impl Log {
    /// Takes all of `values` into one page, or none. With `at`, only if that is the next number, and
    /// however much is queued.
    pub(crate) fn take<'a, T: Serialize + 'a>(
        self: &Arc<Self>,
        values: impl IntoIterator<Item = &'a T>,
        at: Option<Lsn>,
    ) -> AppendAll {
        let mut framed = Framed::scratch();
        for value in values {
            if let Err(e) = framed.push(self, value) {
                framed.recycle();
                return AppendAll::failed(e);
            }
        }
        let taken = self.take_framed(&framed, at);
        framed.recycle();
        taken.unwrap_or_else(AppendAll::failed)
    }

    fn take_framed(self: &Arc<Self>, framed: &Framed, at: Option<Lsn>) -> Result<AppendAll> {
        let Framed { bytes, count } = framed;
        let mut intake = self.intake.lock();
        if let Some(ended) = &intake.ended {
            return Err(ended.clone());
        }
        if let Some(asked) = at.filter(|at| at.0 != intake.next) {
            let (log, next) = (Arc::clone(&self.keys.name), Lsn(intake.next));
            return Err(WalError::NotNext { log, asked, next });
        }
        if *count == 0 {
            return Ok(AppendAll::empty(Lsn(intake.next)));
        }
        let queued = intake.queued_bytes;
        if at.is_none() && queued > 0 && queued + bytes.len() > self.options.max_queued_bytes {
            return Err(self.backlog(queued));
        }
        let first = intake.next;
        let page = intake.put(bytes, *count, self.options.page_bytes);
        let lsns = Lsn(first)..Lsn(intake.next);
        let start = !intake.running && !intake.held;
        intake.running |= start;
        let full = intake.gathered().1;
        drop(intake);
        if start {
            // Idle: this page goes at once, without waiting for a task to be scheduled.
            self.submit_ready(true);
            self.spawn_driver();
        } else if full {
            self.submit_ready(false);
        }
        Ok(AppendAll::waiting(page, lsns))
    }

    /// Whether at most half of what may be queued is.
    pub(crate) fn has_room(&self) -> Result<bool> {
        let intake = self.intake.lock();
        match &intake.ended {
            Some(ended) => Err(ended.clone()),
            None => Ok(intake.queued_bytes <= self.options.max_queued_bytes / 2),
        }
    }

    pub(crate) fn backlog(&self, queued: usize) -> WalError {
        let limit = self.options.max_queued_bytes;
        WalError::Backlog { log: Arc::clone(&self.keys.name), queued, limit }
    }
}
