//! Steps whose results outlive their run: found among the checkpoints, and stored there.
//!
//! The run's journal decides what a step returned, also after the checkpoint is gone. The checkpoint is
//! written in the commit of the step's record.

use std::fmt::Write;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use resurge_checkpoint::{
    Begin, CheckpointError, CheckpointKey, CheckpointOptions, Checkpoints, Claim, Scope, StepPolicy,
};
use resurge_seal::{Context, Decision, SealError};
use resurge_store::{Batch, Codec};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::core::{Claimed, Join};
use crate::engine::Engine;
use crate::machine::Frozen;
use crate::payload::Payload;
use crate::record::Outcome;
use crate::step_error::{Class, StepError, StepErrorKind};
use crate::values::{Values, refused};

/// Keeps keys of flows apart from those of whoever else uses the checkpoints of the store.
const DOMAIN: &str = "resurge flow";
/// The label of the key that the hash of a sensitive input is keyed with.
const INPUT_KEY: &str = "flow/memo input";

/// What a step was told about memoising it.
#[derive(Clone, Debug)]
pub(crate) struct Memo {
    pub(crate) scope: Scope,
    pub(crate) ttl: Duration,
}

/// What makes the key beside scope and name.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) version: u32,
    pub(crate) policy: Option<StepPolicy>,
    /// Hashes of inputs, in order.
    inputs: Result<Vec<[u8; 32]>, StepError>,
}

impl Default for Keyed {
    fn default() -> Self {
        Self { version: 1, policy: None, inputs: Ok(Vec::new()) }
    }
}

impl Keyed {
    /// Adds an input. The hash of a sensitive one is keyed, so that nobody can try values.
    pub(crate) fn add<K: Serialize + ?Sized>(
        &mut self,
        values: &Values,
        run: &str,
        name: &str,
        input: &K,
    ) {
        let hash = hash(values, run, name, input);
        match (&mut self.inputs, hash) {
            (Ok(inputs), Ok(hash)) => inputs.push(hash),
            (Ok(_), Err(error)) => self.inputs = Err(error),
            (Err(_), _) => {}
        }
    }

    fn key(&self, scope: &Scope, name: &str) -> Result<CheckpointKey, StepError> {
        let mut builder =
            CheckpointKey::builder(scope.clone(), name).version(self.version).input_bytes(DOMAIN);
        let inputs = self.inputs.as_ref();
        for hash in inputs.map_err(|e| StepError::from_record(e.record().clone()))? {
            builder = builder.input_bytes(hash);
        }
        builder.build().map_err(|e| StepError::of(StepErrorKind::Invalid, Class::Permanent, e))
    }
}

fn hash<K: Serialize + ?Sized>(
    values: &Values,
    run: &str,
    name: &str,
    input: &K,
) -> Result<[u8; 32], StepError> {
    let at = Context::new(run, "memo input", name);
    let mut plain = Zeroizing::new(Vec::new());
    let encoded = Codec::Cbor.encode_into(input, &mut plain);
    encoded.map_err(|source| refused(&at, &SealError::Codec { at: at.place(), source }))?;
    let hash = Sha256::digest(&plain);
    if values.sealer.policy().is_none() || values.sealer.decide(name, input) == Decision::Plain {
        return Ok(hash.into());
    }
    let no_key = || SealError::NoKey { at: at.place(), key: None };
    let key = || {
        let ring = values.sealer.ring().ok_or_else(no_key)?;
        ring.derive(ring.active_id().ok_or_else(no_key)?, INPUT_KEY)
    };
    let key = key().map_err(|e| refused(&at, &e))?;
    let mut keyed = Sha256::new();
    keyed.update(*key);
    keyed.update(hash);
    Ok(keyed.finalize().into())
}

/// Where a memoised result is sealed: every run that has the key of the checkpoint can open it.
#[derive(Debug)]
pub(crate) struct Place {
    run: String,
    scope: String,
    name: String,
}

impl Place {
    pub(crate) fn of(key: &CheckpointKey) -> Self {
        let run = match key.scope() {
            Scope::Global => String::new(),
            Scope::Workflow(id) => id.to_string(),
        };
        let mut scope = format!("memo/{}/", key.version());
        for byte in key.input_hash() {
            // Writing to a string does not fail.
            let _ = write!(scope, "{byte:02x}");
        }
        Self { run, scope, name: key.step().to_owned() }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context::new(&self.run, &self.scope, &self.name)
    }
}

/// The right to run a memoised step.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    pub(crate) key: CheckpointKey,
    ttl: Duration,
}

/// What became of the attempt to begin.
pub(crate) enum Begun {
    /// Somebody ran it before: this is the result, as this run journals it.
    Hit(Payload),
    /// It is to be run.
    Held(Held),
    /// It cannot be run.
    Refused(StepError),
    /// The run stops where it is.
    Frozen,
    /// It is complete, for example because the run was cancelled.
    Revealed(Outcome),
}

/// Finds the result, or gets the right to make it; meanwhile somebody else may be at it.
pub(crate) async fn begin(claimed: &Claimed, memo: &Memo, keyed: &Keyed) -> Begun {
    let core = &claimed.core;
    let position = claimed.position();
    let key = match core.checked(keyed.key(&memo.scope, position.name())) {
        Ok(key) => key,
        Err(error) if error.is_about_keys() => return Begun::Frozen,
        Err(error) => return Begun::Refused(error),
    };
    let begun = {
        let mut begin = pin!(async {
            let checkpoints = core.engine.checkpoints().await?;
            let policy = keyed.policy.unwrap_or_else(|| checkpoints.policy());
            checkpoints.begin(&key, policy).await
        });
        poll_fn(|cx| {
            let revealed = core.with(|s| s.machine.take_revealed(claimed.id, cx.waker()));
            match revealed {
                Some(outcome) => Poll::Ready(Err(outcome)),
                None => begin.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    };
    match begun {
        Err(outcome) => Begun::Revealed(outcome),
        Ok(Ok(Begin::Claimed(claim))) => Begun::Held(Held { claim, key, ttl: memo.ttl }),
        Ok(Ok(Begin::Hit(stored))) => {
            let (values, place) = (&core.engine.values, Place::of(&key));
            let scope = values.scope_of(&position);
            let to = Context::new(&core.id, &scope, position.name());
            match core.checked(values.moved(&place.context(), &to, &stored)) {
                Ok(stored) => Begun::Hit(Payload::new(stored)),
                Err(_) => Begun::Frozen,
            }
        }
        Ok(Err(CheckpointError::Store { source, .. } | CheckpointError::Backend(source))) => {
            // Never a failure of the step: the run goes on when the store does.
            core.with(|state| state.machine.freeze(Frozen::Store(source)));
            Begun::Frozen
        }
        Ok(Err(error)) => {
            Begun::Refused(StepError::of(StepErrorKind::Checkpoint, Class::Permanent, error))
        }
    }
}

impl Held {
    /// Puts the result into the commit of the step's record.
    pub(crate) fn stage(mut self, claimed: &Claimed, payload: &Payload) -> Result<Join, StepError> {
        let core = &claimed.core;
        let (values, position, place) =
            (&core.engine.values, claimed.position(), Place::of(&self.key));
        let scope = values.scope_of(&position);
        let from = Context::new(&core.id, &scope, position.name());
        let stored = core.checked(values.moved(&from, &place.context(), payload.stored()))?;
        let mut batch = Batch::new();
        let staged = self.claim.stage_done(&mut batch, stored, self.ttl);
        staged.map_err(|e| StepError::of(StepErrorKind::TooLarge, Class::Permanent, e))?;
        let claim = self.claim;
        let settled = move |committed: bool| {
            // Not committed: somebody else has it, or it was purged. This run has its own record.
            if committed { claim.settled() } else { drop(claim) }
        };
        Ok(Join { batch, settled: Box::new(settled) })
    }

    /// The step failed, or is put off: somebody else may have it.
    pub(crate) async fn release(self) {
        if let Err(error) = self.claim.release().await {
            tracing::warn!(key = %self.key, %error, "a memoised step's claim was not released");
        }
    }
}

impl Engine {
    /// The checkpoints of the store, opened when they are first needed.
    pub(crate) async fn checkpoints(&self) -> Result<&Checkpoints, CheckpointError> {
        self.checkpoints
            .get_or_try_init(|| async {
                match &self.options.checkpoints {
                    Some(given) => Ok(given.clone()),
                    None => Checkpoints::open(&self.store, CheckpointOptions::default()).await,
                }
            })
            .await
    }
}
