//! What goes wrong outside of the flow's own code.

use resurge_store::StoreError;
use resurge_wal::WalError;

use crate::step_error::ErrorRecord;
use crate::{Position, RunState};

/// What the calls of this crate return.
pub type Result<T, E = FlowError> = std::result::Result<T, E>;

/// Why a call on flows or runs failed. Every variant that concerns a run names it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// A name, an id or an option was refused.
    #[error("{0}")]
    Invalid(String),
    /// A flow of this name was registered before.
    #[error("a flow named `{0}` is registered already")]
    AlreadyRegistered(String),
    /// No flow of this name is registered.
    #[error("no flow named `{0}` is registered")]
    NotRegistered(String),
    /// Another run has this id: of another flow, or with another input.
    #[error("run `{run}` exists already: {difference}")]
    AlreadyExists {
        /// Its id.
        run: String,
        /// What differs.
        difference: String,
    },
    /// There is no such run, or it ended so long ago that it was swept.
    #[error("there is no run `{run}`")]
    NotFound {
        /// The id asked for.
        run: String,
    },
    /// The run failed. `resume` lets it go on at the failure point.
    #[error("run `{run}` failed{}: {error}", at(.positions))]
    Failed {
        /// Its id.
        run: String,
        /// The steps that failed, if the error came from steps.
        positions: Vec<Position>,
        /// Why.
        error: ErrorRecord,
    },
    /// The run was cancelled.
    #[error("run `{run}` was cancelled: {error}")]
    Cancelled {
        /// Its id.
        run: String,
        /// What its flow returned.
        error: ErrorRecord,
    },
    /// The run is set aside: something must change before it can go on. Nothing of it is lost.
    #[error("run `{run}` is blocked: {reason}")]
    Blocked {
        /// Its id.
        run: String,
        /// Why.
        reason: BlockReason,
    },
    /// The run has ended, so it takes no signal, cancel or pause.
    #[error("run `{run}` has ended: {state}")]
    Ended {
        /// Its id.
        run: String,
        /// How.
        state: RunState,
    },
    /// Only failed runs can be resumed.
    #[error("run `{run}` is not failed but {state}; only failed runs can be resumed")]
    NotFailed {
        /// Its id.
        run: String,
        /// Its state.
        state: RunState,
    },
    /// Somebody else resumed the run; it runs.
    #[error("run `{run}` is running already")]
    AlreadyRunning {
        /// Its id.
        run: String,
    },
    /// The flow was registered with `resumable(false)`.
    #[error("run `{run}` of flow `{flow}` is not resumable")]
    NotResumable {
        /// Its id.
        run: String,
        /// Its flow.
        flow: String,
    },
    /// A value could not be encoded, or what is stored not decoded.
    #[error("{cause}")]
    Value {
        /// The run's id.
        run: String,
        /// Which value.
        what: String,
        /// Why.
        cause: ErrorRecord,
    },
    /// The store failed. The run is where it was and is recovered later.
    #[error("run `{run}`: {source}")]
    Store {
        /// The run's id; empty when it concerns no single run.
        run: String,
        /// The store's error.
        source: StoreError,
    },
    /// The run's journal failed.
    #[error("journal of run `{run}`: {source}")]
    Journal {
        /// The run's id.
        run: String,
        /// The journal's error.
        source: WalError,
    },
    /// Somebody else opened flows on the same store and started them: they own its runs now.
    #[error("run `{run}`: other flows own the store's runs now")]
    Superseded {
        /// The run's id; empty when it concerns no single run.
        run: String,
    },
    /// The flows are shut down, or shutting down. The run is recovered at the next start.
    #[error("run `{run}`: the flows are shut down")]
    Closed {
        /// The run's id; empty when it concerns no single run.
        run: String,
    },
}

/// Why a run is set aside.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum BlockReason {
    /// Today's code asks for something else than the journal holds. Nothing was overwritten: deploy
    /// code that fits, then start again.
    #[error(
        "non-determinism at {position:?}: the journal holds {journal}, the code asks for {code}"
    )]
    NonDeterminism {
        /// Where.
        position: Position,
        /// What the journal holds.
        journal: String,
        /// What the code asks for.
        code: String,
    },
    /// Its flow is not registered.
    #[error("flow `{flow}` is not registered")]
    Unregistered {
        /// The flow's name.
        flow: String,
    },
    /// The journal cannot be read.
    #[error("its journal cannot be read: {0}")]
    Journal(String),
    /// The input cannot be decoded as what the flow takes, or be opened.
    #[error("its input cannot be read: {0}")]
    Input(String),
    /// A value cannot be opened, or cannot be sealed: a key is missing, wrong or not at hand. Supply it;
    /// then the run goes on with the next start, or with
    /// [`retry_sealed`](crate::Flows::retry_sealed).
    #[error("{0}")]
    Sealed(String),
}

impl From<crate::machine::Mismatch> for BlockReason {
    fn from(mismatch: crate::machine::Mismatch) -> Self {
        let crate::machine::Mismatch { position, journal, code } = mismatch;
        Self::NonDeterminism { position, journal, code }
    }
}

impl FlowError {
    pub(crate) fn store(run: &str) -> impl FnOnce(StoreError) -> Self + '_ {
        move |source| Self::Store { run: run.to_owned(), source }
    }

    pub(crate) fn journal(run: &str) -> impl FnOnce(WalError) -> Self + '_ {
        move |source| match source {
            WalError::Store(source) => Self::Store { run: run.to_owned(), source },
            source => Self::Journal { run: run.to_owned(), source },
        }
    }
}

fn at(positions: &[Position]) -> String {
    match positions {
        [] => String::new(),
        [one] => format!(" at step {one:?}"),
        many => format!(" at steps {many:?}"),
    }
}
