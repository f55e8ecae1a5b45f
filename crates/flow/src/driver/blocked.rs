//! Runs that cannot go on as things are: set aside with the reason, or ended if somebody asks.

use std::sync::Arc;

use resurge_store::{Batch, Durability, ErrorKind, Guard};

use super::begin::open_wal;
use crate::engine::{Engine, Phase, Resident};
use crate::inbox::Message;
use crate::record::{Failed, Outcome, Record};
use crate::runs::{self, Done, End, Live, Waiting};
use crate::signal::{CONTROL, MAIL};
use crate::step_error::{Class, StepError, StepErrorKind};
use crate::{BlockReason, FlowError};

/// Sets a run aside, durably, so that it is listed with the reason. True when something happened
/// meanwhile that may change it: the run is to be looked at again.
pub(super) async fn block(
    engine: &Arc<Engine>,
    resident: &Arc<Resident>,
    reason: BlockReason,
) -> bool {
    // ORDER: before the mail is read, so that whatever comes later is seen below.
    resident.signal.take(!0);
    match cancel(engine, resident, &reason).await {
        Ok(true) => return false,
        Ok(false) => {}
        Err(error) => {
            tracing::error!(run = %resident.id, %error, "a blocked run could not be cancelled");
        }
    }
    engine.metrics.blocked.increment(1);
    tracing::warn!(run = %resident.id, %reason, "a run is blocked");
    let waiting = Waiting::Blocked(reason.clone());
    if let Err(error) = set_waiting(engine, &resident.id, waiting.clone()).await {
        tracing::error!(run = %resident.id, %error, "the reason could not be stored");
    }
    engine.left_parking(&resident.id);
    let registered =
        matches!(&reason, BlockReason::Unregistered { flow } if engine.code(flow).is_some());
    // Registered between the look and now.
    if registered {
        return true;
    }
    {
        let mut phase = resident.phase.lock();
        // ORDER: under the phase's lock; who tells it something later finds it dormant.
        if resident.signal.has(MAIL | CONTROL) {
            return true;
        }
        *phase = Phase::Dormant { armed: None, why: waiting };
    }
    resident.tell();
    false
}

async fn set_waiting(engine: &Engine, run: &str, waiting: Waiting) -> Result<(), FlowError> {
    let key = engine.keys.live(run)?;
    loop {
        let stored = engine.store.get(&key).await.map_err(FlowError::store(run))?;
        let Some(stored) = stored else { return Ok(()) };
        let mut live: Live = runs::load(&key, &stored).map_err(FlowError::store(run))?;
        if live.state == waiting {
            return Ok(());
        }
        live.state = waiting.clone();
        live.since = engine.store.now();
        let mut batch = Batch::new();
        let value = runs::store(&key, &live).map_err(FlowError::store(run))?;
        batch.guard(key.clone(), Guard::Exact(stored)).put(key.clone(), value);
        match engine.commit(batch).await {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            Err(e) => return Err(FlowError::store(run)(e)),
        }
    }
}

/// Ends a blocked run that somebody wants cancelled: its code cannot be asked how. False when nobody
/// does.
async fn cancel(
    engine: &Arc<Engine>,
    resident: &Arc<Resident>,
    reason: &BlockReason,
) -> Result<bool, FlowError> {
    let run = &*resident.id;
    loop {
        let mail = engine.mail(run).await?;
        if !mail.iter().any(|mail| matches!(mail.message, Message::Cancel(_))) {
            return Ok(false);
        }
        let Some((live, guard)) = engine.load_live(run).await? else { return Ok(false) };
        let at = engine.store.now();
        let message = format!("cancelled while it was blocked: {reason}");
        let error = StepError::of(StepErrorKind::Cancelled, Class::Permanent, message);
        let error = error.record().clone();
        let mut batch = Batch::new();
        engine.guard_owner(&mut batch);
        let live_key = engine.keys.live(run)?;
        batch.guard(live_key.clone(), guard).delete(live_key);
        let done = Done {
            flow: live.flow,
            input: live.input,
            created: live.created,
            ended: at,
            end: End::Cancelled(error.clone()),
            parent: live.parent.clone(),
        };
        let key = engine.keys.done(run)?;
        let value = runs::store(&key, &done).map_err(FlowError::store(run))?;
        batch.put(key, value);
        batch.put(engine.keys.ended(at, run)?, "");
        for mail in mail {
            batch.delete(mail.key);
        }
        if let Some(parent) = &live.parent {
            engine.tell_parent(&mut batch, parent, Outcome::Err(error.clone())).await?;
        }
        let record = Record::Cancelled(Failed {
            at,
            error: error.clone(),
            positions: Vec::new(),
            suspended: Vec::new(),
        });
        match commit(engine, run, reason, batch, &record).await {
            Ok(()) => {}
            // Another message came, or the parent moved on: look again.
            Err(FlowError::Store { source, .. }) if source.kind() == ErrorKind::Conflict => {
                continue;
            }
            Err(error) => return Err(error),
        }
        engine.metrics.cancelled.increment(1);
        if let Some(parent) = &live.parent {
            engine.wake(&parent.run, MAIL);
        }
        engine.retire(resident, Ok(End::Cancelled(error)));
        return Ok(true);
    }
}

/// A journal that cannot be read is left as it is; any other one gets its last record.
async fn commit(
    engine: &Engine,
    run: &str,
    reason: &BlockReason,
    batch: Batch,
    record: &Record,
) -> Result<(), FlowError> {
    if matches!(reason, BlockReason::Journal(_)) {
        return engine.commit(batch).await.map_err(|e| engine.store_failed(run, e));
    }
    let wal = open_wal(engine, run).await.map_err(FlowError::journal(run))?;
    let mut stage = wal.stage().await.map_err(FlowError::journal(run))?;
    stage.push(record).map_err(FlowError::journal(run))?;
    let commit = stage.commit(batch, Durability::Durable).map_err(FlowError::journal(run))?;
    commit.await.map(drop).map_err(|e| engine.store_failed(run, e))
}
