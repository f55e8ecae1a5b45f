//! What a run's flow, its steps and its driver share.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use resurge_store::{Batch, ErrorKind, StoreError, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::callback::Callbacks;
use crate::engine::Engine;
use crate::gate::Settled;
use crate::inbox::Pending;
use crate::machine::{Frozen, Machine, SlotId, Wait};
use crate::position::MAX_NAME_LEN;
use crate::record::{CancelReason, Ordinal, Outcome, Parent, Value};
use crate::resource::Entry;
use crate::start::Prepared;
use crate::step_error::{Class, StepError, StepErrorKind};
use crate::{Kind, Position};

/// A resident run.
pub(crate) struct RunCore {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    pub(crate) seed: [u64; 2],
    pub(crate) started_at: Timestamp,
    pub(crate) parent: Option<Parent>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) callbacks: Arc<Callbacks>,
    state: Mutex<State>,
    /// The last record known to be durable.
    durable: AtomicU64,
    cancelled: AtomicBool,
    cancel_wakes: Notify,
    /// It was behind a gate since it came to memory, or may be.
    parked: AtomicBool,
}

/// Under one lock, which is never contended: flow and driver are one task.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) machine: Machine,
    /// The users' own writes that join the next commit.
    pub(crate) writes: Batch,
    /// What others put into the next commit.
    pub(crate) joins: Vec<Join>,
    /// Up to where somebody waits for records to become durable.
    pub(crate) need_durable: Ordinal,
    /// A step that is not deferred has records in the outbox.
    pub(crate) urgent: bool,
    /// Messages taken from the inbox: deleted with the records that took them.
    pub(crate) taken: Vec<resurge_store::Key>,
    /// Messages that wait for somebody to ask for them, oldest first.
    pub(crate) mail: VecDeque<Pending>,
    /// Child runs to be started with the next commit.
    pub(crate) children: Vec<(SlotId, Prepared)>,
    /// Context values that the policy says never to store, encoded.
    pub(crate) unstored: HashMap<String, Zeroizing<Vec<u8>>>,
    /// What the resources of the last failure left behind; then what this failure leaves behind.
    pub(crate) suspended: Vec<Value>,
    /// What is attached, in that order.
    pub(crate) resources: Vec<Arc<dyn Entry>>,
}

/// Changes of somebody else's that are committed with a run's records if they can be.
pub(crate) struct Join {
    pub(crate) batch: Batch,
    pub(crate) settled: Settled,
}

impl Join {
    /// Whether a commit failed because of a guard of this one.
    pub(crate) fn is_about(&self, failed: &StoreError) -> bool {
        failed.kind() == ErrorKind::Conflict
            && failed.key().is_some_and(|key| self.batch.guards().iter().any(|(of, _)| of == key))
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("ops", &self.batch.ops().len()).finish_non_exhaustive()
    }
}

/// A run's identity, as its journal tells it.
pub(crate) struct Identity {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    pub(crate) seed: [u64; 2],
    pub(crate) started_at: Timestamp,
    pub(crate) parent: Option<Parent>,
    pub(crate) deadline: Option<Timestamp>,
}

/// What a future that claimed a position may do next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Begin the body.
    Begin,
    /// It is complete.
    Revealed(Outcome),
}

impl RunCore {
    pub(crate) fn new(
        identity: Identity,
        engine: Arc<Engine>,
        callbacks: Arc<Callbacks>,
        machine: Machine,
        suspended: Vec<Value>,
    ) -> Arc<Self> {
        let Identity { id, flow, seed, started_at, parent, deadline } = identity;
        let durable = AtomicU64::new(machine.last());
        let state = State { machine, suspended, ..State::default() };
        Arc::new(Self {
            id,
            flow,
            seed,
            started_at,
            parent,
            deadline,
            engine,
            callbacks,
            state: Mutex::new(state),
            durable,
            cancelled: AtomicBool::new(false),
            cancel_wakes: Notify::new(),
            parked: AtomicBool::new(false),
        })
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.engine.store.now()
    }

    /// Claims a position for as long as the returned slot lives.
    pub(crate) fn claim(
        self: &Arc<Self>,
        scope: &Arc<str>,
        name: Cow<'static, str>,
        kind: Kind,
        shielded: bool,
    ) -> Result<Claimed, StepError> {
        use crate::current::{Place, place};
        match place(self) {
            Place::Flow => {}
            Place::Body(body) => {
                let inside = &body.position;
                return Err(self.misplaced(&name, &format!("inside the body of step {inside:?}")));
            }
            Place::Elsewhere => {
                return Err(self.misplaced(&name, "outside of the run's own task"));
            }
        }
        let id = self.with(|state| state.machine.claim(scope, name, kind, shielded));
        Ok(Claimed { core: Arc::clone(self), id, shielded, lane: None })
    }

    fn misplaced(&self, name: &str, place: &str) -> StepError {
        let message = format!(
            "`{name}` of run `{}` was asked for {place}; a flow's steps are asked for by its own code only",
            self.id
        );
        StepError::of(StepErrorKind::Misplaced, Class::Permanent, message)
    }

    /// SHA-256 over the run and the position, each part with its length before it.
    fn digest(&self, label: &str, position: &Position) -> [u8; 32] {
        let mut hash = Sha256::new();
        let parts: [&[u8]; 4] = [
            label.as_bytes(),
            self.id.as_bytes(),
            position.scope().as_bytes(),
            position.name().as_bytes(),
        ];
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.seed[0].to_be_bytes());
        hash.update(self.seed[1].to_be_bytes());
        hash.update(position.occurrence().to_be_bytes());
        hash.finalize().into()
    }

    pub(crate) fn idempotency_key(&self, position: &Position) -> String {
        use std::fmt::Write;
        let mut key = String::with_capacity(64);
        for byte in self.digest("idempotency", position) {
            // Writing to a string does not fail.
            let _ = write!(key, "{byte:02x}");
        }
        key
    }

    /// Randomness that belongs to a position of this run: the same in every execution.
    pub(crate) fn random_at(&self, position: &Position) -> u128 {
        let digest = self.digest("random", position);
        digest.iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
    }

    pub(crate) fn durable(&self) -> Ordinal {
        self.durable.load(Ordering::Acquire)
    }

    /// Everything up to `ordinal` is durable; wakes who waits for it.
    pub(crate) fn set_durable(&self, ordinal: Ordinal) {
        if self.durable.fetch_max(ordinal, Ordering::AcqRel) < ordinal {
            self.wake_waiting();
        }
    }

    /// Wakes every future that waits for the machine to change.
    pub(crate) fn wake_waiting(&self) {
        let wakers = self.with(|state| state.machine.take_waiting());
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }

    pub(crate) fn set_parked(&self) {
        self.parked.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn set_cancelled(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.cancel_wakes.notify_waiters();
    }

    /// Resolves once the run is cancelled.
    pub(crate) async fn cancelled(&self) {
        loop {
            let notified = self.cancel_wakes.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }

    /// Where a key is missing the run stops where it is, whatever its code makes of the error.
    pub(crate) fn checked<T>(&self, result: Result<T, StepError>) -> Result<T, StepError> {
        if let Err(error) = &result
            && error.is_about_keys()
        {
            let why = Frozen::Sealed(error.record().to_string());
            self.with(|state| state.machine.freeze(why));
        }
        result
    }

    pub(crate) fn cancel_reason(&self) -> Option<CancelReason> {
        self.with(|state| state.machine.cancelled())
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), StepError> {
    if name.is_empty() || name.len() > MAX_NAME_LEN || name.starts_with('@') {
        let shown: String = name.chars().take(64).collect();
        let message = format!(
            "`{shown}` is no name: 1 to {MAX_NAME_LEN} bytes that do not begin with `@` are"
        );
        return Err(StepError::of(StepErrorKind::Invalid, Class::Permanent, message));
    }
    Ok(())
}

impl fmt::Debug for RunCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RunCore");
        out.field("id", &self.id).field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// A claimed position; dropping it gives the position up.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) core: Arc<RunCore>,
    pub(crate) id: SlotId,
    /// Cancelling the run leaves it alone.
    pub(crate) shielded: bool,
    /// How many bodies may be at work beside it.
    pub(crate) lane: Option<Arc<Lane>>,
}

/// A limit on the bodies at work in a part of a flow.
#[derive(Debug)]
pub(crate) struct Lane {
    free: Arc<Semaphore>,
    outer: Option<Arc<Lane>>,
}

impl Lane {
    pub(crate) fn new(limit: usize, outer: Option<Arc<Self>>) -> Arc<Self> {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(limit)), outer })
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.core.with(|state| state.machine.abandon(self.id));
    }
}

impl Claimed {
    pub(crate) fn position(&self) -> Position {
        let position = self.core.with(|state| state.machine.position(self.id).cloned());
        position.unwrap_or_else(|| Position::new("", "", 0))
    }

    /// Waits until the position is complete, or its work may begin: everything the journal holds was
    /// revealed, the run is neither paused nor ending, and, unless `deferred`, everything journaled
    /// before is durable.
    pub(crate) async fn turn(&self, deferred: bool) -> Turn {
        let mut after = None;
        poll_fn(|cx| self.poll_turn(cx, deferred, &mut after)).await
    }

    /// Waits for room in the lane, the innermost first. What is in a lane always comes out of it,
    /// so holding one while waiting for another blocks nobody for ever.
    pub(crate) async fn enter_lane(&self) -> Result<Vec<OwnedSemaphorePermit>, Outcome> {
        let mut permits = Vec::new();
        let mut next = self.lane.as_ref();
        while let Some(lane) = next {
            let mut room = pin!(Arc::clone(&lane.free).acquire_owned());
            let permit = poll_fn(|cx| {
                let done = self.core.with(|s| s.machine.take_revealed(self.id, cx.waker()));
                match done {
                    Some(outcome) => Poll::Ready(Err(outcome)),
                    None => room.as_mut().poll(cx).map(Ok),
                }
            });
            // Lanes are never closed.
            permits.extend(permit.await?);
            next = lane.outer.as_ref();
        }
        Ok(permits)
    }

    fn poll_turn(
        &self,
        cx: &mut Context<'_>,
        deferred: bool,
        after: &mut Option<Ordinal>,
    ) -> Poll<Turn> {
        let core = &self.core;
        core.with(|state| {
            if let Some(outcome) = state.machine.take_revealed(self.id, cx.waker()) {
                return Poll::Ready(Turn::Revealed(outcome));
            }
            if !state.machine.may_begin(self.id, cx.waker()) {
                return Poll::Pending;
            }
            // ORDER: no effect leaves the process before what led to it is durable.
            let after = *after.get_or_insert_with(|| state.machine.last());
            if deferred || core.durable() >= after {
                return Poll::Ready(Turn::Begin);
            }
            state.need_durable = state.need_durable.max(after);
            state.machine.wait(cx.waker());
            Poll::Pending
        })
    }

    /// Waits until what is to be recorded fits into the next commit.
    pub(crate) async fn room(&self, bytes: usize) {
        poll_fn(|cx| {
            if self.core.with(|state| state.machine.has_room(bytes, cx.waker())) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits until the position is complete.
    pub(crate) async fn revealed(&self) -> Outcome {
        poll_fn(|cx| {
            let outcome = self.core.with(|state| state.machine.take_revealed(self.id, cx.waker()));
            outcome.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits, saying for what, until `ready` gives something or the position is complete, for
    /// example because the run was cancelled.
    pub(crate) async fn wait_for<R>(
        &self,
        wait: Wait,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, Outcome> {
        self.core.with(|state| state.machine.set_wait(self.id, Some(wait)));
        let done = poll_fn(|cx| {
            let revealed = self.core.with(|state| {
                let revealed = state.machine.take_revealed(self.id, cx.waker());
                if revealed.is_none() {
                    state.machine.wait(cx.waker());
                }
                revealed
            });
            match revealed {
                Some(outcome) => Poll::Ready(Err(outcome)),
                None => ready().map_or(Poll::Pending, |ready| Poll::Ready(Ok(ready))),
            }
        })
        .await;
        self.core.with(|state| state.machine.set_wait(self.id, None));
        done
    }

    /// Waits until wall time has reached `at`.
    pub(crate) async fn wait_until(&self, wait: Wait, at: Timestamp) -> Result<(), Outcome> {
        self.wait_for(wait, || (self.core.now() >= at).then_some(())).await
    }
}
