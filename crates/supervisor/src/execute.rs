//! Calls through the breaker of a resource, and failures told by others.

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;

use resurge_breaker::{BreakerError, ByResult, Classify, FailureKind, Outcome};

use crate::catch::{Payload, caught, message};
use crate::error::{ExecuteError, SupervisorError};
use crate::failure::Failure;
use crate::manager::RecoveryManager;

enum Ended<E> {
    Inner(E),
    Panicked(Payload),
}

impl RecoveryManager {
    /// Awaits `call` if the circuit of `name` admits it. A failure counts in the breaker; when the
    /// circuit opens, a repair begins. A panic is a failure of its own kind and goes on unwinding.
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
        let shared = &self.shared;
        let Some(resource) = shared.find(name) else {
            return Err(ExecuteError::UnknownResource(name.to_owned()));
        };
        let note = |kind, why: String| {
            let now = shared.at();
            let failure = Failure::new(kind, why).noted(now.wall);
            resource.machine.lock().note(failure, now);
            shared.publish_later(&resource);
            resource.wake();
        };
        let call = async {
            match caught(call).await {
                Ok(result) => {
                    let outcome = classify.classify(&result);
                    // ORDER: told before the breaker, which may open by it.
                    if let Outcome::Failure(kind) | Outcome::OpenFor(kind, _) = outcome {
                        let why = result.as_ref().err().map(ToString::to_string);
                        note(kind, why.unwrap_or_else(|| "its result is a failure".to_owned()));
                    }
                    match result {
                        Ok(value) => Ok((value, outcome)),
                        Err(error) => Err((Ended::Inner(error), outcome)),
                    }
                }
                Err(payload) => {
                    note(FailureKind::Panic, message(&payload));
                    Err((Ended::Panicked(payload), Outcome::Failure(FailureKind::Panic)))
                }
            }
        };
        let judged = |result: &Result<(T, Outcome), (Ended<E>, Outcome)>| match result {
            Ok((_, outcome)) | Err((_, outcome)) => *outcome,
        };
        match resource.breaker.run_with(&judged, call).await {
            Ok((value, _)) => Ok(value),
            Err(BreakerError::Rejected(rejected)) => Err(ExecuteError::Rejected(rejected)),
            Err(BreakerError::TimedOut(timed_out)) => {
                note(FailureKind::Timeout, timed_out.to_string());
                Err(ExecuteError::TimedOut(timed_out))
            }
            Err(BreakerError::Inner((Ended::Inner(error), _))) => Err(ExecuteError::Inner(error)),
            Err(BreakerError::Inner((Ended::Panicked(payload), _))) => resume_unwind(payload),
        }
    }

    /// Tells of a failure somebody else saw: it counts as a failed call in the breaker, and when the
    /// circuit opens, a strategy is chosen by it. Durably in the audit trail when it returns; while a
    /// repair is under way it joins the others that made it necessary.
    ///
    /// # Errors
    /// [`UnknownResource`](SupervisorError::UnknownResource); [`Journal`](SupervisorError::Journal) when
    /// the trail could not be written, and the failure counts all the same.
    pub async fn record_failure(
        &self,
        name: &str,
        failure: Failure,
    ) -> Result<(), SupervisorError> {
        let shared = &self.shared;
        let unknown = || SupervisorError::UnknownResource(name.to_owned());
        let resource = shared.find(name).ok_or_else(unknown)?;
        let (now, kind) = (shared.at(), failure.kind);
        // ORDER: told before the breaker, which may open by it.
        let state = resource.breaker.state();
        resource.machine.lock().record(failure.noted(now.wall), state, now);
        let written = shared.publish(&resource);
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
}
