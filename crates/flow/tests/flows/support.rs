//! A store in virtual time, counters outside of it, and flows that are opened again.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_flow::{Flows, FlowsOptions};
use resurge_store::{SeededEntropy, Store, Timestamp, VirtualClock};

/// How often each effect ran, kept where no crash reaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects(Arc<Mutex<BTreeMap<String, u32>>>);

impl Effects {
    pub(crate) fn ran(&self, name: &str) -> u32 {
        let mut counts = self.0.lock();
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(crate) fn of(&self, name: &str) -> u32 {
        self.0.lock().get(name).copied().unwrap_or_default()
    }
}

/// A store whose time moves only when told.
pub(crate) fn store() -> (Store, VirtualClock) {
    let clock = VirtualClock::starting_at(Timestamp::from_millis(1_700_000_000_000));
    let store = Store::memory().with_clock(clock.clone()).with_entropy(SeededEntropy::new(7));
    (store, clock)
}

pub(crate) fn flows(store: &Store) -> Flows {
    Flows::open(store, FlowsOptions::default()).unwrap()
}

/// Awaits, and lets time jump to the next sleeper whenever nothing else happens.
pub(crate) async fn in_time<F: Future>(clock: &VirtualClock, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    loop {
        for _ in 0..200 {
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
