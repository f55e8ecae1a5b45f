//! The handle.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_store::{ErrorKind, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::append::{Append, AppendAll};
use crate::log::Log;
use crate::replay::{Replay, Tail};
use crate::stage::Stage;
use crate::truncate::Truncated;
use crate::verify::{self, VerifyReport};
use crate::{Lsn, Result, WalError, WalOptions, WalReport, open};

/// A typed write-ahead log in a store. Clones share it.
///
/// An idle log is a few hundred bytes: no task, no thread, no buffer. See the
/// [crate's documentation](crate) for what it promises.
pub struct Wal<T> {
    log: Arc<Log>,
    records: PhantomData<fn(T) -> T>,
}

impl<T> Wal<T> {
    /// Opens the log called `name` (1 to 512 bytes, no NUL), making it when there is none, and takes
    /// it over: an earlier writer of the same log is [`Fenced`](WalError::Fenced) from then on (see
    /// [`Claim`](crate::Claim)). Must be called inside a tokio runtime, which then runs the log's commits.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge_store::Store;
    /// use resurge_wal::{Lsn, Wal, WalOptions};
    /// let store = Store::memory();
    /// let (wal, report) = Wal::<String>::open(&store, "jobs", WalOptions::default()).await?;
    /// assert!(report.created);
    /// assert_eq!(wal.append(&"enqueued".to_owned()).await?, Lsn::FIRST);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Corrupt`](WalError::Corrupt) under [`Policy::Strict`](crate::Policy::Strict) for a damaged
    /// head or last page; [`Invalid`](WalError::Invalid); [`Store`](WalError::Store).
    pub async fn open(store: &Store, name: &str, options: WalOptions) -> Result<(Self, WalReport)> {
        let (log, report) = open::open(store, name, options).await?;
        Ok((Self { log, records: PhantomData }, report))
    }

    /// Makes a new log called `name` without looking whether there is one: nothing is read, and nothing
    /// written before the first record. If there is a log, or a part of one, the first commit is refused
    /// with a `Conflict`, nothing is written, and this handle is of no more use; open it then. For many
    /// small logs with names of their own. Must be called inside a tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge_store::Store;
    /// use resurge_wal::{Wal, WalOptions};
    /// let store = Store::memory();
    /// let wal = Wal::<String>::create(&store, "jobs", WalOptions::default())?;
    /// wal.append(&"enqueued".to_owned()).await?;
    /// let again = Wal::<String>::create(&store, "jobs", WalOptions::default())?;
    /// assert!(again.append(&"lost".to_owned()).await.is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](WalError::Invalid); [`Store`](WalError::Store) without randomness.
    pub fn create(store: &Store, name: &str, options: WalOptions) -> Result<Self> {
        Ok(Self { log: open::create(store, name, options)?, records: PhantomData })
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.log.keys.name
    }

    /// The store it lives in.
    pub fn store(&self) -> &Store {
        &self.log.store
    }

    /// The oldest record kept.
    pub fn first_lsn(&self) -> Lsn {
        Lsn(self.log.first_lsn.load(Ordering::Acquire))
    }

    /// The number the next append takes, if nothing before it fails.
    pub fn next_lsn(&self) -> Lsn {
        Lsn(self.log.intake.lock().next)
    }

    /// The newest record this handle knows to be durable, and with it all before; 0 for none.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.log.durable_end().saturating_sub(1))
    }

    /// Resolves when every record committed so far is durable, those staged as `Buffered`, too.
    ///
    /// # Errors
    /// [`Store`](WalError::Store).
    pub async fn sync(&self) -> Result<()> {
        let end = self.log.chain.lock().settled.head.end;
        if end > self.log.durable_end() {
            self.log.store.sync().await?;
            self.log.set_durable(end);
        }
        Ok(())
    }

    /// Resolves when record `through`, which this handle numbered, is durable, and with it all before.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Predecessor`](WalError::Predecessor), or why the log ended, when the record was not written;
    /// [`Store`](WalError::Store).
    pub async fn wait_durable(&self, through: Lsn) -> Result<()> {
        loop {
            if self.log.durable_end() > through.0 {
                return Ok(());
            }
            self.log.drive_in_flight();
            let changed = self.log.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let settled = {
                let chain = self.log.chain.lock();
                let intake = self.log.intake.lock();
                let head = &chain.settled.head;
                if head.next > through.0 {
                    // Settled is also what is committed `Buffered`, and a number given up for good.
                    Some(head.end)
                } else if intake.next <= through.0 {
                    let lost = || {
                        let message = format!("record {through} was given up");
                        WalError::Predecessor(StoreError::new(ErrorKind::Conflict, message))
                    };
                    return Err(intake.ended.clone().unwrap_or_else(lost));
                } else {
                    None
                }
            };
            if let Some(end) = settled {
                if self.log.durable_end() < end {
                    self.log.store.sync().await?;
                    self.log.set_durable(end);
                }
                return Ok(());
            }
            changed.await;
        }
    }

    /// Resolves when an append is no longer refused with [`Backlog`](WalError::Backlog). Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](WalError::Closed) or [`Fenced`](WalError::Fenced) when there is nothing to wait for.
    pub async fn ready(&self) -> Result<()> {
        loop {
            if self.log.has_room()? {
                return Ok(());
            }
            let changed = self.log.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.log.has_room()? {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Waits for the log's append ticket and returns the right to put records into a batch of the
    /// caller's own. To stage several logs in one batch use [`Tickets`](crate::Tickets). Cancel safe.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge_store::{Batch, Durability, Namespace, Store};
    /// use resurge_wal::{Lsn, Wal, WalOptions};
    /// let store = Store::memory();
    /// let (wal, _) = Wal::<String>::open(&store, "jobs", WalOptions::default()).await?;
    ///
    /// let mut batch = Batch::new();
    /// batch.put(Namespace::new("app")?.key("status")?, "paid");
    /// let mut stage = wal.stage().await?;
    /// stage.push(&"paid".to_owned())?;
    /// let staged = stage.write(&mut batch)?;
    /// let commit = store.commit(batch, Durability::Durable);
    /// let commit = staged.submitted(commit, Durability::Durable);
    /// assert_eq!(commit.lsns(), Lsn(1)..Lsn(2));
    /// commit.await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Closed`](WalError::Closed), [`Fenced`](WalError::Fenced).
    pub async fn stage(&self) -> Result<Stage<T>> {
        let ticket = self.log.take_stage_ticket().await?;
        Ok(Stage::new(Arc::clone(&self.log), ticket))
    }

    /// Removes every record before `lsn`, as far as they are committed.
    ///
    /// The new bound is durable first; then every page wholly below it is deleted. Dropping the
    /// future, or a crash, in between leaves the rest to the next truncation or open. Readers never
    /// see a record below the bound.
    ///
    /// # Errors
    /// [`Closed`](WalError::Closed), [`Fenced`](WalError::Fenced); [`Backlog`](WalError::Backlog) and
    /// [`Predecessor`](WalError::Predecessor) when the store is unavailable or an append before it
    /// failed, and nothing was removed; [`Store`](WalError::Store).
    pub async fn truncate_before(&self, lsn: Lsn) -> Result<Truncated> {
        self.log.truncate_before(lsn).await
    }

    /// Reads and checks the whole log, and counts. Damage is in the report.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let report = verify::verify(&self.log.store, &self.log.keys).await?;
        if let Some(damage) = &report.damage {
            drop(self.log.corrupt(damage.clone()));
        }
        Ok(report)
    }

    /// Takes no more appends, and resolves when everything taken before has its outcome. What the
    /// store keeps refusing as `Unavailable` is then given up with that error. Reading goes on.
    /// Idempotent. Not needed before a handle is dropped: what was taken is written all the same.
    ///
    /// # Errors
    /// The failure that had closed the log before, if there was one.
    pub async fn close(&self) -> Result<()> {
        let log = &self.log;
        {
            let mut intake = log.intake.lock();
            if intake.ended.is_none() {
                intake.ended = Some(log.closed(None));
            }
        }
        log.closing.store(true, Ordering::Release);
        log.changed.notify_waiters();
        log.drive_in_flight();
        loop {
            let changed = log.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let intake = log.intake.lock();
                if !intake.running && intake.drafts.is_empty() {
                    return match &intake.ended {
                        Some(WalError::Closed { cause: None, .. }) | None => Ok(()),
                        Some(ended) => Err(ended.clone()),
                    };
                }
            }
            changed.await;
        }
    }
}

impl<T: Serialize> Wal<T> {
    /// Appends a record. It is encoded and numbered before this returns, and the log writes it
    /// whether or not the future is polled; the future resolves when it is durable.
    ///
    /// Records appended while a page is on its way share the next page, one commit for all.
    ///
    /// # Errors
    /// See [`Append`].
    pub fn append(&self, record: &T) -> Append {
        Append::new(self.log.take([record], None))
    }

    /// Appends records that become durable together or not at all, with consecutive numbers.
    ///
    /// They share one page, so together they may take as much as one value of the store, 16 MiB.
    ///
    /// # Errors
    /// See [`Append`].
    pub fn append_all<'a>(&self, records: impl IntoIterator<Item = &'a T>) -> AppendAll
    where
        T: 'a,
    {
        self.log.take(records, None)
    }

    /// [`append_all`](Self::append_all), if the first record gets the number `at`. For a writer who
    /// decides upon what it appended before: when any of that failed, nothing more is taken.
    ///
    /// It is not refused for what is queued already: wait for [`ready`](Self::ready) before.
    ///
    /// # Errors
    /// [`NotNext`](WalError::NotNext); otherwise see [`Append`].
    pub fn append_all_at<'a>(&self, at: Lsn, records: impl IntoIterator<Item = &'a T>) -> AppendAll
    where
        T: 'a,
    {
        self.log.take(records, Some(at))
    }
}

impl<T: DeserializeOwned> Wal<T> {
    /// Reads the records from `from` on, up to where the log ends now. [`Lsn::START`] begins with the
    /// oldest one kept. Holds a bounded number of pages, however long the log is.
    ///
    /// # Errors
    /// [`Truncated`](WalError::Truncated) when records from `from` on are gone;
    /// [`Corrupt`](WalError::Corrupt); [`Store`](WalError::Store).
    pub async fn replay(&self, from: Lsn) -> Result<Replay<T>> {
        Replay::new(&self.log, from).await
    }

    /// Reads the records from `from` on and then every further one once it is durable, by whichever
    /// writer. Loses none.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub async fn tail(&self, from: Lsn) -> Result<Tail<T>> {
        Tail::new(&self.log, from).await
    }
}

impl<T> Clone for Wal<T> {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log), records: PhantomData }
    }
}

impl<T> fmt::Debug for Wal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Wal");
        out.field("name", &self.name()).field("next_lsn", &self.next_lsn()).finish_non_exhaustive()
    }
}
