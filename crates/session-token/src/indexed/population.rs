//! Changes of the number of sessions: handed over one after the other, waited for together.
//!
//! Each guards the count with what the one before it writes, on disk or not. When one fails, those behind it fail by
//! their guards, and begin anew with what is stored.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use resurge_store::{Batch, Durability, Guard, Record, ScanOptions};
use tokio::sync::{MutexGuard, Notify};

use super::{Changed, Indexed, Limits, changed, corrupt};
use crate::error::{Result, SessionError};

#[derive(Debug, Default)]
pub(super) struct Population {
    /// Who has it reads, stages and hands over; nobody waits for the disk with it.
    turn: tokio::sync::Mutex<()>,
    chain: Mutex<Chain>,
    settled: Notify,
}

/// What was handed over and is not answered yet.
#[derive(Debug, Default)]
struct Chain {
    /// The count as the last one writes it; `None` when it is to be read.
    last: Option<Counted>,
    under_way: Vec<(u64, Whose)>,
    next: u64,
    /// How often one failed: those handed over before that say nothing about those after it.
    failures: u64,
}

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
}

impl Counter {
    fn decode(mut payload: Bytes) -> Result<Self> {
        if payload.len() == 16 {
            Ok(Self { live: payload.get_u64(), revision: payload.get_u64() })
        } else {
            Err(SessionError::Corrupt("the count of sessions is malformed"))
        }
    }

    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u64(self.live);
        out.put_u64(self.revision);
        out.freeze()
    }
}

impl Population {
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Whether one more session of this subject needs no other to go, however what is under way ends.
    pub(super) fn has_room(&self, limits: &Limits, subject: &[u8; 16]) -> bool {
        let chain = self.chain.lock();
        let others =
            |(_, whose): &(u64, Whose)| matches!(whose, Whose::One(other) if other != subject);
        let fits = |limit| chain.last.as_ref().is_some_and(|last| last.counter.live < limit);
        chain.under_way.is_empty()
            || (limits.entries.is_none_or(fits)
                && (limits.per_subject.is_none() || chain.under_way.iter().all(others)))
    }

    /// Until nothing is under way. Only with the turn, or it may never be.
    pub(super) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // ORDER: listen first, look then.
            settled.as_mut().enable();
            if self.chain.lock().under_way.is_empty() {
                return;
            }
            settled.await;
        }
    }

    fn last(&self) -> Option<Counted> {
        self.chain.lock().last.clone()
    }

    fn handed_over(&self, whose: Whose, count: Counted) -> UnderWay<'_> {
        let mut chain = self.chain.lock();
        let number = chain.next;
        chain.next += 1;
        chain.under_way.push((number, whose));
        chain.last = Some(count);
        UnderWay { population: self, number, failures: chain.failures }
    }
}

/// One change, until it is answered or nobody waits for the answer.
struct UnderWay<'a> {
    population: &'a Population,
    number: u64,
    failures: u64,
}

impl UnderWay<'_> {
    fn failed(&self) {
        let mut chain = self.population.chain.lock();
        if chain.failures == self.failures {
            chain.failures += 1;
            chain.last = None;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut chain = self.population.chain.lock();
        chain.under_way.retain(|(number, _)| *number != self.number);
        if chain.under_way.is_empty() {
            // Other managers change it as well.
            chain.last = None;
            self.population.settled.notify_waiters();
        }
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
        Ok(Counter { live, revision })
    }

    pub(super) async fn stage_count(&self, batch: &mut Batch, by: i64) -> Result<Counted> {
        let (counter, guard) = self.next_counter().await?;
        self.stage_counter(batch, counter, guard, by)
    }

    pub(super) fn stage_counter(
        &self,
        batch: &mut Batch,
        old: Counter,
        guard: Guard,
        by: i64,
    ) -> Result<Counted> {
        let key = self.layout.counter()?;
        // INVARIANT: a revision never returns, so nobody takes another population for the one they read.
        let revision = old
            .revision
            .checked_add(1)
            .ok_or_else(|| SessionError::Corrupt("the count of sessions is at its end"))?;
        let counter = Counter { live: old.live.saturating_add_signed(by), revision };
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
        let answer = self.store.commit(batch, Durability::Durable);
        let under_way = self.population.handed_over(whose, count);
        drop(turn);
        let changed = changed(answer.await);
        if !matches!(changed, Ok(Changed::Done)) {
            under_way.failed();
        }
        changed
    }
}
