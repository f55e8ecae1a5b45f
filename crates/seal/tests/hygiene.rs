//! Secrets are wiped where they are kept, and shared where they should be.

use resurge_seal::{KeyRing, RingBuilder, SealError, Sealer, SensitivePolicy};
use zeroize::ZeroizeOnDrop;

fn wiped<T: ZeroizeOnDrop>() {}
fn shared<T: Send + Sync + Clone + 'static>() {}
fn sent<T: Send + 'static>() {}

#[test]
fn key_schedules_are_wiped() {
    // Does not compile without the features that the manifest switches on.
    wiped::<aes::Aes256>();
    wiped::<sha2::Sha256>();
}

#[test]
fn rings_and_sealers_are_shared_between_threads() {
    shared::<KeyRing>();
    shared::<Sealer>();
    shared::<SensitivePolicy>();
    shared::<SealError>();
    sent::<RingBuilder>();
}
