//! A time limit on a part of a flow, whose passing fails that part.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use resurge_store::Timestamp;

use crate::core::Claimed;
use crate::machine::Wait;
use crate::payload::Payload;
use crate::record::Outcome;
use crate::step::{Name, shown};
use crate::step_error::{Class, ErrorRecord, FlowResult, StepError, StepErrorKind};
use crate::waits::begin_wait;
use crate::{Ctx, Kind, Position};

impl Ctx {
    /// Gives a part of the flow, such as a [process](Self::process), this long; it fails when it takes
    /// longer. The time is durable: it runs on while the process is down.
    ///
    /// What the part was at is dropped then. A run that failed of it and is resumed does that part
    /// again with all of its time: steps of it that completed are not run again, what it was at is,
    /// and sees [`recovering`](crate::StepInfo::recovering). So does one that failed because the part
    /// did. Where being late is an answer and no failure, use [`timeout`](Self::timeout).
    ///
    /// A part that was done in time stays so. If the run fails of something else and is resumed, steps
    /// that the part began after that other failure are run again, without a limit then. Steps in a
    /// [process](Self::process) are not, so limit a process.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use resurge_flow::{Ctx, FlowResult, StepError};
    /// async fn nightly(ctx: Ctx, _: ()) -> FlowResult<u32> {
    ///     let import = ctx.process("import", |ctx| async move {
    ///         ctx.step("load", || async { Ok::<_, StepError>(7) }).await
    ///     });
    ///     ctx.time_limit("import-limit", Duration::from_secs(600), import).await
    /// }
    /// ```
    ///
    /// # Errors
    /// Of kind [`Timeout`](StepErrorKind::Timeout), transient, when it took longer; those of the part,
    /// with the limit's own position behind theirs;
    /// when the run is cancelled; in a step's body or another task.
    pub fn time_limit<F, T>(
        &self,
        name: impl Into<Name>,
        limit: Duration,
        part: F,
    ) -> impl Future<Output = FlowResult<T>> + Send
    where
        F: Future<Output = FlowResult<T>> + Send,
        T: Send,
    {
        let claimed = self.claim(name, Kind::Select);
        async move {
            let claimed = claimed?;
            let mut limited = Limited {
                limit,
                until: None,
                part: Some(Box::pin(part)),
                output: None,
                journaled: false,
                in_time: false,
                failed: false,
            };
            poll_fn(|cx| limited.poll(&claimed, cx)).await
        }
    }
}

/// A race of a part against time. What is recorded at its position is who won: the part, or a failure.
/// A part that failed in time is recorded as one, so that a resume that does the part again voids it:
/// otherwise the part would have all the time there is.
struct Limited<F: Future> {
    limit: Duration,
    until: Option<Timestamp>,
    part: Option<Pin<Box<F>>>,
    output: Option<F::Output>,
    journaled: bool,
    in_time: bool,
    /// It is recorded that the part failed in time.
    failed: bool,
}

impl<F: Future<Output = FlowResult<T>>, T> Limited<F> {
    /// As in a race, the part is polled until who won is revealed, and only what is recorded counts.
    fn poll(&mut self, claimed: &Claimed, cx: &mut Context<'_>) -> Poll<FlowResult<T>> {
        let core = &claimed.core;
        if !self.in_time {
            match core.with(|state| state.machine.take_revealed(claimed.id, cx.waker())) {
                Some(Outcome::Ok(_)) => self.in_time = true,
                Some(Outcome::Err(record)) if record.kind == StepErrorKind::Failed => {
                    (self.in_time, self.failed) = (true, true);
                }
                Some(Outcome::Err(record)) => return Poll::Ready(Err(self.over(claimed, record))),
                None => {}
            }
        }
        let pended = core.with(|state| state.machine.pended());
        if self.output.is_none()
            && let Some(part) = &mut self.part
            && let Poll::Ready(output) = part.as_mut().poll(cx)
        {
            self.output = Some(output);
        }
        if self.in_time {
            let output = self.output.take();
            core.with(|state| {
                let waits = output.is_none() && state.machine.pended() == pended;
                state.machine.set_awaited(claimed.id, waits);
            });
            let Some(output) = output else { return Poll::Pending };
            let own = self.failed.then(|| claimed.position());
            // The part's own failures first: they say what went wrong.
            return Poll::Ready(output.map_err(|error| error.at_all(own)));
        }
        if self.journaled || !core.with(|state| state.machine.may_begin(claimed.id, cx.waker())) {
            return Poll::Pending;
        }
        match self.decide(claimed) {
            Some(outcome) => {
                self.journaled = true;
                core.with(|s| s.machine.complete(claimed.id, outcome, 0, Vec::new()));
            }
            None => core.with(|state| state.machine.wait(cx.waker())),
        }
        Poll::Pending
    }

    /// Live: who won, if anybody has.
    fn decide(&mut self, claimed: &Claimed) -> Option<Outcome> {
        let core = &claimed.core;
        match &self.output {
            Some(Ok(_)) => return Some(Outcome::Ok(Payload::default())),
            Some(Err(_)) => {
                let error = StepError::permanent("what it limits failed in time");
                return Some(Outcome::Err(error.record().clone()));
            }
            None => {}
        }
        let until = *self.until.get_or_insert_with(|| {
            let until = core.now().saturating_add(self.limit);
            let until = begin_wait(claimed, Some(until), None).unwrap_or(until);
            core.with(|s| s.machine.set_wait(claimed.id, Some(Wait::Timer(until))));
            until
        });
        (core.now() >= until).then(|| {
            let message = format!("it took longer than {:?}", self.limit);
            let error = StepError::of(StepErrorKind::Timeout, Class::Transient, message);
            Outcome::Err(error.record().clone())
        })
    }

    /// The part is given up. What it was at failed with it.
    fn over(&mut self, claimed: &Claimed, record: ErrorRecord) -> StepError {
        let core = &claimed.core;
        let late = record.kind == StepErrorKind::Timeout;
        let at_work = core.with(|state| state.machine.at_work());
        self.part = None;
        let gone = core.with(|state| {
            let gone = at_work.into_iter().filter(|(id, _)| state.machine.position(*id).is_none());
            gone.map(|(_, position)| position).collect::<Vec<Position>>()
        });
        let error = shown(claimed, record).at(claimed.position());
        if late { error.at_all(gone) } else { error }
    }
}
