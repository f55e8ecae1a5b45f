//! One attempt: the body under its time limit, its panics caught, what it wrote looked at.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::current::{Body, enter_body};
use crate::step_error::{Class, StepError, StepErrorKind};

/// Bytes that one body may write.
const MAX_WRITES: usize = 4 << 20;

/// What a body wrote joins the commit of its step, which must not fail for it.
pub(super) fn can_write(seen: &Body) -> Result<(), StepError> {
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
