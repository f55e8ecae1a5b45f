//! A recorded history under today's code: everything is revealed again, no body runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use resurge_store::BoxFuture;

use crate::core::{Identity, RunCore};
use crate::current::enter_flow;
use crate::keys::check_run_id;
use crate::machine::{Ending, Frozen, Journal, Reveal};
use crate::payload::Payload;
use crate::record::{Failed, Record, Started};
use crate::signal::{RunSignal, WOKEN};
use crate::step::panicked;
use crate::{BlockReason, Ctx, FlowError, FlowResult, Flows, Position, Result, RunState};

/// What [`Flows::verify`] found: the code asks for what the history holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// The run's flow.
    pub flow: String,
    /// Records of the history.
    pub records: usize,
    /// Completions that were revealed to the code.
    pub revealed: usize,
    /// How the recorded run ended; `None` for one that had not ended.
    pub ended: Option<RunState>,
    /// Whether the code ended alike: with the same output, or the same error. `None` for a run that
    /// had not ended, and for an output that was sealed. A difference harms no ended run; it shows
    /// changed code, or a result that depends on something that is not recorded.
    pub same_end: Option<bool>,
}

/// The completions of a history that still count, which no later resume voided: the number of the
/// record, from 1, and the position.
pub fn standing(history: &[Record]) -> Vec<(u64, Position)> {
    load(history).map(|journal| journal.standing()).unwrap_or_default()
}

fn load(history: &[Record]) -> Result<Journal, &'static str> {
    let mut records = history.iter();
    let Some(Record::Started(started)) = records.next() else {
        return Err("it does not begin with a beginning");
    };
    let mut journal = Journal::new(started.clone());
    for record in records {
        journal.push(record.clone())?;
    }
    Ok(journal)
}

impl Flows {
    /// Whether today's code replays a recorded history, of a finished run or of one in flight. Run
    /// it over histories from production before a deploy: what it refuses would be
    /// [`Blocked`](FlowError::Blocked) after it.
    ///
    /// No body runs, nothing is read from the store or written to it, time does not matter. `run` is
    /// the run's id: what is derived from it must be the same again. The flow is looked up by the
    /// name in the history, so register it (and the flows of its children) before; these flows need
    /// not be started.
    ///
    /// # Errors
    /// [`Blocked`](FlowError::Blocked), saying why: the code asks for something else than the history
    /// holds (both are named), the flow is not registered, the input cannot be read, the history is
    /// none.
    pub async fn verify(&self, run: &str, history: &[Record]) -> Result<ReplayReport> {
        let blocked = |reason| FlowError::Blocked { run: run.to_owned(), reason };
        check_run_id(run)?;
        let journal = load(history).map_err(|e| blocked(BlockReason::Journal(e.to_owned())))?;
        let Started { flow, input, seed, at, parent, deadline } = journal.started.clone();
        let Some(registered) = self.engine().code(&flow) else {
            return Err(blocked(BlockReason::Unregistered { flow }));
        };
        let identity = Identity {
            id: run.into(),
            flow: flow.as_str().into(),
            seed,
            started_at: at,
            parent,
            deadline,
        };
        let ending = journal.ending.clone();
        let suspended = journal.suspended.clone();
        let mut machine = journal.into_machine();
        // Whatever it claims, no body begins.
        machine.held = true;
        let callbacks = registered.callbacks();
        let core = RunCore::new(identity, Arc::clone(self.engine()), callbacks, machine, suspended);
        let begun = registered.begin(Ctx::new(Arc::clone(&core)), &input);
        let begun = begun.map_err(|e| blocked(BlockReason::Input(e.record().to_string())))?;
        let mut replay = Replay {
            core: Arc::clone(&core),
            signal: Arc::default(),
            flow: Some(begun),
            result: None,
            revealed: 0,
        };
        replay.reveal_all().await.map_err(blocked)?;
        let (ended, same_end) = replay.compare(ending.as_ref()).map_err(blocked)?;
        let Replay { revealed, .. } = replay;
        Ok(ReplayReport { flow, records: history.len(), revealed, ended, same_end })
    }
}

struct Replay {
    core: Arc<RunCore>,
    signal: Arc<RunSignal>,
    flow: Option<BoxFuture<'static, FlowResult<Payload>>>,
    result: Option<FlowResult<Payload>>,
    revealed: usize,
}

impl Replay {
    /// As the driver does it: poll to the end of what is awake, reveal one, poll again.
    async fn reveal_all(&mut self) -> Result<(), BlockReason> {
        self.poll_flow().await;
        self.check_keys()?;
        loop {
            let revealed = self.core.with(|state| state.machine.reveal());
            if self.core.cancel_reason().is_some() {
                self.core.set_cancelled();
            }
            match revealed {
                Reveal::One(waker) => {
                    self.revealed += 1;
                    waker.into_iter().for_each(Waker::wake);
                    self.poll_flow().await;
                    self.check_keys()?;
                }
                Reveal::Nothing => break,
                Reveal::Mismatch(mismatch) => return Err(mismatch.into()),
            }
        }
        match self.core.with(|state| state.machine.go_live()) {
            Ok(_) => Ok(()),
            Err(mismatch) => Err(mismatch.into()),
        }
    }

    /// A value that could not be opened says nothing about the code.
    fn check_keys(&self) -> Result<(), BlockReason> {
        match self.core.with(|state| state.machine.thaw()) {
            Some(Frozen::Sealed(why)) => Err(BlockReason::Sealed(why)),
            Some(Frozen::Store(_)) | None => Ok(()),
        }
    }

    async fn poll_flow(&mut self) {
        let waker = Waker::from(Arc::clone(&self.signal));
        let mut yielded = false;
        while let Some(flow) = &mut self.flow {
            self.signal.take(WOKEN);
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let _entered = enter_flow(&self.core);
                flow.as_mut().poll(&mut Context::from_waker(&waker))
            }));
            self.result = match polled {
                Ok(Poll::Ready(result)) => Some(result),
                Err(panic) => Some(Err(panicked(&*panic))),
                Ok(Poll::Pending) if self.signal.has(WOKEN) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                // A task that yields is woken only after others had their turn.
                Ok(Poll::Pending) if !yielded => {
                    yielded = true;
                    tokio::task::yield_now().await;
                    if self.signal.has(WOKEN) {
                        continue;
                    }
                    return;
                }
                Ok(Poll::Pending) => return,
            };
            let flow = self.flow.take();
            let _entered = enter_flow(&self.core);
            drop(catch_unwind(AssertUnwindSafe(|| drop(flow))));
        }
    }

    /// How the recorded run ended, and whether the code ends alike.
    fn compare(
        &self,
        ending: Option<&Ending>,
    ) -> Result<(Option<RunState>, Option<bool>), BlockReason> {
        let errs = |failed: &Failed| match &self.result {
            Some(Err(error)) => {
                let (core, recorded) = (&self.core, failed.error.clone());
                *error.record() == core.engine.values.shown(&core.id, recorded)
            }
            _ => false,
        };
        let (state, same) = match (ending, &self.result) {
            (None, _) => return Ok((None, None)),
            (Some(Ending::Succeeded(end)), Some(Ok(output))) => {
                (RunState::Succeeded, output.same_plain(&end.output))
            }
            (Some(Ending::Succeeded(_)), result) => {
                let code = match result {
                    Some(Err(error)) => format!("an end with an error: {error}"),
                    _ => self.core.with(|state| state.machine.claimed_now()),
                };
                let (position, journal) = (Position::new("", "@end", 0), "a good end".to_owned());
                return Err(BlockReason::NonDeterminism { position, journal, code });
            }
            (Some(Ending::Failed(failed)), _) => (RunState::Failed, Some(errs(failed))),
            (Some(Ending::Cancelled(failed)), _) => (RunState::Cancelled, Some(errs(failed))),
        };
        Ok((Some(state), same))
    }
}
