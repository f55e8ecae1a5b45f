//! A run's task: poll the flow, reveal completions one at a time, commit what was journaled, wait.

use std::collections::{HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use resurge_store::{BoxFuture, CommitSeq, Key, StoreError, Timestamp};
use resurge_wal::Wal;

use crate::core::{Identity, RunCore};
use crate::current::enter_flow;
use crate::engine::{Engine, Resident};
use crate::inbox::{Mail, Message, Pending};
use crate::machine::{Frozen, Mismatch, Reveal, Wait};
use crate::payload::Payload;
use crate::record::{At, CancelReason, Ordinal, Record, Started};
use crate::runs::{End, Live, Waiting};
use crate::signal::{ABORT, CONTROL, MAIL, RELEASED, WOKEN};
use crate::step::panicked;
use crate::{BlockReason, ErrorRecord, FlowError, FlowResult};

mod begin;
mod blocked;
mod children;
mod end;
mod flush;

pub(crate) use begin::{new_wal, open_wal, run};

/// Records in the outbox after which they are committed, whatever there is still to reveal.
const MAX_OUTBOX: usize = 256;
/// Reveals between two turns given to other tasks.
const MAX_REVEALS: u32 = 64;

/// A run that was just started: nothing needs to be read back.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) wal: Wal<Record>,
    pub(crate) started: Started,
    pub(crate) live: Live,
    /// [`Engine::missed`] before it was visible to anybody.
    pub(crate) missed: u64,
}

/// Why a run's task ends before the run does.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The run waits and leaves memory.
    Evicted,
    /// It cannot go on as things are.
    Blocked(BlockReason),
    /// The store failed; the run is where the journal says.
    Failed(FlowError),
    /// The engine shuts down.
    Closing,
}

impl From<Mismatch> for Stop {
    fn from(mismatch: Mismatch) -> Self {
        Self::Blocked(mismatch.into())
    }
}

fn sealed(error: &ErrorRecord) -> Stop {
    Stop::Blocked(BlockReason::Sealed(error.to_string()))
}

pub(crate) struct Driver {
    engine: Arc<Engine>,
    resident: Arc<Resident>,
    core: Arc<RunCore>,
    wal: Wal<Record>,
    flow: Option<BoxFuture<'static, FlowResult<Payload>>>,
    result: Option<FlowResult<Payload>>,
    live: Live,
    /// What is on its way to the store, in order.
    commits: VecDeque<InFlight>,
    /// Messages that are taken and not yet deleted.
    seen: HashSet<Key>,
    sleeper: Option<(Timestamp, BoxFuture<'static, ()>)>,
    permit: Option<tokio::sync::OwnedSemaphorePermit>,
    idle_since: Option<Timestamp>,
    /// Waits that end up to here were woken.
    told: Option<Timestamp>,
    /// There may be messages nobody was told of.
    unread: bool,
}

struct InFlight {
    commit: Pin<Box<dyn Future<Output = Result<CommitSeq, StoreError>> + Send>>,
    upto: Ordinal,
    durable: bool,
}

/// What the wait ended with.
enum Event {
    Flags(u8),
    Committed(Result<CommitSeq, StoreError>),
    Time,
}

impl Driver {
    /// Runs until the run ended or the task has nothing more to do.
    async fn drive(&mut self) -> Result<End, Stop> {
        if self.unread || self.resident.signal.has(MAIL) {
            Box::pin(self.read_mail()).await?;
        }
        self.check_deadline();
        loop {
            self.advance().await?;
            if let Some(result) = self.result.take() {
                // What is rare, or done once, is not part of what every waiting run takes in memory.
                return Box::pin(self.finish(result)).await;
            }
            self.flush(None).await?;
            if self.core.with(|state| state.machine.has_outbox()) {
                // A child turned out to have ended already.
                continue;
            }
            match self.wait().await? {
                Event::Flags(flags) => Box::pin(self.heed(flags)).await?,
                Event::Committed(outcome) => self.committed(outcome)?,
                Event::Time => self.timed(),
            }
        }
    }

    /// Polls the flow and reveals completions until it waits for something from outside.
    async fn advance(&mut self) -> Result<(), Stop> {
        let mut reveals = 0;
        self.poll_flow().await?;
        loop {
            if self.resident.signal.has(ABORT) {
                return Err(Stop::Closing);
            }
            match self.core.with(|state| state.machine.reveal()) {
                Reveal::One(waker) => {
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                    if self.core.cancel_reason().is_some() {
                        self.core.set_cancelled();
                    }
                    self.poll_flow().await?;
                    reveals += 1;
                    if reveals % MAX_REVEALS == 0 {
                        tokio::task::yield_now().await;
                    }
                    if self.core.with(|state| state.machine.outbox_len()) >= MAX_OUTBOX {
                        Box::pin(self.flush(None)).await?;
                    }
                }
                Reveal::Nothing => {
                    if self.core.cancel_reason().is_some() {
                        self.core.set_cancelled();
                    }
                    match self.core.with(|state| state.machine.go_live()) {
                        Ok(true) => {
                            self.core.wake_waiting();
                            self.poll_flow().await?;
                        }
                        Ok(false) if self.resident.signal.has(WOKEN) && self.flow.is_some() => {
                            self.poll_flow().await?;
                        }
                        Ok(false) => return Ok(()),
                        Err(mismatch) => return Err(Stop::from(mismatch)),
                    }
                }
                Reveal::Mismatch(mismatch) => return Err(Stop::from(mismatch)),
            }
        }
    }

    /// Polls the flow; stops the run where it is when a key was missing meanwhile.
    async fn poll_flow(&mut self) -> Result<(), Stop> {
        self.poll_until_quiet().await;
        let Some(why) = self.core.with(|state| state.machine.thaw()) else { return Ok(()) };
        // What was journaled before counts. Thawed only now: what came after is forgotten.
        Box::pin(self.flush(None)).await?;
        self.settle_all().await?;
        Err(match why {
            Frozen::Sealed(why) => Stop::Blocked(BlockReason::Sealed(why)),
            Frozen::Store(error) => self.failed(error),
        })
    }

    /// Polls the flow until it is pending with no wake outstanding, or has returned.
    async fn poll_until_quiet(&mut self) {
        let Some(flow) = &mut self.flow else { return };
        let signal = &self.resident.signal;
        let waker = Waker::from(Arc::clone(signal));
        loop {
            signal.take(WOKEN);
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let _entered = enter_flow(&self.core);
                flow.as_mut().poll(&mut Context::from_waker(&waker))
            }));
            match polled {
                Ok(Poll::Ready(result)) => {
                    self.result = Some(result);
                    break;
                }
                Err(panic) => {
                    self.result = Some(Err(panicked(&*panic)));
                    break;
                }
                Ok(Poll::Pending) => {}
            }
            // A task that yields is woken only after others had their turn. What it does then comes
            // before the next completion, so it gets that turn before one is revealed.
            if signal.has(ABORT) {
                return;
            }
            if signal.has(WOKEN) {
                tokio::task::yield_now().await;
                continue;
            }
            let ours = self.core.with(|state| {
                let machine = &state.machine;
                machine.has_queue().then(|| machine.wakers_like(&waker))
            });
            // The run's own hold on its signal, and the waker above.
            let own = 2;
            match ours {
                None => return,
                Some(Some(ours)) if signal.is_held_by(own + ours) && !signal.has(WOKEN) => return,
                Some(_) => {}
            }
            tokio::task::yield_now().await;
            if !signal.has(WOKEN) {
                return;
            }
        }
        self.drop_flow();
    }

    /// Gives up what the flow had claimed and not awaited. What users drop may panic.
    fn drop_flow(&mut self) {
        let flow = self.flow.take();
        let _entered = enter_flow(&self.core);
        drop(catch_unwind(AssertUnwindSafe(|| drop(flow))));
    }

    /// Waits for whatever comes first. Waiting for long, the run gives way to others, and in the end
    /// leaves memory.
    async fn wait(&mut self) -> Result<Event, Stop> {
        let waits = self.waiting();
        self.leave_gates();
        let idle = self.commits.is_empty() && !matches!(waits, Waiting::Running);
        if idle && self.engine.is_closing() {
            return Err(Stop::Closing);
        }
        let mut until = self.earliest();
        if idle {
            self.permit = None;
            let now = self.core.now();
            let since = *self.idle_since.get_or_insert(now);
            let evict_at = since.saturating_add(self.engine.options.evict_after);
            let due = until.is_some_and(|until| until <= now);
            if evict_at <= now && !due {
                if self.engine.evict(&self.resident, waits, until) {
                    self.engine.metrics.evicted.increment(1);
                    return Err(Stop::Evicted);
                }
            } else if !due {
                until = Some(until.map_or(evict_at, |until| until.min(evict_at)));
            }
        } else {
            self.idle_since = None;
        }
        let sync = self.core.with(|state| state.need_durable > self.core.durable());
        if sync && self.commits.is_empty() {
            self.sync();
        }
        self.arm(until);
        let Self { commits, sleeper, resident, .. } = self;
        let event = poll_fn(|cx| {
            resident.signal.register(cx.waker());
            let flags = resident.signal.take(WOKEN | MAIL | CONTROL | RELEASED | ABORT);
            if flags != 0 {
                return Poll::Ready(Event::Flags(flags));
            }
            if let Some(front) = commits.front_mut()
                && let Poll::Ready(outcome) = front.commit.as_mut().poll(cx)
            {
                return Poll::Ready(Event::Committed(outcome));
            }
            if let Some((_, sleep)) = sleeper
                && sleep.as_mut().poll(cx).is_ready()
            {
                *sleeper = None;
                return Poll::Ready(Event::Time);
            }
            Poll::Pending
        })
        .await;
        self.resident.signal.disarm();
        if !matches!(event, Event::Time) {
            self.idle_since = self.idle_since.filter(|_| matches!(event, Event::Committed(_)));
        }
        if self.permit.is_none() {
            let permit = Arc::clone(&self.engine.permits).acquire_owned().await;
            // Closed: the engine shuts down; nothing more may begin.
            self.permit = permit.ok();
            if self.permit.is_none() {
                self.core.with(|state| state.machine.held = true);
            }
        }
        Ok(event)
    }

    /// What was given up, cancelled or paused waits behind no gate any more; the next in turn does.
    fn leave_gates(&self) {
        if !self.core.is_parked() {
            return;
        }
        self.core.with(|state| {
            if !state.machine.is_live() {
                return;
            }
            let gates: Vec<&str> = state
                .machine
                .waiters()
                .filter_map(|(_, wait)| match wait {
                    Wait::Gate(gate, _) => Some(gate.as_str()),
                    _ => None,
                })
                .collect();
            self.engine.left_gates(&self.core.id, &gates);
        });
    }

    fn arm(&mut self, until: Option<Timestamp>) {
        match (until, &self.sleeper) {
            (Some(at), Some((armed, _))) if *armed == at => {}
            (Some(at), _) => {
                let sleep = self.engine.store.clock().sleep(at.saturating_since(self.core.now()));
                self.sleeper = Some((at, sleep));
            }
            (None, _) => self.sleeper = None,
        }
    }

    /// When time alone makes a difference: a timer, the next attempt, the end of a wait, the deadline.
    fn earliest(&self) -> Option<Timestamp> {
        let first = self.core.with(|state| {
            let ends = state.machine.waiters().filter_map(|(_, wait)| wait.until());
            // Those were told already; the flow does not look at them at present.
            ends.filter(|at| self.told.is_none_or(|told| *at > told)).min()
        });
        let deadline = self.live.deadline.filter(|_| !self.core.is_cancelled());
        match (first, deadline) {
            (Some(first), Some(deadline)) => Some(first.min(deadline)),
            (first, deadline) => first.or(deadline),
        }
    }

    fn timed(&mut self) {
        self.told = Some(self.core.now());
        self.check_deadline();
        self.core.wake_waiting();
    }

    fn check_deadline(&self) {
        let now = self.core.now();
        if self.live.deadline.is_some_and(|at| at <= now) && !self.core.is_cancelled() {
            self.core.with(|state| state.machine.cancel(CancelReason::Deadline, now));
        }
    }

    async fn heed(&mut self, flags: u8) -> Result<(), Stop> {
        if flags & ABORT != 0 {
            return Err(Stop::Closing);
        }
        if flags & CONTROL != 0 && self.engine.is_closing() {
            self.core.with(|state| state.machine.held = true);
            self.stop_when_quiet()?;
        }
        if flags & MAIL != 0 {
            self.read_mail().await?;
        }
        if flags & RELEASED != 0 {
            self.core.wake_waiting();
        }
        Ok(())
    }

    /// While the engine shuts down a run stops as soon as no body is at work and nothing is on its way.
    fn stop_when_quiet(&self) -> Result<(), Stop> {
        let busy = self.core.with(|state| state.machine.is_busy() || state.machine.has_outbox());
        if busy || !self.commits.is_empty() { Ok(()) } else { Err(Stop::Closing) }
    }

    /// Takes the messages that concern the run as a whole; the others wait for who asks for them.
    async fn read_mail(&mut self) -> Result<(), Stop> {
        let mail = self.engine.mail(&self.core.id).await.map_err(Stop::Failed)?;
        // What is no longer there is deleted for good.
        let keys = mail.iter().map(|mail| mail.key.clone()).collect();
        let seen = std::mem::replace(&mut self.seen, keys);
        for Mail { key, message } in mail {
            if seen.contains(&key) {
                continue;
            }
            let now = self.core.now();
            let core = &self.core;
            match message {
                Message::Cancel(reason) => core.with(|state| {
                    state.taken.push(key);
                    state.machine.cancel(reason, now);
                }),
                Message::Pause => core.with(|state| {
                    state.taken.push(key);
                    if !state.machine.paused {
                        state.machine.paused = true;
                        state.machine.journal(Record::Paused(At { at: now }));
                    }
                }),
                Message::Unpause => core.with(|state| {
                    state.taken.push(key);
                    if state.machine.paused {
                        state.machine.paused = false;
                        state.machine.journal(Record::Unpaused(At { at: now }));
                    }
                }),
                message @ (Message::Signal { .. } | Message::Child { .. }) => {
                    let key = Some(key);
                    core.with(|state| state.mail.push_back(Pending { key, message }));
                }
            }
        }
        self.core.wake_waiting();
        Ok(())
    }

    /// What the run waits for, as it is told to those who ask.
    fn waiting(&self) -> Waiting {
        self.core.with(|state| {
            let machine = &state.machine;
            if machine.paused && !machine.is_busy() && !machine.has_queue() {
                return Waiting::Paused;
            }
            let Some(waits) = machine.waits().filter(|waits| !waits.is_empty()) else {
                return Waiting::Running;
            };
            // The one that ends first says most; but only the step itself can ask its gate again, so
            // a run that is parked must be seen to be.
            let last = Timestamp::from_millis(u64::MAX);
            let first = waits.iter().min_by_key(|(_, wait)| {
                (!matches!(wait, Wait::Gate(..)), wait.until().unwrap_or(last))
            });
            first.map_or(Waiting::Running, |(position, wait)| {
                let position = (*position).clone();
                match (*wait).clone() {
                    Wait::Timer(until) => Waiting::Sleeping { position, until },
                    Wait::Retry(at) => Waiting::Retrying { position, at },
                    Wait::Signal(signal, until) => Waiting::Signal { position, signal, until },
                    Wait::Child(run) => Waiting::Child { position, run },
                    Wait::Gate(gate, until) => Waiting::Parked { position, gate, until },
                }
            })
        })
    }
}

/// ORDER: children hear of it before it is journaled here; a crash in between repeats it.
async fn cancel_children(core: &Arc<RunCore>) -> Result<(), Stop> {
    for child in core.with(|state| state.machine.take_orphans()) {
        match core.engine.send(&child, &Message::Cancel(CancelReason::Parent)).await {
            Ok(()) | Err(FlowError::Ended { .. } | FlowError::NotFound { .. }) => {}
            Err(error) => return Err(Stop::Failed(error)),
        }
    }
    Ok(())
}
