//! Bounded fan-out: the same work on many items, in branches of their own.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use resurge_store::BoxFuture;

use crate::Ctx;
use crate::core::RunCore;
use crate::step::Name;
use crate::step_error::{Class, FlowResult, StepError, StepErrorKind};

impl Ctx {
    /// Runs `work` on every item, on at most `limit` of them at once, and returns the results in the
    /// order of the items. Each item has a [`scope`](Self::scope) of its own.
    ///
    /// When an item fails no further one is begun; those that were begun are finished. The error
    /// carries the failure points of all that failed, so a resumed run goes on at each of them, and
    /// the items that were done stay done.
    ///
    /// ```
    /// # use resurge_flow::{Ctx, FlowResult, StepError};
    /// async fn resize_all(ctx: Ctx, images: Vec<String>) -> FlowResult<Vec<usize>> {
    ///     ctx.map("resize", images, 4, |ctx, _index, image| async move {
    ///         let bytes = ctx.step("load", || async { Ok::<_, StepError>(image.len()) }).await?;
    ///         ctx.step("store", || async { Ok::<_, StepError>(bytes / 2) }).await
    ///     })
    ///     .await
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of the items; [`Invalid`](StepErrorKind::Invalid) for a limit of 0 or a bad name;
    /// [`Misplaced`](StepErrorKind::Misplaced) in a step's body or another task.
    pub fn map<I, F, Fut, T>(
        &self,
        name: impl Into<Name>,
        items: I,
        limit: usize,
        mut work: F,
    ) -> impl Future<Output = FlowResult<Vec<T>>> + Send
    where
        I: IntoIterator,
        I::IntoIter: Send,
        I::Item: Send,
        F: FnMut(Ctx, usize, I::Item) -> Fut + Send,
        Fut: Future<Output = FlowResult<T>> + Send,
        T: Send,
    {
        let name = name.into();
        let scope = self.scope(name.clone());
        let mut items = items.into_iter().enumerate();
        async move {
            let ctx = scope?;
            if limit == 0 {
                let message = format!("`{name}` may run 0 items at once; at least 1 is needed");
                return Err(StepError::of(StepErrorKind::Invalid, Class::Permanent, message));
            }
            let mut running = Together::default();
            let mut done: Vec<Option<T>> = Vec::new();
            let mut failed: Vec<(usize, StepError)> = Vec::new();
            poll_fn(|cx| {
                loop {
                    while running.len() < limit && failed.is_empty() {
                        let Some((index, item)) = items.next() else { break };
                        done.push(None);
                        match Item::new(&ctx, index) {
                            Ok(of) => {
                                let work = work(of.ctx.clone(), index, item);
                                running.add(index, async move {
                                    let result = work.await;
                                    drop(of);
                                    result
                                });
                            }
                            Err(error) => failed.push((index, error)),
                        }
                    }
                    let ended = running.poll(cx);
                    if ended.is_empty() {
                        break;
                    }
                    for (index, result) in ended {
                        match (result, done.get_mut(index)) {
                            (Ok(value), Some(place)) => *place = Some(value),
                            (Ok(_), None) => {}
                            (Err(error), _) => failed.push((index, error)),
                        }
                    }
                }
                if running.len() == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let what = |index: usize| format!("item {index} of `{name}`");
            gather(failed, what, |count| format!("{count} items of `{name}`"))?;
            Ok(done.into_iter().flatten().collect())
        }
    }

    /// Awaits all of these steps or other futures at once and returns their results in order. Unlike
    /// `tokio::try_join!` it lets all of them end before it returns an error, which carries the
    /// failure points of all that failed.
    ///
    /// ```
    /// # use resurge_flow::{Ctx, FlowResult, StepError};
    /// async fn ping_all(ctx: Ctx, hosts: Vec<String>) -> FlowResult<Vec<usize>> {
    ///     let pings = hosts.iter().map(|host| {
    ///         ctx.step("ping", move || async move { Ok::<_, StepError>(host.len()) })
    ///     });
    ///     ctx.join_all(pings).await
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of the futures.
    pub fn join_all<'f, I, T>(&self, futures: I) -> BoxFuture<'f, FlowResult<Vec<T>>>
    where
        I: IntoIterator,
        I::Item: IntoFuture<Output = FlowResult<T>, IntoFuture: Send + 'f>,
        T: Send + 'f,
    {
        // Positions are taken here, by whoever makes the futures.
        let mut running = Together::default();
        for (index, future) in futures.into_iter().enumerate() {
            running.add(index, future.into_future());
        }
        Box::pin(async move {
            let mut done: Vec<Option<T>> = Vec::new();
            done.resize_with(running.len(), || None);
            let mut failed = Vec::new();
            poll_fn(|cx| {
                for (index, result) in running.poll(cx) {
                    match (result, done.get_mut(index)) {
                        (Ok(value), Some(place)) => *place = Some(value),
                        (Ok(_), None) => {}
                        (Err(error), _) => failed.push((index, error)),
                    }
                }
                if running.len() == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            gather(failed, |index| format!("number {index}"), |count| format!("{count} of them"))?;
            Ok(done.into_iter().flatten().collect())
        })
    }
}

/// The scope of an item, which is a branch for as long as this lives.
struct Item {
    ctx: Ctx,
    _branch: Branch,
}

impl Item {
    fn new(outer: &Ctx, index: usize) -> FlowResult<Self> {
        let ctx = outer.inner_scope(&index.to_string())?;
        let born = outer.core().with(|state| state.machine.born(outer.scope_path()));
        let branch = Branch::begin(ctx.core(), ctx.scope_path().into(), born);
        Ok(Self { ctx, _branch: branch })
    }
}

/// A part of the flow that does not see failures outside of it.
#[derive(Debug)]
pub(crate) struct Branch {
    core: Arc<RunCore>,
    path: Arc<str>,
}

impl Branch {
    pub(crate) fn begin(core: &Arc<RunCore>, path: Arc<str>, born: u64) -> Self {
        core.with(|state| state.machine.begin_branch(Arc::clone(&path), born));
        Self { core: Arc::clone(core), path }
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        self.core.with(|state| state.machine.end_branch(&self.path));
    }
}

/// One error for all that failed: of the first, with the failure points of all.
pub(crate) fn gather(
    mut failed: Vec<(usize, StepError)>,
    one: impl FnOnce(usize) -> String,
    many: impl FnOnce(usize) -> String,
) -> FlowResult<()> {
    failed.sort_by_key(|(index, _)| *index);
    let count = failed.len();
    let mut failed = failed.into_iter();
    let Some((index, first)) = failed.next() else { return Ok(()) };
    let what = match count {
        1 => one(index),
        _ => format!("{}, the first of them {}", many(count), one(index)),
    };
    let others = failed.flat_map(|(_, error)| error.positions().to_vec());
    Err(first.context(what).at_all(others.collect::<Vec<_>>()))
}

/// Futures that are polled in the order they were added, each only when it was woken. That order is
/// the same in every execution, and with it the order in which they take positions.
pub(crate) struct Together<'f, T> {
    running: Vec<Running<'f, T>>,
    shared: Arc<Shared>,
}

struct Running<'f, T> {
    index: usize,
    future: Pin<Box<dyn Future<Output = T> + Send + 'f>>,
    flag: Arc<Flag>,
}

#[derive(Default)]
struct Shared {
    waker: Mutex<Option<Waker>>,
}

struct Flag {
    woken: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // ORDER: marked before the task is woken, so that the task finds the mark.
        if !self.woken.swap(true, Ordering::AcqRel) {
            let waker = self.shared.waker.lock().clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Default for Together<'_, T> {
    fn default() -> Self {
        Self { running: Vec::new(), shared: Arc::default() }
    }
}

impl<'f, T> Together<'f, T> {
    pub(crate) fn add(&mut self, index: usize, future: impl Future<Output = T> + Send + 'f) {
        self.add_boxed(index, Box::pin(future));
    }

    pub(crate) fn add_boxed(&mut self, index: usize, future: BoxFuture<'f, T>) {
        let flag = Flag { woken: AtomicBool::new(true), shared: Arc::clone(&self.shared) };
        self.running.push(Running { index, future, flag: Arc::new(flag) });
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Polls those that were woken, and takes out those that ended.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Vec<(usize, T)> {
        {
            let mut waker = self.shared.waker.lock();
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        let mut ended = Vec::new();
        self.running.retain_mut(|running| {
            if !running.flag.woken.swap(false, Ordering::AcqRel) {
                return true;
            }
            let waker = Waker::from(Arc::clone(&running.flag));
            match running.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => {
                    ended.push((running.index, result));
                    false
                }
                Poll::Pending => true,
            }
        });
        ended
    }
}
