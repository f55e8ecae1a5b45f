//! Injected time and randomness.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use futures_poll::poll_once;
use resurge_store::{
    Clock, Entropy, OsEntropy, SeededEntropy, SystemClock, Timestamp, VirtualClock,
};

mod futures_poll {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Whether the future is done after one more poll.
    pub(crate) fn poll_once(future: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> bool {
        matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }
}

#[test]
fn virtual_time_moves_only_when_told() {
    let clock = VirtualClock::new();
    let (wall, monotonic) = (clock.now(), clock.monotonic());
    assert_eq!((clock.now(), clock.monotonic()), (wall, monotonic));
    clock.advance(Duration::from_micros(600));
    assert_eq!(clock.now(), wall, "wall time shows whole milliseconds");
    clock.advance(Duration::from_micros(600));
    assert_eq!(clock.now().saturating_since(wall), Duration::from_millis(1));
    assert_eq!(clock.monotonic().saturating_since(monotonic), Duration::from_micros(1_200));
}

#[test]
fn sleepers_wake_exactly_at_their_deadline() {
    let clock = VirtualClock::new();
    let mut short = clock.sleep(Duration::from_secs(1));
    let mut long = clock.sleep(Duration::from_secs(2));
    assert!(!poll_once(&mut short) && !poll_once(&mut long));
    assert_eq!(clock.sleepers(), 2);
    clock.advance(Duration::from_secs(1) - Duration::from_nanos(1));
    assert!(!poll_once(&mut short));
    clock.advance(Duration::from_nanos(1));
    assert!(poll_once(&mut short) && !poll_once(&mut long));
    assert!(clock.advance_to_next());
    assert!(poll_once(&mut long));
    assert!(!clock.advance_to_next(), "nobody sleeps any more");
}

#[test]
fn a_dropped_sleeper_is_forgotten() {
    let clock = VirtualClock::new();
    let mut sleep = clock.sleep(Duration::from_secs(1));
    assert!(!poll_once(&mut sleep));
    drop(sleep);
    assert_eq!(clock.sleepers(), 0);
}

#[test]
fn wall_time_may_jump_without_waking_anybody() {
    let clock = VirtualClock::starting_at(Timestamp::from_millis(5_000));
    let mut sleep = clock.sleep(Duration::from_secs(1));
    clock.set_wall(Timestamp::from_millis(1_000_000));
    assert!(!poll_once(&mut sleep));
    assert_eq!(clock.now(), Timestamp::from_millis(1_000_000));
    assert_eq!(clock.monotonic().since_origin(), Duration::ZERO);
}

#[test]
fn a_month_passes_at_once_for_a_task() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let clock = VirtualClock::new();
        let month = Duration::from_secs(30 * 24 * 3600);
        let task = tokio::spawn(clock.sleep(month));
        tokio::task::yield_now().await;
        clock.advance(month);
        task.await.unwrap();
    });
}

#[test]
fn arithmetic_saturates() {
    let late = Timestamp::from_millis(u64::MAX);
    assert_eq!(late.saturating_add(Duration::MAX), late);
    assert_eq!(Timestamp::from_millis(1).saturating_since(late), Duration::ZERO);
}

#[test]
fn the_system_clock_runs() {
    let clock = SystemClock::new();
    let before = clock.monotonic();
    assert!(clock.monotonic() >= before);
    assert!(clock.now() > Timestamp::from_millis(1_700_000_000_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let deadline = clock.monotonic().saturating_add(Duration::from_millis(1));
        clock.sleep_until(deadline).await;
        assert!(clock.monotonic() >= deadline);
    });
}

#[test]
fn seeded_entropy_repeats_and_os_entropy_does_not() {
    let bytes = |entropy: &dyn Entropy| {
        let mut out = [0; 33];
        entropy.fill(&mut out).unwrap();
        out
    };
    assert_eq!(bytes(&SeededEntropy::new(1)), bytes(&SeededEntropy::new(1)));
    assert_ne!(bytes(&SeededEntropy::new(1)), bytes(&SeededEntropy::new(2)));
    let seeded = SeededEntropy::new(1);
    assert_ne!(bytes(&seeded), bytes(&seeded), "it goes on, it does not start over");
    assert_ne!(bytes(&OsEntropy), bytes(&OsEntropy));
}
