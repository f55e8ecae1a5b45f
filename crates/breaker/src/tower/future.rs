//! The answer of a service behind a breaker, on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use resurge_store::BoxFuture;

use super::refused::{OnRefused, Refused};
use crate::error::TimedOut;
use crate::outcome::{Classify, FailureKind, Outcome};
use crate::permit::Pass;
use crate::share::Share;

type Timeout = (Duration, BoxFuture<'static, ()>);

pin_project! {
    /// The answer of a service behind a breaker, on its way. Owns the inner service's future and the
    /// permit; dropping it gives the call up.
    pub struct BreakerFuture<F, C, R> {
        #[pin]
        state: State<F, C>,
        refused: R,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C> {
        Running {
            #[pin]
            future: F,
            pass: Option<Pass<Share>>,
            timeout: Option<Timeout>,
            classify: C,
        },
        Refused { why: Option<Refused> },
    }
}

impl<F, C, R> BreakerFuture<F, C, R> {
    pub(super) fn running(
        future: F,
        pass: Pass<Share>,
        timeout: Option<Timeout>,
        classify: C,
        refused: R,
    ) -> Self {
        Self { state: State::Running { future, pass: Some(pass), timeout, classify }, refused }
    }

    pub(super) fn refused(why: Refused, refused: R) -> Self {
        Self { state: State::Refused { why: Some(why) }, refused }
    }
}

impl<F, C, R, T, E> Future for BreakerFuture<F, C, R>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
    R: OnRefused<T, E>,
{
    type Output = Result<T, R::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.state.project() {
            // Polled after it was ready: never again.
            StateProjection::Refused { why } => {
                why.take().map_or(Poll::Pending, |why| Poll::Ready(this.refused.refused(why)))
            }
            StateProjection::Running { future, pass, timeout, classify } => {
                let Some(mut own) = pass.take() else { return Poll::Pending };
                // On this stack while the inner future runs: when it panics, the permit is dropped by
                // the unwinding, which makes it a failure.
                own.begun = true;
                if let Poll::Ready(result) = future.poll(cx) {
                    own.settle(classify.classify(&result));
                    return Poll::Ready(result.map_err(|error| this.refused.inner(error)));
                }
                if let Some((after, sleep)) = timeout
                    && sleep.as_mut().poll(cx).is_ready()
                {
                    let name = Arc::clone(&own.host.name);
                    own.settle(Outcome::Failure(FailureKind::Timeout));
                    let why = Refused::TimedOut(TimedOut { name, after: *after });
                    return Poll::Ready(this.refused.refused(why));
                }
                *pass = Some(own);
                Poll::Pending
            }
        }
    }
}

impl<F, C, R> fmt::Debug for BreakerFuture<F, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BreakerFuture")
    }
}
