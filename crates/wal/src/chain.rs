//! Sealing pages and submitting them, each chained on the one before, durable or not yet.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Guard, Record, Result as StoreResult, StoreError,
};
use tokio::sync::oneshot;

use crate::WalError;
use crate::append::Completion;
use crate::head::{Head, Tip};
use crate::intake::Draft;
use crate::log::Log;
use crate::page::{Digest, Framing};

pub(crate) type Commit = BoxFuture<'static, StoreResult<CommitSeq>>;

/// What is submitted, in order.
#[derive(Debug)]
pub(crate) struct Chain {
    /// After everything submitted: what the next page chains on.
    pub(crate) tip: Tip,
    /// After everything that succeeded.
    pub(crate) settled: Tip,
    pub(crate) in_flight: VecDeque<Flight>,
    /// Between two attempts, or reloading after a failure: nothing may be chained.
    pub(crate) stalled: bool,
    /// A stage is sealed and not yet submitted: nothing may be chained but the stage itself.
    pub(crate) held: bool,
    /// One more with every failure that reset the tip; a stage sealed before that is void.
    pub(crate) generation: u64,
    pub(crate) revision: u64,
    /// Pages before the log's beginning are still being removed.
    pub(crate) cleaning: bool,
    /// Consecutive attempts that the store answered with `Unavailable`.
    pub(crate) attempts: u32,
}

/// One commit on its way.
pub(crate) struct Flight {
    /// To submit again after `Unavailable`; `None` when the caller owns it.
    pub(crate) batch: Option<Batch>,
    pub(crate) durability: Durability,
    pub(crate) commit: Option<Commit>,
    /// Known ahead of its turn, after a predecessor failed.
    pub(crate) outcome: Option<StoreResult<CommitSeq>>,
    pub(crate) reply: Reply,
    /// The log after it.
    pub(crate) after: Tip,
    /// For the count of what is queued.
    pub(crate) queued_bytes: usize,
    pub(crate) records: u32,
}

/// Who is told.
#[derive(Debug)]
pub(crate) enum Reply {
    Page(Arc<Completion>),
    Commit(oneshot::Sender<StoreResult<CommitSeq>>),
}

impl Reply {
    pub(crate) fn ok(self, seq: CommitSeq) {
        match self {
            Self::Page(completion) => completion.complete(Ok(())),
            // Whoever asked may have gone.
            Self::Commit(caller) => drop(caller.send(Ok(seq))),
        }
    }

    pub(crate) fn fail(self, for_page: WalError, for_commit: StoreError) {
        match self {
            Self::Page(completion) => completion.complete(Err(for_page)),
            Self::Commit(caller) => drop(caller.send(Err(for_commit))),
        }
    }
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Flight");
        out.field("after", &self.after.head).field("records", &self.records).finish_non_exhaustive()
    }
}

/// A page, sealed on top of the tip.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) guard: Guard,
    /// Nothing may be under the page's key either.
    pub(crate) blind: bool,
    pub(crate) key: resurge_store::Key,
    pub(crate) value: Bytes,
    pub(crate) after: Tip,
}

impl Sealed {
    pub(crate) fn write(&self, log: &Log, batch: &mut Batch) {
        batch.guard(log.keys.head.clone(), self.guard.clone());
        if self.blind {
            batch.guard(self.key.clone(), Guard::Absent);
        }
        batch.put(self.key.clone(), self.value.clone());
        if let Some(head) = &self.after.stored {
            batch.put(log.keys.head.clone(), head.clone());
        }
    }
}

impl Chain {
    pub(crate) fn new(tip: Tip) -> Self {
        Self {
            settled: tip.clone(),
            revision: tip.head.revision,
            tip,
            in_flight: VecDeque::new(),
            stalled: false,
            held: false,
            generation: 0,
            cleaning: false,
            attempts: 0,
        }
    }

    /// A head that follows the tip, with a revision no other head of this writer has.
    pub(crate) fn tip_with(&mut self, log: &Log, change: impl FnOnce(&mut Head)) -> Tip {
        self.revision = self.revision.saturating_add(1);
        let (revision, cleaning) = (self.revision, self.cleaning);
        let mut head = Head { cleaning, revision, ..self.tip.head.clone() };
        change(&mut head);
        let stored = Some(head.encode(&log.keys));
        Tip { head, stored }
    }

    /// Freezes a page: its numbers, its predecessor, its digest and the head after it.
    pub(crate) fn seal(
        &mut self,
        log: &Log,
        first: u64,
        count: u32,
        mut page: Vec<u8>,
    ) -> StoreResult<Sealed> {
        let Head { end: prev_end, digest: prev, .. } = self.tip.head;
        let framing = Framing { first, count, prev_end, prev };
        let digest: Digest = framing.seal(&mut page);
        let key = log.keys.page(first)?;
        let value = Record::new(page).encode(&key);
        let guard = self.tip.guard();
        let blind = log.blind && self.tip.stored.is_none();
        let after = self.tip_with(log, |head| {
            head.last_page = first;
            head.end = framing.end();
            head.next = head.end;
            head.digest = digest;
        });
        Ok(Sealed { guard, blind, key, value, after })
    }

    /// Submits one draft on top of the tip.
    fn submit(&mut self, log: &Log, draft: Draft) {
        let Draft { first, count, bytes, completion, .. } = draft;
        let queued_bytes = bytes.len().saturating_sub(crate::page::HEADER);
        let sealed = match self.seal(log, first, count, bytes) {
            Ok(sealed) => sealed,
            // INVARIANT: a log's name is checked at open so that its page keys fit.
            Err(e) => return completion.complete(Err(e.into())),
        };
        let mut batch = Batch::new();
        sealed.write(log, &mut batch);
        self.submit_batch(log, batch, sealed.after, Reply::Page(completion), queued_bytes, count);
    }

    /// Submits a batch that turns the tip into `after`.
    pub(crate) fn submit_batch(
        &mut self,
        log: &Log,
        batch: Batch,
        after: Tip,
        reply: Reply,
        queued_bytes: usize,
        records: u32,
    ) {
        let durability = Durability::Durable;
        // ORDER: submitted under the chain's lock, so the store sees pages in chain order.
        let commit = Some(log.store.commit(batch.clone(), durability));
        self.tip = after.clone();
        let batch = Some(batch);
        self.in_flight.push_back(Flight {
            batch,
            durability,
            commit,
            outcome: None,
            reply,
            after,
            queued_bytes,
            records,
        });
    }

    /// The first commit in flight succeeded.
    pub(crate) fn settle_first(&mut self) -> Option<Flight> {
        self.attempts = 0;
        let flight = self.in_flight.pop_front()?;
        self.settled = flight.after.clone();
        Some(flight)
    }

    pub(crate) fn may_chain(&self) -> bool {
        !self.stalled && !self.held
    }
}

impl Log {
    /// Submits closed pages while fewer than the limit are in flight, and the open one, too, where
    /// nothing is in flight and `open_too`.
    pub(crate) fn submit_ready(&self, open_too: bool) {
        self.submit_ready_locked(&mut self.chain.lock(), open_too);
    }

    pub(crate) fn submit_ready_locked(&self, chain: &mut Chain, open_too: bool) {
        while chain.may_chain() && chain.in_flight.len() < self.options.max_in_flight {
            let open_too = open_too && chain.in_flight.is_empty();
            let Some(draft) = self.intake.lock().take_draft(open_too) else { break };
            chain.submit(self, draft);
        }
    }

    /// Submits `drafts`, whatever is in flight already.
    pub(crate) fn submit_all(&self, chain: &mut Chain, drafts: VecDeque<Draft>) {
        for draft in drafts {
            chain.submit(self, draft);
        }
    }
}
