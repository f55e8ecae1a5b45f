//! Child runs: started with their parent's record of it, their result put into the parent's inbox.

use std::fmt::Write;

use resurge_store::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::core::Turn;
use crate::inbox::Message;
use crate::keys::MAX_RUN_ID_LEN;
use crate::machine::Wait;
use crate::record::{Outcome, Parent};
use crate::start::Prepared;
use crate::step::Name;
use crate::step_error::{Class, FlowResult, StepError, StepErrorKind};
use crate::values::{OUTPUT, Of};
use crate::waits::take_mail;
use crate::{Ctx, FlowError, FlowRef, Kind};

impl Ctx {
    /// Runs another flow as a child, under an id derived from this place in the flow, and returns
    /// its result. The child is a run of its own: it survives crashes, and can be looked at, on its
    /// own. Cancelling the parent cancels it.
    ///
    /// # Errors
    /// When the child fails or is cancelled: an error of kind [`Child`](StepErrorKind::Child).
    pub fn child<I, O>(
        &self,
        name: impl Into<Name>,
        flow: &FlowRef<I, O>,
        input: &I,
    ) -> BoxFuture<'static, FlowResult<O>>
    where
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        let claimed = self.claim(name, Kind::Child);
        let flow = flow.clone();
        let prepared = claimed.as_ref().ok().map(|claimed| {
            let position = claimed.position();
            let id = child_id(&claimed.core.id, &position.to_string());
            let parent = Parent { run: claimed.core.id.to_string(), position };
            flow.prepare(&id, input, Some(parent))
        });
        Box::pin(async move {
            let claimed = claimed?;
            let core = &claimed.core;
            let position = claimed.position();
            let outcome = match claimed.turn(true).await {
                Turn::Revealed(outcome) => outcome,
                Turn::Begin => {
                    let prepared: Prepared = match prepared {
                        Some(Ok(prepared)) => prepared,
                        Some(Err(error)) => {
                            if let FlowError::Value { cause, .. } = &error {
                                let cause = StepError::from_record(cause.clone());
                                core.checked(Err(cause)).map_err(|e| e.at(position.clone()))?;
                            }
                            let message = error.to_string();
                            return Err(StepError::of(
                                StepErrorKind::Child,
                                Class::Permanent,
                                message,
                            )
                            .at(position));
                        }
                        None => return Err(StepError::permanent("the position is gone")),
                    };
                    let id = prepared.id.to_string();
                    core.with(|state| {
                        let known = state.machine.fact(claimed.id).is_some_and(|fact| fact.opened);
                        if !known && !state.machine.is_frozen() {
                            state.machine.open(claimed.id, None, Some(id.clone()));
                            state.children.push((claimed.id, prepared));
                        }
                    });
                    let taken = claimed
                        .wait_for(Wait::Child(id), || {
                            core.with(|state| {
                                take_mail(state, |message| match message {
                                    Message::Child { position: of, outcome } if *of == position => {
                                        Some(outcome.clone())
                                    }
                                    _ => None,
                                })
                            })
                        })
                        .await;
                    match taken {
                        Err(outcome) => outcome,
                        Ok(outcome) => {
                            core.with(|state| {
                                state.urgent = true;
                                state.machine.complete(claimed.id, outcome, 0, Vec::new());
                            });
                            claimed.revealed().await
                        }
                    }
                }
            };
            match outcome {
                Outcome::Ok(payload) => {
                    let child = child_id(&core.id, &position.to_string());
                    let output = core.engine.values.decode(&child, Of::Output, OUTPUT, &payload);
                    core.checked(output).map_err(|e| e.at(position))
                }
                Outcome::Err(record) => {
                    // Sealed, if it is, by the child.
                    let child = child_id(&core.id, &position.to_string());
                    let shown = core.checked(core.engine.values.show(&child, record));
                    let record = shown.map_err(|e| e.at(position.clone()))?;
                    let cancelled = StepError::from_record(record.clone()).is_cancelled();
                    let own = core.is_cancelled() && cancelled;
                    let kind = if own { record.kind } else { StepErrorKind::Child };
                    let mut error = StepError::of(kind, Class::Permanent, &record);
                    if let Some(code) = record.code {
                        error = error.with_code(code);
                    }
                    Err(error.at(position))
                }
            }
        })
    }
}

/// The id of the child begun at a place of a run.
pub(crate) fn child_id(run: &str, position: &str) -> String {
    let id = format!("{run}/{position}");
    if id.len() <= MAX_RUN_ID_LEN {
        return id;
    }
    let digest = Sha256::digest(id.as_bytes());
    let mut short = "child/".to_owned();
    for byte in digest.iter().take(16) {
        // Writing to a string does not fail.
        let _ = write!(short, "{byte:02x}");
    }
    short
}
