//! From a position to its value: replayed, or made by attempts until one is the last.

use std::future::Future;
use std::sync::Arc;

use resurge_seal::Decision;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Options;
use super::attempt::{can_write, poll_body};
use super::gates::{admit, enter_lane, settle};
use super::memoized::{Found, find, keep, release};
use crate::Position;
use crate::core::{Claimed, Turn};
use crate::current::Body;
use crate::machine::{MAX_RECORD, Wait};
use crate::payload::Payload;
use crate::record::{Outcome, value_bytes};
use crate::step_error::{Class, ErrorRecord, FlowResult, StepError, StepErrorKind};
use crate::values::Of;

/// From a position to its value: replays it, or runs the body until it is complete.
pub(crate) async fn drive<F, Fut, T, E>(
    claimed: &Claimed,
    mut body: F,
    options: &Options,
) -> FlowResult<T>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<StepError>,
    T: Serialize + DeserializeOwned + Send,
{
    let mut original = None;
    let outcome = match run(claimed, &mut body, options, &mut original).await {
        Some(outcome) => outcome,
        None => claimed.revealed().await,
    };
    match (outcome, original) {
        // Live, the error still has its type.
        (Outcome::Err(_), Some(original)) => Err(original.at(claimed.position())),
        (outcome, _) => reveal(claimed, Of::Step, outcome),
    }
}

/// Turns an outcome into what the flow's code sees.
pub(crate) fn reveal<T: Serialize + DeserializeOwned>(
    claimed: &Claimed,
    of: Of,
    outcome: Outcome,
) -> FlowResult<T> {
    let position = claimed.position();
    match outcome {
        Outcome::Ok(payload) => {
            let core = &claimed.core;
            let values = &core.engine.values;
            let decoded = match of {
                Of::Step => values.decode_at(&core.id, &position, &payload),
                of => values.decode(&core.id, of, position.name(), &payload),
            };
            core.checked(decoded).map_err(|e| e.at(position))
        }
        Outcome::Err(record) => Err(shown(claimed, record).at(position)),
    }
}

/// The error in an outcome of the run's own.
pub(crate) fn shown(claimed: &Claimed, record: ErrorRecord) -> StepError {
    let core = &claimed.core;
    match core.checked(core.engine.values.show(&core.id, record)) {
        Ok(record) => StepError::from_record(record),
        Err(error) => error,
    }
}

/// Runs attempts until one is the last. `None` when its outcome is journaled and to be revealed,
/// `Some` when it was revealed already.
#[expect(
    clippy::too_many_lines,
    reason = "one attempt, from the turn to the record, read in order"
)]
async fn run<F, Fut, T, E>(
    claimed: &Claimed,
    body: &mut F,
    options: &Options,
    original: &mut Option<StepError>,
) -> Option<Outcome>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<StepError>,
    T: Serialize + Send,
{
    let core = &claimed.core;
    if let Turn::Revealed(outcome) = claimed.turn(options.deferred).await {
        return Some(outcome);
    }
    let position = claimed.position();
    if core.engine.values.sealer.decide_name(position.name()) == Decision::Omit {
        // Said before the body runs: its result could not be recorded.
        give_up(claimed, never_stored(&position), 0, original);
        return None;
    }
    let (mut failed, mut next_at) = core.with(|state| {
        let fact = state.machine.fact(claimed.id);
        fact.map_or((0, None), |fact| (fact.attempts, fact.next_at))
    });
    let recovering = core.with(|state| state.machine.resumed_at(&position));
    loop {
        if let Some(at) = next_at.take() {
            if let Err(outcome) = claimed.wait_until(Wait::Retry(at), at).await {
                return Some(outcome);
            }
            if let Turn::Revealed(outcome) = claimed.turn(options.deferred).await {
                return Some(outcome);
            }
        }
        let mut held = match find(claimed, options, failed, original).await {
            Found::Nothing(held) => held,
            Found::Again => continue,
            Found::Over(outcome) => return outcome,
        };
        let permits = match admit(claimed, options, &mut held).await {
            Ok(Some(permits)) => permits,
            Ok(None) => continue,
            Err(outcome) => return Some(outcome),
        };
        // Held until the attempt is over.
        let _room = match enter_lane(claimed, options).await {
            Ok(room) => room,
            Err(outcome) => {
                release(held).await;
                return Some(outcome);
            }
        };
        let attempt = failed.saturating_add(1);
        let seen = Arc::new(Body {
            core: Arc::clone(core),
            position: position.clone(),
            attempt,
            recovering,
            deferred: options.deferred,
            memo: held.as_ref().map(|held| held.key.clone()),
            sets: parking_lot::Mutex::default(),
            writes: parking_lot::Mutex::default(),
        });
        core.engine.metrics.attempts.increment(1);
        core.with(|state| state.machine.set_busy(claimed.id, true));
        let work = poll_body(body, &seen, options.timeout);
        let result = match &mut held {
            Some(held) => held.claim.keep_alive(work).await,
            None => work.await,
        };
        let encode = |value: &T| core.engine.values.encode_at(&core.id, &position, value);
        let mut result = result.and_then(|value| core.checked(encode(&value)));
        result = result.and_then(|payload| can_write(&seen).map(|()| payload));
        let mut sets = std::mem::take(&mut *seen.sets.lock());
        let bytes = result.as_ref().map_or(0, Payload::len) + value_bytes(&sets);
        if bytes > MAX_RECORD {
            sets.clear();
            let what = format!("what step `{position}` of run `{}` returned and set", core.id);
            let message = format!("{what} takes {bytes} bytes; the limit is {MAX_RECORD}");
            result = Err(StepError::of(StepErrorKind::TooLarge, Class::Permanent, message));
        }
        claimed.room(bytes).await;
        let mut joins = settle(permits, &core.engine.store, &result);
        let result = keep(claimed, result, held, &mut joins).await;
        match result {
            Ok(payload) => {
                let writes = std::mem::take(&mut *seen.writes.lock());
                core.with(|state| {
                    if state.machine.is_frozen() {
                        return;
                    }
                    state.writes.merge(writes);
                    state.joins.extend(joins);
                    state.urgent |= !options.deferred;
                    state.machine.complete(claimed.id, Outcome::Ok(payload), attempt, sets);
                });
                return None;
            }
            Err(error) => {
                failed = attempt;
                let ends = core.is_cancelled()
                    && !core.with(|state| state.machine.is_shielded(claimed.id));
                let again = || options.retry.after(failed, &error, core.engine.fraction());
                let wait = if ends { None } else { again() };
                let hidden = core.checked(core.engine.values.hide(&core.id, error.record()));
                *original = Some(error);
                let Ok(record) = hidden else { return None };
                next_at = Some(core.with(|state| {
                    if state.machine.is_frozen() {
                        return None;
                    }
                    state.joins.extend(joins);
                    state.urgent = true;
                    let Some(wait) = wait else {
                        state.machine.complete(claimed.id, Outcome::Err(record), attempt, sets);
                        return None;
                    };
                    core.engine.metrics.retries.increment(1);
                    let at = core.now().saturating_add(wait);
                    state.machine.set_busy(claimed.id, false);
                    state.machine.attempt_failed(claimed.id, attempt, record, at, sets);
                    Some(at)
                })?);
            }
        }
    }
}

fn never_stored(position: &Position) -> StepError {
    let message = format!("the policy says never to store `{position}`, which is a step");
    StepError::of(StepErrorKind::Sealed, Class::Permanent, message)
}

/// Journals a failure that no attempt made.
pub(super) fn give_up(
    claimed: &Claimed,
    error: StepError,
    attempts: u32,
    original: &mut Option<StepError>,
) {
    let core = &claimed.core;
    let hidden = core.checked(core.engine.values.hide(&core.id, error.record()));
    *original = Some(error);
    if let Ok(record) = hidden {
        core.with(|state| {
            state.urgent = true;
            state.machine.complete(claimed.id, Outcome::Err(record), attempts, Vec::new());
        });
    }
}
