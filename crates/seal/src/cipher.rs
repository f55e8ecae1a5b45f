//! The committing AEAD: AES-256-GCM-SIV under a key, a nonce and a commitment derived for each message.
//!
//! `okm = HKDF-SHA256(key, salt, info || SHA-256(aad))`, cut into key 32, nonce 12, commitment 32.
//! A body is `salt 24 || commitment 32 || ciphertext || tag 16`. The commitment fixes the key (AES-GCM-SIV
//! alone does not), and is checked here, inside `open`, before anything is decrypted.

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use ctutils::CtEq;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::material::KEY_LEN;

pub(crate) const SALT_LEN: usize = 24;
pub(crate) const COMMITMENT_LEN: usize = 32;
pub(crate) const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;
const OKM_LEN: usize = KEY_LEN + NONCE_LEN + COMMITMENT_LEN;

/// It does not open, or cannot be sealed.
#[derive(Debug)]
pub(crate) struct Refused;

/// What one message is sealed with.
struct Message {
    okm: Zeroizing<[u8; OKM_LEN]>,
}

impl Message {
    fn derive(key: &[u8; KEY_LEN], salt: &[u8], info: &[u8], aad: &[u8]) -> Result<Self, Refused> {
        let mut okm = Zeroizing::new([0; OKM_LEN]);
        Hkdf::<Sha256>::new(Some(salt), key)
            .expand_multi_info(&[info, &Sha256::digest(aad)], okm.as_mut())
            .map_err(|_| Refused)?;
        Ok(Self { okm })
    }

    fn commitment(&self) -> &[u8] {
        self.okm.get(KEY_LEN + NONCE_LEN..).unwrap_or_default()
    }

    fn cipher(&self) -> Result<(Aes256GcmSiv, Nonce), Refused> {
        let key = self.okm.get(..KEY_LEN).ok_or(Refused)?;
        let nonce = self.okm.get(KEY_LEN..KEY_LEN + NONCE_LEN).ok_or(Refused)?;
        let cipher = Aes256GcmSiv::new_from_slice(key).map_err(|_| Refused)?;
        Ok((cipher, Nonce::try_from(nonce).map_err(|_| Refused)?))
    }
}

/// Appends a body to `out`. `fill` appends the plaintext, which must leave the capacity as it was made:
/// `len` bytes.
pub(crate) fn seal(
    key: &[u8; KEY_LEN],
    info: &[u8],
    aad: &[u8],
    salt: &[u8; SALT_LEN],
    len: usize,
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Refused> {
    let message = Message::derive(key, salt, info, aad)?;
    let (cipher, nonce) = message.cipher()?;
    let start = out.len();
    // All at once: a vector that grows leaves copies of the plaintext behind.
    out.reserve(SALT_LEN + COMMITMENT_LEN + len + TAG_LEN);
    out.extend_from_slice(salt);
    out.extend_from_slice(message.commitment());
    let body = out.len();
    fill(out);
    let plain = out.get_mut(body..).ok_or(Refused)?;
    if let Ok(tag) = cipher.encrypt_inout_detached(&nonce, aad, plain.into()) {
        out.extend_from_slice(&tag);
        return Ok(());
    }
    if let Some(left) = out.get_mut(start..) {
        left.zeroize();
    }
    out.truncate(start);
    Err(Refused)
}

/// Opens a body: commitment first, then the tag. Nothing unverified gets out.
pub(crate) fn open(
    key: &[u8; KEY_LEN],
    info: &[u8],
    aad: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let (salt, rest) = body.split_at_checked(SALT_LEN).ok_or(Refused)?;
    let (commitment, rest) = rest.split_at_checked(COMMITMENT_LEN).ok_or(Refused)?;
    let at = rest.len().checked_sub(TAG_LEN).ok_or(Refused)?;
    let (sealed, tag) = rest.split_at_checked(at).ok_or(Refused)?;
    let message = Message::derive(key, salt, info, aad)?;
    if !message.commitment().ct_eq(commitment).to_bool() {
        return Err(Refused);
    }
    let (cipher, nonce) = message.cipher()?;
    let tag = Tag::try_from(tag).map_err(|_| Refused)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    cipher
        .decrypt_inout_detached(&nonce, aad, plain.as_mut_slice().into(), &tag)
        .map_err(|_| Refused)?;
    Ok(plain)
}
