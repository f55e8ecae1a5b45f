//! Putting records into somebody else's commit: stage, write, commit, submitted.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use resurge_store::{Batch, CommitSeq, Durability, ErrorKind, Result as StoreResult, StoreError};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::chain::{Commit, Flight, Reply, Sealed};
use crate::intake::Framed;
use crate::log::Log;
use crate::page::HEADER;
use crate::{Lsn, Result, Wal, WalError};

/// The right to put records into a batch of the caller's. Made by [`Wal::stage`].
///
/// It holds the log's append ticket, so there is one at a time. Appends go on beside it until it is
/// written; dropping it changes nothing.
pub struct Stage<T> {
    log: Arc<Log>,
    ticket: OwnedSemaphorePermit,
    framed: Framed,
    records: PhantomData<fn(&T)>,
}

impl<T> Stage<T> {
    pub(crate) fn new(log: Arc<Log>, ticket: OwnedSemaphorePermit) -> Self {
        Self { log, ticket, framed: Framed::default(), records: PhantomData }
    }

    /// How many records were pushed.
    pub fn len(&self) -> usize {
        usize::try_from(self.framed.count).unwrap_or(usize::MAX)
    }

    /// True when nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.framed.count == 0
    }

    /// Adds the records to `batch`: numbers, page and digest are final from here on.
    ///
    /// Everything appended so far is submitted first. Appends from now on take later numbers and
    /// wait until the [`Staged`] is submitted or dropped, so commit the batch at once.
    ///
    /// # Errors
    /// [`Backlog`](WalError::Backlog) while the store is unavailable (stage again),
    /// [`Fenced`](WalError::Fenced), [`Closed`](WalError::Closed). The batch and the log are then
    /// unchanged.
    pub fn write(self, batch: &mut Batch) -> Result<Staged> {
        let Self { log, ticket, framed, .. } = self;
        let Framed { bytes, count } = framed;
        let mut chain = log.chain.lock();
        let (first, drafts) = {
            let mut intake = log.intake.lock();
            if let Some(ended) = &intake.ended {
                return Err(ended.clone());
            }
            if chain.stalled {
                return Err(log.backlog(intake.queued_bytes));
            }
            let first = intake.next;
            if count == 0 {
                drop((intake, chain));
                let lsns = Lsn(first)..Lsn(first);
                return Ok(Staged { lsns, sealed: None, _ticket: ticket, log });
            }
            intake.next = first.saturating_add(u64::from(count));
            intake.held = true;
            (first, std::mem::take(&mut intake.drafts))
        };
        // ORDER: everything numbered before goes before, so that the chain has no holes.
        let queued = !drafts.is_empty();
        log.submit_all(&mut chain, drafts);
        let mut page = Vec::with_capacity(HEADER + bytes.len());
        page.resize(HEADER, 0);
        page.extend_from_slice(&bytes);
        let sealed = chain.seal(&log, first, count, page);
        if let Ok(sealed) = &sealed {
            sealed.write(&log, batch);
            chain.held = true;
        }
        let generation = chain.generation;
        log.intake.lock().held = chain.held;
        drop(chain);
        if queued {
            log.ensure_driver();
        }
        let lsns = Lsn(first)..Lsn(first.saturating_add(u64::from(count)));
        Ok(Staged { lsns, sealed: Some((sealed?, generation)), _ticket: ticket, log })
    }

    /// [`write`](Self::write), commit and [`submitted`](Staged::submitted) in one, for a batch that
    /// holds no other log's records. Here `Unavailable` is waited out like that of an append.
    ///
    /// No task is needed as long as what this returns is awaited and nobody else uses the log.
    ///
    /// # Errors
    /// As [`write`](Self::write); then as [`StagedCommit`].
    pub fn commit(self, mut batch: Batch, durability: Durability) -> Result<StagedCommit> {
        let log = Arc::clone(&self.log);
        let staged = self.write(&mut batch)?;
        let commit = log.store.commit(batch.clone(), durability);
        Ok(staged.submit(commit, Some(batch), durability))
    }
}

impl<T: Serialize> Stage<T> {
    /// Adds a record. All records of a stage share one page.
    ///
    /// # Errors
    /// [`Encode`](WalError::Encode), or [`TooLarge`](WalError::TooLarge) when it no longer fits; what
    /// was pushed before stays.
    pub fn push(&mut self, value: &T) -> Result<()> {
        self.framed.push(&self.log, value)
    }
}

impl<T> fmt::Debug for Stage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Stage");
        out.field("log", &self.log.keys.name)
            .field("records", &self.framed.count)
            .finish_non_exhaustive()
    }
}

/// Records that are in a batch, before that batch was committed.
///
/// Call [`submitted`](Self::submitted) right after `store.commit` was *called*. Dropping it before
/// that leaves the log as it was: its numbers are given again, unless others queued behind it
/// meanwhile and hold later ones; then they are given up. Do not commit the batch after that: it is
/// refused, or the appends that took its numbers are.
#[must_use = "dropping it gives the records up"]
pub struct Staged {
    log: Arc<Log>,
    _ticket: OwnedSemaphorePermit,
    lsns: Range<Lsn>,
    /// With the chain's generation; `None` when there are no records or it was submitted.
    sealed: Option<(Sealed, u64)>,
}

impl Staged {
    /// The records' numbers.
    pub fn lsns(&self) -> Range<Lsn> {
        self.lsns.clone()
    }

    /// Says that the batch was handed to the store, and moves the log's end in memory: from here on
    /// appends follow these records. `commit` is what `store.commit` returned, or for several logs in
    /// one batch what the previous log's `submitted` returned.
    ///
    /// The log awaits `commit` itself: dropping what this returns undoes nothing.
    pub fn submitted(
        self,
        commit: impl Future<Output = StoreResult<CommitSeq>> + Send + 'static,
        durability: Durability,
    ) -> StagedCommit {
        self.submit(Box::pin(commit), None, durability)
    }

    fn submit(
        mut self,
        commit: Commit,
        batch: Option<Batch>,
        durability: Durability,
    ) -> StagedCommit {
        let lsns = self.lsns.clone();
        let Some((sealed, generation)) = self.sealed.take() else {
            return StagedCommit { lsns, outcome: Outcome::Direct(commit) };
        };
        let own = batch.is_some();
        let mut chain = self.log.chain.lock();
        chain.held = false;
        let outcome = if chain.generation == generation {
            let (sender, settled) = oneshot::channel();
            let revision = sealed.after.head.revision;
            let records = u32::try_from(lsns.end.0 - lsns.start.0).unwrap_or(u32::MAX);
            chain.tip = sealed.after.clone();
            chain.in_flight.push_back(Flight {
                batch,
                durability,
                commit: Some(commit),
                outcome: None,
                reply: Reply::Commit(sender),
                after: sealed.after,
                queued_bytes: 0,
                records,
            });
            if own {
                let log = Arc::clone(&self.log);
                Outcome::Own(Own { log, revision, settled, told: false })
            } else {
                Outcome::Settled(settled)
            }
        } else {
            // What it chains on failed meanwhile: its guard cannot hold.
            Outcome::Direct(commit)
        };
        let waits = {
            let mut intake = self.log.intake.lock();
            intake.held = false;
            !intake.drafts.is_empty()
        };
        drop(chain);
        if waits || !matches!(outcome, Outcome::Own(_)) {
            self.log.ensure_driver();
        }
        StagedCommit { lsns, outcome }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some((_, generation)) = self.sealed.take() else { return };
        let mut chain = self.log.chain.lock();
        chain.held = false;
        let mut intake = self.log.intake.lock();
        intake.held = false;
        if chain.generation == generation && intake.next == self.lsns.end.0 {
            intake.next = self.lsns.start.0;
        }
        drop((intake, chain));
        self.log.ensure_driver();
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Staged");
        out.field("log", &self.log.keys.name).field("lsns", &self.lsns).finish_non_exhaustive()
    }
}

/// Resolves with the batch's outcome once the log has taken note of it. Dropping it undoes nothing.
///
/// # Errors
/// The store's own, unchanged. A `Conflict` whose key is the log's head means that nothing was
/// written because an earlier page of the log failed (stage again), or that the log is fenced, which
/// the next [`Wal::stage`] says.
#[must_use = "the records are committed only when this resolved with `Ok`"]
pub struct StagedCommit {
    lsns: Range<Lsn>,
    outcome: Outcome,
}

enum Outcome {
    Direct(Commit),
    Settled(oneshot::Receiver<StoreResult<CommitSeq>>),
    Own(Own),
}

/// A commit that whoever asked for it awaits: without anybody else at the log no task stands between
/// the store and the caller. A driver takes over when it is dropped, fails, or others come.
struct Own {
    log: Arc<Log>,
    /// Of the head it leaves behind; no two are equal.
    revision: u64,
    settled: oneshot::Receiver<StoreResult<CommitSeq>>,
    told: bool,
}

impl Own {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<StoreResult<CommitSeq>> {
        // ORDER: registered for a driver's answer before anything else: one may take over any time.
        if let Poll::Ready(told) = Pin::new(&mut self.settled).poll(cx) {
            self.told = true;
            return Poll::Ready(told.unwrap_or_else(|_| Err(stopped())));
        }
        match self.log.poll_own(self.revision, cx) {
            Some(Poll::Ready(seq)) => {
                self.told = true;
                Poll::Ready(Ok(seq))
            }
            Some(Poll::Pending) => Poll::Pending,
            None => {
                self.log.ensure_driver();
                Poll::Pending
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.told {
            self.log.ensure_driver();
        }
    }
}

fn stopped() -> StoreError {
    StoreError::new(ErrorKind::Indeterminate, "the runtime stopped while this was in flight")
}

impl StagedCommit {
    /// The records' numbers.
    pub fn lsns(&self) -> Range<Lsn> {
        self.lsns.clone()
    }
}

impl Future for StagedCommit {
    type Output = StoreResult<CommitSeq>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.outcome {
            Outcome::Direct(commit) => commit.as_mut().poll(cx),
            Outcome::Settled(settled) => {
                let told = Pin::new(settled).poll(cx);
                told.map(|told| told.unwrap_or_else(|_| Err(stopped())))
            }
            Outcome::Own(own) => own.poll(cx),
        }
    }
}

impl fmt::Debug for StagedCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedCommit").field("lsns", &self.lsns).finish_non_exhaustive()
    }
}

/// The append tickets of several logs, taken in key order, so that those who stage the same logs
/// never wait for each other in a circle.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resurge_store::{Batch, Durability, Store};
/// use resurge_wal::{Tickets, Wal, WalOptions};
/// let store = Store::memory();
/// let (jobs, _) = Wal::<String>::open(&store, "jobs", WalOptions::default()).await?;
/// let (audit, _) = Wal::<u64>::open(&store, "audit", WalOptions::default()).await?;
///
/// let mut tickets = Tickets::new().of(&jobs).of(&audit).acquire().await?;
/// let (mut job, mut entry) = (tickets.stage(&jobs)?, tickets.stage(&audit)?);
/// job.push(&"enqueued".to_owned())?;
/// entry.push(&7)?;
/// let mut batch = Batch::new();
/// let (job, entry) = (job.write(&mut batch)?, entry.write(&mut batch)?);
/// let commit = store.commit(batch, Durability::Durable);
/// let commit = job.submitted(commit, Durability::Durable);
/// entry.submitted(commit, Durability::Durable).await?;
/// assert_eq!((jobs.durable_lsn().0, audit.durable_lsn().0), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Tickets {
    logs: BTreeMap<Place, (Arc<Log>, Option<OwnedSemaphorePermit>)>,
}

/// By name first: that is the order of the logs' keys.
type Place = (Arc<str>, usize);

impl Tickets {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a log's ticket. Asking twice is asking once.
    #[must_use]
    pub fn of<T>(mut self, wal: &Wal<T>) -> Self {
        let log = wal.log();
        self.logs.entry(place(log)).or_insert_with(|| (Arc::clone(log), None));
        self
    }

    /// Waits for all of them. Cancel safe: a dropped wait gives back what it had.
    ///
    /// # Errors
    /// As [`Wal::stage`].
    pub async fn acquire(mut self) -> Result<Self> {
        for (log, ticket) in self.logs.values_mut() {
            *ticket = Some(log.take_stage_ticket().await?);
        }
        Ok(self)
    }

    /// Stages one of the logs.
    ///
    /// # Errors
    /// [`Invalid`](WalError::Invalid) when its ticket was not acquired, or was used before.
    pub fn stage<T>(&mut self, wal: &Wal<T>) -> Result<Stage<T>> {
        let log = wal.log();
        let ticket = self.logs.get_mut(&place(log)).and_then(|(_, ticket)| ticket.take());
        let ticket = ticket.ok_or_else(|| {
            WalError::Invalid(format!(
                "no ticket for log `{}`: ask for it and acquire it",
                log.keys.name
            ))
        })?;
        Ok(Stage::new(Arc::clone(log), ticket))
    }
}

/// Handles to the same log, or to logs of other stores, stay apart.
fn place(log: &Arc<Log>) -> Place {
    (Arc::clone(&log.keys.name), Arc::as_ptr(log) as usize)
}

impl Log {
    /// The ticket, once the log can be staged.
    pub(crate) async fn take_stage_ticket(&self) -> Result<OwnedSemaphorePermit> {
        let ticket = self.take_ticket().await?;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(ended) = &self.intake.lock().ended {
                return Err(ended.clone());
            }
            if !self.chain.lock().stalled {
                return Ok(ticket);
            }
            changed.await;
        }
    }
}
