//! The counts of closed periods: windows of calls and of time, the streak, and the rules on them.
//!
//! Lock-free and exact. Every count carries the cycle it belongs to, so that a reset is O(1) and
//! what a late thread adds to a cycle that is over is refused, not mixed in.

use crate::config::{BreakerConfig, Trip, Window};
use crate::sync::{AtomicU64, Ordering, STRIPES, stripe};
use crate::transition::Reason;

mod calls;
mod rules;
mod tagged;
mod time;
mod turns;

use calls::Calls;
use rules::Rule;
use time::Slices;
use turns::{COUNT, COUNT_BITS, Turns};

/// What distinguishes one set of windows from another: everything but thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// One for each rule: its kind and the window it looks at.
    rules: Vec<(std::mem::Discriminant<Trip>, Option<Window>)>,
}

impl Shape {
    pub(crate) fn of(config: &BreakerConfig) -> Self {
        let rules = config.trip.iter();
        Self { rules: rules.map(|rule| (std::mem::discriminant(rule), rule.window())).collect() }
    }
}

/// What one closed period has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
}

/// What to do after a call was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Its cycle is over: it was not recorded.
    Late,
    /// No rule can hold because of it. With the number of the call in its cycle.
    Quiet(u64),
    /// Rules must be looked at.
    Look,
}

/// The fields every recorded call looks at.
#[derive(Debug)]
#[repr(align(128))]
struct Hot {
    /// Calls recorded in a cycle that have a number, and so a place in the windows of calls.
    numbered: Turns,
    /// `cycle:16 | failures since the last success:48`.
    streak: AtomicU64,
    /// Up to this many calls a success can make a `min_calls` full.
    warm_until: AtomicU64,
    /// With so many calls every window of calls is full.
    full_at: u64,
}

/// Successes recorded in a cycle by the threads of one stripe, without a number.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(Turns);

/// All windows a configuration needs, each once, and its rules.
#[derive(Debug)]
pub(crate) struct WindowSet {
    hot: Hot,
    stripes: [Stripe; STRIPES],
    calls: Vec<Calls>,
    slices: Vec<Slices>,
    rules: Vec<Rule>,
    shape: Shape,
}

impl WindowSet {
    pub(crate) fn new(config: &BreakerConfig, cycle: u16, now_ns: u64) -> Self {
        let mut calls: Vec<Calls> = Vec::new();
        let mut slices: Vec<Slices> = Vec::new();
        let mut rules = Vec::new();
        for trip in &config.trip {
            let place = match trip.window() {
                None => 0,
                Some(Window::Calls(size)) => {
                    calls.iter().position(|w| w.size() == u64::from(size)).unwrap_or_else(|| {
                        calls.push(Calls::new(size));
                        calls.len() - 1
                    })
                }
                Some(Window::Time { length, slices: n }) => {
                    let fresh = Slices::new(length, n);
                    slices.iter().position(|w| w.same(&fresh)).unwrap_or_else(|| {
                        slices.push(fresh);
                        slices.len() - 1
                    })
                }
            };
            rules.push(Rule::new(trip, place));
        }
        let hot = Hot {
            numbered: Turns::new(),
            streak: AtomicU64::new(0),
            warm_until: AtomicU64::new(0),
            full_at: calls.iter().map(Calls::size).max().unwrap_or(0),
        };
        let stripes = [(); STRIPES].map(|()| Stripe(Turns::new()));
        let set = Self { hot, stripes, calls, slices, rules, shape: Shape::of(config) };
        set.set_thresholds(config);
        set.reset(cycle, now_ns);
        set
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether recording needs the time.
    pub(crate) fn is_timed(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Takes over thresholds of a configuration of the same shape.
    pub(crate) fn set_thresholds(&self, config: &BreakerConfig) {
        for (rule, trip) in self.rules.iter().zip(&config.trip) {
            rule.set(trip);
        }
        for window in &self.slices {
            window.unsettle();
        }
        let warm = self.rules.iter().map(Rule::warm_until).max();
        self.hot.warm_until.store(warm.unwrap_or(0), Ordering::Relaxed);
    }

    /// For a set that was not in use for a while: no cycle of before is mistaken for a later one.
    pub(crate) fn renew(&self, cycle: u16) {
        for window in &self.calls {
            window.renew(cycle);
        }
    }

    /// Begins a cycle; returns how many calls the one before had recorded. Nobody records into the
    /// new cycle before the word names it.
    pub(crate) fn reset(&self, cycle: u16, now_ns: u64) -> u64 {
        let begin = turns::none(cycle);
        for window in &self.calls {
            window.reset(cycle);
        }
        for window in &self.slices {
            window.reset(cycle, now_ns);
        }
        self.hot.streak.swap(begin, Ordering::SeqCst);
        let beside: u64 = self.stripes.iter().map(|stripe| stripe.0.begin(cycle)).sum();
        self.hot.numbered.begin(cycle) + beside
    }

    /// Records a success that was not slow, where nothing is timed.
    #[inline]
    pub(crate) fn record_success(&self, cycle: u16) -> Noted {
        if self.is_clean(cycle) {
            return self.record_beside(cycle);
        }
        // ORDER: as in `record`.
        let Some(number) = self.hot.numbered.add(cycle) else { return Noted::Late };
        self.end_streak(cycle);
        for window in &self.calls {
            window.put(number, cycle, 0);
        }
        if number < self.hot.warm_until.load(Ordering::Relaxed) {
            Noted::Look
        } else {
            Noted::Quiet(number)
        }
    }

    /// Whether all windows are full of quick successes, and the last call was one: then one more changes
    /// nothing but how many there were.
    // INVARIANT: a success that finds it so may take no number. It comes before every failure it did not
    // see, and the one it replaces was a success, too.
    #[inline]
    fn is_clean(&self, cycle: u16) -> bool {
        let clean = self.hot.streak.load(Ordering::Relaxed) == turns::none(cycle);
        clean
            && self.hot.numbered.has(cycle, self.hot.full_at)
            && self.calls.iter().all(|window| window.is_clean(cycle))
    }

    /// Counts a success where other threads seldom count theirs: one number for all would be what they
    /// wait for.
    #[inline]
    fn record_beside(&self, cycle: u16) -> Noted {
        let mine = self.stripes.get(stripe()).or(self.stripes.first());
        mine.and_then(|stripe| stripe.0.add(cycle)).map_or(Noted::Late, Noted::Quiet)
    }

    /// Records a call of `cycle`. `now_ns` matters only when [`is_timed`](Self::is_timed).
    pub(crate) fn record(&self, cycle: u16, failed: bool, slow: bool, now_ns: u64) -> Noted {
        if !failed && !slow && self.slices.is_empty() && self.is_clean(cycle) {
            return self.record_beside(cycle);
        }
        // ORDER: sequentially consistent, as are the failures' counts: of a success that makes
        // `min_calls` full and a failure beside it, at least one sees the other and looks at the rules.
        let Some(number) = self.hot.numbered.add(cycle) else { return Noted::Late };
        if failed {
            self.add_to_streak(cycle);
        } else {
            self.end_streak(cycle);
        }
        let bits = u32::from(failed) | (u32::from(slow) << 1);
        for window in &self.calls {
            window.put(number, cycle, bits);
        }
        let mut look = failed || slow || number < self.hot.warm_until.load(Ordering::Relaxed);
        for window in &self.slices {
            look |= window.add(cycle, failed, slow, now_ns);
        }
        if look { Noted::Look } else { Noted::Quiet(number) }
    }

    #[cold]
    fn add_to_streak(&self, cycle: u16) {
        let mut now = self.hot.streak.load(Ordering::SeqCst);
        while (now >> COUNT_BITS) as u16 == cycle {
            let more = now + 1;
            match self.hot.streak.compare_exchange(now, more, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    #[inline]
    fn end_streak(&self, cycle: u16) {
        let mut now = self.hot.streak.load(Ordering::Relaxed);
        let none = turns::none(cycle);
        if now == none {
            return;
        }
        while now != none && (now >> COUNT_BITS) as u16 == cycle {
            match self.hot.streak.compare_exchange(now, none, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    /// The first rule that holds.
    pub(crate) fn verdict(&self, cycle: u16, now_ns: u64) -> Option<Reason> {
        let streak = self.streak();
        self.rules.iter().find_map(|rule| {
            let counts = self.counts_of(rule, cycle, now_ns);
            rule.holds(streak, counts)
        })
    }

    /// Successes of this moment need not look at the rules again: nothing can change by them.
    pub(crate) fn settle(&self, cycle: u16, now_ns: u64) {
        for (place, window) in self.slices.iter().enumerate() {
            let calls = window.counts(cycle, now_ns).calls;
            let waits = |rule: &Rule| rule.is_on_slices(place) && calls < rule.min_calls();
            if !self.rules.iter().any(waits) {
                window.settle(cycle, now_ns);
            }
        }
    }

    fn counts_of(&self, rule: &Rule, cycle: u16, now_ns: u64) -> Counts {
        match rule.window() {
            None => Counts::default(),
            Some(Window::Calls(_)) => self
                .calls
                .get(rule.place())
                .map_or_else(Counts::default, |w| w.counts(cycle, self.hot.numbered.get(cycle))),
            Some(Window::Time { .. }) => self
                .slices
                .get(rule.place())
                .map_or_else(Counts::default, |w| w.counts(cycle, now_ns)),
        }
    }

    /// Calls recorded in this cycle.
    pub(crate) fn recorded(&self, cycle: u16) -> u64 {
        let beside: u64 = self.stripes.iter().map(|stripe| stripe.0.get(cycle)).sum();
        self.hot.numbered.get(cycle) + beside
    }

    /// Failures since the last success, in this cycle.
    pub(crate) fn streak(&self) -> u64 {
        self.hot.streak.load(Ordering::SeqCst) & COUNT
    }

    /// What the first rule with a window sees, and the `min_calls` it wants; without such a rule, the
    /// streak.
    pub(crate) fn view(&self, cycle: u16, now_ns: u64) -> (Counts, u64) {
        let rule = self.rules.iter().find(|rule| rule.window().is_some());
        rule.map_or_else(
            || (Counts { calls: self.recorded(cycle), failures: self.streak(), slow: 0 }, u64::MAX),
            |rule| (self.counts_of(rule, cycle, now_ns), rule.min_calls()),
        )
    }
}
