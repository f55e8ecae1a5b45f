//! Starting child runs in the commit that records them.

use std::time::Duration;

use resurge_store::{Batch, BoxFuture, CommitSeq, Durability, ErrorKind, StoreError};

use super::{Driver, Fresh, Stop, open_wal};
use crate::FlowError;
use crate::core::Join;
use crate::machine::SlotId;
use crate::record::{Outcome, Record};
use crate::runs::End;
use crate::start::Prepared;
use crate::step_error::{Class, StepError, StepErrorKind};
use crate::values::InputMark;

type Children = Vec<(SlotId, Prepared)>;

impl Driver {
    /// Commits records together with the beginnings of children and what others join in, if their
    /// guards hold. Resolves when they are durable.
    pub(super) async fn submit_children(
        &mut self,
        records: &[Record],
        batch: Batch,
        mut joins: Vec<Join>,
        mut children: Children,
        upto: u64,
    ) -> Result<(), Stop> {
        self.settle_all().await?;
        let mut wait = Duration::from_millis(1);
        loop {
            let former = self.engine.stamp();
            let mut whole = batch.clone();
            for join in &joins {
                whole.merge(join.batch.clone());
            }
            let (commit, fresh) = self.stage_all(records, whole, &children).await?;
            let conflict = match commit.await {
                Ok(_) => {
                    self.core.set_durable(upto);
                    settle(&mut joins, true);
                    for ((_, child), fresh) in children.into_iter().zip(fresh) {
                        self.engine.metrics.started.increment(1);
                        drop(self.engine.admit_new(&child.id, child.flow, fresh, former));
                    }
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Unavailable => {
                    self.engine.store.clock().sleep(wait).await;
                    wait = wait.saturating_mul(2).min(Duration::from_secs(1));
                    continue;
                }
                Err(e) => e,
            };
            if joins.iter().any(|join| join.is_about(&conflict)) {
                // The journal decides what happened; what others joined in is given up.
                settle(&mut joins, false);
                continue;
            }
            let taken = self.taken_child(&children, &conflict)?;
            let Some(at) = taken else {
                settle(&mut joins, false);
                return Err(self.failed(conflict));
            };
            let (slot, child) = children.remove(at);
            self.meet(slot, &child).await?;
        }
    }

    /// One batch with the records and every child's beginning, submitted.
    async fn stage_all(
        &mut self,
        records: &[Record],
        mut batch: Batch,
        children: &Children,
    ) -> Result<(BoxFuture<'static, Result<CommitSeq, StoreError>>, Vec<Fresh>), Stop> {
        let missed = self.engine.missed();
        let mut fresh = Vec::new();
        let mut staged = Vec::new();
        let run = &self.core.id;
        let own = |e| Stop::Failed(FlowError::journal(run)(e));
        let mut stage = self.wal.stage().await.map_err(own)?;
        for record in records {
            stage.push(record).map_err(own)?;
        }
        for (_, Prepared { id, started, live, .. }) in children {
            let failed = |e| Stop::Failed(FlowError::journal(id)(e));
            let wal = open_wal(&self.engine, id).await.map_err(failed)?;
            let mut child = wal.stage().await.map_err(failed)?;
            child.push(&Record::Started(started.clone())).map_err(failed)?;
            self.engine.put_new(&mut batch, id, live).map_err(Stop::Failed)?;
            staged.push(child.write(&mut batch).map_err(failed)?);
            fresh.push(Fresh { wal, started: started.clone(), live: live.clone(), missed });
        }
        let own_staged = stage.write(&mut batch).map_err(own)?;
        let commit = self.engine.store.commit(batch, Durability::Durable);
        let mut commit: BoxFuture<'static, _> =
            Box::pin(own_staged.submitted(commit, Durability::Durable));
        for child in staged {
            commit = Box::pin(child.submitted(commit, Durability::Durable));
        }
        Ok((commit, fresh))
    }

    /// The child whose id is taken already, if that is what the conflict is about.
    fn taken_child(
        &self,
        children: &Children,
        conflict: &StoreError,
    ) -> Result<Option<usize>, Stop> {
        let Some(key) = conflict.key().filter(|_| conflict.kind() == ErrorKind::Conflict) else {
            return Ok(None);
        };
        for (at, (_, child)) in children.iter().enumerate() {
            let live = self.engine.keys.live(&child.id).map_err(Stop::Failed)?;
            let done = self.engine.keys.done(&child.id).map_err(Stop::Failed)?;
            if *key == live || *key == done {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The child's id is taken: by the child of an earlier attempt, which goes on or gives its
    /// result, or by somebody else, which is an error.
    async fn meet(&mut self, slot: SlotId, child: &Prepared) -> Result<(), Stop> {
        let engine = &self.engine;
        let same = |parent: &Option<crate::record::Parent>, mark: &InputMark, flow: &str| {
            let family = *parent == child.live.parent && flow == child.live.flow;
            let input = || engine.same_input(&child.id, mark, &child.hash);
            if family { input().map_err(Stop::Failed) } else { Ok(false) }
        };
        let refused = || {
            let message = format!("run `{}` exists already and is another one", child.id);
            let error = StepError::of(StepErrorKind::Child, Class::Permanent, message);
            Outcome::Err(error.record().clone())
        };
        let live = engine.load_live(&child.id).await.map_err(Stop::Failed)?;
        let done = engine.load_done(&child.id).await.map_err(Stop::Failed)?;
        let outcome = match (live, done) {
            (Some((live, _)), _) if same(&live.parent, &live.input, &live.flow)? => None,
            (None, Some((done, _))) if same(&done.parent, &done.input, &done.flow)? => {
                match done.end {
                    End::Succeeded(output) => Some(Outcome::Ok(output)),
                    End::Failed { resumable: true, .. } => match engine.resume(&child.id).await {
                        Ok(_) | Err(FlowError::AlreadyRunning { .. }) => None,
                        Err(error) => return Err(Stop::Failed(error)),
                    },
                    End::Failed { error, .. } | End::Cancelled(error) => Some(Outcome::Err(error)),
                    End::Swept => Some(refused()),
                }
            }
            _ => Some(refused()),
        };
        if let Some(outcome) = outcome {
            self.core.with(|state| state.machine.complete(slot, outcome, 0, Vec::new()));
        }
        Ok(())
    }
}

/// Tells those who joined in whether what they put there is committed.
fn settle(joins: &mut Vec<Join>, committed: bool) {
    for Join { settled, .. } in joins.drain(..) {
        settled(committed);
    }
}
