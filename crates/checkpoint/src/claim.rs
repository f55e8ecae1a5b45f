//! The right to run a step: renewed, staged as done, released, or left in doubt.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, ErrorKind, Guard, Monotonic, StoreError,
};

use crate::checkpoints::Inner;
use crate::entry::{Claimed, Value};
use crate::flight::Lead;
use crate::lookup::{What, look};
use crate::{
    CheckpointError, CheckpointEvent, CheckpointKey, InDoubt, Miss, Outcome, Result, StepPolicy,
};

/// How often, at most, storing a result is tried while the store is `Unavailable`, and the pause after
/// the first time; each next one is twice as long.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The right to run one step, alone. Made by [`Checkpoints::begin`](crate::Checkpoints::begin).
///
/// Run the step, then either stage its result into a batch of yours, commit that, and call
/// [`settled`](Self::settled); or [`release`](Self::release) the claim.
///
/// Dropped in any other way, the step may have run half: a step that may run again is released, so
/// that one who waits takes over; one that must not ([`InDoubt::Fail`]) stays in doubt.
#[must_use = "a claim that is dropped releases the step or leaves it in doubt"]
pub struct Claim {
    inner: Arc<Inner>,
    key: CheckpointKey,
    policy: StepPolicy,
    why: Miss,
    lead: Option<Lead>,
    /// `None` when the store failed and the step runs all the same.
    held: Option<Held>,
    phase: Phase,
    staged: Option<Staged>,
    began: Monotonic,
    when_dropped: Outcome,
}

/// What is stored for it.
struct Held {
    claimed: Claimed,
    guard: Guard,
    /// Somebody else has it: nothing is renewed any more.
    lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its commit is on the way; the step has not begun.
    Claiming,
    Running,
    Over,
}

enum Staged {
    Done(Value),
    Released,
}

/// What became of a claim whose batch was refused; see [`Claim::conflicted`].
#[derive(Debug)]
pub enum Conflicted {
    /// It was not about this claim. Stage and commit again when your own conflict is solved.
    NotOurs(Claim),
    /// What is there changed, and the result may still be stored: stage it again.
    StageAgain(Claim),
    /// Another run of the step was first: this is its result, and it counts.
    Done(Bytes),
    /// The attempt was purged or forgotten meanwhile: the result is not to be stored.
    Forgotten,
}

impl Claim {
    /// A claim about to be made, and the batch that makes it. Dropped before
    /// [`running`](Self::running), it is released whatever the policy.
    pub(crate) fn claiming(
        inner: &Arc<Inner>,
        key: &CheckpointKey,
        policy: StepPolicy,
        why: Miss,
        lead: Lead,
        replaces: Guard,
    ) -> (Self, Batch) {
        let since = inner.store.now();
        let claimed = Claimed {
            owner: inner.owner.number,
            serial: inner.owner.begin(),
            since,
            deadline: since.saturating_add(inner.options.lease),
            never_again: policy.in_doubt_for(key.scope()) == InDoubt::Fail,
        };
        let bytes = claimed.encode(key.stored());
        let mut batch = Batch::new();
        batch.guard(key.stored().clone(), replaces).put(key.stored().clone(), bytes.clone());
        let held = Held { claimed, guard: Guard::Exact(bytes), lost: false };
        let mut claim = Self::unprotected(inner, key, policy, why, lead);
        (claim.held, claim.phase) = (Some(held), Phase::Claiming);
        (claim, batch)
    }

    /// A run that the store knows nothing of.
    pub(crate) fn unprotected(
        inner: &Arc<Inner>,
        key: &CheckpointKey,
        policy: StepPolicy,
        why: Miss,
        lead: Lead,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            key: key.clone(),
            policy,
            why,
            lead: Some(lead),
            held: None,
            phase: Phase::Running,
            staged: None,
            began: inner.store.clock().monotonic(),
            when_dropped: Outcome::Dropped,
        }
    }

    /// The claim is stored: the step begins.
    pub(crate) fn running(mut self) -> Self {
        self.phase = Phase::Running;
        self.tell_started();
        self
    }

    pub(crate) fn tell_started(&self) {
        self.inner.observed.tell(&CheckpointEvent::Started { key: &self.key, why: self.why });
    }

    /// The commit that makes it failed: gives the flight back, for another try.
    pub(crate) fn refused(mut self, error: &StoreError) -> Option<Lead> {
        if error.kind().nothing_written() {
            self.over(Outcome::Failed);
        }
        self.lead.take()
    }

    /// What it is a claim of.
    pub fn key(&self) -> &CheckpointKey {
        &self.key
    }

    /// Why the step runs. [`Miss::InDoubt`]: it may have run before, wholly or in part.
    pub fn why(&self) -> Miss {
        self.why
    }

    /// False when the store failed and the policy says to run all the same: nothing is claimed, and
    /// what is staged writes nothing.
    pub fn is_protected(&self) -> bool {
        self.held.is_some()
    }

    /// Runs `work` and renews the claim meanwhile, where several processes share the store. Elsewhere
    /// there is nothing to renew. Cancel safe as `work` is.
    pub async fn keep_alive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        let pause = self.inner.options.lease / 3;
        while self.inner.owner.shares_store() && self.held.as_ref().is_some_and(|h| !h.lost) {
            tokio::select! {
                biased;
                output = &mut work => return output,
                () = self.inner.store.clock().sleep(pause) => {}
            }
            let Some((renewal, old)) = self.renew() else { break };
            let renewed = tokio::select! {
                biased;
                output = &mut work => return output,
                renewed = renewal => renewed,
            };
            if let (Err(error), Some(held)) = (renewed, &mut self.held) {
                held.lost = error.kind() == ErrorKind::Conflict;
                if error.kind().nothing_written() {
                    held.guard = old;
                }
                tracing::warn!(key = %self.key, %error, "a claim was not renewed");
            }
        }
        work.await
    }

    /// Submits a later deadline; and the guard that held before.
    fn renew(&mut self) -> Option<(BoxFuture<'static, Result<CommitSeq, StoreError>>, Guard)> {
        let held = self.held.as_mut()?;
        held.claimed.deadline = self.inner.store.now().saturating_add(self.inner.options.lease);
        let stored = self.key.stored();
        let bytes = held.claimed.encode(stored);
        // From here on, commits find the renewed claim: they come later.
        let old = std::mem::replace(&mut held.guard, Guard::Exact(bytes.clone()));
        let mut batch = Batch::new();
        batch.guard(stored.clone(), old.clone()).put(stored.clone(), bytes);
        Some((self.inner.store.commit(batch, Durability::Buffered), old))
    }

    /// Puts "done, with this result" into `batch`, under a guard for this claim. Commit it, `Durable`
    /// for a step in [`InDoubt::Fail`], then call [`settled`](Self::settled).
    ///
    /// The bytes are stored as they are: seal what must not be read first. A `ttl` of zero is for ever.
    ///
    /// # Errors
    /// `TooLarge`; the claim is then dropped as after a run that was not stored.
    pub fn stage_done(
        &mut self,
        batch: &mut Batch,
        result: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<()> {
        self.stage_value(batch, Value::opaque(result.into()), ttl)
    }

    fn stage_value(&mut self, batch: &mut Batch, value: Value, ttl: Duration) -> Result<()> {
        self.when_dropped = Outcome::NotStored;
        let record = self.inner.result_record(&self.key, value.clone(), ttl)?;
        if let Some(held) = &self.held {
            let stored = self.key.stored();
            batch.guard(stored.clone(), held.guard.clone()).put(stored.clone(), record);
        }
        self.staged = Some(Staged::Done(value));
        Ok(())
    }

    /// Puts the release of the claim into `batch`: the step failed, or is put off. Commit it, then call
    /// [`settled`](Self::settled).
    pub fn stage_release(&mut self, batch: &mut Batch) {
        if let Some(held) = &self.held {
            let stored = self.key.stored();
            batch.guard(stored.clone(), held.guard.clone()).delete(stored.clone());
        }
        self.when_dropped = Outcome::Failed;
        self.staged = Some(Staged::Released);
    }

    /// The batch last staged into was committed. Whoever waits gets the result; after a release one of
    /// them takes over.
    ///
    /// Nothing staged: the same as dropping it.
    pub fn settled(mut self) {
        match self.staged.take() {
            Some(Staged::Done(value)) => {
                let stored = if self.is_protected() { Outcome::Stored } else { Outcome::NotStored };
                self.over(stored);
                self.land(value);
            }
            Some(Staged::Released) => self.over(Outcome::Failed),
            None => {}
        }
    }

    /// The batch staged into was refused with `error`: finds out what that means.
    ///
    /// # Errors
    /// `NotStored` when the store cannot be read.
    pub async fn conflicted(self, error: &StoreError) -> Result<Conflicted> {
        Ok(match self.resolve(error).await? {
            Resolved::NotOurs(claim) => Conflicted::NotOurs(claim),
            Resolved::StageAgain(claim) => Conflicted::StageAgain(claim),
            Resolved::Done(value) => Conflicted::Done(value.bytes),
            Resolved::Forgotten => Conflicted::Forgotten,
        })
    }

    async fn resolve(mut self, error: &StoreError) -> Result<Resolved> {
        let about_us = error.kind() == ErrorKind::Conflict
            && error.key().is_none_or(|key| key == self.key.stored());
        let (true, Some(held)) = (about_us, &mut self.held) else {
            return Ok(Resolved::NotOurs(self));
        };
        let store = &self.inner.store;
        let found = look(store, &self.key).await.map_err(|e| not_stored(&self.key, e))?;
        // A claim that nobody renewed is taken over; nothing else but a purge takes one away.
        let lapsed = self.inner.owner.shares_store() && held.claimed.deadline <= store.now();
        match found.what {
            What::Done(done) => {
                let value = done.value;
                self.over(Outcome::Superseded);
                self.land(value.clone());
                Ok(Resolved::Done(value))
            }
            What::Claimed(there) if there.is(&held.claimed) || lapsed => {
                held.guard = found.guard;
                Ok(Resolved::StageAgain(self))
            }
            What::Absent | What::Expired if lapsed => {
                held.guard = found.guard;
                Ok(Resolved::StageAgain(self))
            }
            What::Absent | What::Expired | What::Claimed(_) => {
                self.over(Outcome::NotStored);
                Ok(Resolved::Forgotten)
            }
        }
    }

    /// The step failed or did not run: somebody else may have it. Durable on return for a step that
    /// must not run again in doubt. Dropped, the release happens all the same.
    ///
    /// # Errors
    /// `Store`; the step is then in doubt.
    pub async fn release(mut self) -> Result<()> {
        let released = self.submit_release();
        self.over(Outcome::Failed);
        let Some(released) = released else { return Ok(()) };
        match released.await {
            // Somebody else was faster, and has it.
            Err(e) if e.kind() != ErrorKind::Conflict => {
                Err(CheckpointError::Store { step: self.key.id().clone(), source: e })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn submit_release(&self) -> Option<BoxFuture<'static, Result<CommitSeq, StoreError>>> {
        let held = self.held.as_ref()?;
        let durability =
            if held.claimed.never_again { Durability::Durable } else { Durability::Buffered };
        let stored = self.key.stored();
        let mut batch = Batch::new();
        batch.guard(stored.clone(), held.guard.clone()).delete(stored.clone());
        Some(self.inner.store.commit(batch, durability))
    }

    /// Stores the result, and what counts: this result, or another one that was first.
    pub(crate) async fn complete(mut self, value: Value, ttl: Duration) -> Result<Value> {
        let durability = self.policy.result_durability(self.key.scope());
        let mut tries = 0;
        loop {
            let mut batch = Batch::new();
            self.stage_value(&mut batch, value.clone(), ttl)?;
            if !self.is_protected() {
                self.settled();
                return Ok(value);
            }
            let Err(error) = self.inner.store.commit(batch, durability).await else {
                self.settled();
                return Ok(value);
            };
            match error.kind() {
                ErrorKind::Conflict => match self.resolve(&error).await? {
                    Resolved::StageAgain(claim) => self = claim,
                    Resolved::Done(value) => return Ok(value),
                    Resolved::Forgotten => return Ok(value),
                    Resolved::NotOurs(claim) => return Err(not_stored(&claim.key, error)),
                },
                ErrorKind::Unavailable if tries < TRIES => {
                    let pause = FIRST_PAUSE * (1 << tries);
                    tries += 1;
                    self.inner.store.clock().sleep(pause).await;
                }
                _ if self.policy.fails_open() => {
                    let event = CheckpointEvent::Unprotected { key: &self.key, error: &error };
                    self.inner.observed.tell(&event);
                    self.submit_release();
                    self.over(Outcome::NotStored);
                    self.land(value.clone());
                    return Ok(value);
                }
                _ => return Err(not_stored(&self.key, error)),
            }
        }
    }

    /// The step succeeded and there is nothing to store: dropped, it counts as such.
    pub(crate) fn not_stored(mut self) {
        self.when_dropped = Outcome::NotStored;
    }

    /// Nothing more is to be written. Who waits in other handles looks again.
    fn over(&mut self, outcome: Outcome) {
        if self.phase == Phase::Over {
            return;
        }
        let claiming = self.phase == Phase::Claiming;
        self.phase = Phase::Over;
        if let Some(held) = &self.held {
            self.inner.owner.end(held.claimed.serial);
        }
        if !claiming {
            let took = self.inner.store.clock().monotonic().saturating_since(self.began);
            let event = CheckpointEvent::Ended { key: &self.key, outcome, took };
            self.inner.observed.tell(&event);
        }
    }

    fn land(&mut self, value: Value) {
        if let Some(lead) = self.lead.take() {
            lead.land(value);
        }
    }
}

enum Resolved {
    NotOurs(Claim),
    StageAgain(Claim),
    Done(Value),
    Forgotten,
}

fn not_stored(key: &CheckpointKey, source: StoreError) -> CheckpointError {
    CheckpointError::NotStored { step: key.id().clone(), source }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let may_run_again = self.held.as_ref().is_some_and(|held| !held.claimed.never_again);
        let failed = matches!(self.staged, Some(Staged::Released));
        if may_run_again || failed || self.phase == Phase::Claiming {
            // ORDER: submitted before anybody is told. What was staged and committed came earlier, so
            // that the guard keeps this from removing it.
            drop(self.submit_release());
        }
        self.over(self.when_dropped);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("key", &self.key)
            .field("why", &self.why)
            .field("protected", &self.is_protected())
            .finish_non_exhaustive()
    }
}
