//! `st1`: `"st1."` and base64url of a header with a MAC (kind 1), or with a sealed state (kind 3).
//!
//! Header, 50 bytes or 66: `version 01 || kind, bit 7 set when bound || key id u32 || record id 16 || purpose
//! tag 8 || issued_at ms u64 || expires_at ms u64 || generation u32 || binding tag 16, if bound`.

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::Mac;
use resurge_seal::pae_each;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::base64url;
use crate::error::{Result, SessionError};
use crate::keys::KeyedMac;
use crate::record_id::{self, RecordId};

pub(crate) const PREFIX: &str = "st1.";
const VERSION: u8 = 1;
pub(crate) const KIND_REFERENCE: u8 = 1;
pub(crate) const KIND_SEALED: u8 = 3;
const BOUND: u8 = 0x80;
const FIXED_LEN: usize = 50;
pub(crate) const TAG_LEN: usize = 16;
const MAC_LEN: usize = 32;
/// What a sealed state adds to the header and itself: salt, commitment, tag.
const SEAL_OVERHEAD: usize = 24 + 32 + 16;
const MAX_HEADER_LEN: usize = FIXED_LEN + TAG_LEN;
/// The longest text that may be a token without a state in it, and what it decodes to.
const MAX_REFERENCE: usize = 256;
const MAX_REFERENCE_BODY: usize = base64url::decoded_len(MAX_REFERENCE - PREFIX.len());

type Binding = [u8; TAG_LEN];

/// Everything a token says, believed only after its MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) key_id: u32,
    pub(crate) id: RecordId,
    pub(crate) purpose: [u8; 8],
    pub(crate) issued_at: u64,
    pub(crate) expires_at: u64,
    pub(crate) generation: u32,
    pub(crate) binding: Option<Binding>,
}

impl Header {
    /// Appends it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let bound = if self.binding.is_some() { BOUND } else { 0 };
        out.extend_from_slice(&[VERSION, self.kind | bound]);
        out.extend_from_slice(&self.key_id.to_be_bytes());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.purpose);
        out.extend_from_slice(&self.issued_at.to_be_bytes());
        out.extend_from_slice(&self.expires_at.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(self.binding.as_ref().map_or(&[], |tag| tag.as_slice()));
    }
}

/// The first bytes of SHA-256 of a purpose.
pub(crate) fn purpose_tag(purpose: &str) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(purpose.as_bytes()).into();
    let mut tag = [0; 8];
    tag.copy_from_slice(digest.first_chunk::<8>().unwrap_or(&[0; 8]));
    tag
}

/// What binds a token to a client.
pub(crate) fn binding_tag(keyed: &KeyedMac, context: &[u8]) -> Binding {
    let mac = mac(keyed, context);
    *mac.first_chunk().unwrap_or(&[0; TAG_LEN])
}

pub(super) fn mac(keyed: &KeyedMac, message: &[u8]) -> [u8; MAC_LEN] {
    let mut mac = keyed.clone();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

pub(super) fn verify(keyed: &KeyedMac, message: &[u8], tag: &[u8]) -> Result<()> {
    let mut mac = keyed.clone();
    mac.update(message);
    // In constant time.
    mac.verify_slice(tag).map_err(|_| SessionError::InvalidSignature)
}

/// The MAC of a token with this header, to be ended or compared.
fn signing(keyed: &KeyedMac, header: &[u8]) -> KeyedMac {
    let mut mac = keyed.clone();
    pae_each(&[PREFIX.as_bytes(), header], |bytes| mac.update(bytes));
    mac
}

/// The text of a signed token.
pub(crate) fn sign(header: &Header, keyed: &KeyedMac) -> Result<String> {
    let mut body = Vec::with_capacity(MAX_HEADER_LEN + MAC_LEN);
    header.encode(&mut body);
    let mac = signing(keyed, &body).finalize().into_bytes();
    body.extend_from_slice(&mac);
    text(&body)
}

/// The text of a token with this body.
pub(crate) fn text(body: &[u8]) -> Result<String> {
    let mut out = Vec::with_capacity(PREFIX.len() + Base64UrlUnpadded::encoded_len(body));
    out.extend_from_slice(PREFIX.as_bytes());
    out.resize(out.capacity(), 0);
    let encoded = out.get_mut(PREFIX.len()..).unwrap_or_default();
    Base64UrlUnpadded::encode(body, encoded).map_err(|_| SessionError::Encode)?;
    String::from_utf8(out).map_err(|_| SessionError::Encode)
}

/// The first four bytes of the record id a text claims; for `Debug`.
pub(super) fn shown(text: &str) -> Option<[u8; 4]> {
    // The first 16 symbols are 12 bytes; the id begins at byte 6.
    let start = text.strip_prefix(PREFIX)?.get(..16)?;
    let mut out = [0; 12];
    let bytes = Base64UrlUnpadded::decode(start, &mut out).ok()?;
    bytes.get(6..10)?.try_into().ok()
}

/// A signed token taken apart, believed in nothing but its shape. Nothing is allocated for it.
pub(crate) struct SignedToken {
    body: [u8; MAX_REFERENCE_BODY],
    len: usize,
    /// For reading what is needed to check it: the key id.
    unverified: Header,
    header_len: usize,
}

impl Drop for SignedToken {
    fn drop(&mut self) {
        self.body.get_mut(..self.len).unwrap_or_default().zeroize();
    }
}

impl SignedToken {
    /// Length, prefix, strict base64url, version, kind, exact length.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let encoded = encoded(text, MAX_REFERENCE)?;
        let mut body = [0; MAX_REFERENCE_BODY];
        let decoded = base64url::decode(encoded, &mut body).ok_or(SessionError::Malformed)?;
        let (unverified, header_len) = header(decoded, KIND_REFERENCE)?;
        let len = decoded.len();
        if len != header_len + MAC_LEN {
            return Err(SessionError::Malformed);
        }
        Ok(Self { body, len, unverified, header_len })
    }

    /// The key it says it was made with.
    pub(crate) fn key_id(&self) -> u32 {
        self.unverified.key_id
    }

    /// What it says, once its MAC is checked.
    pub(crate) fn verify(&self, keyed: &KeyedMac) -> Result<Header> {
        let body = self.body.get(..self.len).unwrap_or_default();
        let (header, tag) = body.split_at_checked(self.header_len).unwrap_or_default();
        // In constant time.
        let checked = signing(keyed, header).verify_slice(tag);
        checked.map_err(|_| SessionError::InvalidSignature)?;
        Ok(self.unverified.clone())
    }
}

/// A token with a sealed state, taken apart, believed in nothing but its shape.
pub(crate) struct SealedToken {
    body: Zeroizing<Vec<u8>>,
    unverified: Header,
    header_len: usize,
}

impl SealedToken {
    /// Length, prefix, strict base64url, version, kind, length.
    pub(crate) fn parse(text: &str, max_len: usize) -> Result<Self> {
        // ORDER: its length before anything is allocated for it.
        let encoded = encoded(text, max_len)?;
        let mut body = Zeroizing::new(vec![0; base64url::decoded_len(encoded.len())]);
        base64url::decode(encoded, &mut body).ok_or(SessionError::Malformed)?;
        let (unverified, header_len) = header(&body, KIND_SEALED)?;
        if body.len() < header_len + SEAL_OVERHEAD {
            return Err(SessionError::Malformed);
        }
        Ok(Self { body, unverified, header_len })
    }

    /// The key it says it was made with.
    pub(crate) fn key_id(&self) -> u32 {
        self.unverified.key_id
    }

    /// The header and what follows it.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        self.body.split_at_checked(self.header_len).unwrap_or_default()
    }

    /// What it says; for a token whose seal the caller opened, which authenticates the header too.
    pub(crate) fn opened(self) -> Header {
        self.unverified
    }
}

fn encoded(text: &str, max_len: usize) -> Result<&str> {
    if text.len() > max_len {
        return Err(SessionError::Malformed);
    }
    text.strip_prefix(PREFIX).ok_or(SessionError::Malformed)
}

/// The header a body begins with, and its length.
fn header(body: &[u8], kind: u8) -> Result<(Header, usize)> {
    let [version, flags, ..] = body else { return Err(SessionError::Malformed) };
    if *version != VERSION || flags & !BOUND != kind {
        return Err(SessionError::UnsupportedVersion);
    }
    let bound = flags & BOUND != 0;
    let header = Fields(body).header(kind, bound).ok_or(SessionError::Malformed)?;
    Ok((header, if bound { MAX_HEADER_LEN } else { FIXED_LEN }))
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn header(mut self, kind: u8, bound: bool) -> Option<Header> {
        self.take::<2>()?;
        Some(Header {
            kind,
            key_id: u32::from_be_bytes(self.take()?),
            id: RecordId(self.take::<{ record_id::LEN }>()?),
            purpose: self.take()?,
            issued_at: u64::from_be_bytes(self.take()?),
            expires_at: u64::from_be_bytes(self.take()?),
            generation: u32::from_be_bytes(self.take()?),
            binding: if bound { Some(self.take()?) } else { None },
        })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests;
