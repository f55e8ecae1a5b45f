//! A step: a body whose result is recorded once and returned ever after.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use resurge_checkpoint::{Scope, StepPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callback::around_step;
use crate::core::Claimed;
use crate::gate::{Gate, IntoGate};
use crate::memo::{Keyed, Memo};
use crate::retry::Retry;
use crate::step_error::{FlowResult, StepError};

mod attempt;
mod gates;
mod info;
mod memoized;
mod run;

pub(crate) use attempt::{panicked, poll_body};
pub use info::StepInfo;
pub(crate) use run::{drive, reveal, shown};

/// A step's name.
pub(crate) type Name = Cow<'static, str>;

/// A step that has its position and is begun when awaited. Made by [`Ctx::step`](crate::Ctx::step).
///
/// Dropping it instead gives the position up; nothing is journaled.
#[must_use = "a step does nothing unless awaited"]
pub struct Step<'c, F, T> {
    claimed: Result<Claimed, StepError>,
    body: F,
    options: Options,
    lives: PhantomData<&'c fn() -> T>,
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) gates: Vec<Arc<dyn Gate>>,
    pub(crate) deferred: bool,
    memo: Option<Memo>,
    keyed: Keyed,
}

impl<F, T> Step<'_, F, T> {
    pub(crate) fn new(claimed: Result<Claimed, StepError>, body: F) -> Self {
        Self { claimed, body, options: Options::default(), lives: PhantomData }
    }

    /// When a failed attempt is followed by another; never by default.
    ///
    /// Failed attempts are journaled: neither their number nor the wait begins anew after a crash.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }

    /// How long one attempt may take; for ever by default. The body's future is dropped then, and the
    /// attempt failed with a transient error. What it began outside may still go on.
    pub fn timeout(mut self, each_attempt: Duration) -> Self {
        self.options.timeout = Some(each_attempt);
        self
    }

    /// Asks `gate`, for example a circuit breaker, before every attempt. When it refuses, the run is
    /// parked durably and no attempt is spent. Several are asked in the order given.
    pub fn through(mut self, gate: &impl IntoGate) -> Self {
        self.options.gates.push(gate.gate());
        self
    }

    /// For a step that is cheap to do again: it does not wait for what came before to be durable, and
    /// its result is committed without a sync of its own. After a power loss it may run once more.
    pub fn deferred(mut self) -> Self {
        self.options.deferred = true;
        self
    }

    /// Remembers the result beyond this run, for `ttl` of wall time (zero: for ever): a step of the
    /// same name, [version](Self::version) and [input](Self::keyed_by) in the same scope returns it
    /// without running, and while one runs, the others wait for its result. [`Scope::Global`] is shared
    /// by all runs; [`Scope::Workflow`] by those that give the same id.
    ///
    /// What a run's journal says counts for that run, also when the time is over or the checkpoint is
    /// gone. A failure is not remembered. Where the result is found, the body does not run: neither its
    /// [writes](StepInfo::write) nor the context values it would set are there.
    ///
    /// At least once: a process that dies between an effect and the commit of its result leaves the
    /// step in doubt; see [`memo_policy`](Self::memo_policy). The
    /// [idempotency key](StepInfo::idempotency_key) is the same for everybody who runs it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use resurge_flow::{Ctx, FlowResult, Scope, StepError};
    /// # async fn fetch(city: &str) -> Result<u32, StepError> { Ok(city.len() as u32) }
    /// async fn report(ctx: Ctx, city: String) -> FlowResult<u32> {
    ///     let hour = Duration::from_secs(3600);
    ///     ctx.step("weather", || fetch(&city)).memoize(Scope::Global, hour).keyed_by(&city).await
    /// }
    /// ```
    pub fn memoize(mut self, scope: Scope, ttl: Duration) -> Self {
        self.options.memo = Some(Memo { scope, ttl });
        self
    }

    /// What a [memoised](Self::memoize) result depends on, hashed as its CBOR: everything that the body
    /// uses and that is not always the same. Call it once for each input, in the same order; use
    /// `BTreeMap` inside, not `HashMap`.
    ///
    /// The hash of a sensitive input is keyed with the active key: after another key is promoted, its
    /// result is not found any more.
    pub fn keyed_by<K: Serialize + ?Sized>(mut self, input: &K) -> Self {
        if let Ok(claimed) = &self.claimed {
            let (core, position) = (&claimed.core, claimed.position());
            self.options.keyed.add(&core.engine.values, &core.id, position.name(), input);
        }
        self
    }

    /// The version of a [memoised](Self::memoize) step's code; 1 unless said. Raise it when the code
    /// changes what it returns: results of the old one are then not found any more.
    pub fn version(mut self, version: u32) -> Self {
        self.options.keyed.version = version;
        self
    }

    /// What to do with a [memoised](Self::memoize) step that is in doubt, and when the checkpoints
    /// fail; otherwise what the checkpoints say. Refused in doubt, the step fails with an error of kind
    /// [`Checkpoint`](crate::StepErrorKind::Checkpoint): find out what happened, then record the result or
    /// forget the attempt with `resurge_checkpoint`, and resume the run.
    pub fn memo_policy(mut self, policy: StepPolicy) -> Self {
        self.options.keyed.policy = Some(policy);
        self
    }
}

impl<F, T> std::fmt::Debug for Step<'_, F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let position = self.claimed.as_ref().map(Claimed::position);
        let mut out = f.debug_struct("Step");
        out.field("position", &position).field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'c, F, Fut, T, E> IntoFuture for Step<'c, F, T>
where
    F: FnMut() -> Fut + Send + 'c,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<StepError>,
    T: Serialize + DeserializeOwned + Send,
{
    type Output = FlowResult<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = FlowResult<T>> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { claimed, body, options, .. } = self;
        Box::pin(async move {
            let claimed = claimed?;
            around_step(&claimed, drive(&claimed, body, &options)).await
        })
    }
}
