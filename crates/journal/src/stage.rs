//! Events in somebody else's commit: stage, write, commit, submitted.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use resurge_store::{Batch, CommitSeq, Durability, Result as StoreResult};
use resurge_wal::{Lsn, Stage, Staged, StagedCommit, WalError};

use crate::core::{Core, Locked};
use crate::{JournalError, Journaled, Result, StateMachine};

impl<M: StateMachine> Journaled<M> {
    /// Waits for the right to put events into a batch of the caller's own, so that they are logged
    /// together with whatever else is in it, or not at all. One at a time; cancel safe. Truncation
    /// waits while somebody has it, so do not await `snapshot_now` or `close` with it in hand.
    ///
    /// ```
    /// # use resurge_journal::PlainMachine;
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Balance(i64);
    /// # impl PlainMachine for Balance {
    /// #     type Event = i64;
    /// #     fn apply(&mut self, change: &i64) { self.0 += change; }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resurge_journal::{JournalOptions, Journaled};
    /// use resurge_store::{Batch, Durability, Namespace, Store};
    /// # let store = Store::memory();
    /// # let (balance, _) = Journaled::<Balance>::open(&store, "b", JournalOptions::default()).await?;
    /// let mut batch = Batch::new();
    /// batch.put(Namespace::new("app")?.key("receipt")?, "5 received");
    /// let committed = {
    ///     let staged = balance.stage().await?.write([5], &mut batch)?;
    ///     staged.submitted(store.commit(batch, Durability::Durable), Durability::Durable)
    /// };
    /// committed.await?;
    /// assert_eq!(balance.read(|balance| balance.0).await?, 5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Closed`, or why the log takes nothing more.
    pub async fn stage(&self) -> Result<JournalStage<'_, M>> {
        drop(self.core.lock()?);
        match self.core.wal.stage().await {
            Ok(stage) => Ok(JournalStage { core: &self.core, stage }),
            Err(e) => match self.core.lock() {
                Ok(live) => Err(self.core.poisoned_by(live, e)),
                Err(closed) => Err(closed),
            },
        }
    }
}

/// The right to put events into a batch. Made by [`Journaled::stage`]; dropping it changes nothing.
#[must_use = "nothing is logged before it is written and submitted"]
pub struct JournalStage<'a, M: StateMachine> {
    core: &'a Arc<Core<M>>,
    stage: Stage<M::Event>,
}

impl<'a, M: StateMachine> JournalStage<'a, M> {
    /// Puts `events` into `batch`.
    ///
    /// From here until it is submitted or dropped the state is locked: commit at once, and do not
    /// call this journal in between. (The result cannot be held across an `await` of a task.)
    ///
    /// # Errors
    /// `Unavailable` while the store is: stage again. `Invalid` for an event that cannot be stored.
    /// Batch and state are unchanged in both cases. Otherwise as [`Journaled::record`].
    pub fn write(
        self,
        events: impl IntoIterator<Item = M::Event>,
        batch: &mut Batch,
    ) -> Result<JournalStaged<'a, M>> {
        let written = self.decide(|_| Ok::<_, JournalError>((events, ())), batch)?;
        Ok(written.0)
    }

    /// As [`write`](Self::write) for events that depend on the state, see [`Journaled::decide`].
    ///
    /// # Errors
    /// That of `decide`, with nothing changed; otherwise as [`write`](Self::write).
    pub fn decide<R, E, I>(
        self,
        decide: impl FnOnce(&M) -> Result<(I, R), E>,
        batch: &mut Batch,
    ) -> Result<(JournalStaged<'a, M>, R), E>
    where
        E: From<JournalError>,
        I: IntoIterator<Item = M::Event>,
    {
        let Self { core, mut stage } = self;
        let live = core.lock()?;
        let (events, answer) = decide(&live.machine)?;
        let events: Vec<_> = events.into_iter().collect();
        for event in &events {
            stage.push(event).map_err(JournalError::Log)?;
        }
        let staged = match stage.write(batch) {
            Ok(staged) => staged,
            Err(error @ WalError::Backlog { .. }) => return Err(JournalError::Log(error).into()),
            Err(error) => return Err(core.poisoned_by(live, error).into()),
        };
        let next = staged.lsns().start;
        if next != live.next {
            // An event that is applied was not logged.
            let (log, asked) = (Arc::clone(&core.name), live.next);
            drop(staged);
            return Err(core.poisoned_by(live, WalError::NotNext { log, asked, next }).into());
        }
        Ok((JournalStaged { core, staged, live, events }, answer))
    }
}

/// Events that are in a batch which was not committed yet. The state is locked.
#[must_use = "dropping it gives the events up"]
pub struct JournalStaged<'a, M: StateMachine> {
    core: &'a Arc<Core<M>>,
    // ORDER: the log is told of a drop before the state is unlocked.
    staged: Staged,
    live: Locked<'a, M>,
    events: Vec<M::Event>,
}

impl<M: StateMachine> JournalStaged<'_, M> {
    /// The events' numbers.
    pub fn lsns(&self) -> Range<Lsn> {
        self.staged.lsns()
    }

    /// Says that the batch was handed to the store, and applies the events. `commit` is what
    /// `store.commit` returned, or what another crate's `submitted` for the same batch did.
    pub fn submitted(
        self,
        commit: impl Future<Output = StoreResult<CommitSeq>> + Send + 'static,
        durability: Durability,
    ) -> JournalCommit<M> {
        let Self { core, mut live, staged, events } = self;
        let commit = staged.submitted(commit, durability);
        live.apply(&events);
        core.note_due(&live);
        drop(live);
        JournalCommit { core: Arc::clone(core), commit, events: events.len() as u64 }
    }
}

/// Resolves with the outcome of the shared commit. Dropping it undoes nothing.
///
/// # Errors
/// `Staged` with the store's error. The events were applied when they were submitted, so an error,
/// a `Conflict` of somebody's guard included, poisons the journal: open it again.
#[must_use = "the events are durable only when this resolved with `Ok`"]
pub struct JournalCommit<M: StateMachine> {
    core: Arc<Core<M>>,
    commit: StagedCommit,
    events: u64,
}

impl<M: StateMachine> Future for JournalCommit<M> {
    type Output = Result<CommitSeq>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        Pin::new(&mut this.commit).poll(cx).map(|committed| match committed {
            Ok(seq) => {
                this.core.metrics.events.increment(this.events);
                Ok(seq)
            }
            Err(e) => {
                let error = JournalError::Staged(e);
                this.core.poison(error.clone());
                Err(error)
            }
        })
    }
}

impl<M: StateMachine> fmt::Debug for JournalStage<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalStage").field("journal", &self.core.name).finish_non_exhaustive()
    }
}

impl<M: StateMachine> fmt::Debug for JournalStaged<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalStaged")
            .field("journal", &self.core.name)
            .field("lsns", &self.lsns())
            .finish_non_exhaustive()
    }
}

impl<M: StateMachine> fmt::Debug for JournalCommit<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalCommit").field("commit", &self.commit).finish_non_exhaustive()
    }
}
