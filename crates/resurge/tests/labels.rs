//! Which circuit is open can be seen in the metrics: each of the app's breakers has a label of its own.
#![cfg(feature = "breaker")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use metrics_util::debugging::DebuggingRecorder;
use resurge::{RegistryOptions, Resurge};

/// The labels of two breakers of an app.
async fn labels(app: Resurge) -> BTreeSet<String> {
    let recorder = DebuggingRecorder::new();
    let shown = recorder.snapshotter();
    let local = metrics::set_default_local_recorder(&recorder);
    app.breaker("payments").await.unwrap();
    app.breaker("search").await.unwrap();
    drop(local);
    app.shutdown().await.unwrap();
    let keys = shown.snapshot().into_vec().into_iter().map(|(key, ..)| key.key().clone());
    let states = keys.filter(|key| key.name() == "resurge_breaker_state");
    let labels = states.flat_map(|key| key.labels().cloned().collect::<Vec<_>>());
    labels.filter(|label| label.key() == "breaker").map(|label| label.value().to_owned()).collect()
}

#[tokio::test]
async fn each_breaker_of_an_app_has_its_own_label_unless_told_otherwise() {
    let each = ["app/payments", "app/search"].map(str::to_owned);
    assert_eq!(labels(Resurge::in_memory()).await, BTreeSet::from(each));
    let shared = Resurge::builder().breakers(RegistryOptions::default()).in_memory();
    assert_eq!(labels(shared).await, BTreeSet::from(["app".to_owned()]));
}
