//! Listing, purging, forgetting, sweeping, recording.

use std::time::Duration;

use resurge_checkpoint::{
    CheckpointError, CheckpointKey, CheckpointState, Checkpoints, Filter, Removed, Scope,
    StepPolicy, SweptCheckpoints,
};

use super::support::{FOREVER, ms, settle};
use super::{CHARGE, claim, key, memory, open, restarted};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn keyed(scope: &Scope, step: &str, version: u32, input: u32) -> CheckpointKey {
    CheckpointKey::builder(scope.clone(), step).version(version).input(&input).build().unwrap()
}

/// Two scopes with ids of which one begins like the other, two steps likewise, two versions, two inputs.
fn all() -> Vec<CheckpointKey> {
    let scopes = [Scope::Global, Scope::Workflow("w".into()), Scope::Workflow("w2".into())];
    let mut keys = Vec::new();
    for scope in &scopes {
        for step in ["a", "ab"] {
            for version in [1, 2] {
                keys.extend([1, 2].map(|input| keyed(scope, step, version, input)));
            }
        }
    }
    keys
}

async fn listed(checkpoints: &Checkpoints, filter: Filter) -> Vec<CheckpointKey> {
    let mut found = Vec::new();
    let mut page = Some(filter);
    while let Some(filter) = page {
        let listing = checkpoints.list(&filter).await.unwrap();
        assert!(listing.damaged.is_empty());
        found.extend(listing.checkpoints.into_iter().map(|info| info.key));
        page = listing.next.map(|key| filter.clone().after(key));
    }
    found
}

type Meant = fn(&CheckpointKey) -> bool;

#[tokio::test]
async fn a_filter_lists_and_purges_what_it_says_and_nothing_else() {
    let workflow = Scope::Workflow("w".into());
    let filters: [(Filter, Meant, u64); 6] = [
        (Filter::all(), |_| true, 24),
        (Filter::scope(workflow.clone()), |k| k.scope() == &Scope::Workflow("w".into()), 8),
        (Filter::scope(Scope::Global), |k| *k.scope() == Scope::Global, 8),
        (Filter::all().step("a"), |k| k.step() == "a", 12),
        (
            Filter::scope(workflow).step("ab").version(2),
            |k| *k.scope() == Scope::Workflow("w".into()) && k.step() == "ab" && k.version() == 2,
            2,
        ),
        (Filter::all().older_than(ms(1)), |_| false, 0),
    ];
    for (filter, meant, count) in filters {
        let (store, _) = memory();
        let checkpoints = open(&store).await;
        for key in all() {
            checkpoints.record(&key, FOREVER, &1).await.unwrap();
        }
        let found = listed(&checkpoints, filter.clone()).await;
        assert_eq!(found.len() as u64, count, "{filter:?}");
        assert!(found.iter().all(meant), "{filter:?}");
        let removed = checkpoints.purge(&filter).await.unwrap();
        assert_eq!(removed, Removed { results: count, ..Removed::default() }, "{filter:?}");
        for key in all() {
            let left = checkpoints.get::<u8>(&key).await.unwrap().is_some();
            assert_eq!(left, !meant(&key), "{filter:?}: {key}");
        }
    }
}

#[tokio::test]
async fn what_is_older_than_an_age_is_purged_the_rest_stays() {
    let (store, clock) = memory();
    let checkpoints = open(&store).await;
    for n in 0..5 {
        checkpoints.record(&key(&n.to_string()), FOREVER, &n).await.unwrap();
        clock.advance(ms(10));
    }
    // Ages: 50, 40, 30, 20, 10.
    let removed = checkpoints.purge(&Filter::all().older_than(ms(30))).await.unwrap();
    assert_eq!(removed.results, 2);
    let left = listed(&checkpoints, Filter::all()).await;
    assert_eq!(left.iter().map(CheckpointKey::step).collect::<Vec<_>>(), ["2", "3", "4"]);
}

#[tokio::test]
async fn more_than_a_page_is_listed_and_purged() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    for n in 0..450 {
        checkpoints.record(&keyed(&Scope::Global, "s", 1, n), FOREVER, &n).await.unwrap();
    }
    assert_eq!(listed(&checkpoints, Filter::all()).await.len(), 450);
    assert_eq!(checkpoints.purge(&Filter::all()).await.unwrap().results, 450);
    assert!(listed(&checkpoints, Filter::all()).await.is_empty());
}

#[tokio::test]
async fn a_sweep_removes_what_is_over_and_nothing_else() {
    let (store, clock) = memory();
    let before = open(&store).await;
    before.record(&key("brief"), ms(50), &1).await.unwrap();
    before.record(&key("kept"), FOREVER, &1).await.unwrap();
    std::mem::forget(claim(&before, &key("abandoned"), StepPolicy::new()).await);
    std::mem::forget(claim(&before, &key("in doubt"), CHARGE).await);
    let store = restarted(&store, &clock);
    let checkpoints = open(&store).await;
    let held = claim(&checkpoints, &key("held"), StepPolicy::new()).await;
    let sweep = async || checkpoints.sweep().await.unwrap();
    let nothing = SweptCheckpoints { scanned: 5, ..SweptCheckpoints::default() };
    clock.advance(ms(49));
    assert_eq!(sweep().await, nothing);
    clock.advance(ms(1));
    assert_eq!(sweep().await, SweptCheckpoints { expired: 1, ..nothing });
    // Leases are over for long, and a day has not passed.
    clock.advance(DAY);
    assert_eq!(sweep().await, SweptCheckpoints { scanned: 4, ..nothing });
    clock.advance(DAY);
    assert_eq!(sweep().await, SweptCheckpoints { scanned: 4, abandoned: 1, ..nothing });
    let left = listed(&checkpoints, Filter::all()).await;
    let left: Vec<_> = left.iter().map(CheckpointKey::step).collect();
    assert_eq!(left, ["held", "kept", "in doubt"]);
    held.release().await.unwrap();
}

#[tokio::test]
async fn an_expired_result_is_replaced_also_when_it_was_swept_meanwhile() {
    let (store, clock) = memory();
    let checkpoints = open(&store).await;
    checkpoints.record(&key("a"), ms(1), &1).await.unwrap();
    clock.advance(ms(1));
    let info = checkpoints.inspect(&key("a")).await.unwrap().unwrap();
    assert!(matches!(info.state, CheckpointState::Done { expired: true, .. }), "{info:?}");
    checkpoints.record(&key("a"), FOREVER, &2).await.unwrap();
    assert_eq!(checkpoints.sweep().await.unwrap().expired, 0);
    assert_eq!(checkpoints.get::<u8>(&key("a")).await.unwrap(), Some(2));
}

#[tokio::test]
async fn record_replaces_neither_a_result_nor_a_run() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    checkpoints.record(&key("a"), FOREVER, &1).await.unwrap();
    let held = claim(&checkpoints, &key("b"), CHARGE).await;
    for step in ["a", "b"] {
        let refused = checkpoints.record(&key(step), FOREVER, &2).await.unwrap_err();
        assert!(matches!(&refused, CheckpointError::Occupied { .. }), "{step}: {refused}");
        assert_eq!(refused.kind(), resurge_store::ErrorKind::Conflict);
    }
    drop(held);
    checkpoints.record(&key("b"), FOREVER, &2).await.unwrap();
    assert_eq!(checkpoints.get::<u8>(&key("b")).await.unwrap(), Some(2));
}

#[tokio::test]
async fn forget_lets_a_step_in_doubt_run_again() {
    let (store, _) = memory();
    let checkpoints = open(&store).await;
    drop(claim(&checkpoints, &key("charge"), CHARGE).await);
    settle().await;
    assert!(checkpoints.begin(&key("charge"), CHARGE).await.is_err());
    assert!(checkpoints.forget(&key("charge")).await.unwrap());
    assert!(!checkpoints.forget(&key("charge")).await.unwrap());
    claim(&checkpoints, &key("charge"), CHARGE).await.release().await.unwrap();
}
