//! `st1`: `"st1."` and base64url of a header with a MAC (kind 1), or with a sealed state (kind 3).
//!
//! Header, 50 bytes or 66: `version 01 || kind, bit 7 set when bound || key id u32 || record id 16 || purpose
//! tag 8 || issued_at ms u64 || expires_at ms u64 || generation u32 || binding tag 16, if bound`.

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use resurge_seal::pae;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Result, SessionError};
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
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + TAG_LEN + MAC_LEN);
        let bound = if self.binding.is_some() { BOUND } else { 0 };
        out.extend_from_slice(&[VERSION, self.kind | bound]);
        out.extend_from_slice(&self.key_id.to_be_bytes());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.purpose);
        out.extend_from_slice(&self.issued_at.to_be_bytes());
        out.extend_from_slice(&self.expires_at.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(self.binding.as_ref().map_or(&[], |tag| tag.as_slice()));
        out
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
pub(crate) fn binding_tag(subkey: &[u8; 32], context: &[u8]) -> Binding {
    let mac = mac(subkey, context).map(|mac| mac.finalize().into_bytes());
    let mut tag = [0; TAG_LEN];
    if let Some(first) = mac.as_deref().and_then(|mac| mac.first_chunk::<TAG_LEN>()) {
        tag = *first;
    }
    tag
}

pub(super) fn mac(subkey: &[u8; 32], message: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(subkey).ok()?;
    mac.update(message);
    Some(mac)
}

pub(super) fn verify(subkey: &[u8; 32], message: &[u8], tag: &[u8]) -> Result<()> {
    let mac = mac(subkey, message).ok_or(SessionError::InvalidSignature)?;
    // In constant time.
    mac.verify_slice(tag).map_err(|_| SessionError::InvalidSignature)
}

/// The text of a signed token.
pub(crate) fn sign(header: &Header, subkey: &[u8; 32]) -> Result<String> {
    let mut body = header.encode();
    let mac = mac(subkey, &pae(&[PREFIX.as_bytes(), &body])).ok_or(SessionError::Encode)?;
    body.extend_from_slice(&mac.finalize().into_bytes());
    Ok(text(&body))
}

/// The text of a token with this body.
pub(crate) fn text(body: &[u8]) -> String {
    let mut out = String::with_capacity(PREFIX.len() + body.len() * 4 / 3 + 4);
    out.push_str(PREFIX);
    out.push_str(&Base64UrlUnpadded::encode_string(body));
    out
}

/// The first four bytes of the record id a text claims; for `Debug`.
pub(super) fn shown(text: &str) -> Option<[u8; 4]> {
    // The first 16 symbols are 12 bytes; the id begins at byte 6.
    let start = text.strip_prefix(PREFIX)?.get(..16)?;
    let mut out = [0; 12];
    let bytes = Base64UrlUnpadded::decode(start, &mut out).ok()?;
    bytes.get(6..10)?.try_into().ok()
}

/// A token taken apart, believed in nothing but its shape.
pub(crate) struct SignedToken {
    body: Zeroizing<Vec<u8>>,
    /// For reading what is needed to check it: the key id and the kind.
    unverified: Header,
    header_len: usize,
}

impl SignedToken {
    /// Length, prefix, strict base64url, version, kind, exact length.
    pub(crate) fn parse(text: &str, kind: u8, max_len: usize) -> Result<Self> {
        // ORDER: before anything is allocated for it.
        if text.len() > max_len {
            return Err(SessionError::Malformed);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(SessionError::Malformed)?;
        let body = Base64UrlUnpadded::decode_vec(encoded).map_err(|_| SessionError::Malformed)?;
        let body = Zeroizing::new(body);
        let (version, flags) = match body.as_slice() {
            [version, flags, ..] => (*version, *flags),
            _ => return Err(SessionError::Malformed),
        };
        if version != VERSION || flags & !BOUND != kind {
            return Err(SessionError::UnsupportedVersion);
        }
        let bound = flags & BOUND != 0;
        let header_len = if bound { FIXED_LEN + TAG_LEN } else { FIXED_LEN };
        let fits = match kind {
            KIND_REFERENCE => body.len() == header_len + MAC_LEN,
            _ => body.len() >= header_len + SEAL_OVERHEAD,
        };
        if !fits {
            return Err(SessionError::Malformed);
        }
        let unverified = Fields(&body).header(kind, bound).ok_or(SessionError::Malformed)?;
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

    /// What it says, once its MAC is checked.
    pub(crate) fn verify(self, subkey: &[u8; 32]) -> Result<Header> {
        let (header, tag) = self.parts();
        verify(subkey, &pae(&[PREFIX.as_bytes(), header]), tag)?;
        Ok(self.unverified)
    }

    /// What it says; for a token whose seal the caller opened, which authenticates the header too.
    pub(crate) fn opened(self) -> Header {
        self.unverified
    }
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
