//! Envelopes byte for byte.

use super::*;

fn root() -> [u8; 32] {
    std::array::from_fn(|n| u8::try_from(n).unwrap())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

const GOLDEN: &str = "010101020304101112131415161718191a1b1c1d1e1f2021222324252627063f2f44227ac3f5ec1f4d03bd6eb5ff5b88\
    042f3564f26a0993a63a8aaa27f5fed7c13b115a36c0e0c79bc7cd85f79ff3954dacf63a82";

#[test]
fn the_golden_vector() {
    let material = crate::material::Material::new(&root()).unwrap();
    let salt: [u8; SALT_LEN] = std::array::from_fn(|n| 0x10 + u8::try_from(n).unwrap());
    let context = Context::new("wf-42", "ctx", "password");
    let mut out = Vec::new();
    let key = KeyId(0x0102_0304);
    seal(key, material.field(), &context, &salt, 0, b"hunter2", &mut out).unwrap();
    assert_eq!(out, hex(GOLDEN));
    let envelope = Envelope::parse(&out).unwrap();
    assert_eq!(envelope.key(), key);
    assert_eq!(envelope.open(material.field(), &context).unwrap().as_slice(), b"hunter2");
}

/// An envelope of suite 2 whose padded value is exactly `padded`.
fn forged(padded: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let material = crate::material::Material::new(&root()).unwrap();
    let context = Context::new("wf-42", "ctx", "password");
    let header = [VERSION, SUITE_PADDED, 0, 0, 0, 1];
    let mut out = header.to_vec();
    let fill = |out: &mut Vec<u8>| out.extend_from_slice(padded);
    let aad = aad(header, &context);
    cipher::seal(material.field(), INFO, &aad, &[9; SALT_LEN], padded.len(), &mut out, fill)
        .unwrap();
    Envelope::parse(&out).unwrap().open(material.field(), &context)
}

#[test]
fn padding_that_is_none_is_refused() {
    assert_eq!(forged(b"ab\x80\0\0").unwrap().as_slice(), b"ab");
    assert_eq!(forged(b"\x80").unwrap().as_slice(), b"");
    for bad in [&b""[..], b"\0\0", b"ab", b"ab\x81\0", b"ab\x80\0\x01"] {
        assert!(forged(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_byte_of_the_header_is_bound() {
    let material = crate::material::Material::new(&root()).unwrap();
    let context = Context::new("wf-42", "ctx", "password");
    let mut out = Vec::new();
    seal(KeyId(1), material.field(), &context, &[9; SALT_LEN], 0, b"x", &mut out).unwrap();
    // With the right key at hand for any id.
    for id in [0, 2, 0x0100_0001, 0xffff_ffff_u32] {
        out.splice(2..6, id.to_be_bytes());
        assert!(Envelope::parse(&out).unwrap().open(material.field(), &context).is_err());
    }
    out.splice(2..6, 1_u32.to_be_bytes());
    assert!(Envelope::parse(&out).unwrap().open(material.field(), &context).is_ok());
}
