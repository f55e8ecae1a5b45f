//! What a call through a closed breaker costs: `cargo run --release -p resurge-breaker --example hot_path`.
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use resurge_breaker::{Breaker, BreakerConfig, ConfigError, Rate, Trip, Window};
use resurge_store::{Clock, SystemClock};

const CALLS: u32 = 20_000;
const ROUNDS: u32 = 1_500;

/// The best of many short rounds, in nanoseconds a call: other programs make it slower, never faster. Of
/// two threads, the median of the rounds in which both ran for nine tenths of the time.
fn measure(threads: usize, work: impl Fn() + Sync) -> f64 {
    let clock = SystemClock::new();
    let now = || clock.monotonic().since_origin().as_secs_f64();
    let timed = || {
        let begin = now();
        (0..CALLS).for_each(|_| work());
        (begin, now())
    };
    let round = || {
        let start = Barrier::new(threads);
        let run = || {
            start.wait();
            timed()
        };
        let spans: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let first = spans.iter().map(|span| span.0).fold(f64::INFINITY, f64::min);
        let last = spans.iter().map(|span| span.1).fold(0.0, f64::max);
        let begun = spans.iter().map(|span| span.0).fold(0.0, f64::max);
        let ended = spans.iter().map(|span| span.1).fold(f64::INFINITY, f64::min);
        (ended - begun >= (last - first) * 0.9).then_some(last - first)
    };
    let mut rounds: Vec<f64> = (0..ROUNDS).filter_map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    let place = if threads == 1 { 0 } else { rounds.len() / 2 };
    rounds.get(place).map_or(f64::NAN, |best| best / f64::from(CALLS) * 1e9)
}

fn breaker(change: impl FnOnce(&mut BreakerConfig)) -> Result<Breaker, ConfigError> {
    let mut config = BreakerConfig::default();
    change(&mut config);
    Breaker::builder("hot").config(config).build()
}

fn main() -> Result<(), ConfigError> {
    let rate = |window| vec![Trip::FailureRate { rate: Rate::HALF, window, min_calls: 100 }];
    let ten_seconds = Window::time(Duration::from_secs(10));
    let cases = [
        ("streak only", breaker(|c| c.trip = vec![Trip::ConsecutiveFailures { failures: 5 }])?),
        ("the last 100 calls", breaker(|_| {})?),
        ("the last 1,000 calls", breaker(|c| c.trip = rate(Window::Calls(1_000)))?),
        ("the last 10 s", breaker(|c| c.trip = rate(ten_seconds))?),
        ("100 calls, timed", breaker(|c| c.timing = true)?),
    ];
    println!("{:<24} {:>10} {:>10}", "ns a call", "1 thread", "2 threads");
    let show = |name: &str, work: &(dyn Fn() + Sync)| {
        println!("{name:<24} {:>10.1} {:>10.1}", measure(1, work), measure(2, work));
    };
    show("nothing", &|| assert!(black_box(Ok::<_, ()>(black_box(7))).is_ok()));
    // What any exact count costs on this machine.
    let count = AtomicU64::new(0);
    show("one atomic add", &|| {
        black_box(count.fetch_add(1, Ordering::SeqCst));
    });
    for (name, breaker) in &cases {
        show(name, &|| drop(black_box(breaker.call(|| Ok::<_, ()>(black_box(7))))));
    }
    let breaker = breaker(|_| {})?;
    show("acquire, success", &|| {
        if let Ok(permit) = breaker.acquire() {
            permit.success();
        }
    });
    breaker.trip("to see what a rejection costs");
    show("rejected", &|| drop(black_box(breaker.acquire())));
    Ok(())
}
