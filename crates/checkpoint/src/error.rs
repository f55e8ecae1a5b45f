//! What can go wrong, and what the caller should do about it.

use resurge_store::{ErrorKind, StoreError, Timestamp};

use crate::StepId;

/// What every call of this crate returns, but for those that run a step.
pub type Result<T, E = CheckpointError> = std::result::Result<T, E>;

/// A failure of this crate. [`kind`](Self::kind) tells what to do, in the words of the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The store failed before the step ran: it did not run.
    #[error("{step} did not run: {source}")]
    Store {
        /// Which.
        step: StepId,
        /// What the store says.
        source: StoreError,
    },
    /// The step ran and succeeded, and its result could not be stored: the next call finds it in
    /// doubt, or runs it again, as the policy says.
    #[error("{step} ran, and its result was not stored: {source}")]
    NotStored {
        /// Which.
        step: StepId,
        /// What the store says.
        source: StoreError,
    },
    /// Somebody began the step and was never heard of again: it may have happened. The policy forbids
    /// to run it once more. Find out, then [`record`](crate::Checkpoints::record) the result or
    /// [`forget`](crate::Checkpoints::forget) the attempt.
    #[error("{step} is in doubt: it was begun at {since} by owner {owner}, which is gone")]
    InDoubt {
        /// Which.
        step: StepId,
        /// When it was begun.
        since: Timestamp,
        /// Who began it; see [`Checkpoints::owner`](crate::Checkpoints::owner).
        owner: u64,
    },
    /// The result is larger than the store takes.
    #[error("the result of {step} has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Which.
        step: StepId,
        /// The size of the serialised result.
        bytes: usize,
        /// The most that is stored.
        limit: usize,
    },
    /// The result refused to be serialised, or what it was serialised to is not read back as such a value.
    /// Nothing was stored.
    #[error("the result of {step} cannot be stored: {what}")]
    Encode {
        /// Which.
        step: StepId,
        /// What the codec says.
        what: String,
    },
    /// The stored result is intact and no value of the asked type: the type changed and the step's
    /// version did not.
    #[error("the stored result of {step} is no such value: {what}")]
    Decode {
        /// Which.
        step: StepId,
        /// What the codec says.
        what: String,
    },
    /// There is a result already, or somebody is running the step right now.
    #[error("{step} cannot be recorded: {what}")]
    Occupied {
        /// Which.
        step: StepId,
        /// What is there.
        what: &'static str,
    },
    /// A name, an input or an option is out of range.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The store failed, and no single step is concerned.
    #[error(transparent)]
    Backend(#[from] StoreError),
}

impl CheckpointError {
    /// What to do about it: that of the store's error; `Indeterminate` for a step in doubt, `Conflict`
    /// where somebody was first, `Invalid` (fix the caller) for the others.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } | Self::NotStored { source, .. } | Self::Backend(source) => {
                source.kind()
            }
            Self::InDoubt { .. } => ErrorKind::Indeterminate,
            Self::Occupied { .. } => ErrorKind::Conflict,
            Self::TooLarge { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Invalid(_) => ErrorKind::Invalid,
        }
    }

    /// The step it is about, where there is one.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::Store { step, .. }
            | Self::NotStored { step, .. }
            | Self::InDoubt { step, .. }
            | Self::TooLarge { step, .. }
            | Self::Encode { step, .. }
            | Self::Decode { step, .. }
            | Self::Occupied { step, .. } => Some(step),
            Self::Invalid(_) | Self::Backend(_) => None,
        }
    }
}

/// Why a run of a step gave no result: the step's own error, or one of this crate.
///
/// It goes through `?` into a boxed error, and into an error of yours that has a
/// `#[from] RunError<E>`. [`into_step`](Self::into_step) gives the step's own error back:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints};
/// # let store = resurge_store::Store::memory();
/// let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
/// let key = CheckpointKey::global("parse").input(&"x1").build()?;
/// let failed = checkpoints.run(&key, Duration::ZERO, || async { "x1".parse::<u32>() }).await.unwrap_err();
/// assert_eq!(failed.to_string(), "step `parse` failed: invalid digit found in string");
/// assert!(failed.into_step().is_some());
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The step ran and failed. Nothing is stored; the next call runs it again.
    Step {
        /// Which.
        step: StepId,
        /// What it returned.
        error: E,
    },
    /// Storing, claiming or reading failed; whether the step ran says the error.
    Checkpoint(CheckpointError),
}

impl<E> RunError<E> {
    /// What a step returned, for code that wraps `run`.
    pub fn step(step: StepId, error: E) -> Self {
        Self::Step { step, error }
    }

    /// The step's own error.
    pub fn step_error(&self) -> Option<&E> {
        match self {
            Self::Step { error, .. } => Some(error),
            Self::Checkpoint(_) => None,
        }
    }

    /// The step's own error, by value.
    pub fn into_step(self) -> Option<E> {
        match self {
            Self::Step { error, .. } => Some(error),
            Self::Checkpoint(_) => None,
        }
    }

    /// The error of this crate.
    pub fn checkpoint(&self) -> Option<&CheckpointError> {
        match self {
            Self::Step { .. } => None,
            Self::Checkpoint(error) => Some(error),
        }
    }
}

impl<E> From<CheckpointError> for RunError<E> {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(error)
    }
}

impl<E: std::fmt::Display> std::fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step { step, error } => write!(f, "{step} failed: {error}"),
            Self::Checkpoint(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for RunError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text shows the error itself; its cause comes next.
        match self {
            Self::Step { error, .. } => error.source(),
            Self::Checkpoint(error) => error.source(),
        }
    }
}
