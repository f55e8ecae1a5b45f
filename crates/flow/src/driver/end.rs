//! The end of a run: its last record, its place among the finished ones, the news to its parent.

use resurge_store::{Batch, ErrorKind, Timestamp};

use super::flush::Last;
use super::{Driver, Stop, sealed};
use crate::payload::Payload;
use crate::record::{CancelReason, Failed, Outcome, Record, Succeeded};
use crate::runs::{self, Done, End};
use crate::{FlowResult, StepError};

impl Driver {
    /// The flow returned. Resolves when the end is durable.
    pub(super) async fn finish(&mut self, result: FlowResult<Payload>) -> Result<End, Stop> {
        let at = self.core.now();
        let (record, end) = match self.ending(result, at) {
            Ok(ending) => ending,
            Err(stop) => {
                // What was journaled before counts.
                self.flush(None).await?;
                self.settle_all().await?;
                return Err(stop);
            }
        };
        let outcome = match &end {
            End::Succeeded(output) => Outcome::Ok(output.clone()),
            End::Failed { error, .. } | End::Cancelled(error) => Outcome::Err(error.clone()),
            End::Swept => return Err(Stop::Closing),
        };
        // ORDER: everything else is settled first, so that only records are tried again when the
        // parent's record changes meanwhile. What others join in is settled before the end, so that
        // nothing is lost with it.
        let parent = self.core.parent.clone();
        let joined = self.core.with(|state| {
            let alone = state.writes.is_empty() && state.taken.is_empty();
            !(alone && state.joins.is_empty() && state.children.is_empty())
        });
        if parent.is_some() && joined {
            self.flush(None).await?;
        }
        if parent.is_some() {
            self.settle_all().await?;
        }
        self.core.with(|state| state.machine.journal(record));
        let mut told_at = None;
        if let Some(parent) = &parent {
            told_at = Some(self.engine.keys.live(&parent.run).map_err(Stop::Failed)?);
        }
        let keep = parent.as_ref().map(|_| self.core.with(|state| state.machine.outbox()));
        loop {
            let mut batch = self.done(&end, at)?;
            if let Some(parent) = &parent {
                let told = self.engine.tell_parent(&mut batch, parent, outcome.clone()).await;
                told.map_err(Stop::Failed)?;
            }
            self.flush(Some(Last { batch })).await?;
            match self.settle_end().await {
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::Conflict && told_at.as_ref() == e.key() => {
                    let keep = keep.clone().unwrap_or_default();
                    self.core.with(|state| state.machine.put_back(keep));
                }
                Err(e) => return Err(self.failed(e)),
            }
        }
        if let Some(parent) = &parent {
            self.engine.wake(&parent.run, crate::signal::MAIL);
        }
        self.count(&end, at);
        Ok(end)
    }

    async fn settle_end(&mut self) -> Result<(), resurge_store::StoreError> {
        while let Some(in_flight) = self.commits.pop_front() {
            in_flight.commit.await?;
        }
        Ok(())
    }

    fn ending(&self, result: FlowResult<Payload>, at: Timestamp) -> Result<(Record, End), Stop> {
        match result {
            Ok(output) => {
                let record = Record::Succeeded(Succeeded { at, output: output.clone() });
                Ok((record, End::Succeeded(output)))
            }
            Err(error) => {
                let asked = matches!(
                    self.core.cancel_reason(),
                    Some(CancelReason::Asked | CancelReason::Parent)
                );
                let cancelled = asked && error.is_cancelled();
                let resumable = self.resumable();
                let StepErrorParts { error, positions } = parts(&error);
                let hidden = self.engine.values.hide(&self.core.id, &error);
                let error = hidden.map_err(|e| sealed(e.record()))?;
                let suspended = self.core.with(|state| std::mem::take(&mut state.suspended));
                let failed =
                    Failed { at, error: error.clone(), positions: positions.clone(), suspended };
                Ok(if cancelled {
                    (Record::Cancelled(failed), End::Cancelled(error))
                } else {
                    (Record::Failed(failed), End::Failed { error, positions, resumable })
                })
            }
        }
    }

    fn resumable(&self) -> bool {
        self.engine.code(&self.core.flow).is_none_or(|code| code.options().is_resumable())
    }

    /// The run moves from the unfinished to the finished ones.
    fn done(&self, end: &End, at: Timestamp) -> Result<Batch, Stop> {
        let (engine, run) = (&self.engine, &*self.core.id);
        let mut batch = Batch::new();
        batch.delete(engine.keys.live(run).map_err(Stop::Failed)?);
        let done = Done {
            flow: self.live.flow.clone(),
            input: self.live.input.clone(),
            created: self.live.created,
            ended: at,
            end: end.clone(),
            parent: self.live.parent.clone(),
        };
        let key = engine.keys.done(run).map_err(Stop::Failed)?;
        let value = runs::store(&key, &done).map_err(|e| self.failed(e))?;
        batch.put(key, value);
        if !matches!(end, End::Failed { resumable: true, .. }) {
            let key = engine.keys.ended(at, run).map_err(Stop::Failed)?;
            batch.put(key, "");
        }
        // Nobody asks for these any more, unless the run is resumed.
        if matches!(end, End::Failed { resumable: true, .. }) {
            return Ok(batch);
        }
        for mail in self.core.with(|state| state.mail.clone()) {
            let Some(key) = mail.key else { continue };
            batch.delete(key);
        }
        Ok(batch)
    }

    fn count(&self, end: &End, at: Timestamp) {
        let metrics = &self.engine.metrics;
        match end {
            End::Succeeded(_) => metrics.succeeded.increment(1),
            End::Failed { .. } => metrics.failed.increment(1),
            End::Cancelled(_) | End::Swept => metrics.cancelled.increment(1),
        }
        metrics.seconds.record(at.saturating_since(self.live.created).as_secs_f64());
    }
}

struct StepErrorParts {
    error: crate::ErrorRecord,
    positions: Vec<crate::Position>,
}

fn parts(error: &StepError) -> StepErrorParts {
    StepErrorParts { error: error.record().clone(), positions: error.positions().to_vec() }
}
