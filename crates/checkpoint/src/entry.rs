//! What is stored under a key: a claim, or a result. The record envelope around it has the checksum.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use resurge_store::{Codec, Key, Record, StoreError, Timestamp};

const VERSION: u8 = 1;
const OWNERS: u8 = 0;
const CLAIMED: u8 = 1;
const DONE: u8 = 2;
const FLAG_NEVER_AGAIN: u8 = 1;

/// How many bytes beside the value itself a result takes, at most: envelope with expiry, and head.
pub(crate) const DONE_OVERHEAD: usize = 4 + 8 + 4 + 2 + 1 + 8 + 8;

/// A result, as the bytes of some codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Bytes,
}

/// Who wrote the bytes of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// The caller, who knows what they are.
    Opaque,
    Codec(Codec),
}

impl Encoding {
    fn tag(self) -> u8 {
        match self {
            Self::Codec(Codec::Cbor) => 1,
            Self::Codec(Codec::Json) => 2,
            // Codecs to come are written as what nobody else decodes.
            Self::Opaque | Self::Codec(_) => 0,
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::Opaque),
            1 => Some(Self::Codec(Codec::Cbor)),
            2 => Some(Self::Codec(Codec::Json)),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Claimed(Claimed),
    Done(Done),
}

/// Somebody runs the step, or did when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) owner: u64,
    pub(crate) serial: u64,
    pub(crate) since: Timestamp,
    pub(crate) deadline: Timestamp,
    /// It was claimed under `InDoubt::Fail`.
    pub(crate) never_again: bool,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) owner: u64,
    pub(crate) at: Timestamp,
    pub(crate) value: Value,
}

impl Claimed {
    pub(crate) fn encode(&self, key: &Key) -> Bytes {
        let mut out = BytesMut::with_capacity(35);
        out.put_slice(&[VERSION, CLAIMED]);
        out.put_u8(if self.never_again { FLAG_NEVER_AGAIN } else { 0 });
        out.put_u64(self.owner);
        out.put_u64(self.serial);
        out.put_u64(self.since.as_millis());
        out.put_u64(self.deadline.as_millis());
        Record::new(out.freeze()).encode(key)
    }

    /// Whether both are one claim, perhaps renewed.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.owner, self.serial) == (other.owner, other.serial)
    }
}

impl Done {
    pub(crate) fn encode(&self, key: &Key, expires_at: Option<Timestamp>) -> Bytes {
        let mut out = BytesMut::with_capacity(19 + self.value.bytes.len());
        out.put_slice(&[VERSION, DONE]);
        out.put_u8(self.value.encoding.tag());
        out.put_u64(self.owner);
        out.put_u64(self.at.as_millis());
        out.put_slice(&self.value.bytes);
        let record = Record::new(out.freeze());
        match expires_at {
            Some(at) => record.expires_at(at).encode(key),
            None => record.encode(key),
        }
    }
}

impl Entry {
    /// Reads the payload of an intact record.
    pub(crate) fn decode(key: &Key, payload: &Bytes) -> Result<Self, StoreError> {
        let bad = |what: &str| StoreError::corrupt(key.clone(), format!("checkpoint: {what}"));
        let short = |_| bad("cut short");
        let mut rest = payload.clone();
        let version = rest.try_get_u8().map_err(short)?;
        if version != VERSION {
            return Err(bad(&format!("version {version} is newer than this build reads")));
        }
        match rest.try_get_u8().map_err(short)? {
            CLAIMED => {
                let never_again = match rest.try_get_u8().map_err(short)? {
                    0 => false,
                    FLAG_NEVER_AGAIN => true,
                    _ => return Err(bad("unknown flags")),
                };
                let mut number = || rest.try_get_u64().map_err(short);
                let (owner, serial) = (number()?, number()?);
                let since = Timestamp::from_millis(number()?);
                let deadline = Timestamp::from_millis(number()?);
                if rest.has_remaining() {
                    return Err(bad("bytes left over"));
                }
                Ok(Self::Claimed(Claimed { owner, serial, since, deadline, never_again }))
            }
            DONE => {
                let tag = rest.try_get_u8().map_err(short)?;
                let encoding = Encoding::from_tag(tag).ok_or_else(|| bad("unknown codec"))?;
                let owner = rest.try_get_u64().map_err(short)?;
                let at = Timestamp::from_millis(rest.try_get_u64().map_err(short)?);
                Ok(Self::Done(Done { owner, at, value: Value { encoding, bytes: rest } }))
            }
            _ => Err(bad("neither claim nor result")),
        }
    }
}

/// The record of the newest owner's number.
pub(crate) fn encode_owner(key: &Key, owner: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(10);
    out.put_slice(&[VERSION, OWNERS]);
    out.put_u64(owner);
    Record::new(out.freeze()).encode(key)
}

pub(crate) fn decode_owner(key: &Key, payload: &Bytes) -> Result<u64, StoreError> {
    match payload.split_first_chunk() {
        Some(([VERSION, OWNERS], rest)) if rest.len() == 8 => {
            Ok(rest.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
        }
        _ => Err(StoreError::corrupt(key.clone(), "checkpoint: not the number of an owner")),
    }
}
