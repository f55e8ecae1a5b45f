//! Callbacks before and after flows, processes and steps.
//!
//! Three levels. The *flow* is the registered function. A *process* is a named part of it: see
//! [`Ctx::process`]; the process nodes of a [`Graph`](crate::Graph) are processes, too. A *step* is a
//! step. Callbacks are durable as steps are: one that passed is not run again after a crash.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use resurge_store::BoxFuture;

use crate::core::{Claimed, Turn, check_name};
use crate::fan_out::Branch;
use crate::record::Outcome;
use crate::step::{Name, Options, drive, reveal};
use crate::step_error::{ErrorRecord, FlowResult, StepError, StepErrorKind};
use crate::values::Of;
use crate::{Ctx, FlowError, Kind, Position, Result};

pub(crate) const BEFORE_FLOW: &str = "@before-flow";
pub(crate) const AFTER_FLOW: &str = "@after-flow";
const BEFORE_PROCESS: &str = "@before-process";
pub(crate) const AFTER_PROCESS: &str = "@after-process";
const BEFORE_STEP: &str = "@before-step";
const AFTER_STEP: &str = "@after-step";

/// What a callback belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// The whole flow.
    Flow,
    /// A process: a named part of the flow.
    Process,
    /// A step.
    Step,
}

/// What a callback is told.
#[derive(Clone, Debug)]
pub struct CallbackInfo {
    ctx: Ctx,
    level: Level,
    name: Arc<str>,
    after: bool,
    recovering: bool,
    error: Option<ErrorRecord>,
}

impl CallbackInfo {
    /// The run. Context values can be read and set; steps and the like are refused here.
    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// What it is called for.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The name of the flow, process or step it is called for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is called after it, not before.
    pub fn is_after(&self) -> bool {
        self.after
    }

    /// Whether what it is called for failed before, and the run was resumed there.
    pub fn recovering(&self) -> bool {
        self.recovering
    }

    /// How it failed; `None` before it, and when it went well.
    pub fn error(&self) -> Option<&ErrorRecord> {
        self.error.as_ref()
    }
}

type Body = dyn Fn(CallbackInfo) -> BoxFuture<'static, FlowResult<()>> + Send + Sync;

/// A function called before or after flows, processes or steps; registered with the `before_..` and
/// `after_..` methods of [`FlowOptions`](crate::FlowOptions).
///
/// * A `must` callback that fails fails what it belongs to, and ends its chain; a resumed run goes on
///   at that callback. One that is `optional` is logged when it fails.
/// * Callbacks *before* something that were passed are not run again when the run is resumed. Those
///   *after* a flow or process are run from the first when it is resumed, so they should be
///   idempotent or [exclude](Self::exclude_recovering) that case. Those after a step go on at the one
///   that failed; the step is not run again.
/// * Callbacks after something are called however it went, also when the run was cancelled, and are
///   told the error. The first failure counts.
///
/// They are part of the flow's code: adding one while runs are in flight changes what their journals
/// must hold.
///
/// ```
/// use resurge_flow::{Callback, FlowOptions, StepError};
/// let options = FlowOptions::default()
///     .before_flow(Callback::must("quota", |run| async move {
///         run.ctx().set("checked", &true)
///     }))
///     .after_step(
///         Callback::optional("audit", |step| async move {
///             println!("{} ended: {:?}", step.name(), step.error());
///             Ok::<_, StepError>(())
///         })
///         .only_for(["charge", "refund"])
///         .exclude_recovering(),
///     );
/// ```
#[derive(Clone)]
pub struct Callback {
    name: Name,
    must: bool,
    exclude_recovering: bool,
    only_for: Option<HashSet<String>>,
    not_for: HashSet<String>,
    body: Arc<Body>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("name", &self.name)
            .field("must", &self.must)
            .field("exclude_recovering", &self.exclude_recovering)
            .field("only_for", &self.only_for)
            .field("not_for", &self.not_for)
            .finish_non_exhaustive()
    }
}

impl Callback {
    /// One whose failure fails what it belongs to.
    pub fn must<F, Fut, E>(name: impl Into<Name>, body: F) -> Self
    where
        F: Fn(CallbackInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        Self {
            name: name.into(),
            must: true,
            exclude_recovering: false,
            only_for: None,
            not_for: HashSet::new(),
            body: Arc::new(move |info| {
                let result = body(info);
                Box::pin(async move { result.await.map_err(Into::into) })
            }),
        }
    }

    /// One whose failure is logged and changes nothing.
    pub fn optional<F, Fut, E>(name: impl Into<Name>, body: F) -> Self
    where
        F: Fn(CallbackInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        Self { must: false, ..Self::must(name, body) }
    }

    /// Not called for a flow, process or step that failed before and where the run was resumed.
    #[must_use]
    pub fn exclude_recovering(mut self) -> Self {
        self.exclude_recovering = true;
        self
    }

    /// Called for flows, processes or steps of these names only.
    #[must_use]
    pub fn only_for<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only_for.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Not called for flows, processes or steps of these names.
    #[must_use]
    pub fn not_for<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.not_for.extend(names.into_iter().map(Into::into));
        self
    }

    fn is_for(&self, name: &str) -> bool {
        self.only_for.as_ref().is_none_or(|only| only.contains(name))
            && !self.not_for.contains(name)
    }
}

/// The callbacks of a flow, in the order they were added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callbacks {
    pub(crate) flow: Around,
    pub(crate) process: Around,
    pub(crate) step: Around,
}

/// Those of one level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    pub(crate) before: Vec<Callback>,
    pub(crate) after: Vec<Callback>,
}

impl Around {
    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

impl Callbacks {
    /// Names are given, and one is used once in its chain.
    pub(crate) fn check(&self) -> Result<()> {
        for around in [&self.flow, &self.process, &self.step] {
            for chain in [&around.before, &around.after] {
                let mut names = HashSet::new();
                for callback in chain {
                    check_name(&callback.name)
                        .map_err(|e| FlowError::Invalid(e.record().to_string()))?;
                    if !names.insert(&callback.name) {
                        let name = &callback.name;
                        let message = format!("two callbacks at one place are named `{name}`");
                        return Err(FlowError::Invalid(message));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The callbacks around one flow, process or step.
struct Site<'s> {
    ctx: Ctx,
    around: &'s Around,
    level: Level,
    name: Arc<str>,
    /// Scopes of the two chains.
    before: Arc<str>,
    after: Arc<str>,
    shielded: bool,
    recovering: bool,
}

/// When a callback is called, and how it went till then.
enum When<'e> {
    Before,
    After(Option<&'e ErrorRecord>),
}

impl Site<'_> {
    /// The chain before; ends at the first that must and does not pass.
    async fn begin(&self) -> FlowResult<()> {
        for callback in self.around.before.iter().filter(|callback| callback.is_for(&self.name)) {
            if let Err(error) = self.call(callback, When::Before).await {
                self.judge(callback, error)?;
            }
        }
        Ok(())
    }

    /// The chain after. The first failure counts: the work's, else a callback's.
    async fn end<T>(&self, result: FlowResult<T>) -> FlowResult<T> {
        let failed = result.as_ref().err().map(|error| error.record().clone());
        for callback in self.around.after.iter().filter(|callback| callback.is_for(&self.name)) {
            if let Err(error) = self.call(callback, When::After(failed.as_ref())).await
                && let Err(error) = self.judge(callback, error)
            {
                return result.and(Err(error));
            }
        }
        result
    }

    /// Calls one, unless its outcome is recorded or it is to be passed over.
    async fn call(&self, callback: &Callback, when: When<'_>) -> FlowResult<()> {
        let core = self.ctx.core();
        let (scope, after, error) = match when {
            When::Before => (&self.before, false, None),
            When::After(error) => (&self.after, true, error),
        };
        // What comes after runs for cancelled runs, too.
        let shielded = self.shielded || after;
        let claimed = core.claim(scope, callback.name.clone(), Kind::Callback, shielded)?;
        if callback.exclude_recovering && self.recovering {
            return skip(&claimed).await;
        }
        let info = CallbackInfo {
            ctx: self.ctx.clone(),
            level: self.level,
            name: Arc::clone(&self.name),
            after,
            recovering: self.recovering,
            error: error.cloned(),
        };
        drive(&claimed, || (callback.body)(info.clone()), &Options::default()).await
    }

    /// What a callback's failure means.
    fn judge(&self, callback: &Callback, error: StepError) -> FlowResult<()> {
        let place = format!("callback `{}` of {:?} `{}`", callback.name, self.level, self.name);
        if callback.must {
            let cancelled = error.is_cancelled();
            let error = error.context(place);
            return Err(if cancelled { error } else { error.of_kind(StepErrorKind::Callback) });
        }
        let core = self.ctx.core();
        if core.with(|state| state.machine.is_live()) {
            tracing::warn!(run = %core.id, %error, "{place} failed; it is optional");
        }
        Ok(())
    }
}

/// Journals that a callback was passed over, so that every later execution passes over it, too.
async fn skip(claimed: &Claimed) -> FlowResult<()> {
    let core = &claimed.core;
    let outcome = match claimed.turn(true).await {
        Turn::Revealed(outcome) => outcome,
        Turn::Begin => {
            let nothing = core.engine.values.encode_at(&core.id, &claimed.position(), &());
            let nothing = core.checked(nothing)?;
            core.with(|state| {
                state.machine.complete(claimed.id, Outcome::Ok(nothing), 0, Vec::new());
            });
            claimed.revealed().await
        }
    };
    reveal(claimed, Of::Step, outcome)
}

/// A step between its callbacks.
pub(crate) async fn around_step<T>(
    claimed: &Claimed,
    work: impl Future<Output = FlowResult<T>>,
) -> FlowResult<T> {
    let core = &claimed.core;
    let callbacks = Arc::clone(&core.callbacks);
    if callbacks.step.is_empty() {
        return work.await;
    }
    let position = claimed.position();
    let before: Arc<str> = format!("{position}/{BEFORE_STEP}").into();
    let after: Arc<str> = format!("{position}/{AFTER_STEP}").into();
    let recovering = core.with(|state| {
        let machine = &state.machine;
        machine.resumed_at(&position)
            || machine.resumed_within(&before)
            || machine.resumed_within(&after)
    });
    let site = Site {
        ctx: Ctx::new(Arc::clone(core)),
        around: &callbacks.step,
        level: Level::Step,
        name: position.name().into(),
        before,
        after,
        shielded: claimed.shielded,
        recovering,
    };
    let result = match site.begin().await {
        Ok(()) => work.await,
        Err(error) => Err(error),
    };
    site.end(result).await
}

/// The flow between its callbacks.
pub(crate) async fn around_flow<T>(
    ctx: &Ctx,
    work: impl Future<Output = FlowResult<T>>,
) -> FlowResult<T> {
    let core = ctx.core();
    let callbacks = Arc::clone(&core.callbacks);
    if callbacks.flow.is_empty() {
        return work.await;
    }
    let site = Site {
        ctx: ctx.clone(),
        around: &callbacks.flow,
        level: Level::Flow,
        name: Arc::clone(&core.flow),
        before: BEFORE_FLOW.into(),
        after: AFTER_FLOW.into(),
        shielded: false,
        recovering: core.with(|state| state.machine.was_resumed()),
    };
    let result = match site.begin().await {
        Ok(()) => work.await,
        Err(error) => Err(error),
    };
    site.end(result).await
}

/// A process between its callbacks, in its scope.
pub(crate) async fn around_process<T>(
    ctx: &Ctx,
    name: &str,
    born: Option<u64>,
    work: impl Future<Output = FlowResult<T>>,
) -> FlowResult<T> {
    let core = ctx.core();
    let path: Arc<str> = ctx.scope_path().into();
    let born = born.unwrap_or_else(|| core.with(|state| state.machine.born(&path)));
    let _branch = Branch::begin(core, Arc::clone(&path), born);
    let callbacks = Arc::clone(&core.callbacks);
    let site = Site {
        ctx: ctx.clone(),
        around: &callbacks.process,
        level: Level::Process,
        name: name.into(),
        before: format!("{path}/{BEFORE_PROCESS}").into(),
        after: format!("{path}/{AFTER_PROCESS}").into(),
        shielded: ctx.is_shielded(),
        recovering: core.with(|state| state.machine.resumed_within(&path)),
    };
    let result = match site.begin().await {
        Ok(()) => work.await,
        Err(error) => Err(error),
    };
    let result = site.end(result).await;
    result.map_err(|error| {
        // An error of the process's own code has no failure point: the process is it.
        if error.positions().is_empty() { error.at(as_position(&path)) } else { error }
    })
}

/// The position that a scope's path looks like.
fn as_position(path: &str) -> Position {
    let (scope, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (name, nth) = match name.rsplit_once('#') {
        Some((name, nth)) if nth.parse::<u32>().is_ok() => (name, nth.parse().unwrap_or(0)),
        _ => (name, 0),
    };
    Position::new(scope, Cow::Owned(name.to_owned()), nth)
}

impl Ctx {
    /// A process: a named part of the flow, with a [`scope`](Self::scope) and callbacks of its own.
    /// It is not recorded itself; what happens in it is.
    ///
    /// What happens in it after something failed elsewhere is kept when the run is resumed, so its
    /// code should not look at how things that run beside it went.
    ///
    /// ```
    /// # use resurge_flow::{Ctx, FlowResult, StepError};
    /// async fn order(ctx: Ctx, item: String) -> FlowResult<usize> {
    ///     let weight = ctx
    ///         .process("pack", |ctx| async move {
    ///             ctx.step("weigh", || async { Ok::<_, StepError>(item.len()) }).await
    ///         })
    ///         .await?;
    ///     ctx.step("ship", || async { Ok::<_, StepError>(weight) }).await
    /// }
    /// ```
    ///
    /// # Errors
    /// What the closure returns, or a callback; as [`scope`](Self::scope).
    pub fn process<F, Fut, T>(
        &self,
        name: impl Into<Name>,
        work: F,
    ) -> impl Future<Output = FlowResult<T>> + Send
    where
        F: FnOnce(Ctx) -> Fut + Send,
        Fut: Future<Output = FlowResult<T>> + Send,
        T: Send,
    {
        let name = name.into();
        let scope = self.scope(name.clone());
        async move {
            let ctx = scope?;
            let own = ctx.clone();
            around_process(&ctx, &name, None, async move { work(own).await }).await
        }
    }
}
