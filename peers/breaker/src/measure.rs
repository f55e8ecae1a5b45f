//! What a call costs: rounds of about a millisecond, all cases in turn, so that a noisy moment hits
//! them alike.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use resurge_store::{Clock, Monotonic, SystemClock};

use crate::alloc::allocations;

/// How long a round should take.
const ROUND: f64 = 1e-3;

/// A round of two counts when both were at work for this part of it.
const TOGETHER: f64 = 0.9;

/// One line of the table.
pub struct Case {
    pub name: &'static str,
    /// Runs so many calls in so many threads; nanoseconds a call, if the threads ran together.
    run: Box<dyn Fn(usize, u32) -> Option<f64>>,
    calls: u32,
    pub allocations: f64,
    alone: Vec<f64>,
    two: Vec<f64>,
}

impl Case {
    /// `thread` makes what each thread calls.
    pub fn new<W: FnMut()>(name: &'static str, thread: impl Fn() -> W + Sync + 'static) -> Self {
        let clock = SystemClock::new();
        let run = move |threads: usize, calls: u32| round(&clock, threads, calls, &thread);
        let mut case = Self {
            name,
            calls: 50,
            allocations: 0.0,
            alone: Vec::new(),
            two: Vec::new(),
            run: Box::new(run),
        };
        // Warm, then as many calls as take a round.
        case.run_alone();
        for _ in 0..3 {
            let ns = case.run_alone();
            case.calls = (ROUND / (ns * 1e-9)).clamp(10.0, 1e6) as u32;
        }
        let before = allocations();
        case.run_alone();
        let made = allocations() - before;
        // What setting up a round allocates is not the call's.
        case.allocations = (made as f64 / f64::from(case.calls) * 10.0).floor() / 10.0;
        case
    }

    fn run_alone(&self) -> f64 {
        (self.run)(1, self.calls).unwrap_or(f64::INFINITY)
    }

    pub fn round(&mut self) {
        self.alone.push(self.run_alone());
        self.two.extend((self.run)(2, self.calls));
    }

    /// One thread: the best round. Other programs make it slower, never faster.
    pub fn alone(&self) -> f64 {
        self.alone.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Two threads: the median round. The best would be the one in which they met least.
    pub fn two(&self) -> f64 {
        let mut two = self.two.clone();
        two.sort_by(f64::total_cmp);
        two.get(two.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// In how many rounds the two threads ran together.
    pub fn together(&self) -> usize {
        self.two.len()
    }
}

fn round<W: FnMut()>(
    clock: &SystemClock,
    threads: usize,
    calls: u32,
    thread: &(impl Fn() -> W + Sync),
) -> Option<f64> {
    let timed = |work: &mut W| {
        let begin = clock.monotonic();
        (0..calls).for_each(|_| work());
        (begin, clock.monotonic())
    };
    if threads == 1 {
        let (begin, end) = timed(&mut thread());
        return Some(end.saturating_since(begin).as_secs_f64() / f64::from(calls) * 1e9);
    }
    let (start, arrived) = (Barrier::new(threads), AtomicU32::new(0));
    let run = || {
        let mut work = thread();
        start.wait();
        // Nobody begins before all are awake.
        arrived.fetch_add(1, Ordering::SeqCst);
        while (arrived.load(Ordering::SeqCst) as usize) < threads {
            std::hint::spin_loop();
        }
        timed(&mut work)
    };
    let times: Vec<(Monotonic, Monotonic)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let begin = times.iter().map(|time| time.0);
    let end = times.iter().map(|time| time.1);
    let all: Duration = end.clone().max()?.saturating_since(begin.clone().min()?);
    let both: Duration = end.min()?.saturating_since(begin.max()?);
    let together = both.as_secs_f64() >= TOGETHER * all.as_secs_f64();
    together.then(|| all.as_secs_f64() / f64::from(calls) * 1e9)
}
