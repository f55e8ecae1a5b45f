//! Resources: things outside of the run that its steps use while it executes, such as a connection, a
//! lease or a session with a secret in it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use resurge_store::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Claimed, RunCore};
use crate::current::Body;
use crate::payload::Payload;
use crate::record::Value;
use crate::step::{Name, Options, StepInfo, drive, panicked, poll_body};
use crate::step_error::{Class, FlowResult, StepError, StepErrorKind};
use crate::values::Of;
use crate::{Ctx, Kind, Position};

/// Something that lives while a run executes, and is brought back when the run goes on.
///
/// | when | what is called |
/// |---|---|
/// | attached for the first time | `init` |
/// | the run failed | `suspend`, whose state is kept with the failure; then `release` |
/// | the run succeeded or was cancelled | `release` |
/// | the failed run is resumed | `recover` with that state, before any step's body runs |
/// | the run goes on after a crash, a shutdown or a long wait | `recover` with the state of the last failure; without one `init` again |
///
/// So `init` may be called more than once: use
/// [`idempotency_key`](StepInfo::idempotency_key), which stays the same, to find again what it made.
/// A run that leaves memory without having ended, because it waits for long or the process stops,
/// drops the live value; nothing is called then. Several resources are suspended and released in the
/// reverse order of their attachment.
///
/// The state is stored, and sealed if the resource's name is sensitive. What must not be stored at
/// all is left out by `suspend` and made anew by `recover`; `release` has the live value still.
///
/// ```
/// use resurge_flow::{FlowResult, Resource, StepInfo};
///
/// struct Session { user: String, token: String }
/// struct Sessions;
///
/// impl Resource for Sessions {
///     type Live = Session;
///     type State = String; // the user, not the token
///
///     async fn init(&self, _: StepInfo) -> FlowResult<Session> {
///         Ok(Session { user: "john".to_owned(), token: "secret".to_owned() })
///     }
///     async fn suspend(&self, live: &Session) -> FlowResult<String> {
///         Ok(live.user.clone())
///     }
///     async fn recover(&self, user: String, _: StepInfo) -> FlowResult<Session> {
///         Ok(Session { user, token: "a new secret".to_owned() })
///     }
///     async fn release(&self, live: &Session) -> FlowResult<()> {
///         assert!(!live.token.is_empty()); // log out with it
///         Ok(())
///     }
/// }
/// ```
pub trait Resource: Send + Sync + 'static {
    /// What steps use.
    type Live: Send + Sync + 'static;
    /// What of it is stored while the run is failed.
    type State: Serialize + DeserializeOwned + Send + 'static;

    /// Makes it. A failure is a failure point of the run: a resumed run tries again.
    fn init(&self, run: StepInfo) -> impl Future<Output = FlowResult<Self::Live>> + Send;

    /// The run failed: what to keep. A failure of this is logged; the state kept before stays.
    fn suspend(&self, live: &Self::Live) -> impl Future<Output = FlowResult<Self::State>> + Send;

    /// Brings it back. When this fails, the run fails again, at the points where it had failed, and
    /// keeps the state; it can be resumed again.
    fn recover(
        &self,
        state: Self::State,
        run: StepInfo,
    ) -> impl Future<Output = FlowResult<Self::Live>> + Send;

    /// The run ended: gives it back. A failure of this is logged. Nothing by default.
    fn release(&self, live: &Self::Live) -> impl Future<Output = FlowResult<()>> + Send {
        let _ = live;
        async { Ok(()) }
    }
}

/// A resource attached to a run; clones are the same one.
pub struct Attached<R: Resource>(Arc<Attachment<R>>);

impl<R: Resource> Clone for Attached<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Resource> fmt::Debug for Attached<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attached").field(&self.0.position).finish()
    }
}

impl<R: Resource> Attached<R> {
    /// The live value. Steps' bodies always find it.
    ///
    /// # Errors
    /// [`Resource`](StepErrorKind::Resource) in the flow's code outside of bodies while the journal is
    /// replayed, when nothing is live yet.
    pub fn live(&self) -> FlowResult<Arc<R::Live>> {
        self.0.live.lock().clone().ok_or_else(|| {
            let message = format!(
                "resource {:?} is not live: use it in the bodies of steps",
                self.0.position
            );
            StepError::of(StepErrorKind::Resource, Class::Permanent, message)
        })
    }
}

struct Attachment<R: Resource> {
    resource: R,
    position: Position,
    live: Mutex<Option<Arc<R::Live>>>,
}

/// An attached resource, whatever its type.
pub(crate) trait Entry: fmt::Debug + Send + Sync {
    fn position(&self) -> &Position;

    fn is_live(&self) -> bool;

    /// Makes it live: from what was kept, or as at first.
    fn revive(
        self: Arc<Self>,
        core: Arc<RunCore>,
        kept: Option<Payload>,
    ) -> BoxFuture<'static, FlowResult<()>>;

    /// What to keep of it; `None` when it is not live.
    fn suspend(
        self: Arc<Self>,
        core: Arc<RunCore>,
    ) -> BoxFuture<'static, FlowResult<Option<Payload>>>;

    fn release(self: Arc<Self>, core: Arc<RunCore>) -> BoxFuture<'static, FlowResult<()>>;
}

impl<R: Resource> fmt::Debug for Attachment<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attachment").field(&self.position).finish()
    }
}

impl<R: Resource> Attachment<R> {
    /// Polls one of the resource's methods as a step's body is polled: nothing durable can be asked
    /// for in it, and its panics are errors.
    async fn guarded<T, Fut>(
        &self,
        core: &Arc<RunCore>,
        what: &str,
        mut call: impl FnMut(StepInfo) -> Fut + Send,
    ) -> FlowResult<T>
    where
        Fut: Future<Output = FlowResult<T>> + Send,
        T: Send,
    {
        let seen = Arc::new(Body {
            core: Arc::clone(core),
            position: self.position.clone(),
            attempt: 1,
            deferred: false,
            recovering: core.with(|state| state.machine.was_resumed()),
            memo: None,
            sets: Mutex::default(),
            writes: Mutex::default(),
        });
        let info = StepInfo::of(&seen);
        let result = poll_body(&mut || call(info.clone()), &seen, None).await;
        result.map_err(|error| self.error(core, what, error))
    }

    fn error(&self, core: &RunCore, what: &str, error: StepError) -> StepError {
        let place =
            format!("resource {:?} of run `{}` could not be {what}", self.position, core.id);
        error.context(place).of_kind(StepErrorKind::Resource)
    }
}

impl<R: Resource> Entry for Attachment<R> {
    fn position(&self) -> &Position {
        &self.position
    }

    fn is_live(&self) -> bool {
        self.live.lock().is_some()
    }

    fn revive(
        self: Arc<Self>,
        core: Arc<RunCore>,
        kept: Option<Payload>,
    ) -> BoxFuture<'static, FlowResult<()>> {
        Box::pin(async move {
            let name = self.position.name();
            let decode = |payload| -> FlowResult<R::State> {
                let decoded = core.engine.values.decode(&core.id, Of::Resource, name, &payload);
                core.checked(decoded)
                    .map_err(|error| error.context("the state that was kept cannot be read"))
            };
            let mut state = kept.map(decode).transpose()?;
            let live = self.guarded(&core, "recovered", |info| {
                let state = state.take();
                async {
                    match state {
                        Some(state) => self.resource.recover(state, info).await,
                        None => self.resource.init(info).await,
                    }
                }
            });
            let live = live.await?;
            *self.live.lock() = Some(Arc::new(live));
            Ok(())
        })
    }

    fn suspend(
        self: Arc<Self>,
        core: Arc<RunCore>,
    ) -> BoxFuture<'static, FlowResult<Option<Payload>>> {
        Box::pin(async move {
            let Some(live) = self.live.lock().clone() else { return Ok(None) };
            let state = self.guarded(&core, "suspended", |_| self.resource.suspend(&live)).await?;
            let name = self.position.name();
            let encoded = core.engine.values.encode(&core.id, Of::Resource, name, &state);
            core.checked(encoded).map(Some)
        })
    }

    fn release(self: Arc<Self>, core: Arc<RunCore>) -> BoxFuture<'static, FlowResult<()>> {
        Box::pin(async move {
            let Some(live) = self.live.lock().take() else { return Ok(()) };
            self.guarded(&core, "released", |_| self.resource.release(&live)).await
        })
    }
}

impl Ctx {
    /// Attaches a resource to the run: it is made now, and given back when the run ends. See
    /// [`Resource`] for what is called when.
    ///
    /// ```
    /// # use resurge_flow::{Ctx, FlowResult, Resource, StepError, StepInfo};
    /// struct Connections(&'static str);
    /// impl Resource for Connections {
    ///     type Live = String;
    ///     type State = ();
    ///     async fn init(&self, _: StepInfo) -> FlowResult<String> { Ok(format!("to {}", self.0)) }
    ///     async fn suspend(&self, _: &String) -> FlowResult<()> { Ok(()) }
    ///     async fn recover(&self, (): (), run: StepInfo) -> FlowResult<String> { self.init(run).await }
    /// }
    ///
    /// async fn load(ctx: Ctx, _: ()) -> FlowResult<usize> {
    ///     let connection = ctx.resource("warehouse", Connections("db-1")).await?;
    ///     ctx.step("count", || async { Ok::<_, StepError>(connection.live()?.len()) }).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Resource`](StepErrorKind::Resource) when `init` fails: a failure point of the run;
    /// as [`step`](Self::step).
    pub fn resource<R: Resource>(
        &self,
        name: impl Into<Name>,
        resource: R,
    ) -> BoxFuture<'static, FlowResult<Attached<R>>> {
        let claimed = self.claim(name, Kind::Resource);
        Box::pin(async move { attach(&claimed?, resource).await })
    }
}

async fn attach<R: Resource>(claimed: &Claimed, resource: R) -> FlowResult<Attached<R>> {
    let core = &claimed.core;
    let position = claimed.position();
    let attachment = Arc::new(Attachment { resource, position, live: Mutex::default() });
    let init = || async {
        let live = attachment.resource.init(StepInfo::here()?).await;
        let live = live.map_err(|error| attachment.error(core, "made", error))?;
        *attachment.live.lock() = Some(Arc::new(live));
        FlowResult::Ok(())
    };
    // In a later execution this only says that it was attached; it becomes live again when the
    // replay is over.
    let attached: FlowResult<()> = drive(claimed, init, &Options::default()).await;
    attached?;
    let entry: Arc<dyn Entry> = Arc::<Attachment<R>>::clone(&attachment);
    core.with(|state| state.resources.push(entry));
    Ok(Attached(attachment))
}

/// The flow's work; what it attached is made live again before its steps go on, and is suspended and
/// released after it.
pub(crate) async fn with_resources(
    ctx: &Ctx,
    work: impl Future<Output = FlowResult<Payload>> + Send,
) -> FlowResult<Payload> {
    let core = ctx.core();
    let result = {
        let mut work = pin!(work);
        let mut reviving: Option<BoxFuture<'static, FlowResult<()>>> = None;
        poll_fn(|cx| {
            if reviving.is_none() && needs_reviving(core) {
                reviving = Some(Box::pin(revive_all(Arc::clone(core))));
            }
            if let Some(future) = &mut reviving {
                match future.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => reviving = None,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
            polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
        })
        .await
    };
    let attached = core.with(|state| std::mem::take(&mut state.resources));
    // Without a key the run has not ended: it stands still.
    if attached.is_empty() || core.with(|state| state.machine.is_frozen()) {
        return result;
    }
    if matches!(&result, Err(error) if !error.is_cancelled() || core.cancel_reason().is_none()) {
        for entry in attached.iter().rev() {
            suspend(core, entry).await;
        }
    }
    for entry in attached.iter().rev() {
        if let Err(error) = Arc::clone(entry).release(Arc::clone(core)).await {
            tracing::warn!(run = %core.id, %error, "a resource could not be released");
        }
    }
    result
}

/// Whether bodies may begin, but something attached is not live.
fn needs_reviving(core: &RunCore) -> bool {
    core.with(|state| {
        !state.resources.is_empty()
            && state.machine.is_open()
            && state.resources.iter().any(|entry| !entry.is_live())
    })
}

async fn revive_all(core: Arc<RunCore>) -> FlowResult<()> {
    let attached = core.with(|state| state.resources.clone());
    for entry in attached {
        if entry.is_live() {
            continue;
        }
        let key = entry.position().to_string();
        let kept = core.with(|state| {
            let kept = state.suspended.iter().find(|kept| kept.name == key);
            kept.and_then(|kept| kept.value.clone())
        });
        let revived = entry.revive(Arc::clone(&core), kept).await;
        // The run goes on where it would have gone on now.
        revived.map_err(|error| error.at_all(core.with(|state| state.machine.resumed())))?;
    }
    Ok(())
}

/// Keeps the state of what is live; of what is not, what was kept before stays.
async fn suspend(core: &Arc<RunCore>, entry: &Arc<dyn Entry>) {
    match Arc::clone(entry).suspend(Arc::clone(core)).await {
        Ok(None) => {}
        Ok(Some(payload)) => core.with(|state| {
            let name = entry.position().to_string();
            state.suspended.retain(|kept| kept.name != name);
            state.suspended.push(Value { name, value: Some(payload) });
        }),
        Err(error) => {
            tracing::warn!(run = %core.id, %error, "a resource could not be suspended");
        }
    }
}
