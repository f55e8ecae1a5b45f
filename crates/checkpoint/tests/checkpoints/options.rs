//! Every knob turns something.

use std::time::Duration;

use resurge_checkpoint::{
    CheckpointError, CheckpointKey, CheckpointOptions, CheckpointState, Checkpoints, InDoubt,
    Scope, StepPolicy,
};
use resurge_store::{Codec, Durability, SeededEntropy, Store, Timestamp};
use resurge_testkit::SimStore;

use super::support::{FOREVER, ms};
use super::{CHARGE, claim, key, memory, open};

#[test]
fn the_defaults_in_doubt_are_as_documented() {
    let workflow = Scope::Workflow("w".into());
    for (policy, global, local) in [
        (StepPolicy::new(), InDoubt::RunAgain, InDoubt::RunAgain),
        (CHARGE, InDoubt::Fail, InDoubt::RunAgain),
        (StepPolicy::new().in_doubt(InDoubt::Fail), InDoubt::Fail, InDoubt::Fail),
        (CHARGE.in_doubt(InDoubt::RunAgain), InDoubt::RunAgain, InDoubt::RunAgain),
    ] {
        assert_eq!(policy.in_doubt_for(&Scope::Global), global, "{policy:?}");
        assert_eq!(policy.in_doubt_for(&workflow), local, "{policy:?}");
    }
}

#[tokio::test]
async fn the_policy_of_the_handle_is_that_of_steps_without_one() {
    let (store, _) = memory();
    let strict = Checkpoints::open(&store, CheckpointOptions::new().policy(CHARGE)).await.unwrap();
    let key = key("step");
    drop(claim(&strict, &key, strict.policy()).await);
    let body = || async { Ok::<_, std::io::Error>(1) };
    let refused = strict.run(&key, FOREVER, body).await.unwrap_err();
    assert!(matches!(refused.checkpoint(), Some(CheckpointError::InDoubt { .. })));
    assert_eq!(open(&store).await.run(&key, FOREVER, body).await.unwrap(), 1);
}

#[tokio::test]
async fn the_codec_is_that_of_new_results_and_old_ones_are_read_as_written() {
    let (store, _) = memory();
    let json = CheckpointOptions::new().codec(Codec::Json);
    let (json, cbor) = (Checkpoints::open(&store, json).await.unwrap(), open(&store).await);
    let body = || async { Ok::<_, std::io::Error>(vec![1_u8, 2]) };
    for (step, written, read, bytes) in
        [("a", &json, &cbor, &b"[1,2]"[..]), ("b", &cbor, &json, &b"\x82\x01\x02"[..])]
    {
        written.run(&key(step), FOREVER, body).await.unwrap();
        assert_eq!(read.get_bytes(&key(step)).await.unwrap().unwrap(), bytes);
        assert_eq!(read.run(&key(step), FOREVER, body).await.unwrap(), [1, 2]);
    }
    assert_eq!(cbor.stats().started, 1);
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let (store, _) = memory();
    let refused = Checkpoints::open(&store, CheckpointOptions::new().lease(ms(9))).await;
    assert!(matches!(refused, Err(CheckpointError::Invalid(_))), "{refused:?}");
}

/// How many commits a power loss may take after a step was told.
async fn at_risk(policy: StepPolicy, key: &CheckpointKey) -> usize {
    let disk = SimStore::new(1);
    let store = Store::new(disk.clone()).with_entropy(SeededEntropy::new(1));
    let checkpoints = open(&store).await;
    let body = || async { Ok::<_, std::io::Error>(1) };
    checkpoints.run_with(key, FOREVER, policy, body).await.unwrap();
    disk.cuts().end() - disk.cuts().start()
}

#[tokio::test]
async fn a_result_is_durable_unless_it_is_cheap_to_make_again() {
    let buffered = StepPolicy::new().durability(Durability::Buffered);
    assert_eq!(at_risk(StepPolicy::new(), &key("step")).await, 0);
    assert!(at_risk(buffered, &key("step")).await > 0);
    // What must not run twice is durable, whatever was said.
    assert_eq!(at_risk(buffered.side_effects(), &key("step")).await, 0);
}

/// The claim of a step that must not run twice is on disk before it runs; that of another need not.
#[tokio::test]
async fn a_claim_is_durable_where_a_lost_one_would_matter() {
    for (policy, durable) in [(StepPolicy::new(), false), (CHARGE, true)] {
        let disk = SimStore::new(1);
        let checkpoints = open(&Store::new(disk.clone())).await;
        let held = claim(&checkpoints, &key("step"), policy).await;
        assert_eq!(disk.cuts().start() == disk.cuts().end(), durable, "{policy:?}");
        // So is its release: a step that is known to have failed is not in doubt.
        held.release().await.unwrap();
        assert_eq!(disk.cuts().start() == disk.cuts().end(), durable, "{policy:?}");
    }
}

#[tokio::test]
async fn a_time_to_live_is_kept_as_wall_time() {
    let (store, clock) = memory();
    let checkpoints = open(&store).await;
    // Less than the clock's grain is not for ever, and more than it counts is.
    let cases = [
        (Duration::from_nanos(1), Some(1)),
        (ms(50), Some(50)),
        (FOREVER, None),
        (Duration::MAX, Some(u64::MAX)),
    ];
    for (n, (ttl, wanted)) in cases.into_iter().enumerate() {
        let key = key(&n.to_string());
        checkpoints.record(&key, ttl, &1).await.unwrap();
        let info = checkpoints.inspect(&key).await.unwrap().unwrap();
        let CheckpointState::Done { at, expires_at, expired, bytes } = info.state else {
            panic!("{info:?}")
        };
        let wanted = wanted.map(|ms| at.as_millis().saturating_add(ms));
        assert_eq!(expires_at.map(Timestamp::as_millis), wanted);
        assert!(!expired && bytes == 1 && at == store.now());
    }
    clock.advance(ms(1));
    assert_eq!(checkpoints.get::<u8>(&key("0")).await.unwrap(), None);
    assert_eq!(checkpoints.get::<u8>(&key("1")).await.unwrap(), Some(1));
}
