//! Metadata byte for byte.

use resurge_testkit::mangle;

use super::*;

fn sample() -> Meta {
    let key = |state, retired, reason: &str, source| MetaKey {
        state,
        retired,
        kcv: [7; KCV_LEN],
        reason: reason.into(),
        source,
    };
    let passphrase = Source::Passphrase { params: KdfParams::default(), salt: [9; SALT_LEN] };
    Meta {
        revision: 5,
        keys: BTreeMap::from([
            (KeyId(1), key(KeyState::Destroyed, 2, "rotated", Source::Supplied)),
            (KeyId(2), key(KeyState::Revoked, 4, "leaked", passphrase)),
            (KeyId(0x0102_0304), key(KeyState::Active, 0, "", Source::Wrapped("blob".into()))),
            (KeyId(0xffff_ffff), key(KeyState::VerifyOnly, 0, "", Source::Supplied)),
        ]),
    }
}

fn decode(bytes: impl Into<Bytes>) -> Result<Meta> {
    Meta::decode(&"main".into(), &bytes.into())
}

#[test]
fn the_layout_is_as_documented() {
    let one = Meta {
        revision: 3,
        keys: BTreeMap::from([(
            KeyId(7),
            MetaKey {
                state: KeyState::Revoked,
                retired: 2,
                kcv: [0xab; KCV_LEN],
                reason: "x".into(),
                source: Source::Passphrase {
                    params: KdfParams { memory_kib: 19_456, passes: 2, lanes: 1 },
                    salt: [0xcd; SALT_LEN],
                },
            },
        )]),
    };
    let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
    expected.extend([0, 0, 0, 7, 3, 0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend([0xab; KCV_LEN]);
    expected.extend([0, 0, 0, 1, b'x', 2, 1, 0, 0, 0x4c, 0, 0, 0, 0, 2, 0, 0, 0, 1]);
    expected.extend([0xcd; SALT_LEN]);
    assert_eq!(one.encode(), expected);
    assert_eq!(decode(expected).unwrap(), one);
}

#[test]
fn it_comes_back() {
    for meta in [Meta::default(), sample()] {
        assert_eq!(decode(meta.encode()).unwrap(), meta);
    }
}

#[test]
fn cut_and_stretched_is_refused() {
    let whole = sample().encode();
    for cut in 0..whole.len() {
        assert!(decode(whole.get(..cut).unwrap().to_vec()).is_err(), "cut at {cut}");
    }
    let mut longer = whole;
    longer.push(0);
    assert!(decode(longer).is_err());
}

#[test]
fn damaged_bytes_are_refused_or_read_as_what_they_say() {
    let whole = sample().encode();
    for seed in 0..2_000 {
        let bytes = mangle(&whole, seed);
        if let Ok(meta) = decode(bytes.clone()) {
            assert_eq!(meta.encode(), bytes);
        }
    }
}

#[test]
fn costs_beyond_reason_are_refused_before_anything_is_allocated() {
    let mut meta = sample();
    let params = KdfParams { memory_kib: u32::MAX, passes: 1, lanes: 1 };
    let source = Source::Passphrase { params, salt: [9; SALT_LEN] };
    meta.keys.get_mut(&KeyId(2)).unwrap().source = source;
    let refused = decode(meta.encode()).unwrap_err();
    assert!(refused.to_string().contains("passphrase parameters"), "{refused}");
}

#[test]
fn two_active_keys_are_refused() {
    let mut meta = sample();
    meta.keys.get_mut(&KeyId(2)).unwrap().state = KeyState::Active;
    assert!(decode(meta.encode()).unwrap_err().to_string().contains("two active"));
}

#[test]
fn names_of_rings() {
    assert!(key_of("main").is_ok());
    for bad in ["", "a\0b", &"x".repeat(201)] {
        assert!(key_of(bad).is_err());
    }
}
