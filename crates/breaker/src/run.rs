//! Calls through the breaker.

use std::future::Future;
use std::sync::Arc;

use crate::breaker::Breaker;
use crate::error::{BreakerError, TimedOut};
use crate::outcome::{ByResult, Classify, FailureKind, Outcome};
use crate::permit::Pass;
use crate::shared::Shared;
use crate::wait::first_of_two;

impl Breaker {
    /// Calls `f` if the circuit admits it. `Err` is a failure, a panic too; it goes on unwinding.
    ///
    /// A synchronous call never waits and has no timeout: `fast_fail` and `call_timeout` do not apply.
    ///
    /// # Errors
    /// [`BreakerError::Rejected`], or what `f` returned.
    #[inline]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, BreakerError<E>> {
        self.call_with(&ByResult, f)
    }

    /// The same; `classify` says what the result means.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    #[inline]
    pub fn call_with<T, E>(
        &self,
        classify: &impl Classify<T, E>,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, BreakerError<E>> {
        let pass = self.pass()?;
        let result = f();
        pass.settle(classify.classify(&result));
        result.map_err(BreakerError::Inner)
    }

    /// Awaits `call` if the circuit admits it, which is decided when this is first polled. `Err` is a
    /// failure, a panic too; it goes on unwinding.
    ///
    /// Dropped before it ended, it counts as [`DropPolicy`](crate::DropPolicy) says.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use resurge_breaker::Breaker;
    /// let breaker = Breaker::new("inventory");
    /// let answer = breaker.run(async { Ok::<_, std::io::Error>(7) }).await;
    /// assert_eq!(answer.unwrap(), 7);
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BreakerError::Rejected`]; [`BreakerError::TimedOut`] after `call_timeout`; or what `call`
    /// returned.
    pub async fn run<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        self.run_with(&ByResult, call).await
    }

    /// The same; `classify` says what the result means.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_with<T, E>(
        &self,
        classify: &impl Classify<T, E>,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        if self.root.shared.engine.waits() {
            // Waiting is no rejection: none is counted, however often somebody else is faster.
            let Ok(ticket) = self.root.shared.engine.admit(&*self.root.shared) else {
                let wait_at_most = self.config().wait_at_most;
                let permit = self.ready_in_time(wait_at_most).await?;
                return self.await_with(permit.0, classify, call).await;
            };
            return self.await_with(Pass::new(&*self.root.shared, ticket), classify, call).await;
        }
        let pass = self.pass()?;
        self.await_with(pass, classify, call).await
    }

    async fn await_with<H, T, E>(
        &self,
        pass: Pass<H>,
        classify: &impl Classify<T, E>,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>>
    where
        H: std::ops::Deref<Target = Shared>,
    {
        let result = match self.root.shared.engine.call_timeout() {
            None => call.await,
            Some(after) => {
                let sleep = self.root.shared.clock.sleep(after);
                let Some(result) = first_of_two(call, sleep).await else {
                    pass.settle(Outcome::Failure(FailureKind::Timeout));
                    let name = Arc::clone(&self.root.shared.name);
                    return Err(BreakerError::TimedOut(TimedOut { name, after }));
                };
                result
            }
        };
        pass.settle(classify.classify(&result));
        result.map_err(BreakerError::Inner)
    }
}
