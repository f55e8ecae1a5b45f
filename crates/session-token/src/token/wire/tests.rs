//! The layout, byte for byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use resurge_seal::KeyRing;

use super::*;

const GOLDEN: &str = "st1.AQEBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAAAAGh9kVP4AAAAACFaSLuhX5OqnDBXUZc-pv0d630ouNmSXHcFHWSJ7Ohbw";
const GOLDEN_BOUND: &str = "st1.AYEBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAAAAGh9kVP4AAAAACjHUjk1EwoS4_SLSnX0SOdwcJMoyG0yybXmll4RhZ7QQ5UabJwZuzHwjCWk4BIKkY";
const KEY: u32 = 0x0102_0304;

fn ring() -> KeyRing {
    KeyRing::from_bytes(KEY, &(0..32).collect::<Vec<u8>>()).unwrap()
}

fn keyed(label: &str) -> KeyedMac {
    use hmac::KeyInit;
    KeyedMac::new_from_slice(&*ring().derive(KEY, label).unwrap()).unwrap()
}

fn header() -> Header {
    let mut id = [0; 16];
    (0xa0..).zip(&mut id).for_each(|(n, byte)| *byte = n);
    Header {
        kind: KIND_REFERENCE,
        key_id: KEY,
        id: RecordId(id),
        purpose: purpose_tag("session-recovery"),
        issued_at: 1_795_132_800_000,
        expires_at: 1_795_133_100_000,
        generation: 0,
        binding: None,
    }
}

#[test]
fn the_golden_tokens_are_reproduced_and_read() {
    let mac = keyed("st1/mac");
    let bind = keyed("st1/bind");
    assert_eq!(header().purpose, 0x0f6f_245f_3962_ffd7_u64.to_be_bytes());
    let bound = Header { binding: Some(binding_tag(&bind, b"cookie:abc")), ..header() };
    for (golden, header, len) in [(GOLDEN, header(), 114), (GOLDEN_BOUND, bound, 135)] {
        assert_eq!(sign(&header, &mac).unwrap(), golden);
        assert_eq!(golden.len(), len);
        let parsed = SignedToken::parse(golden).unwrap();
        assert_eq!(parsed.verify(&mac).unwrap(), header);
    }
}

#[test]
fn every_changed_bit_is_refused() {
    let mac = keyed("st1/mac");
    for golden in [GOLDEN, GOLDEN_BOUND] {
        let body = Base64UrlUnpadded::decode_vec(&golden[4..]).unwrap();
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let parsed = SignedToken::parse(&text(&changed).unwrap());
            let refused = parsed.and_then(|token| token.verify(&mac)).unwrap_err();
            let class = refused.class();
            let early = ["malformed", "unsupported_version", "invalid_signature"];
            assert!(early.contains(&class), "bit {bit}: {class}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_read_that_was_not_written(
        text in "(st1\\.)?[A-Za-z0-9_=+/. -]{0,140}",
        body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
    ) {
        let mac = keyed("st1/mac");
        for text in [text, super::text(&body).unwrap()] {
            let parsed = SignedToken::parse(&text);
            proptest::prop_assert!(parsed.and_then(|token| token.verify(&mac)).is_err());
            if let Ok(parsed) = SealedToken::parse(&text, 256) {
                let (header, sealed) = parsed.parts();
                let opened = ring().open_body(parsed.key_id(), "st1/seal", header, sealed);
                proptest::prop_assert!(opened.is_err());
            }
        }
        drop(crate::stored::StoredSession::decode(body.into()));
    }
}

#[test]
fn a_debug_shows_the_start_of_the_record_id() {
    assert_eq!(shown(GOLDEN), Some([0xa0, 0xa1, 0xa2, 0xa3]));
    assert_eq!(shown("st1.AQ"), None);
    assert_eq!(shown("AQEBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv"), None);
}
