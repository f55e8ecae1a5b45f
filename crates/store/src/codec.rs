//! Typed values to bytes and back: CBOR by default, JSON where people read it.

use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ErrorKind, MAX_VALUE_BYTES, Result, StoreError};

/// How deep a decoded value may nest.
const MAX_DEPTH: usize = 128;

/// A serialisation format. Decoding is capped in size and depth and must consume the whole input.
///
/// ```
/// use resurge_store::Codec;
/// for codec in [Codec::Cbor, Codec::Json] {
///     let bytes = codec.encode(&("job", 3_u64))?;
///     assert_eq!(codec.decode::<(String, u64)>(&bytes)?, ("job".to_owned(), 3));
/// }
/// # Ok::<(), resurge_store::StoreError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// RFC 8949: compact, keeps integers, bytes and floats apart.
    #[default]
    Cbor,
    /// RFC 8259: readable.
    Json,
}

impl Codec {
    /// Serialises `value`.
    ///
    /// # Errors
    /// `Invalid` when the value refuses, or when it takes more than 16 MiB.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.encode_into(value, &mut out)?;
        Ok(out)
    }

    /// Serialises `value` to the end of `out`; what was there stays, also on error.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_into<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let done = match self {
            Self::Cbor => ciborium::into_writer(value, &mut *out).map_err(|e| e.to_string()),
            Self::Json => serde_json::to_writer(&mut *out, value).map_err(|e| e.to_string()),
        };
        let len = out.len() - start;
        let failed = match done {
            Ok(()) if len <= MAX_VALUE_BYTES => return Ok(()),
            Ok(()) => format!("takes {len} bytes; the limit is {MAX_VALUE_BYTES}"),
            Err(e) => format!("is not serialisable: {e}"),
        };
        out.truncate(start);
        let name = std::any::type_name::<T>();
        Err(StoreError::invalid(format!("a value of type {name} {failed}")))
    }

    /// Deserialises all of `bytes`.
    ///
    /// # Errors
    /// `Corrupt` when they are no such value, hold more than one, are over 16 MiB or nest deeper
    /// than 128 levels.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        let name = std::any::type_name::<T>();
        let bad = |what: String| {
            StoreError::new(ErrorKind::Corrupt, format!("cannot decode a {name}: {what}"))
        };
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(bad(format!("{} bytes; the limit is {MAX_VALUE_BYTES}", bytes.len())));
        }
        match self {
            Self::Cbor => {
                let mut rest = bytes;
                let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
                    .map_err(|e| bad(e.to_string()))?;
                if rest.is_empty() {
                    Ok(value)
                } else {
                    Err(bad(format!("{} bytes left over", rest.len())))
                }
            }
            Self::Json => serde_json::from_slice(bytes).map_err(|e| bad(e.to_string())),
        }
    }

    /// Serialises `value` piece by piece into `out`, for what may be larger than one stored value.
    /// No size limit of its own: the writer refuses what is too much.
    ///
    /// # Errors
    /// `Invalid` when the value or the writer refuses.
    pub fn write_to<T: Serialize + ?Sized>(self, value: &T, out: impl Write) -> Result<()> {
        let done = match self {
            Self::Cbor => ciborium::into_writer(value, out).map_err(|e| e.to_string()),
            Self::Json => serde_json::to_writer(out, value).map_err(|e| e.to_string()),
        };
        done.map_err(|e| {
            let name = std::any::type_name::<T>();
            StoreError::invalid(format!("a value of type {name} was not written: {e}"))
        })
    }

    /// Deserialises what [`write_to`](Self::write_to) wrote, to the end of `from`. The reader decides
    /// how much that may be; nesting is limited as in [`decode`](Self::decode).
    ///
    /// # Errors
    /// `Corrupt` when it is no such value, or more than one.
    pub fn read_from<T: DeserializeOwned>(self, mut from: impl Read) -> Result<T> {
        let name = std::any::type_name::<T>();
        let bad = |what: &str| {
            StoreError::new(ErrorKind::Corrupt, format!("cannot decode a {name}: {what}"))
        };
        match self {
            Self::Cbor => {
                let value = ciborium::de::from_reader_with_recursion_limit(&mut from, MAX_DEPTH)
                    .map_err(|e| bad(&e.to_string()))?;
                match from.read(&mut [0]) {
                    Ok(0) => Ok(value),
                    Ok(_) => Err(bad("bytes left over")),
                    Err(e) => Err(bad(&e.to_string())),
                }
            }
            Self::Json => serde_json::from_reader(from).map_err(|e| bad(&e.to_string())),
        }
    }
}
