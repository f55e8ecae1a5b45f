//! Where sessions are in the store: the record of each, and the indexes that find it.

use std::ops::Bound;

use resurge_store::{Key, KeyRange, Namespace, StoreError, Timestamp};
use sha2::{Digest, Sha256};

use crate::record_id::{self, RecordId};

type Result<T> = std::result::Result<T, StoreError>;

const RECORD: u8 = b'r';
const EXPIRY: u8 = b'x';
const CREATION: u8 = b'o';
const SUBJECT: u8 = b's';
const COUNTER: u8 = b'n';
const CUTOFF: u8 = b'b';

/// The keys of one manager.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    ns: Namespace,
}

impl Layout {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Ok(Self { ns: Namespace::new(&format!("session/{name}"))? })
    }

    pub(crate) fn name(&self) -> String {
        self.ns.name().to_owned()
    }

    pub(crate) fn record(&self, id: RecordId) -> Result<Key> {
        self.key(&[&[RECORD], &id.0])
    }

    pub(crate) fn records(&self) -> KeyRange {
        self.ns.prefix([RECORD])
    }

    /// Ordered by when there is nothing left to be kept.
    pub(crate) fn expiry(&self, at: u64, id: RecordId) -> Result<Key> {
        self.key(&[&[EXPIRY], &at.to_be_bytes(), &id.0])
    }

    pub(crate) fn expiries(&self) -> KeyRange {
        self.ns.prefix([EXPIRY])
    }

    /// Those behind `after`; all of them when that is not before `now`.
    pub(crate) fn expired_at(&self, after: Option<&Key>, now: Timestamp) -> KeyRange {
        let mut end = vec![EXPIRY];
        end.extend_from_slice(&now.as_millis().saturating_add(1).to_be_bytes());
        let end = end.as_slice();
        match after.map(Key::bytes).filter(|after| *after < end) {
            Some(after) => self.ns.range((Bound::Excluded(after), Bound::Excluded(end))),
            None => self.ns.range(&[EXPIRY][..]..end),
        }
    }

    /// Ordered by creation. Live sessions only.
    pub(crate) fn creation(&self, created: u64, id: RecordId) -> Result<Key> {
        self.key(&[&[CREATION], &created.to_be_bytes(), &id.0])
    }

    pub(crate) fn creations(&self) -> KeyRange {
        self.ns.prefix([CREATION])
    }

    /// Ordered by subject, then by creation. Live sessions only.
    pub(crate) fn of_subject(&self, hash: &[u8; 16], created: u64, id: RecordId) -> Result<Key> {
        self.key(&[&[SUBJECT], hash, &created.to_be_bytes(), &id.0])
    }

    pub(crate) fn all_of_subject(&self, hash: &[u8; 16]) -> KeyRange {
        self.ns.prefix([&[SUBJECT], hash.as_slice()].concat())
    }

    pub(crate) fn counter(&self) -> Result<Key> {
        self.ns.key([COUNTER])
    }

    pub(crate) fn cutoff(&self) -> Result<Key> {
        self.ns.key([CUTOFF])
    }

    fn key(&self, parts: &[&[u8]]) -> Result<Key> {
        self.ns.key(parts.concat())
    }
}

/// The session an index entry is about: the last bytes of its key.
pub(crate) fn id_of(key: &Key) -> Option<RecordId> {
    key.bytes().last_chunk::<{ record_id::LEN }>().map(|id| RecordId(*id))
}

/// Subjects are found by a hash, so that the index does not show them.
pub(crate) fn subject_hash(subject: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(subject.as_bytes()).into();
    *digest.first_chunk::<16>().unwrap_or(&[0; 16])
}
