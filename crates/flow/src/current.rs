//! Which run, and which step's body, the current thread is polling.
//!
//! Positions are claimed in the order in which the flow's code asks for them. That order exists only
//! inside the run's own task, so everybody else is refused.

use std::cell::RefCell;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_checkpoint::CheckpointKey;
use resurge_store::Batch;

use crate::Position;
use crate::core::RunCore;
use crate::record::Value;

/// An attempt at a step, seen from its body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) core: Arc<RunCore>,
    pub(crate) position: Position,
    pub(crate) attempt: u32,
    pub(crate) recovering: bool,
    pub(crate) deferred: bool,
    /// Of a memoised step: what its effect is known by, whoever runs it.
    pub(crate) memo: Option<CheckpointKey>,
    /// Context values set by the body; they become durable with its outcome.
    pub(crate) sets: Mutex<Vec<Value>>,
    /// The body's own writes; they join the commit of its success.
    pub(crate) writes: Mutex<Batch>,
}

#[derive(Clone, Debug)]
struct Current {
    run: *const RunCore,
    body: Option<Arc<Body>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Restores what was current before.
#[derive(Debug)]
pub(crate) struct Entered(Option<Current>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// The current thread polls this run's flow.
pub(crate) fn enter_flow(core: &Arc<RunCore>) -> Entered {
    Entered(CURRENT.replace(Some(Current { run: Arc::as_ptr(core), body: None })))
}

/// The current thread polls a body.
pub(crate) fn enter_body(body: &Arc<Body>) -> Entered {
    let run = Arc::as_ptr(&body.core);
    Entered(CURRENT.replace(Some(Current { run, body: Some(Arc::clone(body)) })))
}

/// Where a call on a run comes from.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The flow's own code.
    Flow,
    /// A step's body.
    Body(Arc<Body>),
    /// Another task, or another run.
    Elsewhere,
}

pub(crate) fn place(core: &Arc<RunCore>) -> Place {
    CURRENT.with_borrow(|current| match current {
        Some(current) if std::ptr::eq(current.run, Arc::as_ptr(core)) => {
            current.body.clone().map_or(Place::Flow, Place::Body)
        }
        _ => Place::Elsewhere,
    })
}

pub(crate) fn body() -> Option<Arc<Body>> {
    CURRENT.with_borrow(|current| current.as_ref().and_then(|current| current.body.clone()))
}
