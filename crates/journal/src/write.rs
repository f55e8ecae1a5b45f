//! Decide, log, apply, and reading what is durable.

use std::ops::Range;

use resurge_wal::{AppendAll, Lsn, WalError};

use crate::core::{Core, Locked};
use crate::{JournalError, Journaled, Result, StateMachine};

impl<M: StateMachine> Journaled<M> {
    /// Logs an event and applies it. Returns its number when it is durable.
    ///
    /// The next decision and the next read see it at once, and are told only when it is durable. A
    /// dropped call may have logged it or not.
    ///
    /// ```
    /// # use resurge_journal::PlainMachine;
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Balance(i64);
    /// # impl PlainMachine for Balance {
    /// #     type Event = i64;
    /// #     fn apply(&mut self, change: &i64) { self.0 += change; }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), resurge_journal::JournalError> {
    /// use resurge_journal::{JournalOptions, Journaled, Lsn};
    /// use resurge_store::Store;
    /// let store = Store::memory();
    /// let (balance, _) = Journaled::<Balance>::open(&store, "b", JournalOptions::default()).await?;
    /// assert_eq!(balance.record(5).await?, Lsn(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the event does not serialise or is too large: nothing happened, the journal
    /// goes on. Every other error poisons it, see [`JournalError`].
    pub async fn record(&self, event: M::Event) -> Result<Lsn> {
        Ok(self.core.record(&[event]).await?.start)
    }

    /// As [`record`](Self::record) for events that are logged together or not at all. They are
    /// numbered without a gap; none is fine.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn record_all(
        &self,
        events: impl IntoIterator<Item = M::Event>,
    ) -> Result<Range<Lsn>> {
        let events: Vec<_> = events.into_iter().collect();
        self.core.record(&events).await
    }

    /// Looks at the state and says what happens, or why not. Nobody changes the state in between, so
    /// what was checked still holds when the events are applied.
    ///
    /// `decide` returns the events, which may be none, and what to tell the caller; it is told when
    /// the events and everything the decision saw are durable. With an `Err` nothing is logged; the
    /// refusal, too, is told only when what it saw is durable ("exists already" must not turn out to
    /// be wrong after a crash). Keep `decide` short: it runs under the lock. It must not call this
    /// journal.
    ///
    /// ```
    /// # use resurge_journal::{JournalError, PlainMachine};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Balance(i64);
    /// # impl PlainMachine for Balance {
    /// #     type Event = i64;
    /// #     fn apply(&mut self, change: &i64) { self.0 += change; }
    /// # }
    /// #[derive(Debug)]
    /// enum Refused {
    ///     TooLittle,
    ///     Journal(JournalError),
    /// }
    /// impl From<JournalError> for Refused {
    ///     fn from(e: JournalError) -> Self {
    ///         Self::Journal(e)
    ///     }
    /// }
    /// # #[tokio::main] async fn main() -> Result<(), Refused> {
    /// # use resurge_journal::{JournalOptions, Journaled};
    /// # let store = resurge_store::Store::memory();
    /// # let (balance, _) = Journaled::<Balance>::open(&store, "b", JournalOptions::default()).await?;
    /// balance.record(5).await?;
    /// let left = balance
    ///     .decide(|balance| match balance.0 - 3 {
    ///         left if left < 0 => Err(Refused::TooLittle),
    ///         left => Ok(([-3], left)),
    ///     })
    ///     .await?;
    /// assert_eq!(left, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// That of `decide`, or that of the log when what it refused for will never be durable; otherwise
    /// as [`record`](Self::record).
    pub async fn decide<R, E, I>(
        &self,
        decide: impl FnOnce(&M) -> Result<(I, R), E>,
    ) -> Result<R, E>
    where
        E: From<JournalError>,
        I: IntoIterator<Item = M::Event>,
    {
        self.core.wait_for_room().await?;
        let (answer, submitted) = {
            let live = self.core.lock()?;
            match decide(&live.machine) {
                Ok((events, answer)) => {
                    let events: Vec<_> = events.into_iter().collect();
                    (Ok(answer), self.core.submit(live, &events)?)
                }
                Err(refused) => (Err(refused), Submitted::Seen(live.last())),
            }
        };
        self.core.settled(submitted).await?;
        answer
    }

    /// Looks at the state. Returns when everything it saw is durable, so what it says is not undone
    /// by a crash.
    ///
    /// `look` runs under the lock: keep it short, and do not call this journal from it.
    ///
    /// # Errors
    /// `Closed`; an error of the log when what was seen will never be durable.
    pub async fn read<R>(&self, look: impl FnOnce(&M) -> R) -> Result<R> {
        let (answer, seen) = {
            let live = self.core.lock()?;
            (look(&live.machine), live.last())
        };
        self.core.durable(seen).await?;
        Ok(answer)
    }
}

/// What a call waits for.
enum Submitted {
    /// Its own events.
    Events(AppendAll, u64),
    /// It had none: what it saw.
    Seen(Lsn),
}

impl<M: StateMachine> Core<M> {
    async fn wait_for_room(&self) -> Result<()> {
        match self.wal.ready().await {
            Ok(()) => Ok(()),
            // The lock knows why, and whether it was closed on purpose.
            Err(e) => match self.lock() {
                Ok(live) => Err(self.poisoned_by(live, e)),
                Err(closed) => Err(closed),
            },
        }
    }

    async fn record(&self, events: &[M::Event]) -> Result<Range<Lsn>> {
        self.wait_for_room().await?;
        let submitted = {
            let live = self.lock()?;
            self.submit(live, events)?
        };
        self.settled(submitted).await
    }

    /// Hands the events to the log and applies them.
    fn submit(&self, mut live: Locked<'_, M>, events: &[M::Event]) -> Result<Submitted> {
        if events.is_empty() {
            return Ok(Submitted::Seen(live.last()));
        }
        let append = self.wal.append_all_at(live.next, events);
        match append.refused() {
            None => {}
            Some(error @ (WalError::Encode(_) | WalError::TooLarge { .. })) => {
                return Err(JournalError::Log(error.clone()));
            }
            Some(error) => {
                let error = error.clone();
                return Err(self.poisoned_by(live, error));
            }
        }
        // ORDER: in the log's hands before it is applied, and nobody else in between.
        live.apply(events);
        self.note_due(&live);
        Ok(Submitted::Events(append, events.len() as u64))
    }

    async fn settled(&self, submitted: Submitted) -> Result<Range<Lsn>> {
        match submitted {
            Submitted::Events(append, count) => {
                let lsns = append.await.map_err(|e| self.failed(e))?;
                self.metrics.events.increment(count);
                Ok(lsns)
            }
            Submitted::Seen(last) => {
                self.durable(last).await?;
                Ok(last.next()..last.next())
            }
        }
    }

    pub(crate) fn poisoned_by(&self, live: Locked<'_, M>, error: WalError) -> JournalError {
        let error = JournalError::Log(error);
        self.poison_locked(live, error.clone());
        error
    }
}
