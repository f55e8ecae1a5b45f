//! In tower stacks and behind retries: C67 to C70, and the service contract.

use std::convert::Infallible;
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use resurge_breaker::{
    Breaker, BreakerConfig, BreakerError, BreakerLayer, DropPolicy, FailureKind, Outcome, Refused,
    State,
};
use resurge_store::{BoxFuture, Clock, Monotonic, Timestamp, VirtualClock};
use tokio::task::yield_now;
use tower::{Layer, Service, ServiceExt};

use crate::board::{Board, config, in_a_row, last, ms, secs};

/// Counts what is done with it; not `Clone`, on purpose.
#[derive(Debug, Default)]
struct Probe {
    polled: Arc<AtomicU32>,
    called: Arc<AtomicU32>,
    never_ready: bool,
}

impl Probe {
    fn counts(&self) -> (Arc<AtomicU32>, Arc<AtomicU32>) {
        (Arc::clone(&self.polled), Arc::clone(&self.called))
    }
}

impl Service<u32> for Probe {
    type Response = u32;
    type Error = String;
    type Future = Ready<Result<u32, String>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.polled.fetch_add(1, Ordering::SeqCst);
        if self.never_ready { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, request: u32) -> Self::Future {
        self.called.fetch_add(1, Ordering::SeqCst);
        ready(if request == 0 { Err("zero".to_owned()) } else { Ok(request) })
    }
}

async fn is_ready<S: Service<R>, R>(service: &mut S) -> bool {
    poll_fn(|cx| Poll::Ready(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))))).await
}

#[tokio::test]
async fn c67_a_retry_outside_stops_calling_when_it_opens() {
    let board = Board::new(config(in_a_row(3)));
    let mut executions = 0;
    let mut last = None;
    for _ in 0..7 {
        let result = board.breaker.call(|| {
            executions += 1;
            Err::<(), _>("down")
        });
        last = result.err();
    }
    assert_eq!(executions, 3);
    assert!(last.unwrap().is_rejected());
}

#[tokio::test]
async fn c68_an_open_circuit_never_touches_the_inner_service() {
    let board = Board::new(config(in_a_row(1)));
    let inner = Probe::default();
    let (polled, called) = inner.counts();
    let mut service = BreakerLayer::new(board.breaker.clone()).layer(inner);
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(7));
    assert_eq!(
        service.ready().await.unwrap().call(0).await.unwrap_err().into_inner(),
        Some("zero".to_owned())
    );
    assert_eq!((polled.load(Ordering::SeqCst), called.load(Ordering::SeqCst)), (2, 2));
    for _ in 0..3 {
        let rejected = service.ready().await.unwrap().call(7).await.unwrap_err();
        assert_eq!(rejected.retry_after(), Some(secs(5)));
    }
    assert_eq!((polled.load(Ordering::SeqCst), called.load(Ordering::SeqCst)), (2, 2));
    assert_eq!(board.rejected(), 3);
}

#[tokio::test]
async fn c68_an_inner_service_that_is_never_ready_hides_nothing() {
    let board = Board::new(config(in_a_row(1)));
    let mut service = BreakerLayer::new(board.breaker.clone())
        .layer(Probe { never_ready: true, ..Probe::default() });
    // Opened while it waits: it is woken.
    let waiting = tokio::spawn(async move {
        let answer = service.ready().await.unwrap().call(7).await;
        answer.unwrap_err().is_rejected()
    });
    yield_now().await;
    assert!(!waiting.is_finished());
    board.breaker.trip("now");
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn c68_readiness_is_sticky_and_not_cloned() {
    let mut board = Board::new(config(in_a_row(1)));
    let inner = tower::service_fn(|n: u32| ready(Ok::<_, String>(n)));
    let mut service = BreakerLayer::new(board.breaker.clone()).layer(inner);
    board.run("F OP");
    assert!(is_ready(&mut service).await);
    board.run("+5s");
    let mut clone = service.clone();
    // The one that was told to refuse did not ask the inner service, so it refuses; its clone asks.
    assert!(is_ready(&mut service).await);
    assert!(service.call(7).await.unwrap_err().is_rejected());
    assert_eq!(clone.ready().await.unwrap().call(8).await, Ok(8));
    assert_eq!(service.ready().await.unwrap().call(9).await, Ok(9));
}

#[tokio::test]
async fn c69_layers_of_one_breaker_share_its_circuit() {
    let board = Board::new(config(last(10, 100, 10)));
    // Layered again for every request, as some frameworks do.
    for _ in 0..10 {
        let service = BreakerLayer::new(board.breaker.clone()).layer(Probe::default());
        let _ = service.oneshot(0).await;
    }
    assert_eq!(board.breaker.state(), State::Open);
    let layer = BreakerLayer::new(board.breaker.clone());
    let (a, b) = (layer.layer(Probe::default()), layer.layer(Probe::default()));
    assert!(a.oneshot(1).await.is_err() && b.oneshot(1).await.is_err());
}

#[tokio::test]
async fn c70_calls_an_outer_timeout_drops_open_the_circuit() {
    let mut config = config(in_a_row(50));
    config.on_drop = DropPolicy::FailureAfter(secs(1));
    let board = Board::new(config);
    let hanging = tower::service_fn(|_: u32| pending::<Result<u32, String>>());
    let mut service = BreakerLayer::new(board.breaker.clone()).layer(hanging);
    for _ in 0..50 {
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
        board.clock.advance(secs(1));
        drop(call);
    }
    assert_eq!(board.breaker.state(), State::Open);
    assert_eq!(board.breaker.metrics().total_failures, 50);
}

#[tokio::test]
async fn a_future_that_was_never_polled_counts_never() {
    let mut config = config(in_a_row(1));
    config.on_drop = DropPolicy::FailureAfter(ms(1));
    let mut board = Board::new(config);
    let mut service = BreakerLayer::new(board.breaker.clone()).layer(Probe::default());
    board.run("F +5s");
    let call = service.ready().await.unwrap().call(1);
    // It is admitted when called: the only probe.
    board.run("+1s np!");
    drop(call);
    board.run("HO S CL");
}

fn boom() -> Result<u32, String> {
    panic!("in its future")
}

#[tokio::test]
async fn a_panic_in_the_service_is_a_failure() {
    let board = Board::new(config(in_a_row(2)));
    let in_call = tower::service_fn(|_: u32| -> Ready<Result<u32, String>> { panic!("in call") });
    let service = BreakerLayer::new(board.breaker.clone()).layer(in_call);
    assert!(tokio::spawn(service.oneshot(1)).await.unwrap_err().is_panic());
    let in_future = tower::service_fn(|_: u32| async {
        yield_now().await;
        boom()
    });
    let service = BreakerLayer::new(board.breaker.clone()).layer(in_future);
    assert!(tokio::spawn(service.oneshot(1)).await.unwrap_err().is_panic());
    assert_eq!(board.breaker.metrics().panicked, 2);
    assert_eq!(board.breaker.state(), State::Open);
}

#[tokio::test]
async fn a_service_that_cannot_fail_answers_refusals() {
    let mut config = config(in_a_row(2));
    config.call_timeout = Some(secs(2));
    let board = Board::new(config);
    let layer = BreakerLayer::new(board.breaker.clone())
        .classify(|result: &Result<u16, Infallible>| match result {
            Ok(500..) => Outcome::Failure(FailureKind::Error),
            Ok(400..) => Outcome::Ignore,
            _ => Outcome::Success,
        })
        .on_refused(|why: Refused| match why {
            Refused::TimedOut(_) => 504,
            Refused::Rejected(rejected) if rejected.retry_after.is_some() => 503,
            _ => 500,
        });
    let echo = tower::service_fn(|status: u16| async move {
        if status == 0 {
            pending::<()>().await;
        }
        Ok::<_, Infallible>(status)
    });
    let mut service = layer.layer(echo);
    assert_eq!(service.ready().await.unwrap().call(404).await, Ok(404));
    assert_eq!(service.ready().await.unwrap().call(500).await, Ok(500));
    let hung = tokio::spawn(service.ready().await.unwrap().call(0));
    yield_now().await;
    board.clock.advance(secs(2));
    assert_eq!(hung.await.unwrap(), Ok(504));
    assert_eq!(board.breaker.state(), State::Open);
    assert_eq!(service.ready().await.unwrap().call(200).await, Ok(503));
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.ignored, metrics.total_failures), (1, 2));
}

/// Routers, axum's among them, ask for all of this.
#[test]
fn a_service_behind_a_breaker_is_as_shareable_as_without() {
    fn shareable<S: Clone + Send + Sync + 'static>(_: &S) {}
    let echo = tower::service_fn(|status: u16| ready(Ok::<_, Infallible>(status)));
    let layer = BreakerLayer::new(Breaker::new("shared")).on_refused(|_: Refused| 503);
    shareable(&layer.layer(echo));
}

#[tokio::test]
async fn an_error_of_the_inner_poll_ready_is_passed_on() {
    #[derive(Debug)]
    struct Broken;
    impl Service<u32> for Broken {
        type Response = u32;
        type Error = String;
        type Future = Pin<Box<dyn Future<Output = Result<u32, String>> + Send>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
            Poll::Ready(Err("gone".to_owned()))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            Box::pin(pending())
        }
    }
    let mut service = BreakerLayer::new(Breaker::new("broken")).layer(Broken);
    let error = service.ready().await.unwrap_err();
    assert_eq!(error, BreakerError::Inner("gone".to_owned()));
}

fn waiting(wait_at_most: u64) -> BreakerConfig {
    let mut config = config(in_a_row(1));
    config.fast_fail = false;
    config.wait_at_most = secs(wait_at_most);
    config
}

#[tokio::test]
async fn with_fast_fail_off_a_service_waits_for_its_turn() {
    let mut board = Board::new(waiting(60));
    board.run("F OP");
    let layer = BreakerLayer::new(board.breaker.clone());
    let calls: Vec<_> =
        (0..3).map(|_| tokio::spawn(layer.layer(Probe::default()).oneshot(1))).collect();
    yield_now().await;
    assert!(calls.iter().all(|call| !call.is_finished()));
    board.clock.advance(secs(5));
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(1));
    }
    assert_eq!((board.rejected(), board.breaker.state()), (0, State::Closed));
}

#[tokio::test]
async fn with_fast_fail_off_a_service_waits_no_longer_than_said() {
    let mut board = Board::new(waiting(3));
    board.run("F OP");
    let service = BreakerLayer::new(board.breaker.clone()).layer(Probe::default());
    let call = tokio::spawn(service.oneshot(1));
    yield_now().await;
    board.clock.advance(secs(3));
    assert!(call.await.unwrap().unwrap_err().is_rejected());
    assert_eq!(board.rejected(), 1);
}

#[tokio::test]
async fn with_fast_fail_off_a_call_waits() {
    let mut board = Board::new(waiting(60));
    board.run("F OP");
    let breaker = board.breaker.clone();
    let call = tokio::spawn(async move { breaker.run(async { Ok::<_, ()>(7) }).await });
    yield_now().await;
    assert!(!call.is_finished());
    board.clock.advance(secs(5));
    assert_eq!(call.await.unwrap(), Ok(7));
    assert_eq!(board.rejected(), 0);
    let mut board = Board::new(waiting(3));
    board.run("F OP");
    let breaker = board.breaker.clone();
    let call = tokio::spawn(async move { breaker.run(async { Ok::<_, ()>(7) }).await });
    yield_now().await;
    board.clock.advance(secs(3));
    assert!(call.await.unwrap().unwrap_err().is_rejected());
}

#[tokio::test]
async fn ready_waits_for_the_end_of_the_open_time_and_for_places() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F OP");
    let wait = |board: &Board| {
        let breaker = board.breaker.clone();
        tokio::spawn(async move { breaker.ready().await.success() })
    };
    let (first, second) = (wait(&board), wait(&board));
    yield_now().await;
    board.clock.advance(secs(5));
    first.await.unwrap();
    second.await.unwrap();
    board.run("CL F OP +5s acq np!");
    let third = wait(&board);
    yield_now().await;
    assert!(!third.is_finished());
    board.run("rel");
    third.await.unwrap();
    // Forced open: until somebody changes it.
    board.breaker.set_mode(resurge_breaker::Mode::ForcedOpen);
    let fourth = wait(&board);
    board.clock.advance(secs(1_000_000));
    yield_now().await;
    assert!(!fourth.is_finished());
    board.breaker.set_mode(resurge_breaker::Mode::Active);
    fourth.await.unwrap();
}

#[tokio::test]
async fn behind_a_buffer_a_rejection_does_not_end_the_service() {
    let clock = VirtualClock::new();
    let breaker = Breaker::builder("buffered")
        .config(config(in_a_row(1)))
        .clock(clock.clone())
        .build()
        .unwrap();
    let service = BreakerLayer::new(breaker).layer(Probe::default());
    let mut service = tower::buffer::Buffer::new(service, 8);
    assert!(service.ready().await.unwrap().call(0).await.is_err());
    for _ in 0..3 {
        assert!(service.ready().await.unwrap().call(1).await.is_err());
    }
    clock.advance(secs(5));
    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
}

#[tokio::test]
async fn who_waits_gives_up_probes_that_hang() {
    let mut config = config(in_a_row(1));
    config.half_open.max_wait = Some(secs(1));
    let mut board = Board::new(config);
    board.run("F OP +5s acq np!");
    let breaker = board.breaker.clone();
    let waiting = tokio::spawn(async move { breaker.ready().await.success() });
    yield_now().await;
    board.clock.advance(secs(1));
    yield_now().await;
    board.run("OP +5s");
    waiting.await.unwrap();
    board.run("CL");
}

#[tokio::test]
async fn the_time_from_ready_to_call_is_not_the_calls() {
    let mut slow = waiting(60);
    slow.slow_after = Some(secs(1));
    let board = Board::new(slow);
    let mut service = BreakerLayer::new(board.breaker.clone()).layer(Probe::default());
    assert!(is_ready(&mut service).await);
    board.clock.advance(secs(10));
    assert_eq!(service.call(1).await, Ok(1));
    assert_eq!(board.breaker.metrics().slow, 0);
}

/// A clock at whose first look somebody else takes the only probe's place.
#[derive(Clone, Debug)]
struct Thief {
    clock: VirtualClock,
    of: Arc<parking_lot::Mutex<Option<Breaker>>>,
    loot: Arc<parking_lot::Mutex<Option<resurge_breaker::Permit>>>,
}

impl Clock for Thief {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    fn monotonic(&self) -> Monotonic {
        let breaker = self.of.lock().take();
        if let Some(breaker) = breaker {
            *self.loot.lock() = breaker.acquire().ok();
        }
        self.clock.monotonic()
    }
    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        self.clock.sleep_until(deadline)
    }
}

#[tokio::test]
async fn with_fast_fail_off_a_call_waits_also_when_somebody_was_faster() {
    let (of, loot) = <(Arc<_>, Arc<_>)>::default();
    let clock = Thief { clock: VirtualClock::new(), of, loot };
    let builder = Breaker::builder("race").config(waiting(60)).clock(clock.clone());
    let breaker = builder.build().unwrap();
    breaker.trip("");
    clock.clock.advance(secs(5));
    *clock.of.lock() = Some(breaker.clone());
    let caller = breaker.clone();
    let call = tokio::spawn(async move { caller.run(async { Ok::<_, ()>(7) }).await });
    yield_now().await;
    assert!(!call.is_finished(), "it waits for the other one's probe");
    let stolen = clock.loot.lock().take().unwrap();
    assert!(stolen.is_probe());
    stolen.success();
    assert_eq!(call.await.unwrap(), Ok(7));
    assert_eq!(breaker.metrics().rejected, 0);
}
