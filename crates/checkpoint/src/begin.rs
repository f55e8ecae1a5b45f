//! Finding a result or becoming the one who makes it.

use bytes::Bytes;
use resurge_store::{Durability, ErrorKind, StoreError};

use crate::checkpoints::not_run;
use crate::entry::Value;
use crate::flight::{Entered, Lead};
use crate::lookup::{Found, What, look, look_when_free};
use crate::{
    CheckpointError, CheckpointEvent, CheckpointKey, Checkpoints, Claim, InDoubt, Miss, Result,
    StepPolicy,
};

/// What [`Checkpoints::begin`] gave.
#[derive(Debug)]
#[must_use = "a claim that is dropped releases the step or leaves it in doubt"]
pub enum Begin {
    /// The result, as it was staged.
    Hit(Bytes),
    /// The right to run the step.
    Claimed(Claim),
}

pub(crate) enum Begun {
    Hit(Value),
    Claimed(Claim),
}

impl Checkpoints {
    /// The result of the step, or the right to run it. For code that puts the result into a batch of
    /// its own; others use [`run`](Self::run).
    ///
    /// While somebody else runs it, here or in another handle or process, this waits. Cancel safe: a
    /// dropped call leaves nothing claimed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// use resurge_checkpoint::{Begin, CheckpointKey, CheckpointOptions, Checkpoints};
    /// use resurge_store::{Batch, Durability, Namespace, Store};
    /// let store = Store::memory();
    /// let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
    /// let key = CheckpointKey::global("charge").input(&"order-42").build()?;
    ///
    /// let policy = checkpoints.policy();
    /// if let Begin::Claimed(mut claim) = checkpoints.begin(&key, policy).await? {
    ///     // The effect and "done" are one commit: effectively once.
    ///     let mut batch = Batch::new();
    ///     batch.put(Namespace::new("app")?.key("order-42")?, "paid");
    ///     claim.stage_done(&mut batch, "receipt-7", Duration::ZERO)?;
    ///     store.commit(batch, Durability::Durable).await?;
    ///     claim.settled();
    /// }
    /// assert!(matches!(checkpoints.begin(&key, policy).await?, Begin::Hit(b) if b == "receipt-7"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InDoubt` when the policy forbids to run it again; `Store` under
    /// [`FailClosed`](crate::StoreFailure::FailClosed).
    pub async fn begin(&self, key: &CheckpointKey, policy: StepPolicy) -> Result<Begin> {
        Ok(match self.begin_value(key, policy).await? {
            Begun::Hit(value) => Begin::Hit(value.bytes),
            Begun::Claimed(claim) => Begin::Claimed(claim),
        })
    }

    pub(crate) async fn begin_value(
        &self,
        key: &CheckpointKey,
        policy: StepPolicy,
    ) -> Result<Begun> {
        let mut retry = false;
        loop {
            let found = match look(&self.inner.store, key).await {
                Ok(Found { what: What::Done(done), .. }) => {
                    self.tell(&CheckpointEvent::Hit { key, shared: false });
                    return Ok(Begun::Hit(done.value));
                }
                Err(e) if !policy.fails_open() => return Err(not_run(key, e)),
                found => found,
            };
            match self.inner.flights.enter(key.stored()) {
                Entered::Lead(lead) => return self.lead(key, policy, lead, found, retry).await,
                Entered::Follow(follow) => match follow.landed().await {
                    Some(value) => {
                        self.tell(&CheckpointEvent::Hit { key, shared: true });
                        return Ok(Begun::Hit(value));
                    }
                    None => retry = true,
                },
            }
        }
    }

    /// The only one of this handle: finds out what is there, waits for other handles, claims.
    async fn lead(
        &self,
        key: &CheckpointKey,
        policy: StepPolicy,
        lead: Lead,
        found: Result<Found, StoreError>,
        retry: bool,
    ) -> Result<Begun> {
        let store = &self.inner.store;
        let mut lead = lead;
        let mut next = found;
        let mut told = false;
        loop {
            let found = match next {
                Ok(found) => look_when_free(store, key, found).await,
                Err(e) => Err(e),
            };
            let found = match found {
                Ok(found) => found,
                Err(e) => return self.without_store(key, policy, lead, e),
            };
            let why = match found.what {
                What::Done(done) => {
                    self.tell(&CheckpointEvent::Hit { key, shared: true });
                    lead.land(done.value.clone());
                    return Ok(Begun::Hit(done.value));
                }
                What::Claimed(claimed) => {
                    if policy.in_doubt_for(key.scope()) == InDoubt::Fail {
                        self.tell(&CheckpointEvent::Refused { key, owner: claimed.owner });
                        return Err(CheckpointError::InDoubt {
                            step: key.id().clone(),
                            since: claimed.since,
                            owner: claimed.owner,
                        });
                    }
                    Miss::InDoubt
                }
                What::Absent | What::Expired if retry => Miss::Retry,
                What::Absent => Miss::Absent,
                What::Expired => Miss::Expired,
            };
            if !told {
                told = true;
                self.tell(&CheckpointEvent::Miss { key, why });
            }
            let (claim, batch) = Claim::claiming(&self.inner, key, policy, why, lead, found.guard);
            // A claim that is lost with the power only makes a step run again that may; one that may
            // not is on disk before it begins.
            let durability = match policy.in_doubt_for(key.scope()) {
                InDoubt::Fail => Durability::Durable,
                InDoubt::RunAgain => Durability::Buffered,
            };
            match store.commit(batch, durability).await {
                Ok(_) => return Ok(Begun::Claimed(claim.running())),
                Err(e) => match claim.refused(&e) {
                    Some(again) if e.kind() == ErrorKind::Conflict => lead = again,
                    Some(lead) => return self.without_store(key, policy, lead, e),
                    None => return Err(not_run(key, e)),
                },
            }
            next = look(store, key).await;
        }
    }

    fn without_store(
        &self,
        key: &CheckpointKey,
        policy: StepPolicy,
        lead: Lead,
        error: StoreError,
    ) -> Result<Begun> {
        if !policy.fails_open() {
            return Err(not_run(key, error));
        }
        self.tell(&CheckpointEvent::Unprotected { key, error: &error });
        let claim = Claim::unprotected(&self.inner, key, policy, Miss::Unprotected, lead);
        claim.tell_started();
        Ok(Begun::Claimed(claim))
    }

    pub(crate) fn tell(&self, event: &CheckpointEvent<'_>) {
        self.inner.observed.tell(event);
    }
}
