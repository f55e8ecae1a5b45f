//! Steps behind a circuit breaker: parked while it is open, released by probes, across restarts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use resurge_breaker::{Breaker, BreakerConfig, State, Trip};
use resurge_flow::{Ctx, FlowRef, Flows, FlowsOptions, RunState, StepError, Waiting};
use resurge_store::{SeededEntropy, Store, Timestamp, VirtualClock};

/// A remote service that is up or down, and counts who came.
#[derive(Clone, Debug, Default)]
struct Remote {
    up: Arc<AtomicBool>,
    reserved: Arc<AtomicU32>,
    called: Arc<AtomicU32>,
    charged: Arc<AtomicU32>,
}

impl Remote {
    fn charge(&self) -> Result<u32, StepError> {
        self.called.fetch_add(1, Ordering::SeqCst);
        if self.up.load(Ordering::SeqCst) {
            Ok(self.charged.fetch_add(1, Ordering::SeqCst) + 1)
        } else {
            Err(StepError::transient("gateway down"))
        }
    }
}

fn store() -> (Store, VirtualClock) {
    let clock = VirtualClock::starting_at(Timestamp::from_millis(1_700_000_000_000));
    let store = Store::memory().with_clock(clock.clone()).with_entropy(SeededEntropy::new(3));
    (store, clock)
}

async fn breaker(store: &Store) -> Breaker {
    let trip = vec![Trip::ConsecutiveFailures { failures: 1 }];
    let config = BreakerConfig { trip, ..BreakerConfig::default() };
    Breaker::builder("payments").config(config).open(store).await.unwrap()
}

/// Reserve, then charge through the breaker, tried twice.
async fn open(store: &Store, remote: &Remote) -> (Flows, FlowRef<u32, u32>, Breaker) {
    let breaker = breaker(store).await;
    let options = FlowsOptions { evict_after: Duration::ZERO, ..FlowsOptions::default() };
    let flows = Flows::open(store, options).unwrap();
    let (remote, gate) = (remote.clone(), breaker.clone());
    let orders = flows
        .register("order", move |ctx: Ctx, _: u32| {
            let (remote, gate) = (remote.clone(), gate.clone());
            async move {
                ctx.step("reserve", || async {
                    remote.reserved.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, StepError>(())
                })
                .await?;
                ctx.step("charge", || async { remote.charge() })
                    .through(&gate)
                    .retry(resurge_flow::Retry::fixed(Duration::ZERO).max_attempts(2))
                    .await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    (flows, orders, breaker)
}

/// Until the run is parked, and out of memory.
async fn parked(flows: &Flows, run: &str) {
    loop {
        let there = flows.info(run).await.is_ok_and(|info| info.state == RunState::Parked);
        if there && flows.status().unfinished.get(&RunState::Running).is_none_or(|n| *n == 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn runs_are_parked_while_the_breaker_is_open_and_released_by_probes() {
    let (store, clock) = store();
    let remote = Remote::default();
    let (flows, orders, breaker) = open(&store, &remote).await;
    for run in 0..5_u32 {
        let id = format!("order-{run}");
        orders.start(&id, run).await.unwrap();
        parked(&flows, &id).await;
    }
    // One found out that the gateway is down; nobody else came to it.
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(remote.called.load(Ordering::SeqCst), 1);
    for run in 0..5_u32 {
        let info = flows.info(&format!("order-{run}")).await.unwrap();
        assert_eq!(info.state, RunState::Parked, "{run}: {:?}", info.waiting);
        let Some(Waiting::Parked { gate, until, .. }) = info.waiting else { panic!("not parked") };
        assert_eq!((gate.as_str(), until.is_some()), ("payments", true));
    }
    assert_eq!(flows.status().unfinished[&RunState::Parked], 5);

    remote.up.store(true, Ordering::SeqCst);
    let results = async {
        for run in 0..5_u32 {
            orders.run(format!("order-{run}")).result().await.unwrap();
        }
    };
    in_time(&clock, results).await;
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(remote.charged.load(Ordering::SeqCst), 5);
    assert_eq!(remote.called.load(Ordering::SeqCst), 6);
    assert_eq!(remote.reserved.load(Ordering::SeqCst), 5);
    flows.shutdown().await;
}

#[tokio::test]
async fn after_a_restart_the_breaker_is_open_for_the_time_left_and_nothing_is_done_again() {
    let (store, clock) = store();
    let remote = Remote::default();
    let (flows, orders, before) = open(&store, &remote).await;
    orders.start("order-1", 1).await.unwrap();
    parked(&flows, "order-1").await;
    assert_eq!(before.state(), State::Open);
    clock.advance(Duration::from_secs(10));
    let left = before.retry_after().unwrap();
    // The process is gone: nothing is shut down.
    drop((flows, orders, before));

    let (flows, orders, breaker) = open(&store, &remote).await;
    parked(&flows, "order-1").await;
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.retry_after().unwrap() <= left);
    assert_eq!(orders.run("order-1").state().await.unwrap(), RunState::Parked);
    assert_eq!(remote.called.load(Ordering::SeqCst), 1, "an open breaker lets nobody through");

    remote.up.store(true, Ordering::SeqCst);
    assert_eq!(in_time(&clock, orders.run("order-1").result()).await.unwrap(), 1);
    assert_eq!(remote.reserved.load(Ordering::SeqCst), 1, "reserved before the crash");
    flows.shutdown().await;
}

#[tokio::test]
async fn the_transition_is_committed_with_the_step_that_caused_it() {
    let (store, _clock) = store();
    let remote = Remote::default();
    let (flows, orders, before) = open(&store, &remote).await;
    orders.start("order-1", 1).await.unwrap();
    parked(&flows, "order-1").await;
    let failed = flows.history("order-1").await.unwrap();
    let failed = failed.iter().any(|r| matches!(r, resurge_flow::record::Record::AttemptFailed(_)));
    assert!(failed);
    drop((flows, orders, before));
    // No flush: it was in the same commit.
    assert_eq!(breaker(&store).await.state(), State::Open);
}

async fn in_time<F: Future>(clock: &VirtualClock, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    loop {
        for _ in 0..500 {
            let polled =
                std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx)));
            if let std::task::Poll::Ready(output) = polled.await {
                return output;
            }
            tokio::task::yield_now().await;
        }
        clock.advance_to_next();
    }
}
