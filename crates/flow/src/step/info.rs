//! What a step's body can know of itself.

use std::sync::Arc;

use resurge_store::Batch;

use crate::Position;
use crate::current::Body;
use crate::step_error::{Class, FlowResult, StepError, StepErrorKind};

/// What a step's body can know of itself and do beside returning a value.
#[derive(Clone, Debug)]
pub struct StepInfo {
    body: Arc<Body>,
}

impl StepInfo {
    /// Of the step whose body calls this; `None` outside of a body.
    ///
    /// Ask at the beginning of the body: a task spawned by it is outside.
    pub fn current() -> Option<Self> {
        crate::current::body().map(|body| Self { body })
    }

    pub(crate) fn of(body: &Arc<Body>) -> Self {
        Self { body: Arc::clone(body) }
    }

    pub(crate) fn here() -> FlowResult<Self> {
        Self::current().ok_or_else(|| {
            let message = "a step's body was called outside of its step";
            StepError::of(StepErrorKind::Misplaced, Class::Permanent, message)
        })
    }

    /// The step's name.
    pub fn name(&self) -> &str {
        self.body.position.name()
    }

    /// The step's position.
    pub fn position(&self) -> &Position {
        &self.body.position
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.body.core.id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.body.attempt
    }

    /// True when the run failed at this step and was resumed.
    pub fn recovering(&self) -> bool {
        self.body.recovering
    }

    /// True for a [deferred](crate::Step::deferred) step.
    pub fn deferred(&self) -> bool {
        self.body.deferred
    }

    /// The same for every attempt at this step, whatever crashes or resumes lie in between, and
    /// different for every other step and run: 64 hexadecimal digits. Hand it to the service that is
    /// called, so that a repeated call changes nothing.
    pub fn idempotency_key(&self) -> String {
        match &self.body.memo {
            Some(key) => key.idempotency_key(),
            None => self.body.core.idempotency_key(&self.body.position),
        }
    }

    /// Whether the run was cancelled meanwhile.
    pub fn is_cancelled(&self) -> bool {
        self.body.core.is_cancelled()
    }

    /// Resolves when the run is cancelled. The body decides what to do about it; its result counts.
    pub async fn cancelled(&self) {
        self.body.core.cancelled().await;
    }

    /// Adds writes to the commit that records this step's success: with it they happen exactly once,
    /// whatever crashes. Nothing is written if the attempt fails.
    ///
    /// Puts and deletes only, of at most 4 MiB together: a guard, or more, fails the step for good.
    pub fn write(&self, write: impl FnOnce(&mut Batch)) {
        write(&mut self.body.writes.lock());
    }
}
