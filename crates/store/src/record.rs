//! The envelope around every value a crate of this framework stores: version, expiry, checksum.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Key, Result, StoreError, Timestamp};

const MAGIC: u16 = 0x5256; // "RV"
const VERSION: u8 = 1;
const FLAG_EXPIRES: u8 = 1;
const HEAD: usize = 4;
const CRC: usize = 4;

/// A payload with an optional expiry, sealed for one key.
///
/// Layout: `[magic u16][version u8][flags u8][expires_at ms u64, if flagged][payload][crc32c u32]`.
/// The checksum covers the key too, so a value found under another key is corrupt, not believed.
///
/// ```
/// use resurge_store::{Namespace, Record};
/// let key = Namespace::new("app")?.key("k")?;
/// let stored = Record::new("payload").encode(&key);
/// assert_eq!(Record::decode(&key, &stored)?.payload(), "payload");
/// # Ok::<(), resurge_store::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    payload: Bytes,
    expires_at: Option<Timestamp>,
}

impl Record {
    /// A record that never expires.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), expires_at: None }
    }

    /// Hides it from [`Store::read`](crate::Store::read) from `at` on.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// What was stored.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// What was stored, by value.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// When it expires, if ever.
    pub fn expiry(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether it is expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The bytes to store under `key`.
    pub fn encode(&self, key: &Key) -> Bytes {
        let expiry = if self.expires_at.is_some() { 8 } else { 0 };
        let mut out = BytesMut::with_capacity(HEAD + expiry + self.payload.len() + CRC);
        out.put_u16(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(if self.expires_at.is_some() { FLAG_EXPIRES } else { 0 });
        if let Some(at) = self.expires_at {
            out.put_u64(at.as_millis());
        }
        out.put_slice(&self.payload);
        let crc = checksum(key, &out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Reads what was stored under `key`. The payload shares `stored`.
    ///
    /// # Errors
    /// `Corrupt`, naming the key, when anything about it is not as written.
    pub fn decode(key: &Key, stored: &Bytes) -> Result<Self> {
        let bad = |what: &str| StoreError::corrupt(key.clone(), format!("record: {what}"));
        let body_len =
            stored.len().checked_sub(CRC).ok_or_else(|| bad("shorter than a checksum"))?;
        let mut body = stored.slice(..body_len);
        let mut tail = stored.slice(body_len..);
        if body.len() < HEAD {
            return Err(bad("shorter than a header"));
        }
        if checksum(key, &body) != tail.get_u32() {
            return Err(bad("checksum mismatch"));
        }
        if body.get_u16() != MAGIC {
            return Err(bad("not a record"));
        }
        let version = body.get_u8();
        if version != VERSION {
            return Err(bad(&format!("version {version} is newer than this build reads")));
        }
        let expires_at = match body.get_u8() {
            0 => None,
            FLAG_EXPIRES => {
                let ms = body.try_get_u64().map_err(|_| bad("expiry cut short"))?;
                Some(Timestamp::from_millis(ms))
            }
            _ => return Err(bad("unknown flags")),
        };
        Ok(Self { payload: body, expires_at })
    }
}

fn checksum(key: &Key, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.raw()), body)
}
