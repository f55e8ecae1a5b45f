//! Committing what was journaled: one commit for a step's record, the run's state, what the step
//! wrote itself, what gates changed, and the messages that were taken.

use resurge_store::{Batch, Durability, Guard, StoreError};

use super::{Driver, InFlight, Stop, cancel_children};
use crate::FlowError;
use crate::core::Join;
use crate::record::Record;
use crate::runs::{self, Waiting};

/// What ends a run: its keys, to be written with the last records.
pub(super) struct Last {
    pub(super) batch: Batch,
}

impl Driver {
    /// Submits everything in the outbox. Returns before it is durable, unless others joined in.
    pub(super) async fn flush(&mut self, last: Option<Last>) -> Result<(), Stop> {
        let ending = last.is_some();
        Box::pin(cancel_children(&self.core)).await?;
        let waiting = if ending { self.live.state.clone() } else { self.waiting() };
        let (records, writes, joins, taken, children, urgent, upto) = self.core.with(|state| {
            let records = state.machine.take_outbox();
            let urgent = std::mem::take(&mut state.urgent);
            let taken = std::mem::take(&mut state.taken);
            let writes = std::mem::take(&mut state.writes);
            let joins = std::mem::take(&mut state.joins);
            let mut children = std::mem::take(&mut state.children);
            // One whose parent gave it up already is not begun.
            children.retain(|(slot, _)| state.machine.is_waiting(*slot));
            (records, writes, joins, taken, children, urgent, state.machine.last())
        });
        for waker in self.core.with(|state| state.machine.take_crowded()) {
            waker.wake();
        }
        let moved = !ending && self.moved(&waiting, !records.is_empty());
        if records.is_empty() && taken.is_empty() && !moved && !ending {
            return Ok(());
        }
        let mut batch = writes;
        self.engine.guard_owner(&mut batch);
        for key in taken {
            batch.delete(key);
        }
        if moved {
            self.guard_record(&mut batch, &records)?;
            self.live.state = waiting;
            self.live.since = self.core.now();
            let key = self.engine.keys.live(&self.core.id).map_err(Stop::Failed)?;
            let value = runs::store(&key, &self.live).map_err(|e| self.failed(e))?;
            batch.put(key, value);
        }
        if let Some(Last { batch: last }) = last {
            batch.merge(last);
        }
        let deferred = !urgent && !ending && !moved && only_deferrable(&records);
        let durability = if deferred { Durability::Buffered } else { Durability::Durable };
        if !children.is_empty() {
            return Box::pin(self.submit_children(&records, batch, joins, children, upto)).await;
        }
        if joins.is_empty() {
            self.submit(&records, batch, durability, upto).await
        } else {
            Box::pin(self.submit_joined(&records, batch, joins, durability, upto)).await
        }
    }

    /// Whether the run's record must say something else now.
    fn moved(&self, waiting: &Waiting, journaled: bool) -> bool {
        // A run that merely goes on says so with its next record; one that is blocked no more says so.
        let goes_on =
            matches!(waiting, Waiting::Running) && !matches!(self.live.state, Waiting::Blocked(_));
        *waiting != self.live.state && (journaled || !goes_on)
    }

    /// Records fence us off from another process that took the run over. Without any, what the run's
    /// record said last does.
    fn guard_record(&self, batch: &mut Batch, records: &[Record]) -> Result<(), Stop> {
        if records.is_empty() {
            let key = self.engine.keys.live(&self.core.id).map_err(Stop::Failed)?;
            let value = runs::store(&key, &self.live).map_err(|e| self.failed(e))?;
            batch.guard(key, Guard::Exact(value));
        }
        Ok(())
    }

    async fn submit(
        &mut self,
        records: &[Record],
        batch: Batch,
        durability: Durability,
        upto: u64,
    ) -> Result<(), Stop> {
        let run = &self.core.id;
        let failed = |e| Stop::Failed(FlowError::journal(run)(e));
        let mut stage = self.wal.stage().await.map_err(failed)?;
        for record in records {
            stage.push(record).map_err(failed)?;
        }
        let commit = if records.is_empty() {
            drop(stage);
            self.engine.store.commit(batch, durability)
        } else {
            Box::pin(stage.commit(batch, durability).map_err(failed)?)
        };
        self.commits.push_back(InFlight {
            commit,
            upto,
            durable: durability == Durability::Durable,
        });
        Ok(())
    }

    /// Others' changes are committed with ours if their guards hold, else ours without them: the
    /// journal decides what happened.
    async fn submit_joined(
        &mut self,
        records: &[Record],
        batch: Batch,
        joins: Vec<Join>,
        durability: Durability,
        upto: u64,
    ) -> Result<(), Stop> {
        self.settle_all().await?;
        let mut whole = batch.clone();
        for join in &joins {
            whole.merge(join.batch.clone());
        }
        self.submit(records, whole, durability, upto).await?;
        let outcome = self.settle_last().await;
        let about = |e: &StoreError| joins.iter().any(|join| join.is_about(e));
        let lost = outcome.as_ref().is_err_and(about);
        for Join { settled, .. } in joins {
            settled(outcome.is_ok());
        }
        if lost {
            return self.submit(records, batch, durability, upto).await;
        }
        outcome.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Waits for the commit submitted last, and takes note of it if it succeeded.
    async fn settle_last(&mut self) -> Result<(), StoreError> {
        let Some(InFlight { commit, upto, durable }) = self.commits.pop_back() else {
            return Ok(());
        };
        commit.await?;
        if durable {
            self.core.set_durable(upto);
        }
        Ok(())
    }

    /// Waits until nothing is on its way.
    pub(super) async fn settle_all(&mut self) -> Result<(), Stop> {
        while let Some(InFlight { commit, upto, durable }) = self.commits.pop_front() {
            commit.await.map_err(|e| self.failed(e))?;
            if durable {
                self.core.set_durable(upto);
            }
        }
        Ok(())
    }

    pub(super) fn committed(
        &mut self,
        outcome: Result<resurge_store::CommitSeq, StoreError>,
    ) -> Result<(), Stop> {
        let settled = self.commits.pop_front();
        outcome.map_err(|e| self.failed(e))?;
        if let Some(InFlight { upto, durable: true, .. }) = settled {
            self.core.set_durable(upto);
        }
        if self.engine.is_closing() {
            self.stop_when_quiet()?;
        }
        Ok(())
    }

    /// Makes durable what was committed without a sync.
    pub(super) fn sync(&mut self) {
        let store = self.engine.store.clone();
        let upto = self.core.with(|state| state.machine.last());
        let commit = Box::pin(async move {
            store.sync().await?;
            Ok(resurge_store::CommitSeq(0))
        });
        self.commits.push_back(InFlight { commit, upto, durable: true });
    }

    pub(super) fn failed(&self, error: StoreError) -> Stop {
        Stop::Failed(self.engine.store_failed(&self.core.id, error))
    }
}

/// Results of steps may be committed without a sync when all of them are deferred; everything else
/// is durable.
fn only_deferrable(records: &[Record]) -> bool {
    !records.is_empty()
        && records.iter().all(|record| matches!(record, Record::Completed(_) | Record::Set(_)))
}
