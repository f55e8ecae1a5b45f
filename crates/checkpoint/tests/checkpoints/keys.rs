//! What makes two keys the same, and two inputs different.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use resurge_checkpoint::{CheckpointError, CheckpointKey, MAX_STEP_LEN, MAX_WORKFLOW_LEN, Scope};

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut key = CheckpointKey::global("step");
    for part in parts {
        key = key.input_bytes(part);
    }
    *key.build().unwrap().input_hash()
}

#[test]
fn no_two_lists_of_inputs_run_into_each_other() {
    let lists: [&[&[u8]]; 8] = [
        &[],
        &[b""],
        &[b"", b""],
        &[b"ab"],
        &[b"a", b"b"],
        &[b"", b"ab"],
        &[b"ab", b""],
        &[b"b", b"a"],
    ];
    assert_eq!(lists.map(hash).into_iter().collect::<HashSet<_>>().len(), lists.len());
    let typed = CheckpointKey::global("step").input(&0_u8).build().unwrap();
    assert_ne!(*typed.input_hash(), hash(&[&[0]]), "a value is not its bytes");
}

/// Changing this changes what old stores are asked for.
#[test]
fn the_key_on_disk_is_as_documented() {
    let key =
        CheckpointKey::workflow("w-1", "charge").version(7).input_bytes(b"x").build().unwrap();
    let mut expected = b"\x02\x00\x03w-1\x00\x06charge\x00\x00\x00\x07".to_vec();
    expected.extend(key.input_hash());
    assert_eq!(key.stored().bytes(), expected);
    assert_eq!(key.stored().namespace().name(), "resurge/checkpoint");
    let global = CheckpointKey::global("charge").build().unwrap();
    assert!(global.stored().bytes().starts_with(b"\x01\x00\x06charge\x00\x00\x00\x01"));
    // SHA-256 of "resurge checkpoint input v1", 01, u64 1, "x".
    let hex = "e672da083a5564230ac6c845ff9c587ce5c602c104a29e1d03f1d15023a55210";
    let bytes = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap());
    assert!(key.input_hash().iter().copied().eq(bytes));
}

#[test]
fn equal_values_have_equal_hashes_whatever_order_they_were_made_in() {
    let forward: BTreeMap<_, _> = (0..50).map(|n| (n.to_string(), n)).collect();
    let backward: BTreeMap<_, _> = (0..50).rev().map(|n| (n.to_string(), n)).collect();
    let key =
        |map: &BTreeMap<String, i32>| CheckpointKey::global("step").input(map).build().unwrap();
    assert_eq!(key(&forward), key(&backward));
}

#[test]
fn names_have_limits_and_the_longest_fit() {
    let long = |n| "x".repeat(n);
    let fits = CheckpointKey::workflow(long(MAX_WORKFLOW_LEN), long(MAX_STEP_LEN)).build();
    assert!(fits.is_ok());
    for refused in [
        CheckpointKey::workflow(long(MAX_WORKFLOW_LEN + 1), "s"),
        CheckpointKey::workflow("", "s"),
        CheckpointKey::global(long(MAX_STEP_LEN + 1)),
        CheckpointKey::global(""),
    ] {
        assert!(matches!(refused.build(), Err(CheckpointError::Invalid(_))));
    }
}

struct Refuses;

impl serde::Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[test]
fn an_input_that_refuses_is_reported_and_not_left_out() {
    let built = CheckpointKey::workflow("w", "charge").input(&Refuses).input(&1).build();
    let text = built.unwrap_err().to_string();
    assert!(text.contains("step `charge` of workflow `w`") && text.contains("not today"), "{text}");
}

#[test]
fn the_idempotency_key_is_stable_and_differs_between_steps() {
    let key = |scope: &str, step: &str, input: u32| {
        let key = CheckpointKey::builder(Scope::Workflow(scope.into()), step);
        key.input(&input).build().unwrap().idempotency_key()
    };
    assert_eq!(key("w", "charge", 1), key("w", "charge", 1));
    assert_eq!(key("w", "charge", 1).len(), 64);
    let others = [key("v", "charge", 1), key("w", "ship", 1), key("w", "charge", 2)];
    assert!(!others.contains(&key("w", "charge", 1)));
}

proptest! {
    #[test]
    fn different_parts_are_different_keys(
        a in ("[ab]{0,2}", "[ab]{1,3}", 1_u32..3, "[ab]{0,2}"),
        b in ("[ab]{0,2}", "[ab]{1,3}", 1_u32..3, "[ab]{0,2}"),
    ) {
        let key = |(id, step, version, input): &(String, String, u32, String)| {
            let scope = if id.is_empty() { Scope::Global } else { Scope::Workflow(id.as_str().into()) };
            CheckpointKey::builder(scope, step.as_str()).version(*version).input(input).build().unwrap()
        };
        prop_assert_eq!(a == b, key(&a) == key(&b));
        prop_assert_eq!(a == b, key(&a).idempotency_key() == key(&b).idempotency_key());
    }
}
