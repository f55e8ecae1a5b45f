//! The hot path: one word decides whether a call passes, and lock-free counts whether the circuit opens.
//!
//! The machine is behind a lock that only transitions, probes and commands take. It is always
//! changed first; then the windows are emptied if a new period begins, and last the word is stored.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::BreakerConfig;
use crate::error::ConfigError;
use crate::machine::{Admission, Machine, ProbeEnd, Refusal, nanos};
use crate::outcome::{FailureKind, Outcome};
use crate::state::{Mode, State};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::transition::{At, Change};
use crate::window::{Counts, Noted, Shape, WindowSet};
use crate::word::{MAX_SETS, Word};

/// What the engine asks of whoever owns it.
pub(crate) trait Host {
    /// Monotonic time, in nanoseconds.
    fn ns(&self) -> u64;
    /// Both clocks.
    fn at(&self) -> At;
    /// The outbox may hold something. Called without the lock.
    fn changed(&self);
    /// A probe's place may be free. Called without the lock.
    fn released(&self);
}

const NOT_TIMED: u64 = u64::MAX;
const NEVER: u64 = u64::MAX;

/// Calls need the time at their start.
const TIME_START: u32 = 1;
/// Calls need the time at their end.
const TIME_END: u32 = 2;

/// One success in so many reads the clock for `last_success`, when nothing else does.
const SAMPLE: u64 = 64;

/// The right to one call. Two whole words: parts of words would cost more to copy than to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// `admission:32 | generation:32`.
    meta: u64,
    start_ns: u64,
}

impl Ticket {
    #[inline]
    fn new(generation: u32, admission: Admission, start_ns: u64) -> Self {
        let admission = match admission {
            Admission::Counted => 0,
            Admission::Probe => 1,
            Admission::Uncounted => 2,
        };
        Self { meta: admission << 32 | u64::from(generation), start_ns }
    }

    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        (self.meta & 0xffff_ffff) as u32
    }

    #[inline]
    pub(crate) fn admission(&self) -> Admission {
        match self.meta >> 32 {
            0 => Admission::Counted,
            1 => Admission::Probe,
            _ => Admission::Uncounted,
        }
    }
}

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

/// Lifetime counts.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// Calls that ended and are not in the current period's count.
    pub(crate) requests_before: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) rejected: AtomicU64,
    /// Monotonic, plus 1; 0 for never.
    pub(crate) last_success_ns: AtomicU64,
    /// Wall milliseconds, plus 1; 0 for never.
    pub(crate) last_failure_ms: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    machine: Machine,
    set: usize,
    /// The cycle the windows are in.
    cycle: u16,
    /// What the windows held when the circuit left the closed state last.
    frozen: (Counts, u64),
}

#[derive(Debug)]
pub(crate) struct Engine {
    word: AtomicU64,
    until_ns: AtomicU64,
    slow_after_ns: AtomicU64,
    drop_after_ns: AtomicU64,
    call_timeout_ns: AtomicU64,
    timed: AtomicU32,
    /// 1 when callers wait instead of being rejected.
    waits: AtomicU32,
    sets: [OnceLock<Box<WindowSet>>; MAX_SETS],
    pub(crate) tallies: Tallies,
    inner: Mutex<Inner>,
}

/// What the windows show, and what they want to see before a rate means something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) counts: Counts,
    pub(crate) min_calls: u64,
    pub(crate) streak: u64,
    pub(crate) requests: u64,
}

impl Engine {
    pub(crate) fn new(machine: Machine, now_ns: u64) -> Self {
        let config = Arc::clone(&machine.config);
        let cycle = machine.cycle();
        let engine = Self {
            word: AtomicU64::new(0),
            until_ns: AtomicU64::new(NEVER),
            slow_after_ns: AtomicU64::new(NEVER),
            drop_after_ns: AtomicU64::new(NEVER),
            call_timeout_ns: AtomicU64::new(NEVER),
            timed: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            sets: [const { OnceLock::new() }; MAX_SETS],
            tallies: Tallies {
                requests_before: AtomicU64::new(0),
                failures: AtomicU64::new(0),
                slow: AtomicU64::new(0),
                ignored: AtomicU64::new(0),
                cancelled: AtomicU64::new(0),
                panicked: AtomicU64::new(0),
                rejected: AtomicU64::new(0),
                last_success_ns: AtomicU64::new(0),
                last_failure_ms: AtomicU64::new(0),
            },
            inner: Mutex::new(Inner { machine, set: 0, cycle, frozen: (Counts::default(), 0) }),
        };
        if let Some(slot) = engine.sets.first() {
            slot.get_or_init(|| Box::new(WindowSet::new(&config, cycle, now_ns)));
        }
        let mut inner = engine.inner.lock();
        engine.take_over(&config, &inner);
        engine.publish(&mut inner, now_ns);
        drop(inner);
        engine
    }

    #[inline]
    fn word(&self) -> Word {
        // ORDER: acquire; who sees a word sees the windows that were emptied before it was stored.
        Word(self.word.load(Ordering::Acquire))
    }

    #[inline]
    fn set(&self, place: usize) -> Option<&WindowSet> {
        self.sets.get(place).and_then(OnceLock::get).map(|set| &**set)
    }

    #[inline]
    fn start_ns(&self, host: &impl Host) -> u64 {
        let timed = self.timed.load(Ordering::Relaxed);
        if timed & TIME_START == 0 { NOT_TIMED } else { host.ns() }
    }

    /// Admits a call: one load when the circuit is closed and nothing is timed.
    #[inline]
    pub(crate) fn admit(&self, host: &impl Host) -> Result<Ticket, Refusal> {
        self.admit_plain(host).map_or_else(|| self.admit_otherwise(host), Ok)
    }

    /// Admits a call if the circuit is closed and active.
    #[inline]
    pub(crate) fn admit_plain(&self, host: &impl Host) -> Option<Ticket> {
        let word = self.word();
        let ticket = || Ticket::new(word.generation(), Admission::Counted, self.start_ns(host));
        word.is_plain().then(ticket)
    }

    #[cold]
    pub(crate) fn admit_otherwise(&self, host: &impl Host) -> Result<Ticket, Refusal> {
        let word = self.word();
        let generation = word.generation();
        match word.mode() {
            Mode::Disabled => {
                return Ok(Ticket::new(generation, Admission::Uncounted, NOT_TIMED));
            }
            Mode::Shadow if word.state() == State::Closed => {
                return Ok(Ticket::new(generation, Admission::Counted, self.start_ns(host)));
            }
            _ => {}
        }
        self.look_at(word, host)?;
        let mut inner = self.inner.lock();
        let now = host.at();
        let admitted = inner.machine.admit(now);
        let generation = inner.machine.generation();
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
        let admission = admitted?;
        Ok(Ticket::new(generation, admission, self.start_ns(host)))
    }

    /// Whether a call would be admitted now. Changes nothing.
    #[inline]
    pub(crate) fn peek(&self, host: &impl Host) -> Result<(), Refusal> {
        let word = self.word();
        if word.is_plain() { Ok(()) } else { self.look_at(word, host) }
    }

    fn look_at(&self, word: Word, host: &impl Host) -> Result<(), Refusal> {
        let (state, mode) = (word.state(), word.mode());
        match mode {
            Mode::ForcedOpen => {
                return Err(Refusal { state: State::Open, mode, until_ns: None });
            }
            Mode::Disabled => return Ok(()),
            Mode::Active | Mode::Shadow => {}
        }
        let waits = match state {
            State::Closed => return Ok(()),
            State::HalfOpen => word.is_full(),
            State::Open | State::Repairing => true,
        };
        let until_ns = self.until_ns.load(Ordering::Acquire);
        if !waits || host.ns() >= until_ns {
            return Ok(());
        }
        let until_ns = (state != State::HalfOpen).then_some(until_ns);
        Err(Refusal { state, mode, until_ns })
    }

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
        if failed.is_some() {
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

    /// Changes the machine and makes the change visible.
    pub(crate) fn command<R>(
        &self,
        now: At,
        host: &impl Host,
        change: impl FnOnce(&mut Machine) -> R,
    ) -> R {
        let mut inner = self.inner.lock();
        let result = change(&mut inner.machine);
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
        result
    }

    /// Looks at the machine.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Machine) -> R) -> R {
        look(&self.inner.lock().machine)
    }

    /// Takes the next thing to tell, in order.
    pub(crate) fn next_change(&self) -> Option<Change> {
        self.inner.lock().machine.outbox.pop_front()
    }

    /// Stores the word; whether there is something to tell.
    fn publish(&self, inner: &mut Inner, now_ns: u64) -> bool {
        let Inner { machine, set, cycle, frozen } = inner;
        let was = self.word();
        if was.state() == State::HalfOpen && machine.state() == State::Open {
            *frozen = (machine.facts().probes.counts(), 0);
        }
        if let Some(windows) = self.set(*set) {
            if was.state() == State::Closed && machine.state() != State::Closed {
                *frozen = windows.view(*cycle, now_ns);
            }
            if machine.cycle() != *cycle {
                let counted = windows.reset(machine.cycle(), now_ns);
                self.tallies.requests_before.fetch_add(counted, Ordering::Relaxed);
                *cycle = machine.cycle();
            }
        }
        self.until_ns.store(machine.until_ns(), Ordering::Release);
        let word = Word::new(
            machine.state(),
            machine.mode(),
            machine.is_full(),
            *set,
            *cycle,
            machine.generation(),
        );
        // ORDER: release, and last: the windows and the time belong to this word.
        self.word.store(word.0, Ordering::Release);
        !machine.outbox.is_empty()
    }

    /// Knobs the hot path reads.
    fn take_over(&self, config: &BreakerConfig, inner: &Inner) {
        let slow = config.slow_after.map_or(NEVER, nanos);
        let drop_after = config.drop_after().map_or(NEVER, nanos);
        self.slow_after_ns.store(slow, Ordering::Relaxed);
        self.drop_after_ns.store(drop_after, Ordering::Relaxed);
        let call_timeout = config.call_timeout.map_or(NEVER, nanos);
        self.call_timeout_ns.store(call_timeout, Ordering::Relaxed);
        self.waits.store(u32::from(!config.fast_fail), Ordering::Relaxed);
        let slices = self.set(inner.set).is_some_and(WindowSet::is_timed);
        let start = slow != NEVER || drop_after != NEVER || config.timing;
        let end = slow != NEVER || config.timing || slices;
        let timed = if start { TIME_START } else { 0 } | if end { TIME_END } else { 0 };
        self.timed.store(timed, Ordering::Relaxed);
    }

    /// Takes a checked configuration over. Everything stays, but the counts when windows changed.
    pub(crate) fn reconfigure(
        &self,
        config: Arc<BreakerConfig>,
        host: &impl Host,
    ) -> Result<(), ConfigError> {
        let now = host.at();
        let mut inner = self.inner.lock();
        let shape = Shape::of(&config);
        let same = |set: &WindowSet| *set.shape() == shape;
        if self.set(inner.set).is_some_and(same) {
            if let Some(set) = self.set(inner.set) {
                set.set_thresholds(&config);
            }
        } else {
            let place = (0..MAX_SETS).find(|place| self.set(*place).is_none_or(same));
            let Some((place, slot)) = place.and_then(|at| Some((at, self.sets.get(at)?))) else {
                let text = format!("windows were changed {MAX_SETS} times; build a new breaker");
                return Err(ConfigError::new("trip", text));
            };
            inner.machine.begin_cycle();
            let cycle = inner.machine.cycle();
            // Who still records into the old windows finds their cycle over.
            let counted = self.set(inner.set).map_or(0, |old| old.reset(cycle, now.ns));
            self.tallies.requests_before.fetch_add(counted, Ordering::Relaxed);
            let set = slot.get_or_init(|| Box::new(WindowSet::new(&config, cycle, now.ns)));
            set.reset(cycle, now.ns);
            set.set_thresholds(&config);
            inner.set = place;
            inner.cycle = cycle;
        }
        self.take_over(&config, &inner);
        inner.machine.config = config;
        inner.machine.act_on_probes(now);
        self.look_again(&mut inner, now);
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
        host.released();
        Ok(())
    }

    /// Changes the mode. Who comes back to active with a rule that holds opens.
    pub(crate) fn set_mode(&self, mode: Mode, now: At, host: &impl Host) {
        let mut inner = self.inner.lock();
        inner.machine.tick(now);
        inner.machine.set_mode(mode, now);
        if mode == Mode::Active {
            self.look_again(&mut inner, now);
        }
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
    }

    /// Looks at the rules without a call: they, or what they may do, have changed.
    fn look_again(&self, inner: &mut Inner, now: At) {
        let generation = inner.machine.generation();
        let reason = self.set(inner.set).and_then(|set| set.verdict(inner.cycle, now.ns));
        if let Some(reason) = reason {
            inner.machine.trip_by(generation, reason, None, now);
        }
    }

    /// State as a caller would meet it now.
    pub(crate) fn state(&self, host: &impl Host) -> State {
        let word = self.word();
        match (word.mode(), word.state()) {
            (Mode::ForcedOpen, _) => State::Open,
            (Mode::Disabled, _) => State::Closed,
            (_, state @ (State::Open | State::Repairing)) => {
                let over = host.ns() >= self.until_ns.load(Ordering::Acquire);
                if over { State::HalfOpen } else { state }
            }
            (_, state) => state,
        }
    }

    /// Whether callers wait instead of being rejected.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed) != 0
    }

    /// How long a call may take.
    #[inline]
    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        let ns = self.call_timeout_ns.load(Ordering::Relaxed);
        (ns != NEVER).then(|| Duration::from_nanos(ns))
    }

    pub(crate) fn mode(&self) -> Mode {
        self.word().mode()
    }

    /// What was counted.
    pub(crate) fn view(&self, now_ns: u64) -> View {
        let inner = self.inner.lock();
        let (mut streak, mut requests) = (0, self.tallies.requests_before.load(Ordering::Relaxed));
        let mut frozen = inner.frozen;
        if let Some(set) = self.set(inner.set) {
            streak = set.streak();
            requests += set.recorded(inner.cycle);
            match inner.machine.state() {
                State::Closed => frozen = set.view(inner.cycle, now_ns),
                State::HalfOpen => frozen = (inner.machine.facts().probes.counts(), 0),
                State::Open | State::Repairing => {}
            }
        }
        let (counts, min_calls) = frozen;
        View { counts, min_calls, streak, requests }
    }
}
