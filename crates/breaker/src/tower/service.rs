//! A service behind a breaker.

use std::fmt;
use std::task::{Context, Poll};

use resurge_store::{BoxFuture, Monotonic};
use tower_service::Service;

use super::future::BreakerFuture;
use super::refused::{OnRefused, Refused};
use crate::breaker::Breaker;
use crate::error::Rejected;
use crate::outcome::Classify;
use crate::permit::{Pass, Permit};
use crate::sync::Mutex;
use crate::wait::first_of_two;

/// A service behind a breaker; made by [`BreakerLayer`](super::BreakerLayer).
///
/// * An open circuit polls and calls the inner service never. It answers from `call`: an error from
///   `poll_ready` would end the service.
/// * Whether a request is admitted is decided in `call`; dropping the future gives a probe's place back.
/// * When the circuit opens after the inner service said that it is ready, the request is refused
///   and what the inner service reserved stays with this instance for the next one.
/// * With `fast_fail` off, `poll_ready` waits, up to `wait_at_most`, and takes the permit along.
/// * Nothing is allocated for a request, unless `call_timeout` is set or `poll_ready` has to wait.
pub struct BreakerService<S, C, R> {
    inner: S,
    breaker: Breaker,
    classify: C,
    refused: R,
    ready: Ready,
    /// Waits for the circuit, or for it to open while the inner service is not ready. Never locked:
    /// the mutex makes the service `Sync`, which routers ask for.
    wait: Option<Mutex<BoxFuture<'static, bool>>>,
    /// Until when it waits for the circuit.
    deadline: Option<Monotonic>,
}

/// What `poll_ready` promised; not copied by `clone`.
enum Ready {
    No,
    /// The inner service is ready.
    Inner,
    /// The inner service is ready, and the breaker admits the next request.
    Granted(Permit),
    /// The next request is refused, whatever the circuit does meanwhile: the inner service was not asked.
    Refuse(Rejected),
}

impl<S, C, R> BreakerService<S, C, R> {
    pub(super) fn new(inner: S, breaker: Breaker, classify: C, refused: R) -> Self {
        Self { inner, breaker, classify, refused, ready: Ready::No, wait: None, deadline: None }
    }

    /// The breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn is(&mut self, ready: Ready) {
        self.ready = ready;
        self.wait = None;
        self.deadline = None;
    }

    /// The inner service is not ready: also wake up when the circuit opens.
    fn watch_opening(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let breaker = &self.breaker;
        let wait = self.wait.get_or_insert_with(|| {
            let opening = breaker.clone().rejecting();
            Mutex::new(Box::pin(async move {
                opening.await;
                true
            }))
        });
        wait.get_mut().as_mut().poll(cx).map(|_| self.wait = None)
    }

    /// Resolves when it is worth asking the circuit again, or with false at the deadline.
    fn wait_for_circuit(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let clock = &self.breaker.root.shared.clock;
        let deadline = *self.deadline.get_or_insert_with(|| {
            clock.monotonic().saturating_add(self.breaker.config().wait_at_most)
        });
        let breaker = &self.breaker;
        let wait = self.wait.get_or_insert_with(|| {
            let breaker = breaker.clone();
            let sleep = breaker.root.shared.clock.sleep_until(deadline);
            let wait = async move { first_of_two(breaker.admissible(), sleep).await.is_some() };
            Mutex::new(Box::pin(wait) as BoxFuture<'static, bool>)
        });
        wait.get_mut().as_mut().poll(cx).map(|admissible| {
            self.wait = None;
            admissible
        })
    }
}

impl<S: Clone, C: Clone, R: Clone> Clone for BreakerService<S, C, R> {
    fn clone(&self) -> Self {
        let (classify, refused) = (self.classify.clone(), self.refused.clone());
        Self::new(self.inner.clone(), self.breaker.clone(), classify, refused)
    }
}

impl<S, C, R, Req> Service<Req> for BreakerService<S, C, R>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    R: OnRefused<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = R::Error;
    type Future = BreakerFuture<S::Future, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let waits = self.breaker.root.shared.engine.waits();
        while let Ready::No = self.ready {
            // ORDER: the circuit first; an inner service that is never ready must not hide it.
            if let Some(rejected) = self.breaker.check() {
                if !waits || !std::task::ready!(self.wait_for_circuit(cx)) {
                    self.is(Ready::Refuse(rejected));
                }
                continue;
            }
            match self.inner.poll_ready(cx) {
                Poll::Ready(Ok(())) if !waits => self.is(Ready::Inner),
                Poll::Ready(Ok(())) => {
                    // Somebody may have been faster: then it waits on.
                    if let Ok(ticket) =
                        self.breaker.root.shared.engine.admit(&*self.breaker.root.shared)
                    {
                        let mut pass = Pass::new(self.breaker.root.share(), ticket);
                        pass.begun = false;
                        self.is(Ready::Granted(Permit(pass)));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.refused.inner(error))),
                Poll::Pending if waits => return Poll::Pending,
                Poll::Pending => std::task::ready!(self.watch_opening(cx)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let refused = self.refused.clone();
        let permit = match std::mem::replace(&mut self.ready, Ready::No) {
            Ready::Granted(mut permit) => {
                // What passed since `poll_ready` is not the call's time.
                permit.0.ticket.begin_now(&*self.breaker.root.shared);
                Ok(permit)
            }
            Ready::No | Ready::Inner => self.breaker.acquire(),
            Ready::Refuse(rejected) => Err(self.breaker.refuse_as(rejected)),
        };
        let mut pass = match permit {
            Ok(Permit(pass)) => pass,
            Err(rejected) => return BreakerFuture::refused(Refused::Rejected(rejected), refused),
        };
        let shared = &self.breaker.root.shared;
        let timeout = shared.engine.call_timeout();
        let timeout = timeout.map(|after| (after, shared.clock.sleep(after)));
        // A panic in here is the call's.
        pass.begun = true;
        let future = self.inner.call(request);
        pass.begun = false;
        BreakerFuture::running(future, pass, timeout, self.classify.clone(), refused)
    }
}

impl Breaker {
    /// Counts a rejection that was decided before, with what is known about it now.
    fn refuse_as(&self, rejected: Rejected) -> Rejected {
        if let Err(refusal) = self.root.shared.engine.peek(&*self.root.shared) {
            return self.root.shared.reject(refusal);
        }
        self.root.shared.count_rejection();
        Rejected { retry_after: Some(std::time::Duration::ZERO), ..rejected }
    }
}

impl<S: fmt::Debug, C, R> fmt::Debug for BreakerService<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BreakerService");
        out.field("inner", &self.inner).field("breaker", &self.breaker).finish_non_exhaustive()
    }
}
