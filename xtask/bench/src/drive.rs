//! Driving an operation with N of it in flight, and timing it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Operations per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(pub(crate) f64);

impl Rate {
    /// How many times `other` it is.
    pub(crate) fn ratio(self, other: Self) -> f64 {
        self.0 / other.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Grouped in thousands: these are read by people.
        let digits = format!("{:.0}", self.0);
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 {
                out.push(',');
            }
            out.push(c);
        }
        f.pad(&out)
    }
}

/// Real time: this is what a benchmark measures.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
    pub(crate) fn rate(&self, operations: u64) -> Rate {
        Rate(operations as f64 / self.elapsed().as_secs_f64())
    }
}

/// The runtime of every async figure: as many workers as cores.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Keeps `n` operations in flight for `time`, one task each, and counts what completed.
pub(crate) fn in_flight<F, Fut, E>(n: usize, time: Duration, op: F) -> std::io::Result<Rate>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    runtime()?.block_on(in_flight_on_current(n, time, op))
}

/// As [`in_flight`], on the runtime that is running.
pub(crate) async fn in_flight_on_current<F, Fut, E>(
    n: usize,
    time: Duration,
    op: F,
) -> std::io::Result<Rate>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let op = Arc::new(op);
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..n)
        .map(|_| {
            let (op, stop) = (Arc::clone(&op), Arc::clone(&stop));
            let (next, done) = (Arc::clone(&next), Arc::clone(&done));
            tokio::spawn(async move {
                let mut completed = 0;
                while !stop.load(Ordering::Relaxed) {
                    op(next.fetch_add(1, Ordering::Relaxed))
                        .await
                        .map_err(std::io::Error::other)?;
                    completed += 1;
                }
                done.fetch_add(completed, Ordering::Relaxed);
                std::io::Result::Ok(())
            })
        })
        .collect();
    let watch = Stopwatch::start();
    tokio::time::sleep_until((watch.0 + time).into()).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    Ok(watch.rate(done.load(Ordering::Relaxed)))
}
