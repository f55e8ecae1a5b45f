//! What a flow's code is given: everything durable goes through it.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use resurge_store::{BoxFuture, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::Kind;
use crate::core::{Claimed, Lane, RunCore, Turn, check_name};
use crate::current::{Place, place};
use crate::position::MAX_SCOPE_LEN;
use crate::record::{Outcome, Value};
use crate::step::{Name, Step, StepInfo, reveal};
use crate::step_error::{Class, FlowResult, StepError, StepErrorKind};
use crate::values::Of;

/// A run, seen from its flow's code. Clones are the same run.
///
/// Steps, timers, signals and the like take their positions when they are asked for, in the order of
/// the code; so they may be asked for only by the flow's own code, not inside a step's body and not
/// from another task.
#[derive(Clone, Debug)]
pub struct Ctx {
    core: Arc<RunCore>,
    scope: Arc<str>,
    /// Cancelling the run leaves alone what is asked for through this.
    shielded: bool,
    /// How many bodies may be at work in this part of the flow.
    lane: Option<Arc<Lane>>,
}

impl Ctx {
    pub(crate) fn new(core: Arc<RunCore>) -> Self {
        Self { core, scope: "".into(), shielded: false, lane: None }
    }

    pub(crate) fn core(&self) -> &Arc<RunCore> {
        &self.core
    }

    pub(crate) fn claim(&self, name: impl Into<Name>, kind: Kind) -> Result<Claimed, StepError> {
        let name = name.into();
        check_name(&name)?;
        let mut claimed = self.core.claim(&self.scope, name, kind, self.shielded)?;
        claimed.lane.clone_from(&self.lane);
        Ok(claimed)
    }

    /// The same, with at most `limit` bodies at work at once.
    pub(crate) fn limited(&self, limit: usize) -> Self {
        Self { lane: Some(Lane::new(limit, self.lane.clone())), ..self.clone() }
    }

    pub(crate) fn is_shielded(&self) -> bool {
        self.shielded
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.core.id
    }

    /// The flow's name.
    pub fn flow(&self) -> &str {
        &self.core.flow
    }

    /// When the run was started.
    pub fn started_at(&self) -> Timestamp {
        self.core.started_at
    }

    /// When the run is cancelled if it has not ended, if ever.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.core.deadline
    }

    /// A step: `body` runs until it succeeds once, and its result is returned in every later
    /// execution without running it. See [`Step`] for retries, time limits and more.
    ///
    /// The body is called once for each attempt. It may borrow. An error that it returns after the
    /// last attempt is journaled, too, and returned in every later execution, until the run is
    /// resumed.
    pub fn step<F, Fut, T, E>(&self, name: impl Into<Name>, body: F) -> Step<'_, F, T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        E: Into<StepError>,
        T: Serialize + DeserializeOwned + Send,
    {
        Step::new(self.claim(name, Kind::Step), body)
    }

    /// [`step`](Self::step) with a body that is told about its attempt: the idempotency key, the
    /// number of the attempt, whether it is a recovery.
    pub fn step_with<'c, F, Fut, T, E>(
        &'c self,
        name: impl Into<Name>,
        mut body: F,
    ) -> Step<'c, impl FnMut() -> futures::Informed<Fut> + Send, T>
    where
        F: FnMut(StepInfo) -> Fut + Send + 'c,
        Fut: Future<Output = Result<T, E>> + Send,
        E: Into<StepError>,
        T: Serialize + DeserializeOwned + Send,
    {
        Step::new(self.claim(name, Kind::Step), move || {
            futures::Informed::new(StepInfo::here().map(&mut body))
        })
    }

    /// The same run with positions of its own: two branches that use the same names do not meet.
    ///
    /// ```
    /// # use resurge_flow::{Ctx, FlowResult, StepError};
    /// async fn both(ctx: Ctx, _: ()) -> FlowResult<(u32, u32)> {
    ///     let (left, right) = (ctx.scope("left")?, ctx.scope("right")?);
    ///     let left = left.step("fetch", || async { Ok::<_, StepError>(1) }).await?;
    ///     let right = right.step("fetch", || async { Ok::<_, StepError>(2) }).await?;
    ///     Ok((left, right))
    /// }
    /// ```
    ///
    /// # Errors
    /// For a name that is empty, longer than 200 bytes, begins with `@`, or a path over 1,000 bytes;
    /// and in a step's body or another task.
    pub fn scope(&self, name: impl Into<Name>) -> FlowResult<Self> {
        let name = name.into();
        check_name(&name)?;
        self.inner_scope(&name)
    }

    pub(crate) fn inner_scope(&self, name: &str) -> FlowResult<Self> {
        self.in_flow(name)?;
        let counted = Cow::Owned(format!("@scope:{name}"));
        let nth =
            self.core.with(|state| state.machine.next_position(&self.scope, counted).occurrence());
        let mut path = String::with_capacity(self.scope.len() + name.len() + 4);
        if !self.scope.is_empty() {
            path.push_str(&self.scope);
            path.push('/');
        }
        path.push_str(name);
        if nth > 0 {
            path.push('#');
            path.push_str(&nth.to_string());
        }
        if path.len() > MAX_SCOPE_LEN {
            let len = path.len();
            let message = format!(
                "the path of scopes at `{name}` takes {len} bytes; the limit is {MAX_SCOPE_LEN}"
            );
            return Err(StepError::of(StepErrorKind::Invalid, Class::Permanent, message));
        }
        Ok(Self { scope: path.into(), ..self.clone() })
    }

    /// The path of scopes this context stands for; empty outside of any.
    pub fn scope_path(&self) -> &str {
        &self.scope
    }

    /// The same run, for what must still be done after it was cancelled, such as undoing steps:
    /// nothing asked for through it is cancelled.
    #[must_use]
    pub fn shielded(&self) -> Self {
        Self { shielded: true, ..self.clone() }
    }

    /// Only the flow's own code may go on.
    fn in_flow(&self, name: &str) -> FlowResult<()> {
        match place(&self.core) {
            Place::Flow => Ok(()),
            Place::Body(_) | Place::Elsewhere => {
                let run = &self.core.id;
                let message = format!(
                    "`{name}` of run `{run}` was asked for in a step's body or another task; only the flow's own code may"
                );
                Err(StepError::of(StepErrorKind::Misplaced, Class::Permanent, message))
            }
        }
    }

    /// True in a run that failed and was resumed: in the body of a step, whether the run failed at
    /// that step; in a [`scope`](Self::scope) or [process](Self::process), whether it failed in there;
    /// elsewhere, whether it was resumed at all.
    pub fn recovering(&self) -> bool {
        match place(&self.core) {
            Place::Body(body) => body.recovering,
            _ if self.scope.is_empty() => self.core.with(|state| state.machine.was_resumed()),
            _ => self.core.with(|state| state.machine.resumed_within(&self.scope)),
        }
    }

    /// Whether the run is to end early. Steps asked for from now on fail with an error that
    /// [`is_cancelled`](StepError::is_cancelled); use [`shielded`](Self::shielded) to clean up.
    pub fn is_cancelled(&self) -> bool {
        self.core.is_cancelled()
    }

    /// Sets a context value: readable by all later code of the run, and by it after a crash. Set in a
    /// step's body it becomes durable with that attempt's outcome, failed or not.
    ///
    /// Sealed in the journal when its name, or one in it, is sensitive. One that the policy says to
    /// [`omit`](resurge_seal::SensitivePolicy::omit) stays in memory: when the run is read back from
    /// its journal, what a step's body had set is absent, and what the flow's own code sets is set by
    /// it again.
    ///
    /// # Errors
    /// When the value cannot be encoded or is too large, naming it; in another task.
    pub fn set<T: Serialize + ?Sized>(&self, name: impl Into<String>, value: &T) -> FlowResult<()> {
        let name = name.into();
        check_name(&name)?;
        let core = &self.core;
        let values = &core.engine.values;
        match core.checked(values.encode(&core.id, Of::Context, &name, value)) {
            Ok(payload) => self.put(name, Some(payload)),
            Err(error) if error.is_omitted() => {
                let kept = Zeroizing::new(values.unsealed(&core.id, &name, value)?);
                // What is stored is that it is not there.
                self.put(name.clone(), None)?;
                core.with(|state| drop(state.unstored.insert(name, kept)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a context value.
    ///
    /// # Errors
    /// In another task.
    pub fn unset(&self, name: impl Into<String>) -> FlowResult<()> {
        self.put(name.into(), None)
    }

    fn put(&self, name: String, value: Option<crate::payload::Payload>) -> FlowResult<()> {
        self.core.with(|state| drop(state.unstored.remove(&name)));
        match place(&self.core) {
            Place::Body(body) => body.sets.lock().push(Value { name, value }),
            Place::Flow => {
                self.core.with(|state| state.machine.set(&self.scope, name, value));
            }
            Place::Elsewhere => self.in_flow(&name)?,
        }
        Ok(())
    }

    /// A context value; `None` when it was never set or was removed.
    ///
    /// # Errors
    /// When it is not a `T`, or is sealed and cannot be opened.
    pub fn get<T: Serialize + DeserializeOwned>(&self, name: &str) -> FlowResult<Option<T>> {
        let core = &self.core;
        let kept = core.with(|state| {
            let kept = state.unstored.get(name);
            kept.map(|kept| core.engine.values.codec.decode::<T>(kept))
        });
        if let Some(kept) = kept {
            // Not the codec's words: they may quote the value.
            let run = &core.id;
            let message = format!("ctx `{name}` of run `{run}` is something else");
            let error = || StepError::of(StepErrorKind::Codec, Class::Permanent, message);
            return kept.map(Some).map_err(|_| error());
        }
        let mut own = None;
        if let Place::Body(body) = place(&self.core) {
            let sets = body.sets.lock();
            own = sets.iter().rev().find(|set| set.name == name).map(|set| set.value.clone());
        }
        let payload = match own {
            Some(own) => own,
            None => self.core.with(|state| state.machine.value(name).cloned()),
        };
        let decode = |payload| core.engine.values.decode(&core.id, Of::Context, name, &payload);
        core.checked(payload.map(decode).transpose())
    }

    /// Wall time, recorded: every later execution sees the same.
    ///
    /// # Errors
    /// In a step's body or another task.
    pub fn now(&self) -> BoxFuture<'static, FlowResult<Timestamp>> {
        let claimed = self.core.claim(&self.scope, "@now".into(), Kind::Now, true);
        Box::pin(async move {
            let claimed = claimed?;
            if let Turn::Revealed(outcome) = claimed.turn(true).await {
                return reveal(&claimed, Of::Step, outcome);
            }
            let core = &claimed.core;
            let now = core.engine.values.encode_at(&core.id, &claimed.position(), &core.now());
            let now = core.checked(now)?;
            core.with(|state| {
                state.machine.complete(claimed.id, Outcome::Ok(now), 0, Vec::new());
            });
            reveal(&claimed, Of::Step, claimed.revealed().await)
        })
    }

    /// A random number that belongs to this place in the flow: the same in every execution, without a
    /// record. Not for secrets.
    ///
    /// # Errors
    /// In a step's body or another task.
    pub fn random(&self) -> FlowResult<u64> {
        let bits = self.random_bits("@random")?;
        Ok(u64::try_from(bits >> 64).unwrap_or_default())
    }

    /// A random UUID (version 4) that belongs to this place in the flow: the same in every execution.
    ///
    /// # Errors
    /// In a step's body or another task.
    pub fn uuid(&self) -> FlowResult<uuid::Uuid> {
        let bits = self.random_bits("@uuid")?;
        Ok(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }

    fn random_bits(&self, name: &'static str) -> FlowResult<u128> {
        self.in_flow(name)?;
        let next = |machine: &mut crate::machine::Machine| {
            machine.next_position(&self.scope, Cow::Borrowed(name))
        };
        let position = self.core.with(|state| next(&mut state.machine));
        Ok(self.core.random_at(&position))
    }

    /// Whether this run executes the changed code called `change`. True in runs that get here for
    /// the first time with the change deployed; false in runs that had passed this place before.
    ///
    /// # Errors
    /// In a step's body or another task.
    pub fn patched(&self, change: &str) -> FlowResult<bool> {
        check_name(change)?;
        self.in_flow(change)?;
        Ok(self.core.with(|state| state.machine.patched(&self.scope, change)))
    }
}

pub mod futures {
    //! Futures named in signatures.

    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use crate::{FlowResult, StepError};

    /// A body that was told about its attempt.
    pub struct Informed<Fut>(Result<Pin<Box<Fut>>, Option<StepError>>);

    impl<Fut> std::fmt::Debug for Informed<Fut> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Informed")
        }
    }

    impl<Fut> Informed<Fut> {
        pub(crate) fn new(body: FlowResult<Fut>) -> Self {
            Self(body.map(Box::pin).map_err(Some))
        }
    }

    impl<Fut, T, E> Future for Informed<Fut>
    where
        Fut: Future<Output = Result<T, E>>,
        E: Into<StepError>,
    {
        type Output = FlowResult<T>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            match &mut self.0 {
                Ok(body) => body.as_mut().poll(cx).map(|result| result.map_err(Into::into)),
                Err(error) => match error.take() {
                    Some(error) => Poll::Ready(Err(error)),
                    None => Poll::Pending,
                },
            }
        }
    }
}
