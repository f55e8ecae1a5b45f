//! What seals and opens, and what does not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use proptest::prelude::*;
use resurge_seal::{Context, Envelope, KeyRing, OVERHEAD, SealError};
use resurge_store::{Entropy, ErrorKind, StoreError};
use resurge_testkit::evidence;
use support::{contains, here, key, ring};

/// Gives the same bytes again and again: a restored machine.
#[derive(Debug)]
struct Stuck;

impl Entropy for Stuck {
    fn fill(&self, out: &mut [u8]) -> Result<(), StoreError> {
        out.fill(0x5a);
        Ok(())
    }
}

#[derive(Debug)]
struct Broken;

impl Entropy for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), StoreError> {
        Err(StoreError::new(ErrorKind::Unavailable, "no randomness"))
    }
}

#[test]
fn it_comes_back_and_is_not_visible() {
    let ring = ring();
    for len in [0, 1, 31, 32, 64, 1000, 70_000] {
        let plain: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let envelope = ring.seal(&here(), &plain).unwrap();
        assert_eq!(envelope.len(), len + OVERHEAD);
        assert_eq!(*ring.open(&here(), &envelope).unwrap(), plain);
        assert!(len < 31 || !contains(&envelope, &plain[..16]));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let ring = ring();
    let mut flips = 0;
    for pad_to in [0, 32] {
        let mut envelope = Vec::new();
        ring.seal_into(&here(), b"hunter2", pad_to, &mut envelope).unwrap();
        for bit in 0..envelope.len() * 8 {
            let mut bent = envelope.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let refused = ring.open(&here(), &bent).unwrap_err();
            let expected = match bit / 8 {
                0 => matches!(refused, SealError::Malformed { .. }),
                // Suite 1 and suite 2 differ in two bits, so no flip turns one into the other.
                1 => matches!(refused, SealError::Malformed { .. }),
                2..6 => matches!(refused, SealError::UnknownKey { .. }),
                _ => matches!(refused, SealError::NotAuthentic { .. }),
            };
            assert!(expected, "bit {bit}: {refused}");
            flips += 1;
        }
        for cut in 0..envelope.len() {
            assert!(ring.open(&here(), &envelope[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = envelope.clone();
        longer.push(0);
        assert!(ring.open(&here(), &longer).is_err());
        // The two suites read the same body differently.
        envelope[1] ^= 3;
        assert!(matches!(ring.open(&here(), &envelope), Err(SealError::NotAuthentic { .. })));
    }
    evidence("seal-envelopes", &format!("{flips} flipped bits in two envelopes, 0 opened"));
}

#[test]
fn scenario_37_swapped_between_names_scopes_and_runs() {
    let ring = ring();
    let envelope = ring.seal(&here(), b"hunter2").unwrap();
    for elsewhere in [
        Context::new("wf-43", "ctx", "password"),
        Context::new("wf-42", "out", "password"),
        Context::new("wf-42", "ctx", "pwd"),
        // The same letters, cut elsewhere.
        Context::new("wf-42c", "tx", "password"),
        Context::new("wf-42", "ctxp", "assword"),
        Context::new("", "wf-42ctx", "password"),
    ] {
        let refused = ring.open(&elsewhere, &envelope).unwrap_err();
        assert!(matches!(refused, SealError::NotAuthentic { .. }), "{elsewhere}: {refused}");
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert_eq!(refused.place().unwrap().context(), elsewhere);
        let text = format!("{refused} {refused:?}");
        assert!(text.contains(elsewhere.name) && text.contains(elsewhere.run), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    // On purpose it moves.
    let there = Context::new("wf-43", "ctx", "password");
    let moved = ring.reseal(&here(), &there, &envelope).unwrap();
    assert_eq!(ring.open(&there, &moved).unwrap().as_slice(), b"hunter2");
    assert!(ring.open(&here(), &moved).is_err());
}

#[test]
fn scenario_41_the_same_value_twice() {
    let fresh = ring();
    let twice = [0, 1].map(|_| fresh.seal(&here(), b"hunter2").unwrap());
    assert_ne!(twice[0], twice[1]);

    // Even when randomness repeats, nothing but equality shows.
    let stuck = KeyRing::builder().key(1, &key(1)).unwrap().entropy(Stuck).build().unwrap();
    let again = [0, 1].map(|_| stuck.seal(&here(), b"hunter2").unwrap());
    assert_eq!(again[0], again[1]);
    let other = stuck.seal(&here(), b"hunter3").unwrap();
    assert_ne!(again[0][OVERHEAD - 16..], other[OVERHEAD - 16..]);
    for envelope in [&again[0], &other] {
        assert!(fresh.open(&here(), envelope).unwrap().starts_with(b"hunter"));
    }
}

#[test]
fn scenario_43_no_randomness_is_an_error_and_leaves_nothing() {
    let ring = KeyRing::builder().key(1, &key(1)).unwrap().entropy(Broken).build().unwrap();
    let mut out = b"before".to_vec();
    let refused = ring.seal_into(&here(), b"hunter2", 0, &mut out).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(out, b"before");
}

#[tokio::test]
async fn scenario_46_another_key_never_fits() {
    let ring = ring();
    ring.add(2, &key(2)).await.unwrap();
    let one = ring.seal(&here(), b"hunter2").unwrap();
    ring.promote(2).await.unwrap();
    let two = ring.seal(&here(), b"hunter2").unwrap();
    let mut flipped = one.clone();
    flipped[2..6].copy_from_slice(&two[2..6]);
    assert_eq!(Envelope::parse(&flipped).unwrap().key(), 2.into());
    assert!(matches!(ring.open(&here(), &flipped), Err(SealError::NotAuthentic { .. })));
    // Neither with the other key's salt, commitment, or both.
    for part in [6..30, 30..62, 6..62] {
        let mut mixed = flipped.clone();
        mixed[part.clone()].copy_from_slice(&two[part.clone()]);
        let refused = ring.open(&here(), &mixed).unwrap_err();
        assert!(matches!(refused, SealError::NotAuthentic { .. }), "{part:?}: {refused}");
    }
    // Other bytes under the same id.
    let impostor = KeyRing::from_bytes(1, &key(9)).unwrap();
    assert!(matches!(impostor.open(&here(), &one), Err(SealError::NotAuthentic { .. })));
}

#[test]
fn padding_hides_the_length() {
    let ring = ring();
    for (len, expected) in [(0, 32), (1, 32), (31, 32), (32, 64), (63, 64), (64, 96)] {
        // What looks like padding at the end of a value stays.
        for filler in [0_u8, 0x80, 7] {
            let plain = vec![filler; len];
            let mut envelope = Vec::new();
            ring.seal_into(&here(), &plain, 32, &mut envelope).unwrap();
            assert_eq!(envelope.len(), OVERHEAD + expected, "{len}");
            assert_eq!(*ring.open(&here(), &envelope).unwrap(), plain);
        }
    }
}

#[test]
fn bodies_of_other_layouts() {
    let ring = ring();
    let body = ring.seal_body(1, "st1/seal", b"header", b"state").unwrap();
    assert_eq!(body.len(), 24 + 32 + 5 + 16);
    assert_eq!(ring.open_body(1, "st1/seal", b"header", &body).unwrap().as_slice(), b"state");
    for (label, aad) in [("st1/seal", "Header"), ("st2/seal", "header"), ("st1/seal", "")] {
        let refused = ring.open_body(1, label, aad.as_bytes(), &body).unwrap_err();
        assert!(matches!(refused, SealError::BodyNotAuthentic { .. }), "{refused}");
    }
    for bit in 0..body.len() * 8 {
        let mut bent = body.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(ring.open_body(1, "st1/seal", b"header", &bent).is_err(), "bit {bit}");
    }
    // No envelope can be opened as a body: its key has a label nobody else gets.
    for label in ["fe1/field", "kcv", ""] {
        assert!(ring.derive(1, label).is_err(), "{label}");
        assert!(ring.seal_body(1, label, b"", b"").is_err(), "{label}");
    }
}

#[test]
fn subkeys_are_plain_hkdf() {
    let root: Vec<u8> = (0..32).collect();
    let ring = KeyRing::from_bytes(7, &root).unwrap();
    // HKDF-Expand-SHA256(00..1f, "st1/mac", 32), computed elsewhere.
    let expected = support::hex(ST1_MAC);
    assert_eq!(ring.derive(7, "st1/mac").unwrap().as_slice(), expected);
}

const ST1_MAC: &str = "54a69b37954b183a56e38bfb3284c2d16513d8bfdd23c4c6ee86ec1b5377f824";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_in_any_place(
        plain in proptest::collection::vec(any::<u8>(), 0..300),
        (run, scope, name) in (".{0,20}", ".{0,20}", ".{0,20}"),
        (run2, scope2, name2) in (".{0,20}", ".{0,20}", ".{0,20}"),
        pad_to in 0_usize..70,
    ) {
        let ring = ring();
        let (here, there) = (Context::new(&run, &scope, &name), Context::new(&run2, &scope2, &name2));
        let mut envelope = Vec::new();
        ring.seal_into(&here, &plain, pad_to, &mut envelope).unwrap();
        prop_assert_eq!(&*ring.open(&here, &envelope).unwrap(), &plain);
        prop_assert_eq!(ring.open(&there, &envelope).is_ok(), here == there);
    }

    #[test]
    fn no_bytes_are_taken_for_an_envelope(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(ring().open(&here(), &bytes).is_err());
        let mut headed = vec![1, 1, 0, 0, 0, 1];
        headed.extend_from_slice(&bytes);
        prop_assert!(ring().open(&here(), &headed).is_err());
    }
}
