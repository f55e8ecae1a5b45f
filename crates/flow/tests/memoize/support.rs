//! A store in virtual time, and a flow of one memoised step that counts its executions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use resurge_flow::{Ctx, FlowRef, Flows, FlowsOptions, Scope, StepError, StepPolicy};
use resurge_store::{Store, VirtualClock};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn store() -> (Store, VirtualClock) {
    let clock = VirtualClock::new();
    (Store::memory().with_clock(clock.clone()), clock)
}

pub(crate) fn flows(store: &Store) -> Flows {
    Flows::open(store, FlowsOptions::default()).unwrap()
}

/// How often something ran, kept where no crash reaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicU32>);

impl Count {
    pub(crate) fn up(&self) -> u32 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

/// How the step is memoised.
#[derive(Clone, Debug)]
pub(crate) struct How {
    pub(crate) scope: Scope,
    pub(crate) version: u32,
    pub(crate) policy: StepPolicy,
}

impl Default for How {
    fn default() -> Self {
        Self { scope: Scope::Global, version: 1, policy: StepPolicy::new() }
    }
}

/// Returns how often the step had run when this result was made, and waits for a signal if told.
pub(crate) fn register(flows: &Flows, count: &Count, how: How) -> FlowRef<(u32, bool), u32> {
    let count = count.clone();
    let flow = move |ctx: Ctx, (input, waits): (u32, bool)| {
        let (count, how) = (count.clone(), how.clone());
        async move {
            let made = ctx
                .step("make", || async {
                    let made = count.up();
                    tokio::task::yield_now().await;
                    Ok::<_, StepError>(made)
                })
                .memoize(how.scope, HOUR)
                .keyed_by(&input)
                .version(how.version)
                .memo_policy(how.policy)
                .await?;
            if waits {
                ctx.signal::<()>("go").await?;
            }
            Ok(made)
        }
    };
    flows.register("memo", flow).unwrap()
}

/// Lets tasks run until something is so.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(mut so: F) {
    for _ in 0..100_000 {
        if so().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be");
}
