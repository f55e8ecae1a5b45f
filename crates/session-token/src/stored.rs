//! What is stored of a session, and its layout: fixed numbers, then subject and state with their lengths.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Result, SessionError};

const VERSION: u8 = 1;
const LIVE: u8 = 0;
const REVOKED: u8 = 1;
const SEALED: u8 = 1;
const FIXED_LEN: usize = 3 + 8 + 3 * 8 + 2 * 8 + 4 + 8 + 4 + 8 + 4 + 1 + 2 * HASH_LEN;
pub(crate) const HASH_LEN: usize = 16;

/// One session. Times are wall time in milliseconds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredSession {
    /// Only kept so that its tokens are known to be revoked.
    pub(crate) revoked: bool,
    /// Whether subject and state are sealed.
    pub(crate) sealed: bool,
    pub(crate) purpose: [u8; 8],
    pub(crate) created: u64,
    /// Nothing prolongs it beyond.
    pub(crate) absolute: u64,
    /// The end, unless it is used before.
    pub(crate) deadline: u64,
    /// How often it was saved; 0: there is no state yet.
    pub(crate) version: u64,
    /// How often somebody else became its owner.
    pub(crate) epoch: u64,
    /// Of the token that is current.
    pub(crate) generation: u32,
    pub(crate) generation_issued: u64,
    pub(crate) generation_key: u32,
    /// Until then the token before the current one is taken as well.
    pub(crate) grace_until: u64,
    pub(crate) schema: u32,
    pub(crate) codec: u8,
    /// What its subject is listed under.
    pub(crate) subject_hash: [u8; HASH_LEN],
    /// Keyed, of the state.
    pub(crate) hash: [u8; HASH_LEN],
    pub(crate) subject: Bytes,
    pub(crate) state: Bytes,
}

/// Neither subject nor state.
impl std::fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSession")
            .field("version", &self.version)
            .field("epoch", &self.epoch)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl StoredSession {
    /// When there is nothing left to be kept.
    pub(crate) fn removable_at(&self) -> u64 {
        if self.revoked { self.absolute } else { self.deadline }
    }

    /// What is left of a revoked session.
    pub(crate) fn tombstone(&self) -> Self {
        let (subject, state) = (Bytes::new(), Bytes::new());
        Self { revoked: true, sealed: false, subject, state, hash: [0; HASH_LEN], ..self.clone() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out =
            BytesMut::with_capacity(FIXED_LEN + 8 + self.subject.len() + self.state.len());
        out.put_u8(VERSION);
        out.put_u8(if self.revoked { REVOKED } else { LIVE });
        out.put_u8(if self.sealed { SEALED } else { 0 });
        out.put_slice(&self.purpose);
        out.put_u64(self.created);
        out.put_u64(self.absolute);
        out.put_u64(self.deadline);
        out.put_u64(self.version);
        out.put_u64(self.epoch);
        out.put_u32(self.generation);
        out.put_u64(self.generation_issued);
        out.put_u32(self.generation_key);
        out.put_u64(self.grace_until);
        out.put_u32(self.schema);
        out.put_u8(self.codec);
        out.put_slice(&self.subject_hash);
        out.put_slice(&self.hash);
        for part in [&self.subject, &self.state] {
            // INVARIANT: subject and state are limited far below 4 GiB by the options.
            out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            out.put_slice(part);
        }
        out.freeze()
    }

    pub(crate) fn decode(mut from: Bytes) -> Result<Self> {
        let bad = || SessionError::Corrupt("its record is malformed");
        if from.len() < FIXED_LEN {
            return Err(bad());
        }
        if from.get_u8() != VERSION {
            return Err(SessionError::Corrupt("its record is of a version this build cannot read"));
        }
        let (revoked, sealed) = match (from.get_u8(), from.get_u8()) {
            (revoked @ (LIVE | REVOKED), sealed @ (0 | SEALED)) => {
                (revoked == REVOKED, sealed == SEALED)
            }
            _ => return Err(bad()),
        };
        let mut purpose = [0; 8];
        from.copy_to_slice(&mut purpose);
        let mut session = Self {
            revoked,
            sealed,
            purpose,
            created: from.get_u64(),
            absolute: from.get_u64(),
            deadline: from.get_u64(),
            version: from.get_u64(),
            epoch: from.get_u64(),
            generation: from.get_u32(),
            generation_issued: from.get_u64(),
            generation_key: from.get_u32(),
            grace_until: from.get_u64(),
            schema: from.get_u32(),
            codec: from.get_u8(),
            subject_hash: [0; HASH_LEN],
            hash: [0; HASH_LEN],
            subject: Bytes::new(),
            state: Bytes::new(),
        };
        from.copy_to_slice(&mut session.subject_hash);
        from.copy_to_slice(&mut session.hash);
        session.subject = part(&mut from).ok_or_else(bad)?;
        session.state = part(&mut from).ok_or_else(bad)?;
        if from.is_empty() { Ok(session) } else { Err(bad()) }
    }
}

fn part(from: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(from.try_get_u32().ok()?).ok()?;
    (len <= from.len()).then(|| from.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> StoredSession {
        StoredSession {
            revoked: false,
            sealed: true,
            purpose: [1; 8],
            created: 2,
            absolute: 3,
            deadline: 4,
            version: 5,
            epoch: 6,
            generation: 7,
            generation_issued: 8,
            generation_key: 9,
            grace_until: 10,
            schema: 11,
            codec: 12,
            subject_hash: [14; HASH_LEN],
            hash: [13; HASH_LEN],
            subject: Bytes::from_static(b"subject"),
            state: Bytes::from_static(b"state"),
        }
    }

    #[test]
    fn it_reads_what_it_wrote_and_no_part_of_it() {
        for session in [session(), session().tombstone()] {
            let bytes = session.encode();
            assert_eq!(StoredSession::decode(bytes.clone()).unwrap(), session);
            for end in 0..bytes.len() {
                assert!(StoredSession::decode(bytes.slice(..end)).is_err(), "{end}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(StoredSession::decode(longer.into()).is_err());
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = session().encode();
        assert_eq!(FIXED_LEN, 112);
        assert_eq!(bytes.len(), 112 + 4 + 7 + 4 + 5);
        assert_eq!(&bytes[..4], [1, 0, 1, 1]);
        assert_eq!(&bytes[11..19], 2_u64.to_be_bytes());
        assert_eq!(&bytes[51..55], 7_u32.to_be_bytes());
    }
}
