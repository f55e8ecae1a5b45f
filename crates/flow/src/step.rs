//! A step: a body whose result is recorded once and returned ever after.

use std::any::Any;
use std::borrow::Cow;
use std::future::{Future, IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use resurge_checkpoint::{Scope, StepPolicy};
use resurge_seal::Decision;
use resurge_store::{Batch, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::Position;
use crate::callback::around_step;
use crate::core::{Claimed, Join, Turn};
use crate::current::{Body, enter_body};
use crate::gate::{Admission, Attempt, Gate, IntoGate, Permit};
use crate::machine::{MAX_RECORD, Wait};
use crate::memo::{self, Begun, Held, Keyed, Memo};
use crate::payload::Payload;
use crate::record::{Outcome, value_bytes};
use crate::retry::Retry;
use crate::step_error::{Class, ErrorRecord, FlowResult, StepError, StepErrorKind};
use crate::values::Of;

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
    /// [`Checkpoint`](StepErrorKind::Checkpoint): find out what happened, then record the result or
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

/// From a position to its value: replays it, or runs the body until it is complete.
pub(crate) async fn drive<F, Fut, T, E>(
    claimed: &Claimed,
    mut body: F,
    options: &Options,
) -> FlowResult<T>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<StepError>,
    T: Serialize + DeserializeOwned + Send,
{
    let mut original = None;
    let outcome = match run(claimed, &mut body, options, &mut original).await {
        Some(outcome) => outcome,
        None => claimed.revealed().await,
    };
    match (outcome, original) {
        // Live, the error still has its type.
        (Outcome::Err(_), Some(original)) => Err(original.at(claimed.position())),
        (outcome, _) => reveal(claimed, Of::Step, outcome),
    }
}

/// Bytes that one body may write.
const MAX_WRITES: usize = 4 << 20;

/// What a body wrote joins the commit of its step, which must not fail for it.
fn can_write(seen: &Body) -> Result<(), StepError> {
    let writes = seen.writes.lock();
    let what = || format!("what step `{}` of run `{}` writes", seen.position, seen.core.id);
    if !writes.guards().is_empty() {
        let message = format!("{} is conditional; only puts and deletes can be", what());
        return Err(StepError::of(StepErrorKind::Invalid, Class::Permanent, message));
    }
    if writes.size() > MAX_WRITES || writes.validate().is_err() {
        let len = writes.size();
        let message = format!("{} takes {len} bytes; the limit is {MAX_WRITES}", what());
        return Err(StepError::of(StepErrorKind::TooLarge, Class::Permanent, message));
    }
    Ok(())
}

/// Turns an outcome into what the flow's code sees.
pub(crate) fn reveal<T: Serialize + DeserializeOwned>(
    claimed: &Claimed,
    of: Of,
    outcome: Outcome,
) -> FlowResult<T> {
    let position = claimed.position();
    match outcome {
        Outcome::Ok(payload) => {
            let core = &claimed.core;
            let values = &core.engine.values;
            let decoded = match of {
                Of::Step => values.decode_at(&core.id, &position, &payload),
                of => values.decode(&core.id, of, position.name(), &payload),
            };
            core.checked(decoded).map_err(|e| e.at(position))
        }
        Outcome::Err(record) => Err(shown(claimed, record).at(position)),
    }
}

/// The error in an outcome of the run's own.
pub(crate) fn shown(claimed: &Claimed, record: ErrorRecord) -> StepError {
    let core = &claimed.core;
    match core.checked(core.engine.values.show(&core.id, record)) {
        Ok(record) => StepError::from_record(record),
        Err(error) => error,
    }
}

/// Runs attempts until one is the last. `None` when its outcome is journaled and to be revealed,
/// `Some` when it was revealed already.
#[expect(
    clippy::too_many_lines,
    reason = "one attempt, from the turn to the record, read in order"
)]
async fn run<F, Fut, T, E>(
    claimed: &Claimed,
    body: &mut F,
    options: &Options,
    original: &mut Option<StepError>,
) -> Option<Outcome>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<StepError>,
    T: Serialize + Send,
{
    let core = &claimed.core;
    if let Turn::Revealed(outcome) = claimed.turn(options.deferred).await {
        return Some(outcome);
    }
    let position = claimed.position();
    if core.engine.values.sealer.decide_name(position.name()) == Decision::Omit {
        // Said before the body runs: its result could not be recorded.
        give_up(claimed, never_stored(&position), 0, original);
        return None;
    }
    let (mut failed, mut next_at) = core.with(|state| {
        let fact = state.machine.fact(claimed.id);
        fact.map_or((0, None), |fact| (fact.attempts, fact.next_at))
    });
    let recovering = core.with(|state| state.machine.resumed_at(&position));
    loop {
        if let Some(at) = next_at.take() {
            if let Err(outcome) = claimed.wait_until(Wait::Retry(at), at).await {
                return Some(outcome);
            }
            if let Turn::Revealed(outcome) = claimed.turn(options.deferred).await {
                return Some(outcome);
            }
        }
        let mut held = match find(claimed, options, failed, original).await {
            Found::Nothing(held) => held,
            Found::Again => continue,
            Found::Over(outcome) => return outcome,
        };
        let permits = match admit(claimed, options, &mut held).await {
            Ok(Some(permits)) => permits,
            Ok(None) => continue,
            Err(outcome) => return Some(outcome),
        };
        // Held until the attempt is over.
        let _room = match enter_lane(claimed, options).await {
            Ok(room) => room,
            Err(outcome) => {
                release(held).await;
                return Some(outcome);
            }
        };
        let attempt = failed.saturating_add(1);
        let seen = Arc::new(Body {
            core: Arc::clone(core),
            position: position.clone(),
            attempt,
            recovering,
            deferred: options.deferred,
            memo: held.as_ref().map(|held| held.key.clone()),
            sets: parking_lot::Mutex::default(),
            writes: parking_lot::Mutex::default(),
        });
        core.engine.metrics.attempts.increment(1);
        core.with(|state| state.machine.set_busy(claimed.id, true));
        let work = poll_body(body, &seen, options.timeout);
        let result = match &mut held {
            Some(held) => held.claim.keep_alive(work).await,
            None => work.await,
        };
        let encode = |value: &T| core.engine.values.encode_at(&core.id, &position, value);
        let mut result = result.and_then(|value| core.checked(encode(&value)));
        result = result.and_then(|payload| can_write(&seen).map(|()| payload));
        let mut sets = std::mem::take(&mut *seen.sets.lock());
        let bytes = result.as_ref().map_or(0, Payload::len) + value_bytes(&sets);
        if bytes > MAX_RECORD {
            sets.clear();
            let what = format!("what step `{position}` of run `{}` returned and set", core.id);
            let message = format!("{what} takes {bytes} bytes; the limit is {MAX_RECORD}");
            result = Err(StepError::of(StepErrorKind::TooLarge, Class::Permanent, message));
        }
        claimed.room(bytes).await;
        let mut joins = settle(permits, &core.engine.store, &result);
        let result = keep(claimed, result, held, &mut joins).await;
        match result {
            Ok(payload) => {
                let writes = std::mem::take(&mut *seen.writes.lock());
                core.with(|state| {
                    if state.machine.is_frozen() {
                        return;
                    }
                    state.writes.merge(writes);
                    state.joins.extend(joins);
                    state.urgent |= !options.deferred;
                    state.machine.complete(claimed.id, Outcome::Ok(payload), attempt, sets);
                });
                return None;
            }
            Err(error) => {
                failed = attempt;
                let ends = core.is_cancelled()
                    && !core.with(|state| state.machine.is_shielded(claimed.id));
                let again = || options.retry.after(failed, &error, core.engine.fraction());
                let wait = if ends { None } else { again() };
                let hidden = core.checked(core.engine.values.hide(&core.id, error.record()));
                *original = Some(error);
                let Ok(record) = hidden else { return None };
                next_at = Some(core.with(|state| {
                    if state.machine.is_frozen() {
                        return None;
                    }
                    state.joins.extend(joins);
                    state.urgent = true;
                    let Some(wait) = wait else {
                        state.machine.complete(claimed.id, Outcome::Err(record), attempt, sets);
                        return None;
                    };
                    core.engine.metrics.retries.increment(1);
                    let at = core.now().saturating_add(wait);
                    state.machine.set_busy(claimed.id, false);
                    state.machine.attempt_failed(claimed.id, attempt, record, at, sets);
                    Some(at)
                })?);
            }
        }
    }
}

/// Waits for room where bodies at work are limited, and then for the turn again.
async fn enter_lane(
    claimed: &Claimed,
    options: &Options,
) -> Result<Vec<OwnedSemaphorePermit>, Outcome> {
    let room = claimed.enter_lane().await?;
    if !room.is_empty()
        && let Turn::Revealed(outcome) = claimed.turn(options.deferred).await
    {
        return Err(outcome);
    }
    Ok(room)
}

fn never_stored(position: &Position) -> StepError {
    let message = format!("the policy says never to store `{position}`, which is a step");
    StepError::of(StepErrorKind::Sealed, Class::Permanent, message)
}

/// Journals a failure that no attempt made.
fn give_up(claimed: &Claimed, error: StepError, attempts: u32, original: &mut Option<StepError>) {
    let core = &claimed.core;
    let hidden = core.checked(core.engine.values.hide(&core.id, error.record()));
    *original = Some(error);
    if let Ok(record) = hidden {
        core.with(|state| {
            state.urgent = true;
            state.machine.complete(claimed.id, Outcome::Err(record), attempts, Vec::new());
        });
    }
}

/// What is known before an attempt.
enum Found {
    /// No result: the body is to run, with the right to a memoised step.
    Nothing(Option<Held>),
    /// Things changed meanwhile.
    Again,
    /// It is complete: revealed if it is here, to be revealed otherwise.
    Over(Option<Outcome>),
}

/// Looks for the result of a memoised step.
async fn find(
    claimed: &Claimed,
    options: &Options,
    failed: u32,
    original: &mut Option<StepError>,
) -> Found {
    let Some(memo) = &options.memo else { return Found::Nothing(None) };
    let core = &claimed.core;
    match memo::begin(claimed, memo, &options.keyed).await {
        Begun::Held(held) => {
            // It may have waited for long: paused meanwhile, the run begins nothing.
            if core.with(|state| state.machine.may_begin(claimed.id, Waker::noop())) {
                return Found::Nothing(Some(held));
            }
            held.release().await;
            match claimed.turn(options.deferred).await {
                Turn::Revealed(outcome) => Found::Over(Some(outcome)),
                Turn::Begin => Found::Again,
            }
        }
        Begun::Hit(payload) => {
            core.with(|state| {
                state.urgent |= !options.deferred;
                state.machine.complete(claimed.id, Outcome::Ok(payload), 0, Vec::new());
            });
            Found::Over(None)
        }
        Begun::Refused(error) => {
            give_up(claimed, error, failed, original);
            Found::Over(None)
        }
        Begun::Frozen => Found::Over(None),
        Begun::Revealed(outcome) => Found::Over(Some(outcome)),
    }
}

/// Puts a memoised result into the commit, or gives the right to make it back.
async fn keep(
    claimed: &Claimed,
    result: Result<Payload, StepError>,
    held: Option<Held>,
    joins: &mut Vec<Join>,
) -> Result<Payload, StepError> {
    match (result, held) {
        (Ok(payload), Some(held)) => {
            joins.push(held.stage(claimed, &payload)?);
            Ok(payload)
        }
        (result, held) => {
            release(held).await;
            result
        }
    }
}

async fn release(held: Option<Held>) {
    if let Some(held) = held {
        held.release().await;
    }
}

/// Asks every gate; when one refuses, the run is parked, and `None` says to begin again.
async fn admit(
    claimed: &Claimed,
    options: &Options,
    held: &mut Option<Held>,
) -> Result<Option<Vec<Box<dyn Permit>>>, Outcome> {
    let core = &claimed.core;
    let mut permits = Vec::new();
    for gate in &options.gates {
        match gate.admit(core.now()) {
            Admission::Admitted(permit) => permits.push(permit),
            Admission::Refused { until } => {
                // What others admitted is given back unused, and somebody else may run the step.
                drop(permits);
                release(held.take()).await;
                park(claimed, gate, until).await?;
                return Ok(None);
            }
        }
    }
    if !options.gates.is_empty() && core.engine.left_parking(&core.id) {
        // Another step of this run may wait behind the same gate, on the same place.
        core.wake_waiting();
    }
    Ok(Some(permits))
}

async fn park(
    claimed: &Claimed,
    gate: &Arc<dyn Gate>,
    until: Option<resurge_store::Timestamp>,
) -> Result<(), Outcome> {
    let core = &claimed.core;
    let name = gate.name().to_owned();
    core.set_parked();
    let since = core.with(|state| {
        // A run that was parked before a crash is parked already.
        let known = state.machine.fact(claimed.id).and_then(|fact| fact.parked.as_ref());
        if let Some(known) = known.filter(|known| known.gate == name) {
            return known.at;
        }
        let now = core.now();
        state.machine.park(claimed.id, &name, until, now);
        now
    });
    let ticket = core.engine.park_behind(gate, &core.id, since);
    claimed.wait_for(Wait::Gate(name, until), || ticket.is_released().then_some(())).await?;
    if let Turn::Revealed(outcome) = claimed.turn(false).await {
        return Err(outcome);
    }
    Ok(())
}

/// Tells the permits what the attempt came to, and takes what they put into the commit.
fn settle<P>(
    permits: Vec<Box<dyn Permit>>,
    store: &Store,
    result: &Result<P, StepError>,
) -> Vec<Join> {
    let mut joins = Vec::new();
    for permit in permits {
        let attempt = result.as_ref().map_or_else(Attempt::Failed, |_| Attempt::Succeeded);
        let mut batch = Batch::new();
        if let Some(settled) = permit.outcome(attempt, store, &mut batch) {
            joins.push(Join { batch, settled });
        }
    }
    joins
}

/// One attempt: the body under its time limit, its panics caught.
pub(crate) async fn poll_body<F, Fut, T, E>(
    body: &mut F,
    seen: &Arc<Body>,
    timeout: Option<Duration>,
) -> Result<T, StepError>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<StepError>,
{
    let begun = catch_unwind(AssertUnwindSafe(|| {
        let _entered = enter_body(seen);
        body()
    }));
    let mut attempt = pin!(begun.map_err(|panic| panicked(&*panic))?);
    let clock = Arc::clone(seen.core.engine.store.clock());
    let mut limit = timeout.map(|limit| clock.sleep(limit));
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _entered = enter_body(seen);
            attempt.as_mut().poll(cx)
        }));
        match polled {
            Ok(Poll::Ready(result)) => return Poll::Ready(result.map_err(Into::into)),
            Err(panic) => return Poll::Ready(Err(panicked(&*panic))),
            Ok(Poll::Pending) => {}
        }
        match limit.as_mut().map(|limit| limit.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                let limit = timeout.unwrap_or_default();
                let message = format!("the attempt took longer than {limit:?}");
                Poll::Ready(Err(StepError::of(StepErrorKind::Timeout, Class::Transient, message)))
            }
            _ => Poll::Pending,
        }
    })
    .await
}

/// A panic as an error. It is a bug, so it is not retried; a resumed run tries again.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> StepError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    StepError::of(StepErrorKind::Panicked, Class::Permanent, format!("panicked: {text}"))
}

/// What a step's body can know of itself and do beside returning a value.
#[derive(Clone, Debug)]
pub struct StepInfo {
    body: Arc<Body>,
}

impl StepInfo {
    /// Of the step whose body calls this; `None` outside of a body.
    ///
    /// Ask at the beginning of the body: a task spawned by it is outside.
    pub fn current() -> Option<Self> {
        crate::current::body().map(|body| Self { body })
    }

    pub(crate) fn of(body: &Arc<Body>) -> Self {
        Self { body: Arc::clone(body) }
    }

    pub(crate) fn here() -> FlowResult<Self> {
        Self::current().ok_or_else(|| {
            let message = "a step's body was called outside of its step";
            StepError::of(StepErrorKind::Misplaced, Class::Permanent, message)
        })
    }

    /// The step's name.
    pub fn name(&self) -> &str {
        self.body.position.name()
    }

    /// The step's position.
    pub fn position(&self) -> &Position {
        &self.body.position
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.body.core.id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.body.attempt
    }

    /// True when the run failed at this step and was resumed.
    pub fn recovering(&self) -> bool {
        self.body.recovering
    }

    /// True for a [deferred](Step::deferred) step.
    pub fn deferred(&self) -> bool {
        self.body.deferred
    }

    /// The same for every attempt at this step, whatever crashes or resumes lie in between, and
    /// different for every other step and run: 64 hexadecimal digits. Hand it to the service that is
    /// called, so that a repeated call changes nothing.
    pub fn idempotency_key(&self) -> String {
        match &self.body.memo {
            Some(key) => key.idempotency_key(),
            None => self.body.core.idempotency_key(&self.body.position),
        }
    }

    /// Whether the run was cancelled meanwhile.
    pub fn is_cancelled(&self) -> bool {
        self.body.core.is_cancelled()
    }

    /// Resolves when the run is cancelled. The body decides what to do about it; its result counts.
    pub async fn cancelled(&self) {
        self.body.core.cancelled().await;
    }

    /// Adds writes to the commit that records this step's success: with it they happen exactly once,
    /// whatever crashes. Nothing is written if the attempt fails.
    ///
    /// Puts and deletes only, of at most 4 MiB together: a guard, or more, fails the step for good.
    pub fn write(&self, write: impl FnOnce(&mut Batch)) {
        write(&mut self.body.writes.lock());
    }
}

/// A step's name.
pub(crate) type Name = Cow<'static, str>;
