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
