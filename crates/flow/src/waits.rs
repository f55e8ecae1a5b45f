//! Durable waiting: timers, signals, races and time limits.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use resurge_store::{BoxFuture, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Claimed, State, Turn};
use crate::inbox::{Message, Pending};
use crate::machine::Wait;
use crate::payload::Payload;
use crate::record::Outcome;
use crate::step::{Name, reveal, shown};
use crate::step_error::FlowResult;
use crate::values::Of;
use crate::{Ctx, Kind};

impl Ctx {
    /// Sleeps durably: the time runs on while the process is down, and a run that only sleeps takes
    /// hardly any memory.
    pub fn sleep(
        &self,
        name: impl Into<Name>,
        duration: Duration,
    ) -> BoxFuture<'static, FlowResult<()>> {
        let claimed = self.claim(name, Kind::Sleep);
        Box::pin(async move {
            let claimed = claimed?;
            let until = claimed.core.now().saturating_add(duration);
            sleep(&claimed, until).await
        })
    }

    /// Sleeps durably until wall time reaches `until`.
    pub fn sleep_until(
        &self,
        name: impl Into<Name>,
        until: Timestamp,
    ) -> BoxFuture<'static, FlowResult<()>> {
        let claimed = self.claim(name, Kind::Sleep);
        Box::pin(async move { sleep(&claimed?, until).await })
    }

    /// Waits for a signal of this name, sent with [`RunHandle::signal`](crate::RunHandle::signal).
    /// One that came before it was asked for is waiting; each is taken once, oldest first. When a
    /// resume voids its taking, with what was done after a failure, it waits to be taken again.
    ///
    /// # Errors
    /// When its payload is not a `T`; when the run is cancelled.
    pub fn signal<T: Serialize + DeserializeOwned + 'static>(
        &self,
        name: impl Into<Name>,
    ) -> BoxFuture<'static, FlowResult<T>> {
        let claimed = self.claim(name, Kind::Signal);
        Box::pin(async move {
            let claimed = claimed?;
            let outcome = take_signal(&claimed, None).await;
            reveal(&claimed, Of::Signal, outcome)
        })
    }

    /// Waits for a signal for at most this long; `None` when none came.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn signal_within<T: Serialize + DeserializeOwned + 'static>(
        &self,
        name: impl Into<Name>,
        within: Duration,
    ) -> BoxFuture<'static, FlowResult<Option<T>>> {
        let claimed = self.claim(name, Kind::Signal);
        Box::pin(async move {
            let claimed = claimed?;
            match take_signal(&claimed, Some(within)).await {
                Outcome::Ok(payload) if payload.is_empty() => Ok(None),
                outcome => reveal(&claimed, Of::Signal, outcome).map(Some),
            }
        })
    }

    /// The first of two futures to complete; the other one is dropped. Which one it was is recorded,
    /// so it is the same in every execution, also when the futures are not durable themselves.
    ///
    /// # Errors
    /// When the run is cancelled; in a step's body or another task.
    pub fn select<A, B>(
        &self,
        name: impl Into<Name>,
        first: A,
        second: B,
    ) -> impl Future<Output = FlowResult<Either<A::Output, B::Output>>> + Send
    where
        A: Future<Output: Send> + Send,
        B: Future<Output: Send> + Send,
    {
        let claimed = self.claim(name, Kind::Select);
        async move {
            let (mut first, mut second) = (pin!(first), pin!(second));
            let (_, winner) = race(&claimed?, 2, |at, cx| match at {
                0 => first.as_mut().poll(cx).map(Either::First),
                _ => second.as_mut().poll(cx).map(Either::Second),
            })
            .await?;
            Ok(winner)
        }
    }

    /// The first of several futures to complete, with its index; the others are dropped. Recorded.
    ///
    /// # Errors
    /// As [`select`](Self::select); without futures it waits for ever.
    pub fn select_all<F>(
        &self,
        name: impl Into<Name>,
        futures: Vec<F>,
    ) -> impl Future<Output = FlowResult<(usize, F::Output)>> + Send
    where
        F: Future<Output: Send> + Send,
    {
        let claimed = self.claim(name, Kind::Select);
        async move {
            let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
            race(&claimed?, futures.len(), |at, cx| match futures.get_mut(at) {
                Some(future) => future.as_mut().poll(cx),
                None => Poll::Pending,
            })
            .await
        }
    }

    /// Gives `future` this long; `None` when it took longer. The time is durable.
    ///
    /// That it took longer is an answer: it is recorded, and a run that fails because of it and is
    /// resumed gets it again. Where it is a failure, so that a resumed run tries again with all of the
    /// time, use [`time_limit`](Self::time_limit).
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn timeout<F>(
        &self,
        name: impl Into<Name>,
        within: Duration,
        future: F,
    ) -> impl Future<Output = FlowResult<Option<F::Output>>> + Send
    where
        F: Future<Output: Send> + Send,
    {
        let name = name.into();
        let timer = self.sleep(name.clone(), within);
        let winner = self.select(name, future, timer);
        async move {
            match winner.await? {
                Either::First(output) => Ok(Some(output)),
                Either::Second(timer) => timer.map(|()| None),
            }
        }
    }
}

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

async fn sleep(claimed: &Claimed, until: Timestamp) -> FlowResult<()> {
    let core = &claimed.core;
    let outcome = match claimed.turn(true).await {
        Turn::Revealed(outcome) => outcome,
        Turn::Begin => {
            let until = begin_wait(claimed, Some(until), None).unwrap_or(until);
            if let Err(outcome) = claimed.wait_until(Wait::Timer(until), until).await {
                outcome
            } else {
                let done = Outcome::Ok(Payload::default());
                core.with(|state| state.machine.complete(claimed.id, done, 0, Vec::new()));
                claimed.revealed().await
            }
        }
    };
    match outcome {
        Outcome::Ok(_) => Ok(()),
        Outcome::Err(record) => Err(shown(claimed, record).at(claimed.position())),
    }
}

/// Journals the beginning of a wait, unless the journal knows it; returns when it ends.
pub(crate) fn begin_wait(
    claimed: &Claimed,
    until: Option<Timestamp>,
    what: Option<String>,
) -> Option<Timestamp> {
    claimed.core.with(|state| {
        if let Some(fact) = state.machine.fact(claimed.id).filter(|f| f.opened) {
            fact.until
        } else {
            state.machine.open(claimed.id, until, what);
            until
        }
    })
}

async fn take_signal(claimed: &Claimed, within: Option<Duration>) -> Outcome {
    let core = &claimed.core;
    if let Turn::Revealed(outcome) = claimed.turn(true).await {
        return outcome;
    }
    let name = claimed.position().name().to_owned();
    let until = within.map(|within| core.now().saturating_add(within));
    let until = begin_wait(claimed, until, Some(name.clone()));
    let taken = claimed
        .wait_for(Wait::Signal(name.clone(), until), || {
            let found = core.with(|state| {
                take_mail(state, |message| match message {
                    Message::Signal { name: sent, value } if *sent == name => Some(value.clone()),
                    _ => None,
                })
            });
            // One that came in time counts, even if it is looked at late.
            found.or_else(|| until.is_some_and(|at| core.now() >= at).then(Payload::default))
        })
        .await;
    match taken {
        Err(outcome) => outcome,
        Ok(payload) => {
            let done = Outcome::Ok(payload);
            core.with(|state| {
                state.urgent = true;
                state.machine.complete(claimed.id, done, 0, Vec::new());
            });
            claimed.revealed().await
        }
    }
}

/// Takes the oldest message that `wanted` accepts; its key is deleted with the record of it.
pub(crate) fn take_mail<R>(state: &mut State, wanted: impl Fn(&Message) -> Option<R>) -> Option<R> {
    if state.machine.is_frozen() || state.machine.is_crowded() {
        // Looked at again once what is there is durable.
        return None;
    }
    let mut found = state.mail.iter().enumerate();
    let (at, taken) = found.find_map(|(at, mail)| Some((at, wanted(&mail.message)?)))?;
    if let Some(Pending { key: Some(key), .. }) = state.mail.remove(at) {
        state.taken.push(key);
    }
    Some(taken)
}

/// Polls branches in order until one is ready, records which, and returns it when that is revealed.
///
/// Until then the others are polled, too: a branch that is not durable may be ready earlier in replay
/// than it was live, and the others must get as far as they did.
async fn race<T>(
    claimed: &Claimed,
    branches: usize,
    mut poll: impl FnMut(usize, &mut std::task::Context<'_>) -> Poll<T>,
) -> FlowResult<(usize, T)> {
    let core = &claimed.core;
    let mut outputs: Vec<Option<T>> = (0..branches).map(|_| None).collect();
    let mut ready: Option<usize> = None;
    let mut journaled = false;
    let mut winner: Option<usize> = None;
    poll_fn(|cx| {
        if winner.is_none() {
            let revealed = core.with(|s| s.machine.take_revealed(claimed.id, cx.waker()));
            match revealed.map(|outcome| reveal::<usize>(claimed, Of::Step, outcome)) {
                Some(Ok(index)) => winner = Some(index),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => {}
            }
        }
        if let Some(index) = winner {
            // Decided: only the recorded one counts.
            if let Some(output) = outputs.get_mut(index).and_then(Option::take) {
                return Poll::Ready(Ok((index, output)));
            }
            let pended = core.with(|state| state.machine.pended());
            let polled = poll(index, cx);
            core.with(|state| {
                let waits = polled.is_pending() && state.machine.pended() == pended;
                state.machine.set_awaited(claimed.id, waits);
            });
            return polled.map(|output| Ok((index, output)));
        }
        for (index, output) in outputs.iter_mut().enumerate() {
            if output.is_none()
                && let Poll::Ready(done) = poll(index, cx)
            {
                *output = Some(done);
                ready = ready.or(Some(index));
            }
        }
        let Some(index) = ready else { return Poll::Pending };
        if journaled || !core.with(|state| state.machine.may_begin(claimed.id, cx.waker())) {
            return Poll::Pending;
        }
        let encoded = core.engine.values.encode_at(&core.id, &claimed.position(), &index);
        match core.checked(encoded) {
            Ok(payload) => core.with(|state| {
                state.machine.complete(claimed.id, Outcome::Ok(payload), 0, Vec::new());
            }),
            Err(error) => return Poll::Ready(Err(error)),
        }
        journaled = true;
        Poll::Pending
    })
    .await
}
