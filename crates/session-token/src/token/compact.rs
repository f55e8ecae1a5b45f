//! `compact48`: 64 characters of base64url for `subject hash 8 || issued_at ns u64 || HMAC-SHA256 32`.
//!
//! It has no key id, no purpose, no generation and no id of its own: the session is stored under a hash of
//! the first sixteen bytes, and every key of the ring is tried.

use base64ct::{Base64UrlUnpadded, Encoding};
use resurge_seal::pae;
use sha2::{Digest, Sha256};

use super::base64url;
use super::wire::{mac, verify};
use crate::error::{Result, SessionError};
use crate::keys::KeyedMac;
use crate::record_id::{self, RecordId};

const HEAD_LEN: usize = 16;
const LEN: usize = 48;
const TEXT_LEN: usize = 64;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// The part that is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactToken {
    head: [u8; HEAD_LEN],
}

impl CompactToken {
    pub(crate) fn new(subject: &str, issued_ns: u64) -> Self {
        let hash: [u8; 32] = Sha256::digest(subject.as_bytes()).into();
        let mut head = [0; HEAD_LEN];
        let (subject, time) = head.split_at_mut(8);
        subject.copy_from_slice(hash.first_chunk::<8>().unwrap_or(&[0; 8]));
        time.copy_from_slice(&issued_ns.to_be_bytes());
        Self { head }
    }

    /// Whether it is one of this subject's.
    pub(crate) fn is_of(&self, subject: &str) -> bool {
        Self::new(subject, self.issued_ns()) == *self
    }

    pub(crate) fn id(&self) -> RecordId {
        let hash: [u8; 32] = Sha256::digest(self.head).into();
        RecordId(*hash.first_chunk::<{ record_id::LEN }>().unwrap_or(&[0; record_id::LEN]))
    }

    /// In milliseconds.
    pub(crate) fn issued_at(&self) -> u64 {
        self.issued_ns() / NANOS_PER_MILLI
    }

    fn issued_ns(&self) -> u64 {
        let (_, time) = self.head.split_last_chunk::<8>().unwrap_or((&[], &[0; 8]));
        u64::from_be_bytes(*time)
    }

    fn message(&self, purpose: &str) -> Vec<u8> {
        pae(&[b"compact48", purpose.as_bytes(), &self.head])
    }

    pub(crate) fn sign(&self, purpose: &str, keyed: &KeyedMac) -> String {
        let mut body = Vec::with_capacity(LEN);
        body.extend_from_slice(&self.head);
        body.extend_from_slice(&mac(keyed, &self.message(purpose)));
        Base64UrlUnpadded::encode_string(&body)
    }

    /// The token and its MAC, which is not checked yet.
    pub(crate) fn parse(text: &str) -> Result<(Self, [u8; 32])> {
        if text.len() != TEXT_LEN {
            return Err(SessionError::Malformed);
        }
        let mut body = [0; LEN];
        base64url::decode(text, &mut body).ok_or(SessionError::Malformed)?;
        let (head, mac) = body.split_first_chunk().ok_or(SessionError::Malformed)?;
        let mac = mac.try_into().map_err(|_| SessionError::Malformed)?;
        Ok((Self { head: *head }, mac))
    }

    pub(crate) fn verify(&self, purpose: &str, keyed: &KeyedMac, tag: &[u8; 32]) -> Result<()> {
        verify(keyed, &self.message(purpose), tag)
    }
}
