//! What all handles to one breaker share, and what happens around the engine: clock, events, metrics.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use resurge_store::{Clock, Monotonic, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};

use crate::engine::{Ended, Engine, Host, Plainly, Ticket};
use crate::error::Rejected;
use crate::event::{BreakerEvent, Hook};
use crate::machine::{Refusal, Restored, nanos};
use crate::meters::Meters;
use crate::outcome::{FailureKind, Outcome};
use crate::persist::Persist;
use crate::state::State;
use crate::transition::{At, Change};

/// A breaker without the reference count, which a tower layer writes for each request: aligned, it is
/// not on the cache line of the word that every call reads.
#[repr(align(128))]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) meters: Meters,
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Wakes those who wait: the state changed, or a probe's place is free.
    pub(crate) moved: Notify,
    pub(crate) events: broadcast::Sender<BreakerEvent>,
    pub(crate) hook: Option<Hook>,
    /// Somebody is telling others what happened.
    pub(crate) telling: AtomicBool,
    pub(crate) persist: Option<Persist>,
    pub(crate) runtime: Option<Handle>,
    /// 0 unknown, 1 failed, 2 passed.
    pub(crate) health: AtomicU8,
    pub(crate) store_errors: AtomicU64,
    pub(crate) restored: Option<Restored>,
    pub(crate) me: Weak<Self>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Host for Shared {
    #[inline]
    fn ns(&self) -> u64 {
        nanos(self.clock.monotonic().since_origin())
    }

    fn at(&self) -> At {
        At { ns: self.ns(), wall: self.clock.now() }
    }

    fn changed(&self) {
        self.tell();
    }

    fn released(&self) {
        self.moved.notify_waiters();
    }
}

/// Lets the next one tell when this one is done, also when a hook panics.
struct Telling<'a>(&'a AtomicBool);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    /// Tells others what happened, in order, without any lock: one thread at a time, the others
    /// leave theirs to it. A hook may use the breaker; what it causes is told after it returned.
    pub(crate) fn tell(&self) {
        loop {
            if self.telling.swap(true, Ordering::SeqCst) {
                return;
            }
            let telling = Telling(&self.telling);
            while let Some(change) = self.engine.next_change() {
                self.tell_one(change);
            }
            drop(telling);
            // ORDER: looked at after giving up the turn: what came in between is nobody else's.
            if self.engine.read(|machine| machine.outbox.is_empty()) {
                return;
            }
        }
    }

    fn tell_one(&self, change: Change) {
        let numbered = change.number().is_some();
        let moved = !matches!(change, Change::WouldTrip(_));
        if let Change::Transition(transition) = &change {
            self.meters.transition(transition);
            tracing::info!(
                breaker = &*self.name,
                from = transition.from.as_str(),
                to = transition.to.as_str(),
                reason = %transition.reason,
                "circuit breaker changed its state"
            );
            if transition.to == State::Open {
                self.start_timer();
            }
        }
        self.emit(BreakerEvent::from(change));
        if moved {
            self.moved.notify_waiters();
        }
        if numbered {
            self.persist_later();
        }
    }

    pub(crate) fn emit(&self, event: BreakerEvent) {
        if let Some(hook) = &self.hook {
            (hook.0)(&event);
        }
        // Nobody listens: fine.
        drop(self.events.send(event));
    }

    /// The task that ends the open time without a call, if that is wanted.
    pub(crate) fn start_timer(&self) {
        let automatic = self.engine.read(|machine| machine.config.half_open.automatic);
        let (Some(runtime), true) = (&self.runtime, automatic) else { return };
        let (me, clock) = (Weak::clone(&self.me), Arc::clone(&self.clock));
        let generation = self.engine.read(crate::machine::Machine::generation);
        runtime.spawn(async move {
            loop {
                let Some(shared) = me.upgrade() else { return };
                let until = shared.engine.read(|machine| {
                    let waits =
                        machine.generation() == generation && machine.state() == State::Open;
                    waits.then(|| machine.until_ns())
                });
                let Some(until) = until else { return };
                if shared.ns() >= until {
                    let now = shared.at();
                    return shared.engine.command(now, &*shared, |machine| machine.elapse(now));
                }
                drop(shared);
                clock.sleep_until(Monotonic::from_origin(Duration::from_nanos(until))).await;
            }
        });
    }

    pub(crate) fn count_rejection(&self) {
        self.engine.tallies.rejected.fetch_add(1, Ordering::Relaxed);
        self.meters.rejected.increment(1);
    }

    #[cold]
    pub(crate) fn reject(&self, refusal: Refusal) -> Rejected {
        self.count_rejection();
        self.rejected(refusal)
    }

    pub(crate) fn rejected(&self, refusal: Refusal) -> Rejected {
        let Refusal { state, mode, until_ns } = refusal;
        let retry_after =
            until_ns.map(|until| Duration::from_nanos(until.saturating_sub(self.ns())));
        Rejected { name: Arc::clone(&self.name), state, mode, retry_after }
    }

    #[cold]
    pub(crate) fn admit_otherwise(&self) -> Result<Ticket, Rejected> {
        self.engine.admit_otherwise(self).map_err(|refusal| self.reject(refusal))
    }

    /// A call ended.
    #[inline]
    pub(crate) fn settle(&self, ticket: &Ticket, outcome: Outcome) {
        if outcome != Outcome::Success {
            return self.settle_otherwise(ticket, outcome);
        }
        self.meters.success.increment(1);
        match self.engine.succeeds_plainly(ticket) {
            Plainly::Done => {}
            plainly => {
                let ended = self.engine.succeeds_otherwise(plainly, ticket, self);
                self.measure(ended);
            }
        }
    }

    #[cold]
    fn settle_otherwise(&self, ticket: &Ticket, outcome: Outcome) {
        let ended = self.engine.settle(ticket, outcome, self);
        match outcome {
            Outcome::Success => self.meters.success.increment(1),
            Outcome::Failure(_) | Outcome::OpenFor(..) => self.meters.failure.increment(1),
            Outcome::Ignore => self.meters.ignored.increment(1),
        }
        self.measure(ended);
    }

    fn measure(&self, ended: Ended) {
        if ended.slow {
            self.meters.slow.increment(1);
        }
        if let Some(took) = ended.took_ns {
            self.meters.duration.record(Duration::from_nanos(took));
        }
    }

    /// A call was dropped before it ended. `begun`: somebody worked on it.
    #[cold]
    pub(crate) fn dropped(&self, ticket: &Ticket, begun: bool) {
        if std::thread::panicking() && begun {
            self.engine.tallies.panicked.fetch_add(1, Ordering::Relaxed);
            self.meters.panicked.increment(1);
            self.settle(ticket, Outcome::Failure(FailureKind::Panic));
            return;
        }
        self.engine.tallies.cancelled.fetch_add(1, Ordering::Relaxed);
        self.meters.cancelled.increment(1);
        if begun && self.engine.dropped_too_late(ticket, self) {
            self.settle(ticket, Outcome::Failure(FailureKind::Timeout));
        } else {
            self.engine.give_back(ticket, self);
        }
    }

    /// The wall time of a monotonic one.
    pub(crate) fn wall_of(ns: u64, now: At) -> Timestamp {
        let ago = Duration::from_nanos(now.ns.saturating_sub(ns));
        let ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(now.wall.as_millis().saturating_sub(ms))
    }
}
