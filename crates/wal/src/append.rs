//! What an append returns: one shared completion per page, one waker per waiting record.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::{Lsn, Result, WalError};

/// The outcome of one page, once known.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    done: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failed: Option<WalError>,
    wakers: Vec<Waker>,
}

impl Completion {
    pub(crate) fn complete(&self, outcome: Result<()>) {
        let wakers = {
            let mut state = self.state.lock();
            state.failed = outcome.err();
            // ORDER: the outcome before `done`; who sees `done` finds the outcome.
            self.done.store(true, Ordering::Release);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Waits for the page that holds some records.
#[derive(Debug)]
struct Waiting {
    page: Arc<Completion>,
    slot: Option<usize>,
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.page.state.lock();
        if self.page.done.load(Ordering::Acquire) {
            return Poll::Ready(state.failed.clone().map_or(Ok(()), Err));
        }
        if let Some(waker) = self.slot.and_then(|slot| state.wakers.get_mut(slot)) {
            waker.clone_from(cx.waker());
        } else {
            self.slot = Some(state.wakers.len());
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[derive(Debug)]
enum Taken {
    In(Waiting),
    /// Nothing to wait for.
    Empty,
    Refused(WalError),
}

/// Resolves once the record is durable. Made by [`Wal::append`](crate::Wal::append).
///
/// The record was taken when `append` was called: dropping this undoes nothing, and the log makes
/// progress without it being polled.
///
/// # Errors
/// [`TooLarge`](WalError::TooLarge), [`Encode`](WalError::Encode), [`Backlog`](WalError::Backlog),
/// [`Closed`](WalError::Closed) and [`Fenced`](WalError::Fenced) when the record was refused;
/// [`Predecessor`](WalError::Predecessor) and [`Store`](WalError::Store) when its page failed.
#[derive(Debug)]
#[must_use = "the record is durable only when this resolved with `Ok`"]
pub struct Append(AppendAll);

impl Append {
    pub(crate) fn new(all: AppendAll) -> Self {
        Self(all)
    }

    /// The record's number, taken when `append` was called; `None` when the record was refused.
    pub fn lsn(&self) -> Option<Lsn> {
        (!self.0.lsns.is_empty()).then_some(self.0.lsns.start)
    }

    /// Why the record was refused at once, if it was. It then has no number and changes nothing.
    pub fn refused(&self) -> Option<&WalError> {
        self.0.refused()
    }
}

impl Future for Append {
    type Output = Result<Lsn>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|lsns| lsns.start)
    }
}

/// Resolves once all the records are durable. Made by [`Wal::append_all`](crate::Wal::append_all).
///
/// Otherwise as [`Append`].
#[derive(Debug)]
#[must_use = "the records are durable only when this resolved with `Ok`"]
pub struct AppendAll {
    lsns: Range<Lsn>,
    taken: Taken,
}

impl AppendAll {
    pub(crate) fn waiting(page: Arc<Completion>, lsns: Range<Lsn>) -> Self {
        Self { lsns, taken: Taken::In(Waiting { page, slot: None }) }
    }

    pub(crate) fn empty(at: Lsn) -> Self {
        Self { lsns: at..at, taken: Taken::Empty }
    }

    pub(crate) fn failed(error: WalError) -> Self {
        Self { lsns: Lsn::START..Lsn::START, taken: Taken::Refused(error) }
    }

    /// The records' numbers, taken when `append_all` was called; empty when they were refused.
    pub fn lsns(&self) -> Range<Lsn> {
        self.lsns.clone()
    }

    /// Why the records were refused at once, if they were.
    pub fn refused(&self) -> Option<&WalError> {
        match &self.taken {
            Taken::Refused(error) => Some(error),
            Taken::In(_) | Taken::Empty => None,
        }
    }
}

impl Future for AppendAll {
    type Output = Result<Range<Lsn>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lsns = self.lsns.clone();
        match &mut self.taken {
            Taken::In(waiting) => waiting.poll(cx).map_ok(|()| lsns),
            Taken::Empty => Poll::Ready(Ok(lsns)),
            Taken::Refused(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
