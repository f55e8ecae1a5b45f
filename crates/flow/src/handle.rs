//! A run, seen from outside.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use resurge_store::{Batch, Durability, ErrorKind, Guard};
use resurge_wal::{Lsn, WalError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::check_name;
use crate::driver;
use crate::engine::{Engine, Phase, Resident};
use crate::inbox::Message;
use crate::keys::check_signal_id;
use crate::record::{CancelReason, Record, Resumed};
use crate::runs::{self, Done, End, Live, Waiting};
use crate::values::{OUTPUT, Of};
use crate::{FlowError, Result, RunState};

/// Turns given to a task that has begun a run and not yet taken note of it.
const COMES_LATE: usize = 64;

/// A handle to a run. Dropping it does nothing to the run. Clones are the same run.
pub struct RunHandle<O> {
    engine: Arc<Engine>,
    id: Arc<str>,
    resident: Option<Arc<Resident>>,
    output: PhantomData<fn() -> O>,
}

impl<O> Clone for RunHandle<O> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            id: Arc::clone(&self.id),
            resident: self.resident.clone(),
            output: PhantomData,
        }
    }
}

impl<O> fmt::Debug for RunHandle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<O> RunHandle<O> {
    pub(crate) fn new(engine: Arc<Engine>, id: &str, resident: Option<Arc<Resident>>) -> Self {
        Self { engine, id: id.into(), resident, output: PhantomData }
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the run does, or how it ended.
    ///
    /// # Errors
    /// [`NotFound`](FlowError::NotFound), [`Store`](FlowError::Store).
    pub async fn state(&self) -> Result<RunState> {
        self.engine.state(&self.id).await
    }

    /// Sends a signal. Durable when this returns; the run takes it when it asks for it. Sent again
    /// because nobody knows whether it was, it may arrive twice: see
    /// [`signal_once`](Self::signal_once).
    ///
    /// # Errors
    /// [`Ended`](FlowError::Ended), [`NotFound`](FlowError::NotFound), [`Value`](FlowError::Value),
    /// [`Store`](FlowError::Store).
    pub async fn signal<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        let message = self.to_message(name, value)?;
        self.engine.send(&self.id, &message).await
    }

    /// Sends a signal unless one of this id, of 1 to 200 bytes, was sent to this run before. So it can
    /// be sent again until this returns, after any error and by any process, and arrives once: make
    /// the id from what the signal is about, such as the id of a message or of a form.
    ///
    /// A resume that voids what the run did after a failure gives back the signals taken there: the
    /// run gets them again when it asks again, and nothing needs to be sent again.
    ///
    /// What was sent first counts. That it was sent is known until the run is swept or deleted, also
    /// when it has taken the signal or ended. Ids are stored in clear.
    ///
    /// ```
    /// # use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = resurge_store::Store::memory();
    /// # let flows = Flows::open(&store, FlowsOptions::default())?;
    /// async fn sum(ctx: Ctx, _: ()) -> FlowResult<u32> {
    ///     Ok(ctx.signal::<u32>("paid").await? + ctx.signal::<u32>("paid").await?)
    /// }
    /// # let flow = flows.register("sum", sum)?;
    /// # flows.start().await?;
    /// let run = flow.start("order-1", ()).await?;
    /// run.signal_once("paid", "payment-17", &10).await?;
    /// run.signal_once("paid", "payment-17", &10).await?; // the sender was not sure
    /// run.signal_once("paid", "payment-18", &5).await?;
    /// assert_eq!(run.result().await?, 15);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`signal`](Self::signal); [`Invalid`](FlowError::Invalid) for an id that a signal of another
    /// name was sent with.
    pub async fn signal_once<T: Serialize + ?Sized>(
        &self,
        name: &str,
        id: &str,
        value: &T,
    ) -> Result<()> {
        check_signal_id(id)?;
        let message = self.to_message(name, value)?;
        match self.engine.send_once(&self.id, id, &message).await? {
            Some(sent) if sent != name => Err(FlowError::Invalid(format!(
                "signal `{name}` to run `{}`: `{id}` is the id of a signal `{sent}`",
                self.id
            ))),
            _ => Ok(()),
        }
    }

    fn to_message<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<Message> {
        let failed = |e: crate::StepError| FlowError::Value {
            run: self.id.to_string(),
            what: format!("signal `{name}`"),
            cause: e.record().clone(),
        };
        check_name(name)
            .map_err(|e| FlowError::Invalid(format!("signal to run `{}`: {e}", self.id)))?;
        let value = self.engine.values.encode(&self.id, Of::Signal, name, value).map_err(failed)?;
        Ok(Message::Signal { name: name.to_owned(), value })
    }

    /// Asks the run to end. Durable when this returns. What it waits for fails, what runs is told, and
    /// its code decides how to end: see [`Ctx::is_cancelled`](crate::Ctx::is_cancelled).
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn cancel(&self) -> Result<()> {
        self.engine.send(&self.id, &Message::Cancel(CancelReason::Asked)).await
    }

    /// Lets the run begin no new work. Durable; bodies at work end and are recorded.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn pause(&self) -> Result<()> {
        self.engine.send(&self.id, &Message::Pause).await
    }

    /// Lets a paused run go on.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn unpause(&self) -> Result<()> {
        self.engine.send(&self.id, &Message::Unpause).await
    }

    /// Lets a failed run go on at its failure points: completed steps are not run again, the failed
    /// ones are, and see [`recovering`](crate::StepInfo::recovering). Of several who call it at once,
    /// one succeeds. Durable when it returns; wait for [`result`](Self::result).
    ///
    /// # Errors
    /// [`AlreadyRunning`](FlowError::AlreadyRunning) when somebody else resumed it,
    /// [`NotFailed`](FlowError::NotFailed), [`NotResumable`](FlowError::NotResumable),
    /// [`NotFound`](FlowError::NotFound), [`Store`](FlowError::Store).
    pub async fn resume(&self) -> Result<Self> {
        let resident = self.engine.resume(&self.id).await?;
        Ok(Self::new(Arc::clone(&self.engine), &self.id, Some(resident)))
    }
}

impl<O: Serialize + DeserializeOwned> RunHandle<O> {
    /// Waits until the run has ended, and returns what its flow returned. Cancel safe.
    ///
    /// # Errors
    /// [`Failed`](FlowError::Failed) and [`Cancelled`](FlowError::Cancelled) say how it ended;
    /// [`Blocked`](FlowError::Blocked) that it cannot go on as things are;
    /// [`Store`](FlowError::Store) that it stopped where it is; [`Closed`](FlowError::Closed) that the
    /// flows were shut down before it ended; [`NotFound`](FlowError::NotFound).
    pub async fn result(&self) -> Result<O> {
        let end = match self.resident.clone() {
            Some(resident) => resident.wait().await?,
            None => self.engine.result(&self.id).await?,
        };
        let run = self.id.to_string();
        match end {
            End::Succeeded(output) => {
                let decoded = self.engine.values.decode(&run, Of::Output, OUTPUT, &output);
                decoded.map_err(|e| {
                    let (what, cause) = ("output".to_owned(), e.record().clone());
                    FlowError::Value { run, what, cause }
                })
            }
            End::Failed { error, positions, .. } => {
                let error = self.engine.values.shown(&run, error);
                Err(FlowError::Failed { run, positions, error })
            }
            End::Cancelled(error) => {
                let error = self.engine.values.shown(&run, error);
                Err(FlowError::Cancelled { run, error })
            }
            End::Swept => Err(FlowError::NotFound { run }),
        }
    }
}

impl Engine {
    pub(crate) async fn load_live(&self, run: &str) -> Result<Option<(Live, Guard)>> {
        let key = self.keys.live(run)?;
        let stored = self.store.get(&key).await.map_err(FlowError::store(run))?;
        let Some(stored) = stored else { return Ok(None) };
        let live = runs::load(&key, &stored).map_err(FlowError::store(run))?;
        Ok(Some((live, Guard::Exact(stored))))
    }

    pub(crate) async fn load_done(&self, run: &str) -> Result<Option<(Done, Guard)>> {
        let key = self.keys.done(run)?;
        let stored = self.store.get(&key).await.map_err(FlowError::store(run))?;
        let Some(stored) = stored else { return Ok(None) };
        let done = runs::load(&key, &stored).map_err(FlowError::store(run))?;
        Ok(Some((done, Guard::Exact(stored))))
    }

    async fn result(&self, run: &str) -> Result<End> {
        for _ in 0..COMES_LATE {
            if let Some(resident) = self.resident(run) {
                return resident.wait().await;
            }
            match self.ended(run).await {
                // Somebody's start or resume is durable, and about to be taken note of.
                Err(FlowError::Closed { .. }) if self.is_started() && !self.is_closing() => {
                    tokio::task::yield_now().await;
                }
                ended => return ended,
            }
        }
        self.ended(run).await
    }

    /// How a run that is not in memory ended.
    pub(crate) async fn ended(&self, run: &str) -> Result<End> {
        if let Some((done, _)) = self.load_done(run).await? {
            return Ok(done.end);
        }
        let run = run.to_owned();
        if self.load_live(&run).await?.is_some() {
            // Unfinished, and nobody here has it: the flows are not started.
            return Err(FlowError::Closed { run });
        }
        Err(FlowError::NotFound { run })
    }

    pub(crate) async fn state(&self, run: &str) -> Result<RunState> {
        for _ in 0..2 {
            if let Some((live, _)) = self.load_live(run).await? {
                return Ok(RunState::from(&live.state));
            }
            if let Some((done, _)) = self.load_done(run).await? {
                return Ok(done.end.state());
            }
        }
        Err(FlowError::NotFound { run: run.to_owned() })
    }

    /// Why a run takes no message.
    pub(crate) async fn not_live(&self, run: &str) -> Result<FlowError> {
        let run = run.to_owned();
        Ok(match self.load_done(&run).await? {
            Some((done, _)) => FlowError::Ended { run, state: done.end.state() },
            None => FlowError::NotFound { run },
        })
    }

    pub(crate) async fn resume(self: &Arc<Self>, run: &str) -> Result<Arc<Resident>> {
        if self.is_closing() {
            return Err(FlowError::Closed { run: run.to_owned() });
        }
        let Some((done, guard)) = self.load_done(run).await? else {
            let run = run.to_owned();
            return Err(match self.load_live(&run).await? {
                Some(_) => FlowError::AlreadyRunning { run },
                None => FlowError::NotFound { run },
            });
        };
        let positions = match &done.end {
            End::Failed { resumable: true, positions, .. } => positions.clone(),
            End::Failed { .. } => {
                return Err(FlowError::NotResumable { run: run.to_owned(), flow: done.flow });
            }
            end => {
                return Err(FlowError::NotFailed { run: run.to_owned(), state: end.state() });
            }
        };
        let now = self.store.now();
        let live = Live {
            flow: done.flow,
            input: done.input,
            created: done.created,
            since: now,
            state: Waiting::Running,
            parent: done.parent,
            // It was given another chance: its time is not limited any more.
            deadline: None,
        };
        let (live_key, done_key) = (self.keys.live(run)?, self.keys.done(run)?);
        let mut batch = Batch::new();
        self.guard_owner(&mut batch);
        batch.guard(done_key.clone(), guard).delete(done_key);
        let value = runs::store(&live_key, &live).map_err(FlowError::store(run))?;
        batch.guard(live_key.clone(), Guard::Absent).put(live_key, value);
        let former = self.stamp();
        let wal = driver::open_wal(self, run).await.map_err(FlowError::journal(run))?;
        let mut stage = wal.stage().await.map_err(FlowError::journal(run))?;
        let record = Record::Resumed(Resumed { at: now, positions });
        stage.push(&record).map_err(FlowError::journal(run))?;
        let commit = stage.commit(batch, Durability::Durable).map_err(FlowError::journal(run))?;
        match commit.await {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Conflict && e.key() != Some(&self.keys.owner) => {
                // Somebody was faster: what they made of it decides.
                let run = run.to_owned();
                return Err(match self.load_done(&run).await? {
                    Some((done, _)) if !matches!(done.end, End::Failed { .. }) => {
                        FlowError::NotFailed { run, state: done.end.state() }
                    }
                    _ => FlowError::AlreadyRunning { run },
                });
            }
            Err(e) => return Err(self.store_failed(run, e)),
        }
        self.metrics.resumed.increment(1);
        let begin = self.is_started();
        let phase = if begin { Phase::Active } else { Phase::Withheld };
        let flow = live.flow.as_str().into();
        Ok(match self.adopt(Resident::new(run, flow, phase, self.stamp()), former) {
            Ok(resident) => {
                if begin {
                    self.spawn(Arc::clone(&resident), None);
                }
                resident
            }
            Err(known) => known,
        })
    }

    /// Every record of a run's journal, oldest first.
    pub(crate) async fn records(&self, run: &str) -> Result<Vec<Record>> {
        let read = async || -> Result<Vec<Record>, WalError> {
            let wal = driver::open_wal(self, run).await?;
            let mut replay = wal.replay(Lsn::START).await?;
            let mut records = Vec::new();
            while let Some((_, record)) = replay.next().await? {
                records.push(record);
            }
            Ok(records)
        };
        let records = read().await.map_err(FlowError::journal(run))?;
        if records.is_empty() {
            return Err(FlowError::NotFound { run: run.to_owned() });
        }
        Ok(records)
    }
}
