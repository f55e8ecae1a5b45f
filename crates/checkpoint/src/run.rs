//! Typed steps: run once, remembered.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::begin::Begun;
use crate::entry::{DONE_OVERHEAD, Encoding, Value};
use crate::{CheckpointError, CheckpointKey, Checkpoints, Result, RunError, StepPolicy};

impl Checkpoints {
    /// The stored result of the step; or runs `body`, stores what it returns, and returns it.
    ///
    /// Only success is stored, for `ttl` of wall time from then on (zero: for ever). While another
    /// caller, handle or process runs the same step, this waits for its result; when that run fails or
    /// is dropped, one of those who wait runs its own `body`. On `Ok` the result is durable, and
    /// everybody gets the same one.
    ///
    /// At least once: a crash between an effect of `body` and the commit of its result leaves the
    /// step in doubt, and the policy decides. Hand [`idempotency_key`](CheckpointKey::idempotency_key)
    /// to what `body` calls.
    ///
    /// Cancel safe: dropped while waiting, nothing happened; dropped while `body` runs, the step is
    /// released or in doubt, as the policy says. A `body` that runs its own key waits for ever.
    ///
    /// # Errors
    /// [`RunError::Step`] with what `body` returned; [`RunError::Checkpoint`] for the rest.
    pub async fn run<T, E, F, Fut>(
        &self,
        key: &CheckpointKey,
        ttl: Duration,
        body: F,
    ) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_with(key, ttl, self.policy(), body).await
    }

    /// The same with a policy of its own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints, StepPolicy};
    /// # let store = resurge_store::Store::memory();
    /// # async fn gateway(key: String) -> std::io::Result<String> { Ok(format!("receipt for {key}")) }
    /// let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
    /// let key = CheckpointKey::global("charge").input(&("order-42", 995)).build()?;
    /// // Never twice because of a crash: in doubt it fails, and somebody looks.
    /// let policy = StepPolicy::new().side_effects();
    /// let day = Duration::from_secs(24 * 3600);
    /// let charge = || gateway(key.idempotency_key());
    /// let receipt = checkpoints.run_with(&key, day, policy, charge).await?;
    /// # let _ = receipt;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_with<T, E, F, Fut>(
        &self,
        key: &CheckpointKey,
        ttl: Duration,
        policy: StepPolicy,
        body: F,
    ) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let codec = self.inner.options.codec;
        let mut claim = match self.begin_value(key, policy).await? {
            Begun::Hit(value) => return Ok(decode(key, codec, &value)?),
            Begun::Claimed(claim) => claim,
        };
        let span = tracing::info_span!(
            "checkpoint", step = key.step(), scope = %key.scope(), why = ?claim.why()
        );
        // The call of `body` may do something, too: it belongs to the step.
        let work = async { body().await }.instrument(span);
        let result = match claim.keep_alive(work).await {
            Ok(result) => result,
            Err(error) => {
                if let Err(error) = claim.release().await {
                    tracing::warn!(%key, %error, "the claim of a failed step was not released");
                }
                return Err(RunError::Step { step: key.id().clone(), error });
            }
        };
        let (value, read_back) = match encode::<T>(key, codec, &result) {
            Ok(encoded) => encoded,
            Err(error) => {
                claim.not_stored();
                return Err(error.into());
            }
        };
        let stored = claim.complete(value.clone(), ttl).await?;
        if stored == value { Ok(read_back) } else { Ok(decode(key, codec, &stored)?) }
    }
}

/// The bytes of a result, and what everybody will read from them: a result that is not read back is
/// refused now, not after a crash.
pub(crate) fn encode<T>(key: &CheckpointKey, codec: Codec, result: &T) -> Result<(Value, T)>
where
    T: Serialize + DeserializeOwned,
{
    let refused = |e: resurge_store::StoreError| CheckpointError::Encode {
        step: key.id().clone(),
        what: e.to_string(),
    };
    let mut bytes = Vec::new();
    codec.write_to(result, &mut bytes).map_err(refused)?;
    check_size(key, bytes.len(), resurge_store::MAX_VALUE_BYTES)?;
    let read_back = codec.decode(&bytes).map_err(refused)?;
    Ok((Value { encoding: Encoding::Codec(codec), bytes: Bytes::from(bytes) }, read_back))
}

pub(crate) fn check_size(key: &CheckpointKey, bytes: usize, max_value_bytes: usize) -> Result<()> {
    let limit = max_value_bytes.saturating_sub(DONE_OVERHEAD);
    if bytes > limit {
        return Err(CheckpointError::TooLarge { step: key.id().clone(), bytes, limit });
    }
    Ok(())
}

/// Reads a stored result, with `codec` when whoever stored it did not say which.
pub(crate) fn decode<T: DeserializeOwned>(
    key: &CheckpointKey,
    codec: Codec,
    value: &Value,
) -> Result<T> {
    let codec = match value.encoding {
        Encoding::Codec(codec) => codec,
        Encoding::Opaque => codec,
    };
    codec
        .decode(&value.bytes)
        .map_err(|e| CheckpointError::Decode { step: key.id().clone(), what: e.to_string() })
}
