//! The cipher against the vectors of its RFC and of Wycheproof.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};

use support::hex;

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
}

/// Seals and opens one vector; whether both come out as it says.
fn holds(fields: &[&str]) -> (bool, bool) {
    let bytes: Vec<_> = fields.iter().map(|field| hex(field)).collect();
    let [key, nonce, aad, plain, sealed] = bytes.as_slice() else { panic!("{fields:?}") };
    let cipher = Aes256GcmSiv::new_from_slice(key).unwrap();
    let nonce = Nonce::try_from(nonce.as_slice()).unwrap();
    let made = cipher.encrypt(&nonce, Payload { msg: plain, aad }).unwrap();
    let opened = cipher.decrypt(&nonce, Payload { msg: sealed, aad });
    (made == *sealed, opened.is_ok_and(|opened| opened == *plain))
}

#[test]
fn scenario_35_rfc_8452() {
    let mut count = 0;
    for fields in lines(include_str!("vectors/rfc8452.txt")) {
        assert_eq!(holds(&fields), (true, true), "{fields:?}");
        count += 1;
    }
    assert_eq!(count, 24);
}

#[test]
fn scenario_35_wycheproof() {
    let mut count = (0, 0);
    for fields in lines(include_str!("vectors/wycheproof.txt")) {
        if fields[0] == "pass" {
            assert_eq!(holds(&fields[1..]), (true, true), "{fields:?}");
            count.0 += 1;
        } else {
            assert!(!holds(&fields[1..]).1, "{fields:?}");
            count.1 += 1;
        }
    }
    assert_eq!(count, (45, 35));
}
