//! Calls through the breaker of a resource, and failures told by others.

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Arc;

use resurge_breaker::{BreakerError, ByResult, Classify, FailureKind, Outcome};
use resurge_store::Monotonic;

use crate::catch::{Payload, caught, message};
use crate::error::{ExecuteError, SupervisorError};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::manager::RecoveryManager;
use crate::resource::{Resource, Shared};

enum Ended<E> {
    Inner(E),
    Panicked(Payload),
}

impl RecoveryManager {
    /// Awaits `call` if the circuit of `name` admits it. A failure counts in the breaker; when the
    /// circuit opens, a repair begins. A panic is a failure of its own kind and goes on unwinding.
    ///
    /// A name nobody registered is an error, so that a misspelt one does not pass unprotected, unless
    /// [`ManagerBuilder::on_unknown`](crate::ManagerBuilder::on_unknown) makes a resource of it.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub async fn execute<T, E: fmt::Display>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ExecuteError<E>> {
        self.execute_with(name, &ByResult, call).await
    }

    /// The same; `classify` says what the result means.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_with<T, E: fmt::Display>(
        &self,
        name: &str,
        classify: &impl Classify<T, E>,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ExecuteError<E>> {
        let resource = self.resource(name).map_err(|error| match error {
            SupervisorError::UnknownResource(name) => ExecuteError::UnknownResource(name),
            other => ExecuteError::Unregistered { name: name.to_owned(), why: other.to_string() },
        })?;
        let told = Told { shared: &self.shared, resource: &resource };
        let call = async {
            // ORDER: dropped before the breaker's permit, so told before the breaker opens by it.
            let mut given_up =
                GivenUp { told: &told, began: self.shared.clock.monotonic(), over: false };
            let ended = caught(call).await;
            given_up.over = true;
            match ended {
                Ok(result) => {
                    let outcome = classify.classify(&result);
                    // ORDER: told before the breaker, which may open by it.
                    if let Outcome::Failure(kind) | Outcome::OpenFor(kind, _) = outcome {
                        let why = result.as_ref().err().map(ToString::to_string);
                        let why = why.unwrap_or_else(|| "its result is a failure".to_owned());
                        told.note(Failure::new(kind, why));
                    }
                    match result {
                        Ok(value) => Ok((value, outcome)),
                        Err(error) => Err((Ended::Inner(error), outcome)),
                    }
                }
                Err(panic) => {
                    let mut failure = Failure::new(FailureKind::Panic, message(&panic.payload));
                    failure.stack = panic.stack;
                    told.note(failure);
                    let outcome = Outcome::Failure(FailureKind::Panic);
                    Err((Ended::Panicked(panic.payload), outcome))
                }
            }
        };
        let judged = |result: &Result<(T, Outcome), (Ended<E>, Outcome)>| match result {
            Ok((_, outcome)) | Err((_, outcome)) => *outcome,
        };
        match resource.breaker.run_with(&judged, call).await {
            Ok((value, _)) => Ok(value),
            Err(BreakerError::Rejected(rejected)) => Err(ExecuteError::Rejected(rejected)),
            Err(BreakerError::TimedOut(timed_out)) => Err(ExecuteError::TimedOut(timed_out)),
            Err(BreakerError::Inner((Ended::Inner(error), _))) => Err(ExecuteError::Inner(error)),
            Err(BreakerError::Inner((Ended::Panicked(payload), _))) => resume_unwind(payload),
        }
    }

    /// Tells of a failure somebody else saw: it counts as a failed call in the breaker, and when the
    /// circuit opens, a strategy is chosen by it. Durably in the audit trail when it returns; while a
    /// repair is under way it joins the others that made it necessary.
    ///
    /// # Errors
    /// [`UnknownResource`](SupervisorError::UnknownResource), as [`execute`](Self::execute);
    /// [`Journal`](SupervisorError::Journal) when the trail could not be written, and the failure counts
    /// all the same.
    pub async fn record_failure(
        &self,
        name: &str,
        failure: Failure,
    ) -> Result<(), SupervisorError> {
        let shared = &self.shared;
        let resource = self.resource(name)?;
        let (now, kind) = (shared.at(), failure.kind);
        // ORDER: told before the breaker, which may open by it.
        let state = resource.breaker.state();
        let failure = failure.noted(now.wall);
        let record = |machine: &mut Machine| machine.record(failure, state, now);
        let ((), written) = shared.deciding(&resource, record);
        if resource.breaker.check().is_none()
            && let Ok(permit) = resource.breaker.acquire()
        {
            permit.failure(kind);
        }
        resource.wake();
        if let Some(written) = written {
            written.await?;
        }
        Ok(())
    }

    /// The resource of this name, made now if somebody said how.
    fn resource(&self, name: &str) -> Result<Arc<Resource>, SupervisorError> {
        if let Some(resource) = self.shared.find(name) {
            return Ok(resource);
        }
        let unknown = || SupervisorError::UnknownResource(name.to_owned());
        let make = self.shared.unknown.as_ref().ok_or_else(unknown)?;
        match self.register(name, make(name).ok_or_else(unknown)?) {
            // Somebody else was faster.
            Ok(_) | Err(SupervisorError::ResourceExists(_)) => {
                self.shared.find(name).ok_or_else(unknown)
            }
            Err(error) => Err(error),
        }
    }
}

/// Tells the machine how calls of a resource failed.
struct Told<'a> {
    shared: &'a Arc<Shared>,
    resource: &'a Arc<Resource>,
}

impl Told<'_> {
    fn note(&self, failure: Failure) {
        let now = self.shared.at();
        self.resource.machine.lock().note(failure.noted(now.wall), now);
        self.resource.wake();
        self.shared.publish_later(self.resource);
    }
}

/// Tells of a call that was given up, if the breaker takes that for a failure.
struct GivenUp<'a> {
    told: &'a Told<'a>,
    began: Monotonic,
    over: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let config = self.told.resource.breaker.config();
        let took = self.told.shared.clock.monotonic().saturating_since(self.began);
        let limit = [config.call_timeout, config.drop_after()].into_iter().flatten().min();
        if limit.is_some_and(|limit| took >= limit) {
            let took = humantime::format_duration(took);
            self.told.note(Failure::new(FailureKind::Timeout, format!("given up after {took}")));
        }
    }
}
