//! A result from beyond the run: looked for before an attempt, kept after it.

use std::task::Waker;

use super::Options;
use super::run::give_up;
use crate::core::{Claimed, Join, Turn};
use crate::memo::{self, Begun, Held};
use crate::payload::Payload;
use crate::record::Outcome;
use crate::step_error::StepError;

/// What is known before an attempt.
pub(super) enum Found {
    /// No result: the body is to run, with the right to a memoised step.
    Nothing(Option<Held>),
    /// Things changed meanwhile.
    Again,
    /// It is complete: revealed if it is here, to be revealed otherwise.
    Over(Option<Outcome>),
}

/// Looks for the result of a memoised step.
pub(super) async fn find(
    claimed: &Claimed,
    options: &Options,
    failed: u32,
    original: &mut Option<StepError>,
) -> Found {
    let Some(memo) = &options.memo else { return Found::Nothing(None) };
    let core = &claimed.core;
    match memo::begin(claimed, memo, &options.keyed).await {
        Begun::Held(held) => {
            // It may have waited for long: paused meanwhile, the run begins nothing.
            if core.with(|state| state.machine.may_begin(claimed.id, Waker::noop())) {
                return Found::Nothing(Some(held));
            }
            held.release().await;
            match claimed.turn(options.deferred).await {
                Turn::Revealed(outcome) => Found::Over(Some(outcome)),
                Turn::Begin => Found::Again,
            }
        }
        Begun::Hit(payload) => {
            core.with(|state| {
                state.urgent |= !options.deferred;
                state.machine.complete(claimed.id, Outcome::Ok(payload), 0, Vec::new());
            });
            Found::Over(None)
        }
        Begun::Refused(error) => {
            give_up(claimed, error, failed, original);
            Found::Over(None)
        }
        Begun::Frozen => Found::Over(None),
        Begun::Revealed(outcome) => Found::Over(Some(outcome)),
    }
}

/// Puts a memoised result into the commit, or gives the right to make it back.
pub(super) async fn keep(
    claimed: &Claimed,
    result: Result<Payload, StepError>,
    held: Option<Held>,
    joins: &mut Vec<Join>,
) -> Result<Payload, StepError> {
    match (result, held) {
        (Ok(payload), Some(held)) => {
            joins.push(held.stage(claimed, &payload)?);
            Ok(payload)
        }
        (result, held) => {
            release(held).await;
            result
        }
    }
}

pub(super) async fn release(held: Option<Held>) {
    if let Some(held) = held {
        held.release().await;
    }
}
