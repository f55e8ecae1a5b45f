//! Changes of the number of sessions: handed over one after the other, waited for together.
//!
//! Each guards the count with what the one before it writes, on disk or not. When one fails, those behind it fail by
//! their guards, and begin anew with what is stored.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Guard, Record, ScanOptions, StoreError,
};
use tokio::sync::MutexGuard;

use super::{Changed, Indexed, Limits, changed, corrupt};
use crate::error::{Result, SessionError};
use crate::record_id::RecordId;

#[derive(Debug, Default)]
pub(super) struct Population {
    /// Who has it reads, stages and hands over; nobody waits for the disk with it, but for room.
    turn: tokio::sync::Mutex<()>,
    chain: Mutex<Chain>,
}

/// What was handed over and is not answered yet.
#[derive(Debug, Default)]
struct Chain {
    /// The count as the last one writes it; `None` when it is to be read.
    last: Option<Counted>,
    /// Only who has the turn adds or removes.
    under_way: VecDeque<UnderWay>,
    /// How often one failed: those handed over before that say nothing about those after it.
    failures: u64,
}

/// INVARIANT: it is there until the store has answered, whether or not anybody waits for that.
#[derive(Clone, Debug)]
struct UnderWay {
    whose: Whose,
    failures: u64,
    answer: Answer,
}

/// Whoever needs it asks for it: what another task does not poll holds nobody up.
type Answer = Shared<BoxFuture<'static, std::result::Result<CommitSeq, StoreError>>>;

/// Whose sessions a change adds or removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    One([u8; 16]),
    Anybody,
}

/// The count of sessions, and its record.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    counter: Counter,
    raw: Bytes,
}

/// How many sessions are live, and how often that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) live: u64,
    revision: u64,
    /// The first bytes of the session that changed it last.
    by: u64,
}

impl Counter {
    fn decode(mut payload: Bytes) -> Result<Self> {
        if payload.len() == 24 {
            let (live, revision) = (payload.get_u64(), payload.get_u64());
            Ok(Self { live, revision, by: payload.get_u64() })
        } else {
            Err(SessionError::Corrupt("the count of sessions is malformed"))
        }
    }

    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(24);
        out.put_u64(self.live);
        out.put_u64(self.revision);
        out.put_u64(self.by);
        out.freeze()
    }
}

impl Population {
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        while let Some(first) = self.first()
            && let Some(answer) = first.answer.clone().now_or_never()
        {
            self.answered(&first, answer.is_ok());
        }
        turn
    }

    /// Whether one more session of this subject needs no other to go, however what is under way ends. With the turn.
    pub(super) fn has_room(&self, limits: &Limits, subject: &[u8; 16]) -> bool {
        let chain = self.chain.lock();
        if chain.under_way.is_empty() || (limits.entries.is_none() && limits.per_subject.is_none())
        {
            return true;
        }
        let others = |one: &UnderWay| matches!(&one.whose, Whose::One(other) if other != subject);
        // INVARIANT: behind a failure nothing is known to be unseen or not.
        chain.last.as_ref().is_some_and(|last| {
            limits.entries.is_none_or(|limit| last.counter.live < limit)
                && (limits.per_subject.is_none() || chain.under_way.iter().all(others))
        })
    }

    /// Until nothing is under way. With the turn.
    pub(super) async fn settled(&self) {
        while let Some(first) = self.first() {
            let answer = first.answer.clone().await;
            self.answered(&first, answer.is_ok());
        }
    }

    fn first(&self) -> Option<UnderWay> {
        self.chain.lock().under_way.front().cloned()
    }

    fn answered(&self, first: &UnderWay, done: bool) {
        let mut chain = self.chain.lock();
        chain.under_way.pop_front();
        if !done && chain.failures == first.failures {
            chain.failures += 1;
            chain.last = None;
        }
        if chain.under_way.is_empty() {
            // Other managers change it as well.
            chain.last = None;
        }
    }

    fn last(&self) -> Option<Counted> {
        self.chain.lock().last.clone()
    }

    fn handed_over(&self, whose: Whose, count: Counted, answer: Answer) {
        let mut chain = self.chain.lock();
        let failures = chain.failures;
        chain.under_way.push_back(UnderWay { whose, failures, answer });
        chain.last = Some(count);
    }
}

impl Indexed {
    pub(crate) async fn live(&self) -> Result<u64> {
        Ok(self.counter().await?.0.live)
    }

    async fn counter(&self) -> Result<(Counter, Guard)> {
        let key = self.layout.counter()?;
        let Some(raw) = self.store.get(&key).await? else {
            return Ok((Counter::default(), Guard::Absent));
        };
        let read = Record::decode(&key, &raw).map_err(corrupt);
        let counter = match read.and_then(|record| Counter::decode(record.into_payload())) {
            // Nothing could be revoked any more for a number that can be had again.
            Err(SessionError::Corrupt(_)) => self.recount().await?,
            other => other?,
        };
        Ok((counter, Guard::Exact(raw)))
    }

    /// The count that the next change finds. With the turn.
    pub(super) async fn next_counter(&self) -> Result<(Counter, Guard)> {
        if let Some(last) = self.population.last() {
            return Ok((last.counter, Guard::Exact(last.raw)));
        }
        self.population.settled().await;
        self.counter().await
    }

    /// The count, from the sessions themselves. Whoever changes their number meanwhile writes another one.
    async fn recount(&self) -> Result<Counter> {
        tracing::error!("the count of sessions is damaged; they are counted anew");
        let mut live = 0;
        let mut rest = Some(self.layout.creations());
        while let Some(range) = rest {
            let page = self.store.scan(range, ScanOptions::new().keys_only()).await?;
            live += page.entries.len() as u64;
            rest = page.next;
        }
        // INVARIANT: above every revision there was. Nobody changes the number 65,536 times in a millisecond.
        let revision = self.store.now().as_millis().saturating_mul(1 << 16);
        Ok(Counter { live, revision, by: 0 })
    }

    /// Because of `id`, `more` sessions (or fewer) than before.
    pub(super) async fn stage_count(
        &self,
        batch: &mut Batch,
        id: RecordId,
        more: i64,
    ) -> Result<Counted> {
        let (counter, guard) = self.next_counter().await?;
        self.stage_counter(batch, (counter, guard), id, more)
    }

    pub(super) fn stage_counter(
        &self,
        batch: &mut Batch,
        (old, guard): (Counter, Guard),
        id: RecordId,
        more: i64,
    ) -> Result<Counted> {
        let key = self.layout.counter()?;
        // INVARIANT: a revision never returns, and two who begin with the same one write two different records: nobody takes
        // another population for the one they read, or wrote and did not see yet.
        let revision = old
            .revision
            .checked_add(1)
            .ok_or_else(|| SessionError::Corrupt("the count of sessions is at its end"))?;
        let live = old.live.saturating_add_signed(more);
        let counter = Counter { live, revision, by: id.leading() };
        let raw = Record::new(counter.encode()).encode(&key);
        batch.guard(key.clone(), guard);
        batch.put(key, raw.clone());
        Ok(Counted { counter, raw })
    }

    /// Commits a change of the number of sessions; the next one is staged while this one becomes durable.
    pub(super) async fn hand_over(
        &self,
        turn: MutexGuard<'_, ()>,
        batch: Batch,
        whose: Whose,
        count: Counted,
    ) -> Result<Changed> {
        // ORDER: a commit is submitted by calling it, so the order of turns is the order of commits.
        let answer = self.store.commit(batch, Durability::Durable).shared();
        self.population.handed_over(whose, count, answer.clone());
        drop(turn);
        changed(answer.await)
    }
}
