//! Everything that turns values into bytes and back: keys, batches, records, codecs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use resurge_store::{
    Batch, Codec, ErrorKind, Key, KeyRange, MAX_KEY_LEN, MAX_NAMESPACE_LEN, MAX_VALUE_BYTES,
    Namespace, Op, Record, Timestamp,
};

fn ns(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

#[test]
fn namespace_names_are_checked() {
    for bad in ["", "A", "a b", "a\0", "\u{e9}", &"x".repeat(MAX_NAMESPACE_LEN + 1)] {
        assert_eq!(Namespace::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
    }
    for good in ["a", "0", "resurge/wal", "a.b_c-d", &"x".repeat(MAX_NAMESPACE_LEN)] {
        assert_eq!(ns(good).name(), good);
    }
}

#[test]
fn a_key_too_long_is_refused_with_its_length_and_the_limit() {
    assert!(ns("a").key(vec![0; MAX_KEY_LEN]).is_ok());
    let error = ns("a").key(vec![0; MAX_KEY_LEN + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("1025") && error.to_string().contains("1024"), "{error}");
}

#[test]
fn keys_of_every_length_hold_their_bytes() {
    for len in 0..=MAX_KEY_LEN {
        let bytes: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let key = ns("ab").key(&bytes).unwrap();
        assert_eq!(key.raw()[..], [&b"\x02ab"[..], &bytes].concat());
        assert_eq!(key.bytes(), bytes);
        let again = Key::from_raw(Bytes::copy_from_slice(key.raw())).unwrap();
        assert_eq!(again, key.clone());
    }
}

#[test]
fn namespaces_never_overlap() {
    // A name that is the start of another, and keys that imitate a name.
    let (a, ab) = (ns("a"), ns("ab"));
    let key = a.key("b:x").unwrap();
    assert!(a.all().contains(&key) && !ab.all().contains(&key));
    assert_eq!(key.namespace(), a);
    assert_eq!(key.bytes(), b"b:x");
    assert_eq!(key.to_string(), "a:b:x");
}

#[test]
fn what_is_no_key_is_refused() {
    for raw in [&b""[..], b"\x00", b"\x05ab", b"\x01A", b"\x01\xff"] {
        assert_eq!(
            Key::from_raw(Bytes::copy_from_slice(raw)).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}

#[test]
fn a_prefix_of_all_ones_has_no_end_of_its_own() {
    let range = ns("a").prefix([0xff, 0xff]);
    assert!(range.contains(&ns("a").key([0xff, 0xff, 1]).unwrap()));
    assert!(!range.contains(&ns("a").key([0xff, 0xfe]).unwrap()));
    assert!(!range.contains(&ns("b").key([0xff]).unwrap()));
}

#[test]
fn a_backward_range_is_empty_and_does_not_panic() {
    let range = ns("a").range(&b"z"[..]..&b"a"[..]);
    assert!(range.is_empty());
    let map = std::collections::BTreeSet::<Vec<u8>>::new();
    assert_eq!(map.range::<[u8], _>(range.bounds()).count(), 0);
}

#[test]
fn batch_limits_name_the_key_and_the_limit() {
    let key = ns("a").key("big").unwrap();
    let mut batch = Batch::new();
    batch.put(key.clone(), vec![0; MAX_VALUE_BYTES]);
    assert!(batch.validate().is_ok());
    let mut batch = Batch::new();
    batch.put(key.clone(), vec![0; MAX_VALUE_BYTES + 1]);
    let error = batch.validate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("a:big"), "{error}");
    let mut batch = Batch::new();
    for i in 0..5_u8 {
        batch.put(ns("a").key([i]).unwrap(), vec![0; MAX_VALUE_BYTES - 100]);
    }
    assert_eq!(batch.validate().unwrap_err().kind(), ErrorKind::Invalid);
}

fn any_key() -> impl Strategy<Value = Key> {
    ("[a-z]{1,3}", vec(any::<u8>(), 0..6)).prop_map(|(name, bytes)| ns(&name).key(bytes).unwrap())
}

fn any_batch() -> impl Strategy<Value = Batch> {
    vec((any_key(), proptest::option::of(vec(any::<u8>(), 0..20))), 0..8).prop_map(|ops| {
        let mut batch = Batch::new();
        for (key, value) in ops {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            };
        }
        batch
    })
}

proptest! {
    #[test]
    fn a_key_survives_its_raw_form(key in any_key()) {
        prop_assert_eq!(Key::from_raw(key.raw().clone()).unwrap(), key);
    }

    #[test]
    fn ranges_agree_with_the_order_of_bytes(
        name in "[a-z]{1,2}", a in vec(any::<u8>(), 0..4), b in vec(any::<u8>(), 0..4),
        probe in vec(any::<u8>(), 0..4),
    ) {
        let ns = ns(&name);
        let key = ns.key(&probe).unwrap();
        let (a, b, probe) = (a.as_slice(), b.as_slice(), probe.as_slice());
        prop_assert_eq!(ns.range(a..b).contains(&key), probe >= a && probe < b);
        prop_assert_eq!(ns.range(a..=b).contains(&key), probe >= a && probe <= b);
        prop_assert_eq!(ns.prefix(a).contains(&key), probe.starts_with(a));
        prop_assert!(ns.all().contains(&key) && KeyRange::everything().contains(&key));
        prop_assert!(!ns.all().after(&key).contains(&key));
        prop_assert!(!ns.all().before(&key).contains(&key));
    }

    #[test]
    fn a_batch_survives_its_encoding(batch in any_batch()) {
        let mut bytes = Vec::new();
        batch.encode_ops(&mut bytes);
        prop_assert_eq!(Batch::decode_ops(bytes.into()).unwrap(), batch);
    }

    #[test]
    fn a_cut_batch_is_refused(batch in any_batch(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        batch.encode_ops(&mut bytes);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert_eq!(Batch::decode_ops(bytes.into()).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn any_bytes_decode_or_fail_but_never_panic(bytes in vec(any::<u8>(), 0..64)) {
        let bytes = Bytes::from(bytes);
        drop(Batch::decode_ops(bytes.clone()));
        drop(Record::decode(&ns("a").key("k").unwrap(), &bytes));
        drop(Codec::Cbor.decode::<Vec<(String, u64)>>(&bytes));
        drop(Codec::Json.decode::<Vec<(String, u64)>>(&bytes));
    }

    #[test]
    fn a_record_survives_and_every_flip_cut_and_foreign_key_is_found(
        payload in vec(any::<u8>(), 0..24), expires in proptest::option::of(any::<u64>()),
    ) {
        let key = ns("a").key("k").unwrap();
        let mut record = Record::new(payload);
        if let Some(ms) = expires {
            record = record.expires_at(Timestamp::from_millis(ms));
        }
        let stored = record.encode(&key);
        prop_assert_eq!(Record::decode(&key, &stored).unwrap(), record);
        for bit in 0..stored.len() * 8 {
            let mut bytes = stored.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = Record::decode(&key, &bytes.into()).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
            prop_assert_eq!(error.key(), Some(&key));
        }
        for len in 0..stored.len() {
            prop_assert!(Record::decode(&key, &stored.slice(..len)).is_err());
        }
        prop_assert!(Record::decode(&ns("a").key("other").unwrap(), &stored).is_err());
    }
}

#[test]
fn huge_claimed_lengths_are_refused() {
    // One put whose value claims 4 GiB, one batch that claims four billion operations.
    let mut bytes = Vec::from(1_u32.to_be_bytes());
    bytes.extend([1, 0, 3, 1, b'a', b'k']);
    bytes.extend(u32::MAX.to_be_bytes());
    assert_eq!(Batch::decode_ops(bytes.into()).unwrap_err().kind(), ErrorKind::Corrupt);
    let bytes = u32::MAX.to_be_bytes().to_vec();
    assert_eq!(Batch::decode_ops(bytes.into()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn the_batch_format_is_fixed() {
    let mut batch = Batch::new();
    batch.put(ns("a").key("k").unwrap(), "v").delete(ns("b").key("").unwrap());
    let mut bytes = Vec::new();
    batch.encode_ops(&mut bytes);
    let want = b"\0\0\0\x02\x01\0\x03\x01ak\0\0\0\x01v\0\0\x02\x01b";
    assert_eq!(bytes, want);
    assert!(matches!(batch.ops(), [Op::Put { .. }, Op::Delete { .. }]));
}

#[test]
fn the_record_format_is_fixed() {
    let key = ns("a").key("k").unwrap();
    let stored = Record::new("v").expires_at(Timestamp::from_millis(1)).encode(&key);
    let crc = crc32c_of(&[key.raw(), b"RV\x01\x01\0\0\0\0\0\0\0\x01v"]);
    assert_eq!(stored, [&b"RV\x01\x01\0\0\0\0\0\0\0\x01v"[..], &crc.to_be_bytes()].concat());
}

fn crc32c_of(parts: &[&[u8]]) -> u32 {
    // Bit by bit, so that it does not share a defect with the implementation.
    let mut crc = u32::MAX;
    for byte in parts.concat() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn codecs_keep_types_apart_and_consume_everything() {
    for codec in [Codec::Cbor, Codec::Json] {
        let value = (3_i64, (1_u64 << 53) + 1, "\u{e9}".to_owned(), vec![Some(0.5), None]);
        let mut bytes = codec.encode(&value).unwrap();
        let back: (i64, u64, String, Vec<Option<f64>>) = codec.decode(&bytes).unwrap();
        assert_eq!(back, value);
        bytes.push(b'0');
        let error = codec.decode::<(i64, u64, String, Vec<Option<f64>>)>(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_failed_encoding_leaves_the_buffer_as_it_was() {
    #[derive(serde::Serialize)]
    struct Unserialisable(#[serde(serialize_with = "refuse")] [u8; 32]);
    fn refuse<S: serde::Serializer>(_: &[u8; 32], _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("refused"))
    }
    for codec in [Codec::Cbor, Codec::Json] {
        let mut out = b"before".to_vec();
        let error = codec.encode_into(&("x", Unserialisable([0; 32])), &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("Unserialisable"), "{error}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn deep_nesting_and_oversize_input_are_refused() {
    let deep = vec![0x81_u8; 100_000];
    assert_eq!(Codec::Cbor.decode::<Nested>(&deep).unwrap_err().kind(), ErrorKind::Corrupt);
    let deep = vec![b'['; 100_000];
    assert_eq!(Codec::Json.decode::<Nested>(&deep).unwrap_err().kind(), ErrorKind::Corrupt);
    let large = vec![0x40_u8; MAX_VALUE_BYTES + 1];
    let error = Codec::Cbor.decode::<Nested>(&large).unwrap_err();
    assert!(error.to_string().contains("limit"), "{error}");
    let error = Codec::Json.encode(&"x".repeat(MAX_VALUE_BYTES)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[derive(Debug, serde::Deserialize)]
struct Nested(#[expect(dead_code, reason = "only its depth matters")] Vec<Nested>);
