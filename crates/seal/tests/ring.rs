//! Keys: where they come from, what they may do, and what the store knows about them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use base64ct::{Base64, Encoding};
use resurge_seal::{
    KdfParams, KeyId, KeyRing, KeyState, Passphrase, Reencrypt, SealError, SealedRecords,
};
use resurge_store::{
    Batch, Durability, ErrorKind, KeyRange, Namespace, Record, ScanOptions, Store,
};
use resurge_testkit::{Call, Fault, FaultStore};
use support::{contains, here, key, ring};

fn cheap(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap().params(KdfParams::insecure_for_tests())
}

async fn open(store: &Store, keys: &[u8]) -> Result<KeyRing, SealError> {
    let mut builder = KeyRing::builder();
    for n in keys {
        builder = builder.key(u32::from(*n), &key(*n))?;
    }
    builder.open(store, "main").await
}

fn no_places(store: &Store, ring: &KeyRing) -> Reencrypt {
    Reencrypt::new(store, ring)
}

#[test]
fn keys_that_are_none_are_refused() {
    for bad in [&[1_u8; 0][..], &[1; 31], &[0; 32], &[9; 32], &[9; 64], &[1; 1025]] {
        assert!(KeyRing::from_bytes(1, bad).is_err(), "{} bytes", bad.len());
    }
    let mut long = key(1);
    assert!(KeyRing::from_bytes(1, &long).is_ok());
    long.push(1);
    assert!(KeyRing::from_bytes(1, &long).is_ok());
    assert!(KeyRing::builder().build().is_err());
    assert!(KeyRing::builder().key(1, &key(1)).unwrap().key(1, &key(2)).is_err());
    let twice = KeyRing::builder().key(1, &key(1)).unwrap().passphrase(1, cheap("long enough now"));
    assert!(twice.build().is_err());
}

#[test]
fn a_longer_key_is_another_key() {
    let long: Vec<u8> = (0..64).collect();
    let envelope = KeyRing::from_bytes(1, &long).unwrap().seal(&here(), b"x").unwrap();
    assert!(KeyRing::from_bytes(1, &long).unwrap().open(&here(), &envelope).is_ok());
    assert!(KeyRing::from_bytes(1, &long[..32]).unwrap().open(&here(), &envelope).is_err());
    assert!(KeyRing::from_bytes(1, &long[..63]).unwrap().open(&here(), &envelope).is_err());
}

#[test]
fn keys_from_text() {
    let text = |n| Base64::encode_string(&key(n));
    let envelope = ring().seal(&here(), b"x").unwrap();
    assert!(KeyRing::from_base64(1, &text(1)).unwrap().open(&here(), &envelope).is_ok());

    let two = KeyRing::builder().keys(&format!("2:{}, 1:{}", text(2), text(1))).unwrap();
    let two = two.build().unwrap();
    assert_eq!(two.active_id(), Some(KeyId(2)));
    assert!(two.open(&here(), &envelope).is_ok());
    for bad in [
        String::new(),
        text(1),
        format!("1;{}", text(1)),
        format!("x:{}", text(1)),
        format!("1:{}", text(1).trim_end_matches('=')),
        format!("1:{}\n1", text(1)),
        format!("1:{},", text(1)),
        format!("1:{},1:{}", text(1), text(2)),
        format!("4294967296:{}", text(1)),
    ] {
        assert!(KeyRing::builder().keys(&bad).is_err(), "{bad}");
    }
    // Cargo sets this one; its content is no key and must not be shown.
    let refused = KeyRing::from_env("CARGO_PKG_DESCRIPTION").unwrap_err().to_string();
    assert!(
        refused.contains("CARGO_PKG_DESCRIPTION") && !refused.contains("Sensitive"),
        "{refused}"
    );
    assert!(KeyRing::from_env("RESURGE_NO_SUCH_VARIABLE").is_err());
}

#[tokio::test]
async fn states_say_what_a_key_may_do() {
    let ring = ring();
    let one = ring.seal(&here(), b"1").unwrap();
    ring.add(2, &key(2)).await.unwrap();
    assert_eq!(ring.state(2), Some(KeyState::VerifyOnly));
    assert_eq!(ring.active_id(), Some(KeyId(1)));
    ring.promote(2).await.unwrap();
    ring.promote(2).await.unwrap();
    assert_eq!(ring.active_id(), Some(KeyId(2)));
    let two = ring.seal(&here(), b"2").unwrap();
    assert_eq!(two[2..6], [0, 0, 0, 2]);
    assert_eq!(ring.open(&here(), &one).unwrap().as_slice(), b"1");
    assert!(ring.derive(1, "st1/mac").is_ok());

    ring.revoke(1, "found in a log").await.unwrap();
    for refused in [
        ring.open(&here(), &one).unwrap_err(),
        ring.derive(1, "st1/mac").unwrap_err(),
        ring.promote(1).await.unwrap_err(),
    ] {
        assert!(matches!(refused, SealError::KeyRevoked { .. }), "{refused}");
        assert!(refused.to_string().contains("found in a log"));
    }
    ring.verify_only(1).await.unwrap();
    assert!(ring.open(&here(), &one).is_ok());
    assert!(matches!(ring.verify_only(2).await, Err(SealError::Invalid(_))));

    // Without an active key nothing is sealed, and everything else goes on.
    ring.revoke(2, "leaked").await.unwrap();
    assert_eq!(ring.active_id(), None);
    assert!(matches!(ring.seal(&here(), b"3"), Err(SealError::NoKey { key: None, .. })));
    assert!(ring.open(&here(), &one).is_ok());
    ring.promote(1).await.unwrap();
    assert!(ring.seal(&here(), b"3").is_ok());

    // Ids are never given twice.
    assert!(matches!(ring.add(1, &key(7)).await, Err(SealError::Invalid(_))));
    let unknown = ring.promote(9).await.unwrap_err();
    assert!(matches!(unknown, SealError::UnknownKey { .. }));
    assert!(unknown.to_string().contains("has 1, 2"), "{unknown}");
    assert!(ring.revoke(1, "").await.is_err());
    assert!(ring.revoke(1, &"x".repeat(1025)).await.is_err());
}

#[tokio::test]
async fn clones_and_threads_see_changes_at_once() {
    let ring = ring();
    let elsewhere = ring.clone();
    ring.add(2, &key(2)).await.unwrap();
    ring.promote(2).await.unwrap();
    let sealed = std::thread::spawn(move || elsewhere.seal(&here(), b"x").unwrap()).join().unwrap();
    assert_eq!(sealed[2..6], [0, 0, 0, 2]);
}

#[tokio::test]
async fn the_store_remembers_everything_but_the_keys() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2, 3]).await.unwrap();
    assert_eq!(ring.active_id(), Some(KeyId(1)));
    ring.promote(2).await.unwrap();
    ring.revoke(3, "lost laptop").await.unwrap();
    ring.add(4, &key(4)).await.unwrap();

    let again = open(&store, &[1, 2, 3, 4]).await.unwrap();
    assert_eq!(again.keys(), ring.keys());
    assert_eq!(again.active_id(), Some(KeyId(2)));
    assert_eq!(again.state(3), Some(KeyState::Revoked));
    assert_eq!(again.keys()[2].reason.as_ref(), "lost laptop");

    // The order in which they are given decides only for a new ring.
    let again = open(&store, &[4, 3, 2, 1]).await.unwrap();
    assert_eq!(again.active_id(), Some(KeyId(2)));

    for entry in store.scan(KeyRange::everything(), ScanOptions::default()).await.unwrap().entries {
        for n in 1..=4 {
            assert!(!contains(&entry.value, &key(n)[..8]), "{}", entry.key);
        }
    }
}

#[tokio::test]
async fn a_wrong_or_missing_key_shows_at_open() {
    let store = Store::memory();
    open(&store, &[1, 2]).await.unwrap();
    let wrong = KeyRing::builder().key(1, &key(1)).unwrap().key(2, &key(3)).unwrap();
    let refused = wrong.open(&store, "main").await.unwrap_err();
    assert!(matches!(&refused, SealError::WrongKey { key: KeyId(2), .. }), "{refused}");
    // Without the active key nothing works: said at once.
    let refused = open(&store, &[2]).await.unwrap_err();
    assert!(matches!(&refused, SealError::UnknownKey { key: KeyId(1), .. }), "{refused}");
    // Without another one, what it sealed does not open.
    let ring = open(&store, &[1]).await.unwrap();
    let two = KeyRing::from_bytes(2, &key(2)).unwrap().seal(&here(), b"x").unwrap();
    let refused = ring.open(&here(), &two).unwrap_err();
    assert!(matches!(refused, SealError::UnknownKey { .. }));
    assert!(refused.to_string().contains("`password`") && refused.to_string().contains("has 1"));
    assert!(matches!(ring.promote(2).await, Err(SealError::UnknownKey { .. })));
    assert!(KeyRing::builder().open(&store, "other").await.is_err());
    // Rings of other names are other rings.
    let other = KeyRing::builder().key(1, &key(9)).unwrap().open(&store, "other").await.unwrap();
    assert_eq!(other.name(), "other");
}

#[tokio::test]
async fn scenario_40_a_wrong_passphrase_shows_at_open() {
    let store = Store::memory();
    let ring = KeyRing::from_passphrase(&store, "main", 1, cheap("correct horse battery"));
    let envelope = ring.await.unwrap().seal(&here(), b"hunter2").unwrap();

    let wrong = KeyRing::from_passphrase(&store, "main", 1, cheap("correct horse batterz")).await;
    assert!(matches!(wrong, Err(SealError::WrongKey { key: KeyId(1), .. })));
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Invalid);

    // Costs are stored: other ones at a later open change nothing.
    let costly = Passphrase::new("correct horse battery").unwrap();
    let costly = costly.params(KdfParams::new(16, 2, 1).unwrap());
    let ring = KeyRing::from_passphrase(&store, "main", 1, costly).await.unwrap();
    assert_eq!(ring.open(&here(), &envelope).unwrap().as_slice(), b"hunter2");

    // The same passphrase in another ring is another key: its salt differs.
    let other = KeyRing::from_passphrase(&store, "other", 1, cheap("correct horse battery"));
    assert!(other.await.unwrap().open(&here(), &envelope).is_err());

    // And costs do change the key.
    let third = Store::memory().with_entropy(resurge_store::SeededEntropy::new(1));
    let fourth = Store::memory().with_entropy(resurge_store::SeededEntropy::new(1));
    let params = KdfParams::new(16, 2, 1).unwrap();
    let a = KeyRing::from_passphrase(&third, "r", 1, cheap("long enough now")).await.unwrap();
    let b = Passphrase::new("long enough now").unwrap().params(params);
    let b = KeyRing::from_passphrase(&fourth, "r", 1, b).await.unwrap();
    assert_ne!(a.derive(1, "x").unwrap(), b.derive(1, "x").unwrap());
}

#[tokio::test]
async fn passphrases_can_be_changed() {
    let store = Store::memory();
    let ring = KeyRing::from_passphrase(&store, "main", 1, cheap("the first one of all")).await;
    let ring = ring.unwrap();
    let old = ring.seal(&here(), b"x").unwrap();
    ring.add_passphrase(2, cheap("the one that follows")).await.unwrap();
    ring.promote(2).await.unwrap();
    let both = KeyRing::builder()
        .passphrase(1, cheap("the first one of all"))
        .passphrase(2, cheap("the one that follows"));
    let both = both.open(&store, "main").await.unwrap();
    assert_eq!(both.active_id(), Some(KeyId(2)));
    assert!(both.open(&here(), &old).is_ok());
    // A key that came from bytes takes no passphrase, and a ring in memory keeps no salt.
    open(&store, &[1]).await.unwrap_err();
    assert!(ring_in_memory_refuses().await);
    let refused = Passphrase::allow_weak("short");
    assert!(refused.is_ok() && Passphrase::new("short").is_err());
    assert!(Passphrase::allow_weak("").is_err());
}

async fn ring_in_memory_refuses() -> bool {
    ring().add_passphrase(2, cheap("long enough now")).await.is_err()
}

#[tokio::test]
async fn costs_have_bounds() {
    assert!(KdfParams::new(u32::MAX, 1, 1).is_err());
    assert!(KdfParams::new(1 << 20, 65, 1).is_err());
    assert!(KdfParams::new(1 << 20, 1, 17).is_err());
    assert!(KdfParams::new(8, 1, 2).is_err());
    assert!(KdfParams::new(0, 0, 0).is_err());
    assert_eq!(KdfParams::default(), KdfParams::new(19_456, 2, 1).unwrap());
}

#[tokio::test]
async fn a_destroyed_key_says_so_for_ever() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    let old = ring.seal(&here(), b"x").unwrap();
    let too_early = no_places(&store, &ring).count().await.unwrap();
    assert!(matches!(ring.destroy(1, "r", &too_early).await, Err(SealError::Invalid(_))), "active");
    ring.promote(2).await.unwrap();
    let refused = ring.destroy(1, "r", &too_early).await.unwrap_err();
    assert!(matches!(&refused, SealError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("before it stopped sealing"), "{refused}");
    let count = no_places(&store, &ring).count().await.unwrap();
    ring.destroy(1, "rotated in May", &count).await.unwrap();
    ring.destroy(1, "again", &count).await.unwrap();

    let reopened = open(&store, &[1, 2]).await.unwrap();
    for ring in [&ring, &reopened] {
        let refused = ring.open(&here(), &old).unwrap_err();
        assert!(matches!(refused, SealError::KeyDestroyed { .. }), "{refused}");
        assert!(refused.to_string().contains("rotated in May"), "{refused}");
        assert!(matches!(ring.promote(1).await, Err(SealError::KeyDestroyed { .. })));
        assert!(matches!(ring.verify_only(1).await, Err(SealError::KeyDestroyed { .. })));
        assert!(matches!(ring.revoke(1, "x").await, Err(SealError::KeyDestroyed { .. })));
        assert!(ring.add(1, &key(1)).await.is_err());
        assert!(!ring.keys()[0].at_hand);
    }
    // The count of one ring is no permission for another.
    let other = KeyRing::builder().key(1, &key(1)).unwrap().key(2, &key(2)).unwrap();
    let other = other.open(&store, "other").await.unwrap();
    other.promote(2).await.unwrap();
    assert!(matches!(other.destroy(1, "r", &count).await, Err(SealError::InUse { .. })));
}

#[tokio::test]
async fn a_revoked_active_key_can_be_destroyed_after_a_count() {
    for store in [None, Some(Store::memory())] {
        let ring = match &store {
            None => ring(),
            Some(store) => open(store, &[1]).await.unwrap(),
        };
        let store = store.unwrap_or_else(Store::memory);
        let before = no_places(&store, &ring).count().await.unwrap();
        ring.revoke(1, "leaked").await.unwrap();
        assert!(ring.destroy(1, "leaked", &before).await.is_err());
        let after = no_places(&store, &ring).count().await.unwrap();
        ring.destroy(1, "leaked", &after).await.unwrap();
        assert_eq!(ring.state(1), Some(KeyState::Destroyed));
    }
}

#[tokio::test]
async fn what_cannot_be_read_keeps_keys_alive() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    ring.promote(2).await.unwrap();
    let ns = Namespace::new("app").unwrap();
    let mut batch = Batch::new();
    batch.put(ns.key("a").unwrap(), "no record");
    store.commit(batch, Durability::Durable).await.unwrap();
    let place = SealedRecords::new("app", ns.all(), |_| {
        Some((String::new(), String::new(), String::new()))
    });
    let count = Reencrypt::new(&store, &ring).over(place).count().await.unwrap();
    assert_eq!(count.unreadable(), 1);
    assert!(matches!(ring.destroy(1, "r", &count).await, Err(SealError::InUse { .. })));
    ring.destroy(1, "r", &count.ignore_unreadable()).await.unwrap();
}

#[tokio::test]
async fn two_processes_change_one_ring() {
    let store = Store::memory();
    let one = open(&store, &[1, 2]).await.unwrap();
    let two = open(&store, &[1, 2]).await.unwrap();
    one.promote(2).await.unwrap();
    assert_eq!(two.active_id(), Some(KeyId(1)), "not told yet");
    two.add(3, &key(3)).await.unwrap();
    assert_eq!(two.active_id(), Some(KeyId(2)), "a change takes over the others");
    assert_eq!(one.state(3), None);
    one.reload().await.unwrap();
    assert_eq!(one.state(3), Some(KeyState::VerifyOnly));
    assert!(!one.keys()[2].at_hand);
    // Both at once: neither change is lost.
    let (a, b) = tokio::join!(one.revoke(1, "a"), two.promote(3));
    a.unwrap();
    b.unwrap();
    one.reload().await.unwrap();
    two.reload().await.unwrap();
    assert_eq!(one.state(1), Some(KeyState::Revoked));
    assert_eq!(one.state(3), Some(KeyState::Active));
    assert_eq!(two.state(1), Some(KeyState::Revoked));
}

#[tokio::test]
async fn a_lost_race_is_run_again() {
    let faults = FaultStore::new(resurge_store::MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let ring = open(&store, &[1, 2]).await.unwrap();
    let before = faults.calls(Call::Commit);
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Conflict));
    ring.promote(2).await.unwrap();
    assert_eq!(faults.calls(Call::Commit), before + 2);
    assert_eq!(ring.active_id(), Some(KeyId(2)));
}

#[tokio::test]
async fn a_failing_store_changes_nothing_but_a_revocation() {
    let faults = FaultStore::new(resurge_store::MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let ring = open(&store, &[1, 2]).await.unwrap();
    let fail = || faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    fail();
    assert_eq!(ring.promote(2).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(ring.active_id(), Some(KeyId(1)));
    fail();
    assert!(ring.add(3, &key(3)).await.is_err());
    assert_eq!(ring.state(3), None);
    // A leaked key is out of use at once; the store learns of it later.
    fail();
    assert!(ring.revoke(1, "leaked").await.is_err());
    assert_eq!(ring.state(1), Some(KeyState::Revoked));
    assert!(ring.seal(&here(), b"x").is_err());
    ring.revoke(1, "leaked").await.unwrap();
    ring.reload().await.unwrap();
    assert_eq!(ring.state(1), Some(KeyState::Revoked));
}

#[tokio::test]
async fn damaged_or_lost_metadata_are_an_error() {
    let store = Store::memory();
    let ring = open(&store, &[1, 2]).await.unwrap();
    let home = Namespace::new("resurge/seal").unwrap().key("rmain").unwrap();
    let whole = store.read(&home).await.unwrap().into_payload().unwrap();
    let put = async |bytes: &[u8]| {
        let mut batch = Batch::new();
        batch.put(home.clone(), Record::new(bytes.to_vec()).encode(&home));
        store.commit(batch, Durability::Durable).await.unwrap();
    };
    for cut in 0..whole.len() {
        put(&whole[..cut]).await;
        let refused = open(&store, &[1, 2]).await.unwrap_err();
        assert!(matches!(refused, SealError::Ring { .. }), "cut at {cut}: {refused}");
    }
    assert!(matches!(ring.promote(2).await, Err(SealError::Ring { .. })));
    store.remove_range(KeyRange::everything()).await.unwrap();
    assert!(matches!(ring.reload().await, Err(SealError::Ring { .. })));
    assert!(ring.seal(&here(), b"x").is_ok(), "what was known stays");
}
