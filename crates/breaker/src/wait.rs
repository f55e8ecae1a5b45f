//! The other side of failing fast: waiting until the circuit lets a call through.

use std::time::Duration;

use resurge_store::Monotonic;

use crate::breaker::Breaker;
use crate::error::Rejected;
use crate::permit::{Pass, Permit};
use crate::state::State;

impl Breaker {
    /// Waits until a call is admitted, as long as it takes: for ever while it is forced open. Where
    /// many wait for few probes, some are admitted and the others go on waiting. Cancel safe.
    pub async fn ready(&self) -> Permit {
        loop {
            self.admissible().await;
            // Somebody may have been faster; waiting is no rejection, so none is counted.
            if let Ok(ticket) = self.root.shared.engine.admit(&*self.root.shared) {
                return Permit(Pass::new(self.root.share(), ticket));
            }
        }
    }

    /// Waits until a call would be admitted, and takes nothing: somebody else may be faster. Cancel safe.
    pub async fn admissible(&self) {
        loop {
            let moved = self.root.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let Err(refusal) = self.root.shared.engine.peek(&*self.root.shared) else { return };
            match refusal.until_ns.or_else(|| self.hung_at_ns()) {
                None => moved.await,
                Some(until) => {
                    let until = Monotonic::from_origin(Duration::from_nanos(until));
                    first_of_two(moved, self.root.shared.clock.sleep_until(until)).await;
                }
            }
        }
    }

    /// Waits as the configuration says: not at all, or up to `wait_at_most`.
    pub(crate) async fn ready_in_time(&self, wait_at_most: Duration) -> Result<Permit, Rejected> {
        let deadline = self.root.shared.clock.monotonic().saturating_add(wait_at_most);
        let ready = self.ready();
        let sleep = self.root.shared.clock.sleep_until(deadline);
        tokio::pin!(ready);
        match first_of_two(ready, sleep).await {
            Some(permit) => Ok(permit),
            // Asked once more, so that the rejection says why; it may even be admitted now.
            None => self.acquire(),
        }
    }

    /// Resolves when the circuit rejects calls.
    pub(crate) async fn rejecting(self) {
        loop {
            let moved = self.root.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.root.shared.engine.peek(&*self.root.shared).is_err() {
                return;
            }
            moved.await;
        }
    }

    /// When the probes that keep others out are given up.
    fn hung_at_ns(&self) -> Option<u64> {
        let until = self
            .root
            .shared
            .engine
            .read(|machine| (machine.state() == State::HalfOpen).then(|| machine.until_ns()));
        until.filter(|until| *until != u64::MAX)
    }
}

/// What `a` resolves to, unless `b` is first. `a` is asked first.
pub(crate) async fn first_of_two<T>(
    a: impl Future<Output = T>,
    b: impl Future<Output = ()>,
) -> Option<T> {
    tokio::pin!(a, b);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(value) = a.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(value));
        }
        b.as_mut().poll(cx).map(|()| None)
    })
    .await
}
