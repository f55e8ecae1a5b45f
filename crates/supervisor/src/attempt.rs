//! One attempt to repair a resource.

use std::pin::pin;
use std::sync::Arc;

use resurge_breaker::{Events, Mode, Repair};
use resurge_wal::Append;
use tokio::sync::watch;

use crate::alert::AlertKind;
use crate::audit::AttemptOutcome;
use crate::catch::{caught, message};
use crate::failure::cut;
use crate::keeper::{hear_all, heard, stopped};
use crate::machine::{Begun, Machine};
use crate::meters;
use crate::repairable::BoxError;
use crate::resource::{Resource, Shared};
use crate::strategy::{Builtin, Known, Recovered, RepairContext};

/// What a strategy said, the one that may close a circuit included.
enum Said {
    Recovered(Recovered),
    Closed,
}

/// Makes the attempt that is due, if it still is.
pub(crate) async fn make(
    shared: &Arc<Shared>,
    resource: &Arc<Resource>,
    events: &mut Events,
    stop: &mut watch::Receiver<bool>,
) {
    if resource.breaker.mode() != Mode::Active {
        return;
    }
    // ORDER: heard before it is decided; while there was no room, probes may have begun.
    hear_all(shared, resource, events);
    let state = resource.breaker.state();
    let start = shared.at();
    let Some(failure) = resource.machine.lock().due(state, start) else { return };
    let candidates = shared.candidates(resource, &failure);
    // Choosing them may have taken its time, too.
    hear_all(shared, resource, events);
    let (state, start) = (resource.breaker.state(), shared.at());
    let decide = |machine: &mut Machine| machine.begin(state, start, failure, candidates);
    let (begun, written) = match shared.deciding(resource, decide) {
        (Some(begun), written) => (begun, written),
        (None, written) => return shared.not_awaited(written),
    };
    let repair = resource.breaker.begin_repair();
    // So that the trail has it where it happened, however soon the attempt ends.
    hear_all(shared, resource, events);
    shared.publish_later(resource);
    let span = tracing::info_span!(
        "repair",
        resource = &*resource.name,
        strategy = &*begun.strategy,
        attempt = begun.attempt
    );
    tracing::info!(parent: &span, failure = %begun.failure.kind, "an attempt begins");
    let (outcome, close) = match &repair {
        None => {
            shared.not_awaited(written);
            (failed("somebody else repairs it"), false)
        }
        Some(_) => run(shared, resource, &begun, written, events, stop).await,
    };
    let outcome = end(repair, outcome, close);
    let now = shared.at();
    let took = now.mono.saturating_since(start.mono);
    tracing::info!(parent: &span, outcome = outcome.as_str(), "the attempt ended");
    meters::attempt(&begun.strategy, &outcome, took.as_secs_f64());
    resource.machine.lock().ended(&begun, outcome, took, now);
    shared.publish_later(resource);
}

/// Tells the breaker; a repair that the breaker gave up did not work.
fn end(repair: Option<Repair>, outcome: AttemptOutcome, close: bool) -> AttemptOutcome {
    let Some(repair) = repair else { return outcome };
    let in_time = match &outcome {
        AttemptOutcome::Succeeded if close => repair.closed(),
        AttemptOutcome::Succeeded => repair.succeeded(),
        AttemptOutcome::Waiting { suspended } => repair.failed_for(*suspended),
        _ => {
            repair.failed();
            true
        }
    };
    if in_time { outcome } else { failed("the circuit was reset or tripped meanwhile") }
}

fn failed(why: impl Into<String>) -> AttemptOutcome {
    let mut why = why.into();
    cut(&mut why);
    AttemptOutcome::Failed { why }
}

/// Waits until the beginning is journaled, then runs the strategy. The flag: close the circuit.
async fn run(
    shared: &Arc<Shared>,
    resource: &Arc<Resource>,
    begun: &Begun,
    written: Option<Append>,
    events: &mut Events,
    stop: &mut watch::Receiver<bool>,
) -> (AttemptOutcome, bool) {
    // ORDER: durable before anything is done, so that a process that dies of it counts it.
    if let Some(append) = written {
        let journaled = tokio::select! {
            biased;
            () = stopped(stop) => return (AttemptOutcome::Cancelled, false),
            journaled = append => journaled,
        };
        if let Err(error) = journaled {
            meters::journal_error();
            resource.machine.lock().alert(shared.at(), AlertKind::JournalFailed);
            return (failed(format!("it could not be journaled: {error}")), false);
        }
    }
    resource.machine.lock().alarms.over(|raised| matches!(raised, AlertKind::JournalFailed));
    let mut work = pin!(caught(work(shared, resource, begun)));
    let mut limit = pin!(shared.clock.sleep(shared.config.attempt_timeout));
    let said = loop {
        tokio::select! {
            biased;
            () = stopped(stop) => return (AttemptOutcome::Cancelled, false),
            said = &mut work => break said,
            () = &mut limit => return (AttemptOutcome::TimedOut, false),
            Some(event) = events.recv() => {
                heard(shared, resource, &event);
                shared.publish_later(resource);
            }
        }
    };
    match said {
        Ok(Ok(Said::Recovered(Recovered::Repaired))) => (AttemptOutcome::Succeeded, false),
        Ok(Ok(Said::Recovered(Recovered::Wait(suspended)))) => {
            (AttemptOutcome::Waiting { suspended }, false)
        }
        Ok(Ok(Said::Closed)) => (AttemptOutcome::Succeeded, true),
        Ok(Err(error)) => (failed(error.to_string()), false),
        Err(panic) => (failed(message(&panic.payload)), false),
    }
}

async fn work(shared: &Arc<Shared>, resource: &Resource, begun: &Begun) -> Result<Said, BoxError> {
    let find = |known: &&Known| known.name() == &*begun.strategy;
    let Some(strategy) = shared.strategies.read().iter().find(find).cloned() else {
        return Err("the strategy is gone".into());
    };
    let settings = shared.settings(resource, &begun.strategy);
    let thing = &resource.registration.resource;
    let said = match strategy {
        Known::Custom(_, custom) => {
            let context = RepairContext {
                name: Arc::clone(&resource.name),
                resource: Arc::clone(thing),
                failure: begun.failure.clone(),
                attempt: begun.attempt,
                settings,
                clock: Arc::clone(&shared.clock),
            };
            custom.recover(context).await?
        }
        Known::Builtin(Builtin::Restart) => {
            thing.shutdown().await?;
            if !settings.pause.is_zero() {
                shared.clock.sleep(settings.pause).await;
            }
            thing.load().await?;
            Recovered::Repaired
        }
        Known::Builtin(Builtin::Reload) => {
            thing.reload().await?;
            Recovered::Repaired
        }
        Known::Builtin(Builtin::Reset) => return Ok(Said::Closed),
        Known::Builtin(Builtin::GracefulDegradation) => {
            thing.degrade().await?;
            Recovered::Repaired
        }
        Known::Builtin(Builtin::Backoff) => {
            Recovered::Wait(settings.suspend.of(begun.waits.saturating_add(1)))
        }
    };
    Ok(Said::Recovered(said))
}
