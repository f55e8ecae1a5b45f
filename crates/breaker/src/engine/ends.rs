//! How calls end: what is counted, and when the rules are looked at.

use std::time::Duration;

use super::ticket::{NOT_TIMED, Ticket};
use super::{Engine, Host, NEVER, TIME_END, Tallies};
use crate::machine::{Admission, ProbeEnd};
use crate::outcome::{FailureKind, Outcome};
use crate::state::{Mode, State};
use crate::sync::Ordering;
use crate::transition::At;
use crate::window::{Noted, WindowSet};
use crate::word::Word;

/// One success in so many reads the clock for `last_success`, when nothing else does.
const SAMPLE: u64 = 64;

/// What the short way did about a success.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plainly {
    /// Everything.
    Done,
    /// Nothing.
    No,
    /// It is counted, and there is more to do.
    Noted(Word, Noted),
}

/// How a call ended, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) slow: bool,
    /// How long it took, if that was measured.
    pub(crate) took_ns: Option<u64>,
}

impl Tallies {
    /// How the last call that failed did.
    pub(super) fn last_kind(&self) -> Option<FailureKind> {
        let number = self.last_kind.load(Ordering::Relaxed).checked_sub(1)?;
        FailureKind::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl Engine {
    /// A call ended well, and that is all there is to it: it is counted. Otherwise nothing was done, or
    /// [`succeeded`](Self::succeeded) must do the rest.
    #[inline]
    pub(crate) fn succeeds_plainly(&self, ticket: &Ticket) -> Plainly {
        let word = self.word();
        let counted = ticket.meta == u64::from(word.generation()) && word.is_plain();
        if !counted || self.timed.load(Ordering::Relaxed) != 0 {
            return Plainly::No;
        }
        let Some(set) = self.set(word.set()) else { return Plainly::No };
        match set.record_success(word.cycle()) {
            Noted::Quiet(number) if number % SAMPLE != 0 => Plainly::Done,
            noted => Plainly::Noted(word, noted),
        }
    }

    /// A call ended well.
    fn succeeded(&self, ticket: &Ticket, host: &impl Host) -> Ended {
        self.succeeds_otherwise(self.succeeds_plainly(ticket), ticket, host)
    }

    /// What [`succeeds_plainly`](Self::succeeds_plainly) left to do.
    #[cold]
    pub(crate) fn succeeds_otherwise(
        &self,
        plainly: Plainly,
        ticket: &Ticket,
        host: &impl Host,
    ) -> Ended {
        match plainly {
            Plainly::Done => {}
            Plainly::No => return self.ended(ticket, None, None, host),
            Plainly::Noted(word, noted) => self.after_record(noted, word, ticket, host),
        }
        Ended { slow: false, took_ns: None }
    }

    /// A success that is more than one more.
    fn after_record(&self, noted: Noted, word: Word, ticket: &Ticket, host: &impl Host) {
        let Some(set) = self.set(word.set()) else { return };
        let now = host.at();
        self.tallies.last_success_ns.store(now.ns.saturating_add(1), Ordering::Relaxed);
        match noted {
            Noted::Quiet(_) => {}
            Noted::Late => {
                self.tallies.requests_before.fetch_add(1, Ordering::Relaxed);
            }
            Noted::Look => self.judge(word, set, ticket.generation(), now, host),
        }
    }

    /// A call ended, somehow.
    pub(crate) fn settle(&self, ticket: &Ticket, outcome: Outcome, host: &impl Host) -> Ended {
        match outcome {
            Outcome::Success => self.succeeded(ticket, host),
            Outcome::Failure(kind) => self.ended(ticket, Some(kind), None, host),
            Outcome::OpenFor(kind, length) => self.ended(ticket, Some(kind), Some(length), host),
            Outcome::Ignore => {
                self.tallies.ignored.fetch_add(1, Ordering::Relaxed);
                self.give_back(ticket, host);
                Ended { slow: false, took_ns: None }
            }
        }
    }

    /// Whether a call that was dropped now counts as a failure: it ran long enough.
    pub(crate) fn dropped_too_late(&self, ticket: &Ticket, host: &impl Host) -> bool {
        let after = self.drop_after_ns.load(Ordering::Relaxed);
        let timed = ticket.start_ns != NOT_TIMED && after != NEVER;
        timed && host.ns().saturating_sub(ticket.start_ns) >= after
    }

    /// The call says nothing: a probe's place is free again.
    pub(crate) fn give_back(&self, ticket: &Ticket, host: &impl Host) {
        if ticket.admission() == Admission::Probe {
            self.probe_ended(ticket, ProbeEnd::Returned, host.at(), host);
        }
    }

    fn ended(
        &self,
        ticket: &Ticket,
        failed: Option<FailureKind>,
        open_for: Option<Duration>,
        host: &impl Host,
    ) -> Ended {
        if ticket.admission() == Admission::Uncounted {
            return Ended { slow: false, took_ns: None };
        }
        let now = if failed.is_some() || ticket.admission() == Admission::Probe {
            host.at()
        } else if self.timed.load(Ordering::Relaxed) & TIME_END != 0 {
            At { ns: host.ns(), ..At::default() }
        } else {
            host.at()
        };
        let timed = ticket.start_ns != NOT_TIMED;
        let took_ns = timed.then(|| now.ns.saturating_sub(ticket.start_ns));
        let slow = took_ns.is_some_and(|took| took >= self.slow_after_ns.load(Ordering::Relaxed));
        if slow {
            self.tallies.slow.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(kind) = failed {
            self.tallies.last_kind.store(kind.number() + 1, Ordering::Relaxed);
            self.tallies.failures.fetch_add(1, Ordering::Relaxed);
            let wall = now.wall.as_millis().saturating_add(1);
            self.tallies.last_failure_ms.fetch_max(wall, Ordering::Relaxed);
        } else {
            self.tallies.last_success_ns.store(now.ns.saturating_add(1), Ordering::Relaxed);
        }
        if ticket.admission() == Admission::Probe {
            self.tallies.requests_before.fetch_add(1, Ordering::Relaxed);
            let end = match (failed, open_for) {
                (None, _) => ProbeEnd::Success { slow },
                (Some(_), None) => ProbeEnd::Failure { slow },
                (Some(kind), Some(length)) => ProbeEnd::OpenFor { slow, kind, length },
            };
            self.probe_ended(ticket, end, now, host);
        } else {
            self.record(ticket, failed, slow, open_for, now, host);
        }
        Ended { slow, took_ns }
    }

    fn record(
        &self,
        ticket: &Ticket,
        failed: Option<FailureKind>,
        slow: bool,
        open_for: Option<Duration>,
        now: At,
        host: &impl Host,
    ) {
        let word = self.word();
        let current = word.generation() == ticket.generation() && word.state() == State::Closed;
        let Some(set) = self.set(word.set()).filter(|_| current) else {
            // The circuit has moved on: the call happened, and decides nothing.
            self.tallies.requests_before.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match set.record(word.cycle(), failed.is_some(), slow, now.ns) {
            Noted::Late => {
                self.tallies.requests_before.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Noted::Quiet(_) => return,
            Noted::Look => {}
        }
        if let (Some(kind), Some(length)) = (failed, open_for) {
            let reason = crate::transition::Reason::OpenFor { kind };
            self.command(now, host, |machine| {
                machine.trip_by(ticket.generation(), reason, Some(length), now);
            });
            return;
        }
        self.judge(word, set, ticket.generation(), now, host);
    }

    /// Looks at the rules.
    fn judge(&self, word: Word, set: &WindowSet, generation: u32, now: At, host: &impl Host) {
        match set.verdict(word.cycle(), now.ns) {
            Some(reason) => {
                let now = host.at();
                self.command(now, host, |machine| machine.trip_by(generation, reason, None, now));
            }
            None if word.mode() == Mode::Shadow => {
                self.inner.lock().machine.said = false;
            }
            None => set.settle(word.cycle(), now.ns),
        }
    }

    fn probe_ended(&self, ticket: &Ticket, end: ProbeEnd, now: At, host: &impl Host) {
        self.command(now, host, |machine| machine.probe_ended(ticket.generation(), end, now));
        host.released();
    }
}
