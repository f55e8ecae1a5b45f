//! How calls end that do not just return: C62 to C65.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use resurge_breaker::{
    Breaker, BreakerError, DropPolicy, FailureKind, Outcome, Permit, State, TimedOut,
};
use tokio::task::yield_now;

use crate::board::{Board, config, in_a_row, last, ms, secs};

#[test]
fn c62_a_panic_is_a_failure_and_goes_on() {
    let board = Board::new(config(in_a_row(1)));
    let call = || board.breaker.call(|| -> Result<(), ()> { panic!("on purpose") });
    let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "on purpose");
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.total_requests, metrics.total_failures, metrics.panicked), (1, 1, 1));
    assert_eq!(metrics.cancelled, 0);
    assert_eq!(board.breaker.state(), State::Open);
}

#[tokio::test]
async fn c62_a_panic_in_a_future_is_a_failure() {
    let board = Board::new(config(in_a_row(2)));
    let breaker = board.breaker.clone();
    let call = async move {
        let call = async {
            yield_now().await;
            panic!("on purpose")
        };
        breaker.run::<(), ()>(call).await
    };
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    let breaker = board.breaker.clone();
    // In the classification, too.
    let classify = |_: &Result<(), ()>| -> Outcome { panic!("on purpose") };
    let call = async move { breaker.run_with(&classify, async { Ok(()) }).await };
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.total_failures, metrics.panicked), (2, 2));
    assert_eq!(board.breaker.state(), State::Open);
}

#[tokio::test]
async fn c63_a_cancelled_call_says_nothing_and_gives_its_place_back() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F +5s");
    let breaker = board.breaker.clone();
    let mut call = Box::pin(breaker.run(std::future::pending::<Result<(), ()>>()));
    poll_once(&mut call).await;
    board.run("np!");
    drop(call);
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.cancelled, metrics.total_requests), (1, 1));
    board.run("HO S CL");
    // Never polled: it held nothing.
    board.run("F OP +5s");
    let call = breaker.run(std::future::pending::<Result<(), ()>>());
    board.run("acq np!");
    drop(call);
    assert_eq!(board.breaker.metrics().cancelled, 1);
}

#[test]
fn c63_a_stream_that_gave_something_succeeded() {
    // The user holds the permit and says so at the first item; what comes after is not asked.
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F +5s acq okS CL");
}

async fn poll_once<F: Future + Unpin>(future: &mut F) {
    std::future::poll_fn(|cx| {
        let _ = std::pin::Pin::new(&mut *future).poll(cx);
        Poll::Ready(())
    })
    .await;
}

#[test]
fn c65_threads_lose_and_invent_nothing() {
    let mut config = config(last(100, 100, 100));
    config.trip.push(in_a_row(1_000_000));
    let breaker = Breaker::builder("threads").config(config).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..10_u32 {
            let breaker = &breaker;
            scope.spawn(move || {
                for i in 0..10_000_u32 {
                    let permit = breaker.acquire().unwrap();
                    match (i + thread) % 4 {
                        0 => permit.ignore(),
                        1 => permit.failure(FailureKind::Error),
                        _ => permit.success(),
                    }
                    let window = breaker.metrics().window;
                    assert!(window.calls <= 100 && window.failures <= window.calls);
                }
            });
        }
    });
    let metrics = breaker.metrics();
    assert_eq!((metrics.total_requests, metrics.total_failures), (75_000, 25_000));
    assert_eq!((metrics.ignored, metrics.window.calls), (25_000, 100));
}

fn drops(on_drop: DropPolicy, slow_after: Option<u64>, call_timeout: Option<u64>) -> Board {
    let mut config = config(in_a_row(1));
    config.on_drop = on_drop;
    config.slow_after = slow_after.map(secs);
    config.call_timeout = call_timeout.map(secs);
    Board::new(config)
}

#[test]
fn a_dropped_call_is_a_failure_after_the_limit() {
    for (policy, slow, timeout, limit) in [
        (DropPolicy::Auto, Some(2), None, Some(2)),
        (DropPolicy::Auto, Some(2), Some(1), Some(2)),
        (DropPolicy::Auto, None, Some(3), Some(3)),
        (DropPolicy::Auto, None, None, None),
        (DropPolicy::Ignore, Some(2), Some(2), None),
        (DropPolicy::FailureAfter(secs(4)), Some(2), Some(2), Some(4)),
    ] {
        let at = limit.unwrap_or(1_000);
        let mut board = drops(policy, slow, timeout);
        board.run("acq");
        board.clock.advance(ms(at * 1_000 - 1));
        board.run("rel CL acq");
        assert_eq!(board.breaker.metrics().total_failures, 0);
        board.clock.advance(secs(at));
        board.run("rel");
        let expected = if limit.is_some() { State::Open } else { State::Closed };
        assert_eq!(board.breaker.state(), expected, "{policy:?} {slow:?} {timeout:?}");
        assert_eq!(board.breaker.metrics().cancelled, 2);
    }
}

#[test]
fn a_dropped_probe_fails_after_the_limit() {
    let mut board = drops(DropPolicy::FailureAfter(secs(1)), None, None);
    board.run("F +5s acq +999ms rel HO acq +1s rel OP");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let mut board = drops(DropPolicy::Auto, None, Some(2));
    let breaker = board.breaker.clone();
    let call =
        tokio::spawn(
            async move { breaker.run(std::future::pending::<Result<(), String>>()).await },
        );
    yield_now().await;
    board.clock.advance(ms(1_999));
    yield_now().await;
    assert!(!call.is_finished());
    board.clock.advance(ms(1));
    let Err(BreakerError::TimedOut(TimedOut { after, .. })) = call.await.unwrap() else {
        panic!("not timed out")
    };
    assert_eq!(after, secs(2));
    board.run("OP");
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.total_failures, metrics.cancelled), (1, 0));
}

#[test]
fn handles_and_futures_can_move_between_threads() {
    fn both<T: Send + Sync>() {}
    fn send<T: Send>(_: &T) {}
    both::<Breaker>();
    both::<Permit>();
    both::<resurge_breaker::Repair>();
    both::<resurge_breaker::BreakerRegistry<String>>();
    let breaker = Breaker::new("send");
    send(&breaker.run(async { Ok::<_, ()>(()) }));
    send(&breaker.ready());
    send(&breaker.flush());
}
