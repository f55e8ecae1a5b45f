//! Starting runs: registered flows, typed, and the commit that begins a run.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use resurge_store::{Batch, Durability, ErrorKind, Guard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::driver::{self, Fresh};
use crate::engine::{Engine, Phase, Resident};
use crate::keys::check_run_id;
use crate::record::{Parent, Record, Started};
use crate::runs::{self, Done, InputHash, Live, Waiting};
use crate::values::InputMark;
use crate::{FlowError, Result, RunHandle};

/// A registered flow: starts runs with its input, and gives their output. Clones are the same flow.
pub struct FlowRef<I, O> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) name: Arc<str>,
    deadline: Option<Duration>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for FlowRef<I, O> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            name: Arc::clone(&self.name),
            deadline: self.deadline,
            types: PhantomData,
        }
    }
}

impl<I, O> fmt::Debug for FlowRef<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowRef").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A run that can be begun.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    pub(crate) started: Started,
    pub(crate) live: Live,
    /// Of the input in clear; never stored as it is.
    pub(crate) hash: InputHash,
}

impl<I, O> FlowRef<I, O>
where
    I: Serialize + DeserializeOwned + Send + 'static,
    O: Serialize + DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(engine: Arc<Engine>, name: Arc<str>, deadline: Option<Duration>) -> Self {
        Self { engine, name, deadline, types: PhantomData }
    }

    /// The flow's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a run under this id. Durable when it returns: the run ends, whatever crashes, as soon
    /// as the flows are started.
    ///
    /// Idempotent: if the flow has a run of this id with the same input already, finished or not, its
    /// handle is returned and nothing is started.
    ///
    /// # Errors
    /// [`AlreadyExists`](FlowError::AlreadyExists) when the id belongs to another flow's run or one
    /// with another input; [`Invalid`](FlowError::Invalid) for an empty id or one over 200 bytes;
    /// [`Value`](FlowError::Value) when the input cannot be encoded or is too large;
    /// [`Closed`](FlowError::Closed) during and after a shutdown; [`Store`](FlowError::Store).
    pub async fn start(&self, id: impl AsRef<str>, input: I) -> Result<RunHandle<O>> {
        let id = id.as_ref();
        check_run_id(id)?;
        let prepared = self.prepare(id, &input, None)?;
        let resident = self.engine.start(prepared).await?;
        Ok(RunHandle::new(Arc::clone(&self.engine), id, resident))
    }

    /// A handle to a run of this flow, whether or not there is one.
    pub fn run(&self, id: impl AsRef<str>) -> RunHandle<O> {
        let id = id.as_ref();
        RunHandle::new(Arc::clone(&self.engine), id, self.engine.resident(id))
    }

    pub(crate) fn prepare(&self, id: &str, input: &I, parent: Option<Parent>) -> Result<Prepared> {
        let engine = &self.engine;
        let value = |e: crate::StepError| FlowError::Value {
            run: id.to_owned(),
            what: "input".to_owned(),
            cause: e.record().clone(),
        };
        let (payload, hash) = engine.values.input(id, input).map_err(value)?;
        let (now, entropy) = (engine.store.now(), engine.store.entropy());
        let random = || entropy.next_u64().map_err(FlowError::store(id));
        let seed = [random()?, random()?];
        let mark = engine.values.mark(id, &payload, &hash, &**entropy).map_err(value)?;
        let deadline = self.deadline.map(|after| now.saturating_add(after));
        let flow = self.name.to_string();
        let started = Started {
            flow: flow.clone(),
            input: payload,
            seed,
            at: now,
            parent: parent.clone(),
            deadline,
        };
        let live = Live {
            flow,
            input: mark,
            created: now,
            since: now,
            state: Waiting::Running,
            parent,
            deadline,
        };
        Ok(Prepared { id: id.into(), flow: Arc::clone(&self.name), started, live, hash })
    }
}

impl Engine {
    /// Begins a run, or finds the one that is the same. `None` for one that has ended.
    pub(crate) async fn start(
        self: &Arc<Self>,
        prepared: Prepared,
    ) -> Result<Option<Arc<Resident>>> {
        let Prepared { id, flow, started, live, hash } = prepared;
        if self.is_closing() {
            return Err(FlowError::Closed { run: id.to_string() });
        }
        let journal = |e| FlowError::journal(&id)(e);
        let (missed, former) = (self.missed(), self.stamp());
        let mut wal = driver::new_wal(self, &id).map_err(journal)?;
        let mut looked = false;
        loop {
            let mut stage = wal.stage().await.map_err(journal)?;
            stage.push(&Record::Started(started.clone())).map_err(journal)?;
            let mut batch = Batch::new();
            self.guard_owner(&mut batch);
            self.put_new(&mut batch, &id, &live)?;
            match stage.commit(batch, Durability::Durable).map_err(journal)?.await {
                Ok(_) => break,
                Err(e) if e.kind() == ErrorKind::Conflict && e.key() != Some(&self.keys.owner) => {}
                Err(e) => return Err(self.store_failed(&id, e)),
            }
            if let Some(known) = self.existing(&id, &live, &hash).await? {
                return Ok(known);
            }
            if looked {
                let difference = "a journal of this name remains".to_owned();
                return Err(FlowError::AlreadyExists { run: id.to_string(), difference });
            }
            // What an interrupted removal left is written on.
            wal = driver::open_wal(self, &id).await.map_err(journal)?;
            looked = true;
        }
        self.metrics.started.increment(1);
        Ok(Some(self.admit_new(&id, flow, Fresh { wal, started, live, missed }, former)))
    }

    /// The keys of a new run, if there is none of this id.
    pub(crate) fn put_new(&self, batch: &mut Batch, id: &str, live: &Live) -> Result<()> {
        let (live_key, done_key) = (self.keys.live(id)?, self.keys.done(id)?);
        let value = runs::store(&live_key, live).map_err(FlowError::store(id))?;
        batch.guard(done_key, Guard::Absent).guard(live_key.clone(), Guard::Absent);
        batch.put(live_key, value);
        Ok(())
    }

    /// Takes a run just started into memory; it begins if the flows are started.
    pub(crate) fn admit_new(
        self: &Arc<Self>,
        id: &str,
        flow: Arc<str>,
        fresh: Fresh,
        former: u64,
    ) -> Arc<Resident> {
        let begin = self.is_started();
        let phase = if begin { Phase::Active } else { Phase::Withheld };
        match self.adopt(Resident::new(id, flow, phase, self.stamp()), former) {
            Ok(resident) => {
                if begin {
                    self.spawn(Arc::clone(&resident), Some(fresh));
                }
                resident
            }
            Err(known) => known,
        }
    }

    /// Whether a stored run was started with the input of this hash.
    pub(crate) fn same_input(&self, run: &str, mark: &InputMark, hash: &InputHash) -> Result<bool> {
        self.values.is_input(run, mark, hash).map_err(|e| FlowError::Value {
            run: run.to_owned(),
            what: "input".to_owned(),
            cause: e.record().clone(),
        })
    }

    /// The run of this id, `Some(None)` for one that has ended.
    async fn existing(
        self: &Arc<Self>,
        id: &str,
        new: &Live,
        hash: &InputHash,
    ) -> Result<Option<Option<Arc<Resident>>>> {
        let differs = |flow: &str, mark: &InputMark| -> Result<Option<FlowError>> {
            let difference = if flow != new.flow {
                format!("it is a run of flow `{flow}`, not `{}`", new.flow)
            } else if !self.same_input(id, mark, hash)? {
                "its input is another".to_owned()
            } else {
                return Ok(None);
            };
            Ok(Some(FlowError::AlreadyExists { run: id.to_owned(), difference }))
        };
        // It may end between the two looks, so look at the unfinished ones first.
        for _ in 0..2 {
            let key = self.keys.live(id)?;
            if let Some(stored) = self.store.get(&key).await.map_err(FlowError::store(id))? {
                let live: Live = runs::load(&key, &stored).map_err(FlowError::store(id))?;
                if let Some(differs) = differs(&live.flow, &live.input)? {
                    return Err(differs);
                }
                return Ok(Some(self.resident(id)));
            }
            let key = self.keys.done(id)?;
            if let Some(stored) = self.store.get(&key).await.map_err(FlowError::store(id))? {
                let done: Done = runs::load(&key, &stored).map_err(FlowError::store(id))?;
                if matches!(done.end, runs::End::Swept) {
                    let difference = "it ended and was swept; its id stays taken".to_owned();
                    return Err(FlowError::AlreadyExists { run: id.to_owned(), difference });
                }
                if let Some(differs) = differs(&done.flow, &done.input)? {
                    return Err(differs);
                }
                return Ok(Some(None));
            }
        }
        Ok(None)
    }
}
