//! What is asked before an attempt may begin, and told how it went.

use std::sync::Arc;

use resurge_store::{Batch, Store};
use tokio::sync::OwnedSemaphorePermit;

use super::Options;
use super::memoized::release;
use crate::core::{Claimed, Join, Turn};
use crate::gate::{Admission, Attempt, Gate, Permit};
use crate::machine::Wait;
use crate::memo::Held;
use crate::record::Outcome;
use crate::step_error::StepError;

/// Waits for room where bodies at work are limited, and then for the turn again.
pub(super) async fn enter_lane(
    claimed: &Claimed,
    options: &Options,
) -> Result<Vec<OwnedSemaphorePermit>, Outcome> {
    let room = claimed.enter_lane().await?;
    if !room.is_empty()
        && let Turn::Revealed(outcome) = claimed.turn(options.deferred).await
    {
        return Err(outcome);
    }
    Ok(room)
}

/// Asks every gate; when one refuses, the run is parked, and `None` says to begin again.
pub(super) async fn admit(
    claimed: &Claimed,
    options: &Options,
    held: &mut Option<Held>,
) -> Result<Option<Vec<Box<dyn Permit>>>, Outcome> {
    let core = &claimed.core;
    let mut permits = Vec::new();
    for gate in &options.gates {
        match gate.admit(core.now()) {
            Admission::Admitted(permit) => permits.push(permit),
            Admission::Refused { until } => {
                // What others admitted is given back unused, and somebody else may run the step.
                drop(permits);
                release(held.take()).await;
                park(claimed, gate, until).await?;
                return Ok(None);
            }
        }
    }
    if !options.gates.is_empty() && core.engine.left_parking(&core.id) {
        // Another step of this run may wait behind the same gate, on the same place.
        core.wake_waiting();
    }
    Ok(Some(permits))
}

async fn park(
    claimed: &Claimed,
    gate: &Arc<dyn Gate>,
    until: Option<resurge_store::Timestamp>,
) -> Result<(), Outcome> {
    let core = &claimed.core;
    let name = gate.name().to_owned();
    core.set_parked();
    let since = core.with(|state| {
        // A run that was parked before a crash is parked already.
        let known = state.machine.fact(claimed.id).and_then(|fact| fact.parked.as_ref());
        if let Some(known) = known.filter(|known| known.gate == name) {
            return known.at;
        }
        let now = core.now();
        state.machine.park(claimed.id, &name, until, now);
        now
    });
    let ticket = core.engine.park_behind(gate, &core.id, since);
    claimed.wait_for(Wait::Gate(name, until), || ticket.is_released().then_some(())).await?;
    if let Turn::Revealed(outcome) = claimed.turn(false).await {
        return Err(outcome);
    }
    Ok(())
}

/// Tells the permits what the attempt came to, and takes what they put into the commit.
pub(super) fn settle<P>(
    permits: Vec<Box<dyn Permit>>,
    store: &Store,
    result: &Result<P, StepError>,
) -> Vec<Join> {
    let mut joins = Vec::new();
    for permit in permits {
        let attempt = result.as_ref().map_or_else(Attempt::Failed, |_| Attempt::Succeeded);
        let mut batch = Batch::new();
        if let Some(settled) = permit.outcome(attempt, store, &mut batch) {
            joins.push(Join { batch, settled });
        }
    }
    joins
}
