//! Positive controls: with a bug put in on purpose, the check that is about it must fail. The same
//! checks pass without one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use resurge_testkit::evidence;
use support::World;
use support::checks::{CHECKS, Check, check};
use support::crashes::simulate;
use support::planted::Bug;

async fn fails(bug: Bug, which: Check) -> Option<String> {
    let task = tokio::spawn(async move {
        let mut world = World::memory(bug).await;
        check(which, &mut world).await
    });
    let patience = Duration::from_secs(20);
    match tokio::time::timeout(patience, task).await {
        Err(_) => Some("it hangs".to_owned()),
        Ok(Err(panicked)) => Some(panicked.to_string()),
        Ok(Ok(checked)) => checked.err(),
    }
}

const CAUGHT: &[(Bug, &[Check])] = &[
    (Bug::VersionIgnored, &[Check::Version]),
    (Bug::ScopeIgnored, &[Check::Scopes, Check::Purged]),
    (Bug::InputIgnored, &[Check::OncePerInput]),
    (Bug::TtlIgnored, &[Check::Ttl, Check::TtlAcrossRestart]),
    (Bug::FailureStored, &[Check::FailureIsNotStored]),
    (Bug::ClaimSkipped, &[Check::Concurrent, Check::ConcurrentHandles, Check::InDoubtRefused]),
    (Bug::DoubtIgnored, &[Check::InDoubtRefused]),
    (Bug::GuardsDropped, &[Check::LateResult]),
    (Bug::ExpiryLost, &[Check::Ttl, Check::TtlAcrossRestart]),
    (Bug::DeletesDropped, &[Check::FailureIsNotStored, Check::Purged]),
    (Bug::CommitsLost, &[Check::OncePerInput, Check::Scopes]),
    (Bug::ClaimsLost, &[Check::ConcurrentHandles, Check::InDoubtRefused]),
];

#[test]
fn every_planted_bug_is_caught() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (bug, checks) in CAUGHT {
        for which in *checks {
            let noticed = runtime.block_on(fails(*bug, *which));
            assert!(noticed.is_some(), "{bug:?} is not noticed by {which:?}");
        }
    }
    let in_the_store = [Bug::DurableIsBuffered, Bug::EarlyAck];
    for bug in in_the_store {
        let failed = (1..=8).any(|seed| simulate(bug, seed, 0).is_err());
        assert!(failed, "{bug:?} is not noticed by crashes");
    }
    let all = CAUGHT.len() + in_the_store.len();
    evidence("checkpoint-planted-bugs", &format!("{all} of {all} planted bugs caught"));
}

#[tokio::test]
async fn without_a_bug_every_check_passes() {
    for which in CHECKS {
        assert_eq!(fails(Bug::None, which).await, None, "{which:?}");
    }
}
