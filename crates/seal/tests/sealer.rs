//! Values on their way to the store and back.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_seal::{
    Context, Decision, KeyRing, SealError, Sealer, Sensitive, SensitivePolicy, Stored,
};
use resurge_store::{Clock, Codec, ErrorKind, VirtualClock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::{Counters, contains, here, key, ring};

const CODECS: [Codec; 2] = [Codec::Cbor, Codec::Json];

fn policy() -> SensitivePolicy {
    SensitivePolicy::new().names(["password", "pwd", "n", "obj"]).unwrap()
}

fn sealer() -> Sealer {
    Sealer::new(ring(), policy())
}

fn at(name: &'static str) -> Context<'static> {
    Context::new("wf-42", "ctx", name)
}

#[test]
fn scenario_36_any_type_is_sealed_and_comes_back_as_it_was() {
    let sealer = sealer();
    for codec in CODECS {
        let user = sealer.encode(&at("user"), codec, "canary-u").unwrap();
        assert!(contains(&user, b"canary-u"));
        assert_eq!(sealer.decode::<String>(&at("user"), codec, &user).unwrap(), "canary-u");

        let pwd = sealer.encode(&at("pwd"), codec, "canary-pwd").unwrap();
        assert!(!contains(&pwd, b"canary"));
        assert_eq!(sealer.decode::<String>(&at("pwd"), codec, &pwd).unwrap(), "canary-pwd");

        let n = sealer.encode(&at("n"), codec, &(5_u64, -3_i8, 1.5_f64)).unwrap();
        assert!(matches!(Stored::decode(&n), Ok(Stored::Sealed(_))));
        assert_eq!(sealer.decode::<(u64, i8, f64)>(&at("n"), codec, &n).unwrap(), (5, -3, 1.5));

        let whole = json!({ "db": { "password": "canary-db", "host": "canary-host" } });
        let obj = sealer.encode(&at("settings"), codec, &whole).unwrap();
        assert!(!contains(&obj, b"canary"), "nested names seal the whole value");
        let back: serde_json::Value = sealer.decode(&at("settings"), codec, &obj).unwrap();
        assert_eq!(back, whole);
    }
}

#[test]
fn without_keys_and_policy_it_is_one_byte_more() {
    let plain = Sealer::plain();
    for codec in CODECS {
        let value = json!({ "password": "x", "list": [1, 2, 3] });
        let stored = plain.encode(&here(), codec, &value).unwrap();
        let encoded = codec.encode(&value).unwrap();
        assert_eq!(stored[0], 0);
        assert_eq!(stored[1..], encoded);
        assert_eq!(stored, plain.protect(&here(), Decision::Plain, &encoded).unwrap());
        assert_eq!(plain.reveal(&here(), Decision::Plain, &stored).unwrap(), encoded);
        assert_eq!(plain.decode::<serde_json::Value>(&here(), codec, &stored).unwrap(), value);
        // No copy either.
        let revealed = plain.reveal(&here(), Decision::Plain, &stored).unwrap();
        assert_eq!(revealed.as_ptr(), stored[1..].as_ptr());
    }
}

#[test]
fn scenario_38_sealed_replaced_by_plain_is_refused() {
    let sealer = sealer();
    for codec in CODECS {
        let forged = Stored::Plain(codec.encode("forged").unwrap().into()).encode();
        let refused = sealer.decode::<String>(&here(), codec, &forged).unwrap_err();
        assert!(matches!(refused, SealError::ExpectedSealed { .. }), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        let refused = sealer.reveal(&here(), Decision::Plain, &forged).unwrap_err();
        assert!(matches!(refused, SealError::ExpectedSealed { .. }), "{refused}");
        // Sensitive for another reason than its name.
        let refused = sealer.reveal(&at("x"), Decision::Seal, &forged).unwrap_err();
        assert!(matches!(refused, SealError::ExpectedSealed { .. }), "{refused}");
        assert!(sealer.reveal(&at("x"), Decision::Plain, &forged).is_ok());

        // The same inside.
        let nested = json!({ "db": { "password": "forged" } });
        let forged = Stored::Plain(codec.encode(&nested).unwrap().into()).encode();
        let refused = sealer.decode::<serde_json::Value>(&at("x"), codec, &forged).unwrap_err();
        assert!(matches!(refused, SealError::ExpectedSealed { .. }), "{refused}");
        for sealer in [&sealer, &Sealer::new(ring(), SensitivePolicy::new()), &Sealer::plain()] {
            let forged = Stored::Plain(codec.encode("forged").unwrap().into()).encode();
            let refused = sealer.decode::<Sensitive<String>>(&at("x"), codec, &forged).unwrap_err();
            assert!(matches!(refused, SealError::ExpectedSealed { .. }), "{refused}");
        }
    }
}

#[test]
fn scenario_38_within_the_window_it_is_read_and_counted() {
    let counters = Counters::default();
    metrics::with_local_recorder(&counters, || {
        let clock = VirtualClock::new();
        let until = clock.now().saturating_add(Duration::from_secs(60));
        let sealer = Sealer::new(ring(), policy().accept_plaintext(until))
            .with_clock(Arc::new(clock.clone()));
        let old = Stored::Plain(Codec::Cbor.encode("old").unwrap().into()).encode();
        let read = || sealer.decode::<String>(&here(), Codec::Cbor, &old);
        assert_eq!(read().unwrap(), "old");
        assert_eq!(read().unwrap(), "old");
        assert_eq!(counters.get("resurge_seal_plaintext_accepted_total"), 2);
        assert_eq!(counters.get("resurge_seal_refused_total expected_sealed"), 0);
        // What is written meanwhile is sealed.
        let new = sealer.encode(&here(), Codec::Cbor, "new").unwrap();
        assert!(matches!(Stored::decode(&new), Ok(Stored::Sealed(_))));

        clock.advance(Duration::from_secs(60));
        assert!(matches!(read(), Err(SealError::ExpectedSealed { .. })));
        assert_eq!(counters.get("resurge_seal_plaintext_accepted_total"), 2);
        assert_eq!(counters.get("resurge_seal_refused_total expected_sealed"), 1);
        assert_eq!(sealer.decode::<String>(&here(), Codec::Cbor, &new).unwrap(), "new");
        assert_eq!(counters.get("resurge_seal_sealed_total"), 1);
        assert_eq!(counters.get("resurge_seal_opened_total"), 1);
    });
}

#[test]
fn scenario_39_sealed_without_a_ring_is_no_key() {
    let stored = sealer().encode(&here(), Codec::Cbor, "hunter2").unwrap();
    for blind in [Sealer::plain(), Sealer::without_ring(policy())] {
        let refused = blind.decode::<String>(&here(), Codec::Cbor, &stored).unwrap_err();
        assert!(matches!(&refused, SealError::NoKey { key: Some(k), .. } if k.0 == 1), "{refused}");
        assert!(refused.to_string().contains("key 1"), "{refused}");
        let refused = blind.reveal(&here(), Decision::Plain, &stored).unwrap_err();
        assert!(matches!(refused, SealError::NoKey { .. }), "{refused}");
    }
    // With the ring it is opened whatever the policy says by now.
    let relaxed = Sealer::new(ring(), SensitivePolicy::new());
    assert_eq!(relaxed.decode::<String>(&here(), Codec::Cbor, &stored).unwrap(), "hunter2");
}

#[test]
fn nothing_sensitive_is_written_without_a_key() {
    let marked = Sensitive::new("hunter2");
    let refuse = |what: &str, result: Result<Bytes, SealError>| {
        let refused = result.unwrap_err();
        assert!(matches!(refused, SealError::NoKey { key: None, .. }), "{what}: {refused}");
    };
    for codec in CODECS {
        refuse("mark", Sealer::plain().encode(&at("x"), codec, &marked));
        refuse("mark", Sealer::without_ring(policy()).encode(&at("x"), codec, &[&marked]));
        refuse("name", Sealer::without_ring(policy()).encode(&here(), codec, "hunter2"));
        refuse("asked", Sealer::plain().protect(&at("x"), Decision::Seal, b"hunter2"));
    }
    // And `out` stays as it was.
    let mut out = b"before".to_vec();
    assert!(Sealer::plain().encode_into(&at("x"), Codec::Cbor, &marked, &mut out).is_err());
    assert!(Sealer::plain().protect_into(&at("x"), Decision::Seal, b"s", &mut out).is_err());
    assert_eq!(out, b"before");
    // A mark alone is enough where there is a ring, with a policy or without.
    for policy in [SensitivePolicy::new(), policy()] {
        let sealer = Sealer::new(ring(), policy);
        let stored = sealer.encode(&at("x"), Codec::Json, &marked).unwrap();
        assert!(!contains(&stored, b"hunter2"));
        let back: Sensitive<String> = sealer.decode(&at("x"), Codec::Json, &stored).unwrap();
        assert_eq!(back.expose(), "hunter2");
    }
}

#[test]
fn what_must_not_be_stored_is_not() {
    let sealer = Sealer::new(ring(), policy().omit("cvv").unwrap());
    for refused in [
        sealer.encode(&at("cvv"), Codec::Cbor, &123).unwrap_err(),
        sealer.encode(&at("x"), Codec::Cbor, &json!({ "card": { "cvv": 123 } })).unwrap_err(),
        sealer.protect(&at("x"), Decision::Omit, b"123").unwrap_err(),
    ] {
        assert!(matches!(refused, SealError::Omitted { .. }), "{refused}");
    }
    assert_eq!(sealer.decide_name("cvv"), Decision::Omit);
    assert_eq!(sealer.decide("x", &json!({ "cvv": 1 })), Decision::Omit);
}

#[test]
fn scenario_44_sealed_twice_is_opened_twice() {
    let sealer = sealer();
    let once = sealer.encode(&here(), Codec::Cbor, "hunter2").unwrap();
    // A caller who protects what is protected gets exactly that back.
    let twice = sealer.protect(&here(), Decision::Seal, &once).unwrap();
    assert_eq!(sealer.reveal(&here(), Decision::Seal, &twice).unwrap(), once);
    // Reading and writing again does not pile up.
    let mut stored = once;
    for _ in 0..3 {
        let live: String = sealer.decode(&here(), Codec::Cbor, &stored).unwrap();
        assert_eq!(live, "hunter2");
        stored = sealer.encode(&here(), Codec::Cbor, &live).unwrap();
    }
    assert_eq!(stored.len(), sealer.encode(&here(), Codec::Cbor, "hunter2").unwrap().len());
}

#[test]
fn scenario_45_error_texts_are_covered_by_the_policy() {
    let text = format!("bad {}", "hunter2");
    let sealer = sealer();
    assert_eq!(sealer.decide_errors(), Decision::Seal);
    let stored = sealer.protect(&at("charge"), sealer.decide_errors(), text.as_bytes()).unwrap();
    assert!(!contains(&stored, b"hunter2"));
    let back = sealer.reveal(&at("charge"), sealer.decide_errors(), &stored).unwrap();
    assert_eq!(back, text.as_bytes());
    let open = Sealer::new(ring(), policy().plain_errors());
    assert_eq!(open.decide_errors(), Decision::Plain);
    assert_eq!(Sealer::plain().decide_errors(), Decision::Plain);
}

#[test]
fn padding_is_the_policys_business() {
    let sealer = Sealer::new(ring(), policy().pad_to(64));
    let len = |text: &str| sealer.encode(&here(), Codec::Cbor, text).unwrap().len();
    assert_eq!(len("a"), len("a much longer password than that"));
    let exact = self::sealer();
    assert_ne!(
        exact.encode(&here(), Codec::Cbor, "a").unwrap().len(),
        exact.encode(&here(), Codec::Cbor, "ab").unwrap().len()
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Secret { digits: Sensitive<String>, code: u8 },
    Open { digits: String },
}

#[test]
fn a_mark_that_was_only_tried_does_not_count() {
    for sealer in [sealer(), Sealer::plain()] {
        let open = Either::Open { digits: "none".into() };
        let stored = sealer.encode(&at("x"), Codec::Json, &open).unwrap();
        assert!(matches!(Stored::decode(&stored), Ok(Stored::Plain(_))));
        assert_eq!(sealer.decode::<Either>(&at("x"), Codec::Json, &stored).unwrap(), open);
    }
    let secret = Either::Secret { digits: Sensitive::new("4111".into()), code: 1 };
    let stored = sealer().encode(&at("x"), Codec::Json, &secret).unwrap();
    assert!(!contains(&stored, b"4111"));
    assert_eq!(sealer().decode::<Either>(&at("x"), Codec::Json, &stored).unwrap(), secret);
}

#[test]
fn malformed_is_told_from_everything_else() {
    let sealer = sealer();
    let whole = sealer.encode(&here(), Codec::Cbor, "hunter2").unwrap();
    for bad in [&b""[..], b"\x02abc", b"\xff", &whole[..1], &whole[..50], b"\x01\x02"] {
        let bad = Bytes::copy_from_slice(bad);
        let refused = sealer.reveal(&here(), Decision::Plain, &bad).unwrap_err();
        assert!(matches!(refused, SealError::Malformed { .. }), "{bad:?}: {refused}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(sealer.reveal(&here(), Decision::Plain, &longer.into()).is_err());
    // The tag is no way around either.
    let mut bare = whole.to_vec();
    bare[0] = 0;
    let refused = sealer.reveal(&here(), Decision::Plain, &bare.into()).unwrap_err();
    assert!(matches!(refused, SealError::ExpectedSealed { .. }), "{refused}");
}

/// Says more than it should when it does not decode, or encode.
#[derive(Debug)]
struct Talkative;

impl Serialize for Talkative {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("cannot encode hunter2"))
    }
}

impl<'de> Deserialize<'de> for Talkative {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Err(serde::de::Error::custom(format!("cannot decode {text}")))
    }
}

#[test]
fn no_error_quotes_a_value() {
    let sealer = sealer();
    let stored = sealer.encode(&here(), Codec::Json, "hunter2").unwrap();
    let plain = Stored::Plain("\"hunter2\"".into()).encode();
    let marked = Sealer::plain();
    let mut errors = vec![
        sealer.decode::<Talkative>(&here(), Codec::Json, &stored).unwrap_err(),
        sealer.decode::<u32>(&here(), Codec::Json, &stored).unwrap_err(),
        sealer.decode::<Talkative>(&at("x"), Codec::Json, &plain).unwrap_err(),
        sealer.encode(&here(), Codec::Json, &Talkative).unwrap_err(),
        sealer.encode(&at("x"), Codec::Json, &Talkative).unwrap_err(),
        marked.decode::<Sensitive<Talkative>>(&at("x"), Codec::Json, &plain).unwrap_err(),
        marked.encode(&at("x"), Codec::Json, &Sensitive::new(Talkative)).unwrap_err(),
    ];
    errors.push(sealer.decode::<String>(&at("pwd"), Codec::Json, &stored).unwrap_err());
    for e in errors {
        let text = format!("{e} {e:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(e.place().is_some(), "{text}");
    }
}

#[test]
fn scenario_32_nothing_prints_a_secret() {
    let secret = "0123456789abcdef0123456789abcdef";
    let ring = KeyRing::from_bytes(1, secret.as_bytes()).unwrap();
    let sealer = Sealer::new(ring.clone(), policy());
    let builder = KeyRing::builder().key(1, secret.as_bytes()).unwrap();
    let passphrase = resurge_seal::Passphrase::new(secret).unwrap();
    let opened = ring.open(&here(), &ring.seal(&here(), secret.as_bytes()).unwrap()).unwrap();
    for text in [
        format!("{ring:?}"),
        format!("{sealer:#?}"),
        format!("{builder:?}"),
        format!("{passphrase:?}"),
        format!("{opened:?}"),
        format!("{:?}", ring.derive(1, "x").unwrap()),
    ] {
        assert!(!text.contains("0123"), "{text}");
        assert!(!text.contains("48, 49, 50"), "{text}");
    }
    let bad = format!("1:{secret}!");
    for e in [
        KeyRing::from_bytes(1, &secret.as_bytes()[..31]).unwrap_err(),
        KeyRing::from_base64(1, secret).unwrap_err(),
        KeyRing::builder().keys(&bad).unwrap_err(),
        KeyRing::builder().keys(secret).unwrap_err(),
    ] {
        assert!(!format!("{e} {e:?}").contains("0123"), "{e}");
    }
}

#[test]
fn maps_of_contexts_round_trip() {
    let sealer = Sealer::new(
        KeyRing::from_bytes(3, &key(3)).unwrap(),
        SensitivePolicy::encrypt_all_except(["status"]).unwrap(),
    );
    let values = BTreeMap::from([("a", 1), ("status", 2)]);
    for (name, value) in &values {
        let context = Context::new("r", "ctx", name);
        let stored = sealer.encode(&context, Codec::Cbor, value).unwrap();
        let in_clear = matches!(Stored::decode(&stored), Ok(Stored::Plain(_)));
        assert_eq!(in_clear, *name == "status");
        assert_eq!(sealer.decode::<i32>(&context, Codec::Cbor, &stored).unwrap(), *value);
    }
}

#[test]
fn stored_bytes_are_read_strictly() {
    let envelope: Bytes = ring().seal(&here(), b"x").unwrap().into();
    for stored in [Stored::Plain(Bytes::new()), Stored::Plain("x".into()), Stored::Sealed(envelope)]
    {
        let bytes = stored.encode();
        assert_eq!(Stored::decode(&bytes).unwrap(), stored);
        for tag in 2..=u8::MAX {
            let mut other = bytes.to_vec();
            other[0] = tag;
            assert!(Stored::decode(&other.into()).is_err(), "{tag}");
        }
    }
    assert!(Stored::decode(&Bytes::new()).is_err());
    assert!(Stored::decode(&Bytes::from_static(b"\x01 not an envelope")).is_err());
}

#[test]
fn mangled_values_are_never_believed() {
    let sealer = sealer();
    let whole = sealer.encode(&here(), Codec::Cbor, "hunter2").unwrap();
    let mut refused = 0;
    for seed in 0..3_000 {
        let bytes = resurge_testkit::mangle(&whole, seed);
        let untouched = bytes == whole;
        match sealer.decode::<String>(&here(), Codec::Cbor, &bytes.into()) {
            Ok(value) => assert!(untouched && value == "hunter2", "seed {seed}: {value}"),
            Err(e) => {
                assert!(!untouched, "seed {seed}: {e}");
                refused += 1;
            }
        }
    }
    assert!(refused > 2_000, "{refused}");
    resurge_testkit::evidence("mangled-seals", &format!("{refused} mangled values, 0 opened"));
}
