//! A breaker that keeps everything and recounts it each time. Milliseconds, one thread, no cleverness.

use std::collections::VecDeque;

use resurge_breaker::{
    BreakerConfig, FailureKind, Mode, OnMaxWait, Outcome, Rate, State, Trip, Verdict, Window,
};

/// What today's breakers get wrong, and what ours could.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bug {
    /// The window of calls keeps every call.
    NeverEvicts,
    /// The window of time keeps a call one slice too long.
    ExpiresLate,
    /// Only a failure opens.
    SuccessNeverTrips,
    /// A threshold must be passed, not reached.
    Strictly,
    /// A result of before counts in what is half-open now.
    LateResultDecides,
    /// A late result extends the open time.
    LateFailureExtends,
    /// Half-open admits everything.
    UnlimitedProbes,
    /// A probe that says nothing keeps its place.
    IgnoredProbeKeepsPlace,
    /// A failed probe is forgiven.
    ProbeFailureForgiven,
    /// Slow probes close.
    SlowProbesClose,
    /// Probes that hang are waited for.
    HungProbesWait,
    /// Forced open ends with the open time.
    ForcedOpenExpires,
    /// Closing keeps the counts.
    CloseKeepsCounts,
    /// Closing keeps the attempts.
    CloseKeepsAttempts,
    /// The open time does not grow.
    NoGrowth,
    /// The open time grows beyond the longest.
    NoCap,
    /// At exactly the end it still rejects.
    OpensLate,
    /// An ignored call ends a streak.
    IgnoredEndsStreak,
    /// Rejected calls count as requests.
    RejectedCounted,
    /// Disabled counts.
    DisabledCounts,
    /// Exactly as slow as the limit is not slow.
    SlowStrictly,
    /// `min_calls` is not looked at.
    NoMinimum,
    /// Only the first rule is looked at.
    FirstRuleOnly,
    /// A result that says for how long is only a failure.
    OpenForIgnored,
    /// Half-open admits all its probes at once, whatever `concurrent` says.
    ConcurrentIgnored,
    /// Nothing decays.
    NoDecay,
    /// Calls that were given up are not noticed.
    DropsForgotten,
}

impl Bug {
    pub(crate) const ALL: [Self; 27] = [
        Self::NeverEvicts,
        Self::ExpiresLate,
        Self::SuccessNeverTrips,
        Self::Strictly,
        Self::LateResultDecides,
        Self::LateFailureExtends,
        Self::UnlimitedProbes,
        Self::IgnoredProbeKeepsPlace,
        Self::ProbeFailureForgiven,
        Self::SlowProbesClose,
        Self::HungProbesWait,
        Self::ForcedOpenExpires,
        Self::CloseKeepsCounts,
        Self::CloseKeepsAttempts,
        Self::NoGrowth,
        Self::NoCap,
        Self::OpensLate,
        Self::IgnoredEndsStreak,
        Self::RejectedCounted,
        Self::DisabledCounts,
        Self::SlowStrictly,
        Self::NoMinimum,
        Self::FirstRuleOnly,
        Self::OpenForIgnored,
        Self::ConcurrentIgnored,
        Self::NoDecay,
        Self::DropsForgotten,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Counted,
    Probe,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    generation: u32,
    kind: Kind,
    start: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    at: u64,
    failed: bool,
    slow: bool,
}

#[derive(Debug, Default)]
struct Probes {
    admitted: u32,
    in_flight: u32,
    succeeded: u32,
    failed: u32,
    slow: u32,
    heard_at: u64,
}

#[derive(Debug)]
pub(crate) struct Naive {
    config: BreakerConfig,
    bug: Option<Bug>,
    now: u64,
    state: State,
    mode: Mode,
    generation: u32,
    calls: VecDeque<Ended>,
    pub(crate) streak: u64,
    closed_at: u64,
    open_until: u64,
    pub(crate) attempt: u32,
    next: u32,
    decays_from: Option<u64>,
    probes: Probes,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

impl Naive {
    pub(crate) fn new(config: BreakerConfig, bug: Option<Bug>) -> Self {
        Self {
            config,
            bug,
            now: 0,
            state: State::Closed,
            mode: Mode::Active,
            generation: 0,
            calls: VecDeque::new(),
            streak: 0,
            closed_at: 0,
            open_until: 0,
            attempt: 0,
            next: 0,
            decays_from: None,
            probes: Probes::default(),
            requests: 0,
            failures: 0,
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now += ms;
    }

    fn is_over(&self) -> bool {
        if self.has(Bug::OpensLate) {
            self.now > self.open_until
        } else {
            self.now >= self.open_until
        }
    }

    fn tick(&mut self) {
        let waited = self.config.half_open.max_wait.map_or(u64::MAX, millis);
        let hung = self.probes.in_flight > 0
            && self.now >= self.probes.heard_at.saturating_add(waited)
            && !self.has(Bug::HungProbesWait);
        if self.state == State::HalfOpen && hung {
            match self.config.half_open.on_max_wait {
                OnMaxWait::Open => self.open(None),
                OnMaxWait::Close => self.close(),
            }
        }
    }

    fn elapse(&mut self) {
        self.tick();
        if self.state == State::Open && self.is_over() {
            self.probe();
        }
    }

    pub(crate) fn acquire(&mut self) -> Option<Ticket> {
        let kind = self.admit();
        if kind.is_none() && self.has(Bug::RejectedCounted) {
            self.requests += 1;
        }
        let (generation, start) = (self.generation, self.now);
        kind.map(|kind| Ticket { generation, kind, start })
    }

    fn admit(&mut self) -> Option<Kind> {
        match self.mode {
            Mode::ForcedOpen if self.has(Bug::ForcedOpenExpires) && self.is_over() => {}
            Mode::ForcedOpen => return None,
            Mode::Disabled if self.has(Bug::DisabledCounts) => return Some(Kind::Counted),
            Mode::Disabled => return Some(Kind::Nothing),
            _ => {}
        }
        self.elapse();
        match self.state {
            State::Closed => Some(Kind::Counted),
            State::HalfOpen => {
                if self.is_full() {
                    return None;
                }
                if self.probes.in_flight == 0 {
                    self.probes.heard_at = self.now;
                }
                self.probes.admitted += 1;
                self.probes.in_flight += 1;
                Some(Kind::Probe)
            }
            _ => None,
        }
    }

    fn is_full(&self) -> bool {
        let config = &self.config.half_open;
        let concurrent = config.concurrent.unwrap_or(config.probes);
        let concurrent = if self.has(Bug::ConcurrentIgnored) { config.probes } else { concurrent };
        let full = self.probes.admitted >= config.probes || self.probes.in_flight >= concurrent;
        full && !self.has(Bug::UnlimitedProbes)
    }

    pub(crate) fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        let (failed, open_for) = match outcome {
            Outcome::Success => (false, None),
            Outcome::OpenFor(_, length) if !self.has(Bug::OpenForIgnored) => {
                (true, Some(millis(length)))
            }
            Outcome::Failure(_) | Outcome::OpenFor(..) => (true, None),
            _ => {
                if self.has(Bug::IgnoredEndsStreak) {
                    self.streak = 0;
                }
                return self.give_back(ticket);
            }
        };
        if ticket.kind == Kind::Nothing {
            return;
        }
        let took = self.now - ticket.start;
        let limit = self.config.slow_after.map_or(u64::MAX, millis);
        let slow = if self.has(Bug::SlowStrictly) { took > limit } else { took >= limit };
        self.requests += 1;
        self.failures += u64::from(failed);
        if self.has(Bug::LateFailureExtends) && self.state == State::Open && failed {
            self.open_until = self.now + 1_000;
        }
        let current = ticket.generation == self.generation;
        match (self.state, ticket.kind) {
            (State::Closed, Kind::Counted) if current => self.record(failed, slow, open_for),
            (State::HalfOpen, Kind::Probe) if current => self.probed(failed, slow, open_for),
            (State::HalfOpen, _) if self.has(Bug::LateResultDecides) => {
                self.probed(failed, slow, open_for);
            }
            _ => {}
        }
    }

    pub(crate) fn drop(&mut self, ticket: Ticket) {
        let limit = self.config.slow_after.map_or(u64::MAX, millis);
        let late = self.now - ticket.start >= limit && ticket.kind != Kind::Nothing;
        if late && !self.has(Bug::DropsForgotten) {
            self.settle(ticket, Outcome::Failure(FailureKind::Timeout));
        } else {
            self.give_back(ticket);
        }
    }

    fn give_back(&mut self, ticket: Ticket) {
        let probe = ticket.kind == Kind::Probe && ticket.generation == self.generation;
        if probe && self.state == State::HalfOpen {
            self.probes.in_flight -= 1;
            self.probes.heard_at = self.now;
            if !self.has(Bug::IgnoredProbeKeepsPlace) {
                self.probes.admitted -= 1;
            }
        }
    }

    fn record(&mut self, failed: bool, slow: bool, open_for: Option<u64>) {
        self.calls.push_back(Ended { at: self.now, failed, slow });
        self.streak = if failed { self.streak + 1 } else { 0 };
        if self.mode != Mode::Active {
            return;
        }
        if open_for.is_some() {
            return self.open(open_for);
        }
        if !failed && self.has(Bug::SuccessNeverTrips) {
            return;
        }
        let rules = if self.has(Bug::FirstRuleOnly) { 1 } else { usize::MAX };
        if self.config.trip.iter().take(rules).any(|rule| self.holds(rule)) {
            self.open(None);
        }
    }

    fn reached(&self, rate: Rate, part: u64, whole: u64) -> bool {
        // Whole percents, so that integers do.
        let percent = (rate.as_fraction() * 100.0).round().to_string().parse::<u64>().unwrap();
        if self.has(Bug::Strictly) {
            part * 100 > percent * whole
        } else {
            whole > 0 && part * 100 >= percent * whole
        }
    }

    fn holds(&self, rule: &Trip) -> bool {
        let enough = |calls: u64, min_calls: u32, window: Window| {
            let min_calls = match window {
                Window::Calls(size) => min_calls.min(size),
                _ => min_calls,
            };
            calls >= u64::from(min_calls) || self.has(Bug::NoMinimum)
        };
        match *rule {
            Trip::ConsecutiveFailures { failures } => self.streak >= u64::from(failures),
            Trip::FailureCount { failures, window, min_calls } => {
                let (calls, failed, _) = self.counts(window);
                enough(calls, min_calls, window) && failed >= u64::from(failures)
            }
            Trip::FailureRate { rate, window, min_calls } => {
                let (calls, failed, _) = self.counts(window);
                enough(calls, min_calls, window) && self.reached(rate, failed, calls)
            }
            Trip::SlowRate { rate, window, min_calls } => {
                let (calls, _, slow) = self.counts(window);
                enough(calls, min_calls, window) && self.reached(rate, slow, calls)
            }
            _ => panic!("no such rule"),
        }
    }

    fn counts(&self, window: Window) -> (u64, u64, u64) {
        let kept: Vec<_> = match window {
            Window::Calls(_) if self.has(Bug::NeverEvicts) => self.calls.iter().collect(),
            Window::Calls(size) => self.calls.iter().rev().take(size as usize).collect(),
            Window::Time { length, slices } => {
                let slice = |at: u64| {
                    let slice = length.as_nanos() / u128::from(slices);
                    u128::from(at - self.closed_at) * 1_000_000 / slice
                };
                let kept = u128::from(slices) + u128::from(self.has(Bug::ExpiresLate));
                let newest = slice(self.now);
                self.calls.iter().filter(|call| newest - slice(call.at) < kept).collect()
            }
            _ => panic!("no such window"),
        };
        let count =
            |which: fn(&Ended) -> bool| kept.iter().filter(|call| which(call)).count() as u64;
        (kept.len() as u64, count(|call| call.failed), count(|call| call.slow))
    }

    /// What the first rule with a window sees; only while closed.
    pub(crate) fn window(&self) -> Option<(u64, u64, u64)> {
        let window = self.config.trip.iter().find_map(|rule| match *rule {
            Trip::FailureCount { window, .. }
            | Trip::FailureRate { window, .. }
            | Trip::SlowRate { window, .. } => Some(window),
            _ => None,
        })?;
        (self.state == State::Closed).then(|| self.counts(window))
    }

    fn probed(&mut self, failed: bool, slow: bool, open_for: Option<u64>) {
        let probes = &mut self.probes;
        probes.in_flight = probes.in_flight.saturating_sub(1);
        probes.heard_at = self.now;
        probes.slow += u32::from(slow);
        let forgiven = failed && self.bug == Some(Bug::ProbeFailureForgiven);
        if failed && !forgiven {
            probes.failed += 1;
        } else {
            probes.succeeded += 1;
        }
        if open_for.is_some() {
            return self.open(open_for);
        }
        let (ok, bad, slow) = (probes.succeeded, probes.failed, probes.slow);
        let slow = if self.has(Bug::SlowProbesClose) { 0 } else { slow };
        let done = u64::from(ok + bad);
        match self.config.half_open.verdict {
            Verdict::AllOf { .. } if bad > 0 => self.open(None),
            Verdict::AllOf { successes } => {
                let too_slow = self.config.trip.iter().any(|rule| match rule {
                    Trip::SlowRate { rate, .. } => self.reached(*rate, slow.into(), done),
                    _ => false,
                });
                if ok >= successes {
                    if too_slow { self.open(None) } else { self.close() }
                }
            }
            Verdict::Rate { failure, slow: too_slow } => {
                if done >= u64::from(self.config.half_open.probes) {
                    let bad = self.reached(failure, bad.into(), done)
                        || too_slow.is_some_and(|rate| self.reached(rate, slow.into(), done));
                    if bad { self.open(None) } else { self.close() }
                }
            }
            _ => panic!("no such verdict"),
        }
    }

    fn open(&mut self, open_for: Option<u64>) {
        let open = &self.config.open;
        if let (Some(from), Some(decay)) = (self.decays_from.take(), open.decay) {
            let periods = (self.now - from) / millis(decay);
            if self.bug != Some(Bug::NoDecay) {
                self.next = self.next.saturating_sub(u32::try_from(periods).unwrap());
            }
        }
        self.attempt = self.next;
        self.next += 1;
        let grows = if self.bug == Some(Bug::NoGrowth) { 0 } else { self.attempt };
        let mut length = open.initial;
        for _ in 0..grows {
            // Beyond any cap, with room to spare.
            length = length.mul_f64(open.factor).min(std::time::Duration::from_secs(3_600));
        }
        if self.bug != Some(Bug::NoCap) {
            length = length.min(open.max);
        }
        let length = open_for.unwrap_or_else(|| millis(length));
        self.open_until = self.now + length;
        self.state = State::Open;
        self.generation += 1;
    }

    fn probe(&mut self) {
        self.state = State::HalfOpen;
        self.probes = Probes::default();
        self.generation += 1;
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.generation += 1;
        if self.config.open.decay.is_some() {
            self.decays_from = Some(self.now);
        } else if self.bug != Some(Bug::CloseKeepsAttempts) {
            (self.attempt, self.next) = (0, 0);
        }
        self.forget_calls();
    }

    fn forget_calls(&mut self) {
        if self.bug != Some(Bug::CloseKeepsCounts) {
            self.calls.clear();
            self.streak = 0;
            self.closed_at = self.now;
        }
    }

    pub(crate) fn trip(&mut self, open_for: Option<u64>) {
        self.tick();
        if self.mode == Mode::Shadow {
            return;
        }
        self.elapse();
        match (self.state, open_for) {
            (State::Open, None) => {}
            (State::Open, Some(ms)) => self.open_until = self.now + ms,
            _ => self.open(open_for),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.tick();
        if self.state == State::Closed {
            self.generation += 1;
            self.forget_calls();
        } else {
            self.close();
        }
        (self.attempt, self.next, self.decays_from) = (0, 0, None);
    }

    pub(crate) fn half_open(&mut self) -> bool {
        self.tick();
        match self.state {
            State::Closed => return false,
            State::HalfOpen => {}
            _ => self.probe(),
        }
        true
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.tick();
        if self.mode == mode {
            return;
        }
        self.mode = mode;
        self.generation += 1;
        self.probes = Probes::default();
        if mode == Mode::Shadow && self.state != State::Closed {
            self.close();
        }
        let holds = self.config.trip.iter().any(|rule| self.holds(rule));
        if mode == Mode::Active && self.state == State::Closed && holds {
            self.open(None);
        }
    }

    pub(crate) fn effective_state(&self) -> State {
        match (self.mode, self.state) {
            (Mode::ForcedOpen, _) => State::Open,
            (Mode::Disabled, _) => State::Closed,
            (_, State::Open) if self.is_over() => State::HalfOpen,
            (_, state) => state,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<u128> {
        let active = !matches!(self.mode, Mode::ForcedOpen | Mode::Disabled);
        (active && self.effective_state() == State::Open)
            .then(|| u128::from(self.open_until - self.now))
    }
}
