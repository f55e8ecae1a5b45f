//! What is counted, under our names and under an alias.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use resurge_session_token::{ReusePolicy, SessionManager};
use resurge_store::{Store, VirtualClock};

#[test]
fn three_created_one_recovered_one_expired_one_forged() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(life());
    });
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let name = key.key().name().to_owned();
        match value {
            DebugValue::Counter(n) => *counts.entry(name).or_default() += n,
            DebugValue::Histogram(values) => {
                sizes.insert(name, values.len());
            }
            DebugValue::Gauge(_) => {}
        }
    }
    for prefix in ["resurge_session", "golivekit_recovery"] {
        for (name, wanted) in [
            ("tokens_created_total", 3),
            ("tokens_recovered_total", 1),
            ("tokens_expired_total", 1),
            ("tokens_failed_total", 1),
        ] {
            assert_eq!(counts.get(&format!("{prefix}_{name}")), Some(&wanted), "{prefix}_{name}");
        }
        assert_eq!(sizes.get(&format!("{prefix}_state_size_bytes")), Some(&2), "{prefix}");
    }
}

async fn life() {
    let key: Vec<u8> = (0..32).collect();
    let clock = VirtualClock::new();
    let sessions = SessionManager::builder(Store::memory().with_clock(clock.clone()))
        .key(1, &key)
        .reuse(ReusePolicy::UntilExpiry)
        .metrics_alias("golivekit")
        .max_state_bytes(8)
        .cleanup_interval(None)
        .build()
        .unwrap();
    let one = sessions.create("alice").await.unwrap();
    let two = sessions.create("bob").await.unwrap();
    sessions.create("carol").await.unwrap();
    sessions.save(&one, &1_u8).await.unwrap();
    sessions.save(&two, &2_u8).await.unwrap();
    sessions.save(&two, &"far too large").await.unwrap_err(); // not in the histogram
    sessions.recover::<u8>(&one).await.unwrap();
    let forged = one.expose().replace("st1.A", "st1.B");
    sessions.recover::<u8>(&forged.into()).await.unwrap_err();
    clock.advance(Duration::from_secs(300));
    sessions.recover::<u8>(&two).await.unwrap_err();
}
