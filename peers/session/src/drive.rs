//! Driving an operation with N of it in flight, each one timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resurge_store::{Clock, SystemClock};

use crate::alloc::allocations;
use crate::state::Result;

/// What one task is given: until when to go on, and where to write down how long each operation took.
pub struct Laps {
    clock: SystemClock,
    stop: Arc<AtomicBool>,
    took: Vec<u32>,
    allocations: u64,
}

impl Laps {
    pub fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub async fn time<T>(&mut self, operation: impl Future<Output = T>) -> T {
        let (begun, before) = (self.clock.monotonic(), allocations());
        let output = operation.await;
        self.allocations += allocations() - before;
        let took = self.clock.monotonic().saturating_since(begun);
        self.took.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        // What never waits would let nobody else run, not even who tells it to stop.
        tokio::task::yield_now().await;
        output
    }
}

/// What came of it.
pub struct Figure {
    pub per_second: f64,
    took: Vec<u32>,
    /// Of each operation, on the thread that asked for it; only where there is one thread.
    pub allocations: f64,
}

impl Figure {
    /// The time, in microseconds, within which this share of the operations ended.
    pub fn within(&self, share: f64) -> f64 {
        let at = (self.took.len() as f64 * share) as usize;
        let at = at.min(self.took.len().saturating_sub(1));
        self.took.get(at).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
    }
}

/// `n` tasks for `time`, on the runtime that is running.
pub async fn tasks<F, Fut>(n: usize, time: Duration, task: F) -> Result<Figure>
where
    F: Fn(Laps) -> Fut,
    Fut: Future<Output = Result<Laps>> + Send + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    let running = begin(n, &stop, task);
    let clock = SystemClock::new();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    finish(running, &clock).await
}

pub type Running = Vec<tokio::task::JoinHandle<Result<Laps>>>;

pub fn begin<F, Fut>(n: usize, stop: &Arc<AtomicBool>, task: F) -> Running
where
    F: Fn(Laps) -> Fut,
    Fut: Future<Output = Result<Laps>> + Send + 'static,
{
    let laps = || Laps {
        clock: SystemClock::new(),
        stop: Arc::clone(stop),
        took: Vec::with_capacity(1 << 16),
        allocations: 0,
    };
    (0..n).map(|_| tokio::spawn(task(laps()))).collect()
}

/// `since`: a clock that began with the tasks.
pub async fn finish(running: Running, since: &SystemClock) -> Result<Figure> {
    let (mut took, mut allocations) = (Vec::new(), 0);
    for task in running {
        let laps = task.await??;
        took.extend(laps.took);
        allocations += laps.allocations;
    }
    let elapsed = since.monotonic().since_origin();
    took.sort_unstable();
    let done = took.len().max(1) as f64;
    let per_second = took.len() as f64 / elapsed.as_secs_f64();
    Ok(Figure { per_second, took, allocations: allocations as f64 / done })
}
