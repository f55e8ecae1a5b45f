//! What a user of checkpoints could see, on the store in memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod claims;
mod damage;
mod keys;
mod model;
mod observed;
mod options;
mod removal;
mod shared;
mod store_failure;

use std::sync::Arc;

use resurge_checkpoint::{Begin, CheckpointKey, CheckpointOptions, Checkpoints, Claim, StepPolicy};
use resurge_store::{Store, VirtualClock};

/// A store in memory with virtual time.
fn memory() -> (Store, VirtualClock) {
    let clock = VirtualClock::new();
    (Store::memory().with_clock(clock.clone()), clock)
}

/// The same store as another process would see it: what was claimed before is a claim of the dead.
fn restarted(store: &Store, clock: &VirtualClock) -> Store {
    let backend = resurge_testkit::FaultStore::from_arc(Arc::clone(store.backend()));
    Store::new(backend).with_clock(clock.clone())
}

async fn open(store: &Store) -> Checkpoints {
    Checkpoints::open(store, CheckpointOptions::new()).await.unwrap()
}

fn key(step: &str) -> CheckpointKey {
    CheckpointKey::global(step).build().unwrap()
}

async fn claim(checkpoints: &Checkpoints, key: &CheckpointKey, policy: StepPolicy) -> Claim {
    match checkpoints.begin(key, policy).await.unwrap() {
        Begin::Claimed(claim) => claim,
        Begin::Hit(result) => panic!("{key} has a result: {result:?}"),
    }
}

const CHARGE: StepPolicy = StepPolicy::new().side_effects();
