//! States as large as is allowed: what removes many of them stays within what one commit may hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use resurge_session_token::{SessionBuilder, SessionManager};
use resurge_store::{Store, VirtualClock};

fn builder(store: &Store) -> SessionBuilder {
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(store.clone()).key(1, &key);
    builder.max_state_bytes(2 << 20).cleanup_interval(None)
}

async fn filled(with: u64) -> (Store, VirtualClock) {
    let clock = VirtualClock::new();
    let store = Store::memory().with_clock(clock.clone());
    let sessions = builder(&store).build().unwrap();
    let state = "x".repeat(1 << 20);
    for n in 0..with {
        let token = sessions.create(format!("socket-{n}")).await.unwrap();
        sessions.save(&token, &state).await.unwrap();
    }
    (store, clock)
}

#[tokio::test]
async fn seventy_mebibytes_are_cleaned_up() {
    let (store, clock) = filled(70).await;
    clock.advance(Duration::from_secs(3_600));
    let sessions = builder(&store).build().unwrap();
    let report = sessions.cleanup_expired(1_000).await.unwrap();
    assert_eq!((report.removed, report.more), (70, false));
}

#[tokio::test]
async fn a_lower_limit_is_reached_step_by_step() {
    let (store, _) = filled(20).await;
    let sessions = builder(&store).max_entries(1).build().unwrap();
    sessions.create("alice").await.unwrap();
    assert_eq!(sessions.live().await.unwrap(), 20 + 1 - 16, "what fits in a commit");
    sessions.create("alice").await.unwrap();
    assert_eq!(sessions.live().await.unwrap(), 1);
}
