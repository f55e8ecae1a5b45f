//! What a user's state must be able to do.

use std::error::Error;

use resurge_snapshot::OldState;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A state that changes only by applying events.
///
/// Implement it when the state is not cheap to clone or is not serialised as it is; for every other
/// type implement [`PlainMachine`], which needs only `apply`.
pub trait StateMachine: Send + Sync + 'static {
    /// What happened. It is stored, so old variants must stay readable: add variants and optional
    /// fields, do not change what there is.
    type Event: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The state as a snapshot holds it.
    type Frozen: Serialize + DeserializeOwned + Send + 'static;

    /// The version of [`Frozen`](Self::Frozen). Raise it when old snapshots no longer decode as it,
    /// and read those in [`migrate`](Self::migrate).
    const SCHEMA_VERSION: u32 = 1;

    /// Changes the state. It must depend on nothing but the state and the event: no clock, no
    /// randomness, nothing outside. It runs again at every recovery and must come to the same state.
    ///
    /// It cannot refuse: check first, in [`Journaled::decide`](crate::Journaled::decide). A panic
    /// here poisons the journal.
    fn apply(&mut self, event: &Self::Event);

    /// Copies the state. It is called under the lock, while nobody can read or write: keep it
    /// short. Serialising happens later and elsewhere.
    fn freeze(&self) -> Self::Frozen;

    /// The reverse of [`freeze`](Self::freeze).
    fn thaw(frozen: Self::Frozen) -> Self;

    /// Reads a state of an older schema version.
    ///
    /// # Errors
    /// When it cannot; the journal is then not opened.
    fn migrate(from: u32, old: OldState) -> Result<Self::Frozen, Box<dyn Error + Send + Sync>> {
        drop(old);
        Err(format!("no migration from schema version {from} is implemented").into())
    }
}

/// A [`StateMachine`] that is frozen by cloning and serialised as it is.
///
/// ```
/// use resurge_journal::PlainMachine;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Balance(i64);
///
/// impl PlainMachine for Balance {
///     type Event = i64;
///     fn apply(&mut self, change: &i64) {
///         self.0 += change;
///     }
/// }
/// ```
pub trait PlainMachine: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// See [`StateMachine::Event`].
    type Event: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// See [`StateMachine::SCHEMA_VERSION`].
    const SCHEMA_VERSION: u32 = 1;

    /// See [`StateMachine::apply`].
    fn apply(&mut self, event: &Self::Event);

    /// See [`StateMachine::migrate`].
    ///
    /// # Errors
    /// When it cannot; the journal is then not opened.
    fn migrate(from: u32, old: OldState) -> Result<Self, Box<dyn Error + Send + Sync>> {
        drop(old);
        Err(format!("no migration from schema version {from} is implemented").into())
    }
}

impl<M: PlainMachine> StateMachine for M {
    type Event = <M as PlainMachine>::Event;
    type Frozen = M;

    const SCHEMA_VERSION: u32 = <M as PlainMachine>::SCHEMA_VERSION;

    fn apply(&mut self, event: &<M as PlainMachine>::Event) {
        PlainMachine::apply(self, event);
    }

    fn freeze(&self) -> M {
        self.clone()
    }

    fn thaw(frozen: M) -> M {
        frozen
    }

    fn migrate(from: u32, old: OldState) -> Result<M, Box<dyn Error + Send + Sync>> {
        <M as PlainMachine>::migrate(from, old)
    }
}
