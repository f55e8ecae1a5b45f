//! Keys that a key service wraps.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use resurge_seal::{KeyId, KeyRing, KeyWrap, SealError, WrapContext, WrapError};
use resurge_store::{BoxFuture, KeyRange, ScanOptions, Store, VirtualClock};
use support::{Counters, contains, here, key};
use zeroize::Zeroizing;

const MAX_AGE: Duration = Duration::from_secs(600);

/// A key service that can be down, lie, and counts.
#[derive(Clone, Debug, Default)]
struct Kms {
    down: Arc<AtomicBool>,
    lies: Arc<AtomicBool>,
    unwraps: Arc<AtomicU64>,
}

impl Kms {
    fn unwraps(&self) -> u64 {
        self.unwraps.load(Ordering::SeqCst)
    }

    fn mask(context: WrapContext<'_>) -> u8 {
        let name = context.ring.bytes().fold(0x5a_u8, |mask, b| mask.rotate_left(1) ^ b);
        name ^ u8::try_from(context.key.0).unwrap()
    }
}

impl KeyWrap for Kms {
    fn wrap<'a>(
        &'a self,
        key: &'a [u8; 32],
        context: WrapContext<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, WrapError>> {
        Box::pin(async move {
            if self.down.load(Ordering::SeqCst) {
                return Err("the service is down".into());
            }
            Ok(key.iter().map(|b| b ^ Self::mask(context)).collect())
        })
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: WrapContext<'a>,
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, WrapError>> {
        Box::pin(async move {
            self.unwraps.fetch_add(1, Ordering::SeqCst);
            // Others may ask meanwhile.
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err("the service is down".into());
            }
            let lie = u8::from(self.lies.load(Ordering::SeqCst));
            let key = wrapped.iter().map(|b| b ^ Self::mask(context) ^ lie).collect();
            Ok(Zeroizing::new(key))
        })
    }
}

async fn open(store: &Store, kms: &Kms) -> Result<KeyRing, SealError> {
    KeyRing::builder().key_wrap(kms.clone(), MAX_AGE).open(store, "main").await
}

#[tokio::test]
async fn keys_are_made_here_and_stored_wrapped() {
    let (store, kms) = (Store::memory(), Kms::default());
    let ring = open(&store, &kms).await.unwrap();
    assert_eq!(ring.active_id(), None);
    ring.add_wrapped(1).await.unwrap();
    assert_eq!(ring.active_id(), Some(KeyId(1)));
    assert_eq!(kms.unwraps(), 1, "proven to come back before first use");
    let envelope = ring.seal(&here(), b"hunter2").unwrap();

    let again = open(&store, &kms).await.unwrap();
    assert_eq!(again.open(&here(), &envelope).unwrap().as_slice(), b"hunter2");
    for _ in 0..100 {
        again.ready().await.unwrap();
        again.seal(&here(), b"x").unwrap();
    }
    assert_eq!(kms.unwraps(), 2, "once for each open, never for a value");
    // Without the service the ring is of no use, and says so.
    let blind = KeyRing::builder().open(&store, "main").await.unwrap_err();
    assert!(matches!(blind, SealError::KeyUnavailable { .. }), "{blind}");
}

#[tokio::test]
async fn what_cannot_be_unwrapped_is_never_used() {
    let (store, kms) = (Store::memory(), Kms::default());
    let ring = open(&store, &kms).await.unwrap();
    kms.down.store(true, Ordering::SeqCst);
    assert!(matches!(ring.add_wrapped(1).await, Err(SealError::KeyUnavailable { .. })));
    kms.down.store(false, Ordering::SeqCst);
    kms.lies.store(true, Ordering::SeqCst);
    assert!(matches!(ring.add_wrapped(1).await, Err(SealError::WrongKey { .. })));
    assert_eq!(ring.keys().len(), 0);
    kms.lies.store(false, Ordering::SeqCst);
    ring.add_wrapped(1).await.unwrap();
    kms.lies.store(true, Ordering::SeqCst);
    assert!(matches!(open(&store, &kms).await, Err(SealError::WrongKey { .. })));
}

#[tokio::test]
async fn unwrapped_keys_grow_old() {
    let clock = VirtualClock::new();
    let (store, kms) = (Store::memory().with_clock(clock.clone()), Kms::default());
    let ring = open(&store, &kms).await.unwrap();
    ring.add_wrapped(1).await.unwrap();
    let envelope = ring.seal(&here(), b"hunter2").unwrap();

    // Half of the age: ready renews, so that work never finds an old key.
    clock.advance(MAX_AGE / 2);
    ring.ready().await.unwrap();
    assert_eq!(kms.unwraps(), 2);
    // The service is down for a while: what is at hand serves until it is too old.
    kms.down.store(true, Ordering::SeqCst);
    clock.advance(MAX_AGE / 2);
    ring.ready().await.unwrap();
    ring.seal(&here(), b"x").unwrap();
    clock.advance(MAX_AGE / 2);
    let refused = ring.seal(&here(), b"x").unwrap_err();
    assert!(matches!(refused, SealError::KeyUnavailable { .. }), "{refused}");
    assert!(!ring.keys()[0].at_hand, "forgotten");
    let refused = ring.open(&here(), &envelope).unwrap_err();
    assert!(matches!(&refused, SealError::KeyUnavailable { .. }), "{refused}");
    assert!(refused.to_string().contains("`password`"), "{refused}");
    assert_eq!(refused.kind(), resurge_store::ErrorKind::Unavailable);
    let down = ring.ready().await.unwrap_err();
    assert!(down.to_string().contains("down"), "{down}");
    // It is left alone for a second.
    kms.down.store(false, Ordering::SeqCst);
    let before = kms.unwraps();
    assert_eq!(ring.ready().await.unwrap_err().to_string(), down.to_string());
    assert_eq!(kms.unwraps(), before);
    clock.advance(Duration::from_secs(1));
    let everybody = [ring.clone(), ring.clone(), ring.clone()];
    let [a, b, c] = everybody.each_ref().map(KeyRing::ready);
    let (a, b, c) = tokio::join!(a, b, c);
    a.and(b).and(c).unwrap();
    assert_eq!(kms.unwraps(), before + 1, "once for all of them");
    assert!(ring.open(&here(), &envelope).is_ok());
}

#[tokio::test]
async fn old_keys_are_unwrapped_when_they_are_needed() {
    let clock = VirtualClock::new();
    let (store, kms) = (Store::memory().with_clock(clock.clone()), Kms::default());
    let ring = open(&store, &kms).await.unwrap();
    ring.add_wrapped(1).await.unwrap();
    let old = ring.seal(&here(), b"old").unwrap();
    ring.add(2, &key(2)).await.unwrap();
    ring.promote(2).await.unwrap();
    kms.down.store(true, Ordering::SeqCst);
    clock.advance(MAX_AGE);
    // What seals is at hand; that an old one is not is no reason to stop.
    ring.ready().await.unwrap();
    assert!(ring.seal(&here(), b"x").is_ok());
    assert!(matches!(ring.open(&here(), &old), Err(SealError::KeyUnavailable { .. })));
    assert!(matches!(ring.ready_for(1).await, Err(SealError::KeyUnavailable { .. })));
    kms.down.store(false, Ordering::SeqCst);
    ring.ready_for(1).await.unwrap();
    assert_eq!(ring.open(&here(), &old).unwrap().as_slice(), b"old");
    ring.ready_for(2).await.unwrap();
    assert!(matches!(ring.ready_for(3).await, Err(SealError::UnknownKey { .. })));
}

#[tokio::test]
async fn a_destroyed_wrapped_key_is_not_in_the_store() {
    let (store, kms) = (Store::memory(), Kms::default());
    let ring = open(&store, &kms).await.unwrap();
    ring.add_wrapped(1).await.unwrap();
    let blob = async || {
        let entries =
            store.scan(KeyRange::everything(), ScanOptions::default()).await.unwrap().entries;
        entries.iter().map(|entry| entry.value.len()).sum::<usize>()
    };
    let before = blob().await;
    ring.revoke(1, "x").await.unwrap();
    let count = resurge_seal::Reencrypt::new(&store, &ring).count().await.unwrap();
    ring.destroy(1, "x", &count).await.unwrap();
    assert!(blob().await < before - 30);
    assert!(ring.ready_for(1).await.is_ok());
    assert!(!ring.keys()[0].at_hand);
}

#[test]
fn failures_are_counted_and_rings_without_service_say_so() {
    let counters = Counters::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    metrics::with_local_recorder(&counters, || {
        runtime.block_on(async {
            let (store, kms) = (Store::memory(), Kms::default());
            let ring = open(&store, &kms).await.unwrap();
            kms.down.store(true, Ordering::SeqCst);
            assert!(ring.add_wrapped(1).await.is_err());
            kms.down.store(false, Ordering::SeqCst);
            ring.add_wrapped(1).await.unwrap();
        });
    });
    assert_eq!(counters.get("resurge_seal_unwrap_failures_total"), 1);
    assert_eq!(counters.get("resurge_seal_unwrapped_total"), 1);
    let refused = runtime.block_on(support::ring().add_wrapped(2));
    assert!(matches!(refused, Err(SealError::Invalid(_))));
    let in_memory = KeyRing::builder().key(1, &key(1)).unwrap().key_wrap(Kms::default(), MAX_AGE);
    assert!(in_memory.build().is_err());
    assert!(!contains(b"", b"x"));
}
