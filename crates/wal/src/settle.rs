//! What an outcome does to the log: settle it, submit it again, reset to what is durable, or end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use resurge_store::{CommitSeq, Durability, ErrorKind, Result as StoreResult, StoreError};

use crate::chain::{Flight, Reply};
use crate::head::{Head, Tip};
use crate::log::Log;
use crate::{DamageKind, WalError};

const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How a failure goes on.
enum Verdict {
    /// Nothing was written: submit the same bytes again.
    Again,
    /// Nothing was written, and this must be told: go on after what is settled.
    Reset,
    /// Nobody knows what was written, or somebody else writes: no more writes.
    End(WalError),
}

impl Log {
    /// Takes the outcome of the first flight, and returns how many records it settled.
    pub(crate) async fn settle(&self, outcome: StoreResult<CommitSeq>) -> u32 {
        match outcome {
            Ok(seq) => self.succeed(seq),
            Err(error) => {
                self.fail(error).await;
                0
            }
        }
    }

    fn succeed(&self, seq: CommitSeq) -> u32 {
        let Some(flight) = self.chain.lock().settle_first() else { return 0 };
        let records = flight.records;
        self.settled(flight).ok(seq);
        self.changed.notify_waiters();
        records
    }

    /// Polls the commit that left the head of this revision, if it is the next to settle and nobody
    /// else awaits it; `None` if not, or if it failed: then it is up to the driver.
    pub(crate) fn poll_own(&self, revision: u64, cx: &mut Context<'_>) -> Option<Poll<CommitSeq>> {
        let (flight, seq) = {
            let mut chain = self.chain.lock();
            let first = chain.in_flight.front_mut();
            let first = first.filter(|flight| flight.after.head.revision == revision)?;
            let seq = match first.commit.as_mut()?.as_mut().poll(cx) {
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Ok(seq)) => seq,
                Poll::Ready(Err(e)) => {
                    first.commit = Some(Box::pin(std::future::ready(Err(e))));
                    return None;
                }
            };
            // ORDER: under the same lock: a driver never meets a commit that was polled to its end.
            (chain.settle_first()?, seq)
        };
        drop(self.settled(flight));
        self.changed.notify_waiters();
        Some(Poll::Ready(seq))
    }

    /// Takes note of a commit that succeeded; returns who is to be told.
    fn settled(&self, flight: Flight) -> Reply {
        let head = &flight.after.head;
        self.first_lsn.store(head.first_lsn, Ordering::Release);
        // ORDER: durable before anybody is told.
        if flight.durability == Durability::Durable {
            self.set_durable(head.end);
        }
        if flight.records > 0 {
            self.metrics.pages.increment(1);
            self.metrics.appends.increment(u64::from(flight.records));
            self.metrics.page_records.record(f64::from(flight.records));
        }
        if flight.queued_bytes > 0 {
            let mut intake = self.intake.lock();
            intake.queued_bytes = intake.queued_bytes.saturating_sub(flight.queued_bytes);
        }
        flight.reply
    }

    async fn fail(&self, error: StoreError) {
        self.chain.lock().stalled = true;
        let mut verdict = None;
        loop {
            // Everything behind it was guarded by what it did not write. Each must have been refused
            // before anything is submitted again, or it could be written twice.
            self.await_successors().await;
            match verdict.take() {
                None => verdict = Some(self.judge(&error).await),
                Some(verdict) if self.apply(&verdict, &error) => break,
                // A stage was submitted meanwhile: it has to be awaited, too.
                Some(again) => verdict = Some(again),
            }
        }
        self.changed.notify_waiters();
    }

    async fn await_successors(&self) {
        loop {
            let waiting = {
                let mut chain = self.chain.lock();
                let mut flights = chain.in_flight.iter_mut().enumerate().skip(1);
                flights.find_map(|(i, flight)| Some((i, flight.commit.take()?)))
            };
            let Some((i, commit)) = waiting else { return };
            let outcome = commit.await;
            // INVARIANT: only the driver, which is here, removes flights.
            if let Some(flight) = self.chain.lock().in_flight.get_mut(i) {
                flight.outcome = Some(outcome);
            }
        }
    }

    async fn judge(&self, error: &StoreError) -> Verdict {
        if let Some(unknown) = self.unknown_outcome(error) {
            return Verdict::End(self.closed(Some(unknown)));
        }
        let (again, attempts) = {
            let mut chain = self.chain.lock();
            chain.attempts = chain.attempts.saturating_add(1);
            let ours = chain.in_flight.front().is_some_and(|front| front.batch.is_some());
            (ours && error.kind() == ErrorKind::Unavailable, chain.attempts)
        };
        if again {
            self.back_off(attempts, error).await;
            if !self.is_closing() {
                return Verdict::Again;
            }
        }
        match self.reload().await {
            Ok(()) => Verdict::Reset,
            Err(end) => Verdict::End(end),
        }
    }

    /// The first error after which the end of the log is unknown or unreachable.
    fn unknown_outcome(&self, error: &StoreError) -> Option<StoreError> {
        if !leaves_log_whole(error) {
            return Some(error.clone());
        }
        let chain = self.chain.lock();
        chain.in_flight.iter().skip(1).find_map(|flight| match &flight.outcome {
            Some(Ok(seq)) => Some(StoreError::new(
                ErrorKind::Indeterminate,
                format!("commit {seq} was accepted on top of one that was not: {error}"),
            )),
            Some(Err(e)) if !leaves_log_whole(e) => Some(e.clone()),
            _ => None,
        })
    }

    async fn back_off(&self, attempts: u32, error: &StoreError) {
        let factor = 1_u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
        let wait = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        tracing::debug!(log = %self.keys.name, %error, ?wait, "the store is unavailable; waiting");
        let mut sleep = self.store.clock().sleep(wait);
        let changed = self.changed.notified();
        tokio::pin!(changed);
        std::future::poll_fn(|cx| {
            if self.is_closing() {
                return Poll::Ready(());
            }
            // Closing wakes it; anything else that changed makes one more look at the clock.
            if changed.as_mut().poll(cx).is_ready() {
                changed.set(self.changed.notified());
                cx.waker().wake_by_ref();
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// Is what the store holds still what this writer left there?
    async fn reload(&self) -> Result<(), WalError> {
        let mut attempts = 0;
        let stored = loop {
            match self.store.get(&self.keys.head).await {
                Ok(stored) => break stored,
                Err(e) if e.kind() == ErrorKind::Unavailable && !self.is_closing() => {
                    attempts += 1;
                    self.back_off(attempts, &e).await;
                }
                Err(e) => return Err(self.closed(Some(e))),
            }
        };
        let mut chain = self.chain.lock();
        if stored == chain.settled.stored {
            return Ok(());
        }
        let ours = (chain.tip.head.epoch, chain.tip.head.owner);
        let found = stored.as_ref().map(|stored| Head::decode(&self.keys, stored));
        Err(match found {
            // A batch of ours was committed after its `Staged` had been dropped: it counts.
            Some(Ok(head)) if (head.epoch, head.owner) == ours => {
                chain.settled = Tip { head, stored };
                return Ok(());
            }
            Some(Ok(head)) => self.fenced(ours.0, head.epoch),
            Some(Err(damage)) => self.corrupt(damage),
            None => {
                let missing = DamageKind::HeadMissing;
                self.corrupt(self.keys.damage(missing, 1, self.keys.head.clone()))
            }
        })
    }

    fn fenced(&self, ours: u64, epoch: u64) -> WalError {
        self.metrics.fenced.increment(1);
        tracing::warn!(log = %self.keys.name, ours, epoch, "another writer took the log over");
        WalError::Fenced { log: Arc::clone(&self.keys.name), ours, epoch }
    }

    /// `false` when there is something in flight whose outcome must be awaited first.
    fn apply(&self, verdict: &Verdict, error: &StoreError) -> bool {
        let mut chain = self.chain.lock();
        if chain.in_flight.iter().skip(1).any(|flight| flight.commit.is_some()) {
            return false;
        }
        let mut kept = match verdict {
            // What a caller owns cannot be submitted again here, and what follows it hangs on it.
            Verdict::Again => chain.in_flight.iter().take_while(|f| f.batch.is_some()).count(),
            Verdict::Reset | Verdict::End(_) => 0,
        };
        kept = kept.min(chain.in_flight.len());
        let failed = chain.in_flight.split_off(kept);
        for flight in &mut chain.in_flight {
            let Some(batch) = flight.batch.clone() else { continue };
            flight.outcome = None;
            flight.commit = Some(self.store.commit(batch, flight.durability));
        }
        self.metrics.resubmitted.increment(kept as u64);
        chain.stalled = matches!(verdict, Verdict::End(_));
        if kept > 0 && failed.is_empty() {
            return true;
        }
        let tip = chain.in_flight.back().map_or(&chain.settled, |last| &last.after).clone();
        let mut intake = self.intake.lock();
        intake.next = tip.head.next;
        chain.tip = tip;
        chain.generation += 1;
        let drafts = std::mem::take(&mut intake.drafts);
        intake.queued_bytes = chain.in_flight.iter().map(|flight| flight.queued_bytes).sum();
        if let Verdict::End(end) = verdict {
            intake.ended.get_or_insert_with(|| end.clone());
        }
        drop((intake, chain));
        for (i, flight) in failed.into_iter().enumerate() {
            tell(flight, verdict, error, kept == 0 && i == 0);
        }
        for draft in drafts {
            draft.completion.complete(Err(match verdict {
                Verdict::End(end) => end.clone(),
                Verdict::Again | Verdict::Reset => WalError::Predecessor(error.clone()),
            }));
        }
        true
    }

    /// The runtime stopped, or the driver panicked: what is in flight may or may not be written.
    pub(crate) fn abandon(&self) {
        let message = "the runtime stopped while this was in flight";
        let error = StoreError::new(ErrorKind::Indeterminate, message);
        let end = self.closed(Some(error.clone()));
        let mut chain = self.chain.lock();
        for flight in &mut chain.in_flight {
            flight.commit = None;
            flight.outcome = Some(Err(error.clone()));
        }
        drop(chain);
        self.apply(&Verdict::End(end), &error);
        self.intake.lock().running = false;
        self.changed.notify_waiters();
    }
}

/// Nothing was written and the store goes on.
fn leaves_log_whole(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::Invalid | ErrorKind::Conflict
    )
}

fn tell(flight: Flight, verdict: &Verdict, error: &StoreError, first: bool) {
    let own = match flight.outcome {
        Some(Err(own)) => own,
        _ => error.clone(),
    };
    let for_page = match verdict {
        Verdict::End(fenced @ WalError::Fenced { .. }) => fenced.clone(),
        _ if first => WalError::Store(error.clone()),
        Verdict::End(_) if !leaves_log_whole(&own) => WalError::Store(own.clone()),
        _ => WalError::Predecessor(error.clone()),
    };
    flight.reply.fail(for_page, own);
}
