//! The bytes of an image.
//!
//! ```text
//!    0  magic "RSGIMG\0\1"  8 bytes
//!    8  store id            16 bytes
//!   24  begin               u64   every commit up to here is in it
//!   32  end                 u64   no commit after this one is in it
//!   40  entries             u64
//!   48  chunks              u64
//!   56  body length         u64   bytes after the header; the file ends there
//!   64  chain               u32   checksum of the last chunk
//!   68  zeros
//! 4092  checksum            u32   crc32c of bytes 0..4092
//! 4096  chunks
//! ```
//!
//! A chunk is `payload length u32, count u32, payload, checksum u32`; the checksum is the crc32c of
//! length, count and payload, continued from the one of the chunk before (for the first: from the
//! crc32c of store id and begin). The payload is, count times, `key length u16, value length u32,
//! raw key, value`; keys ascend strictly through the whole image.

use bytes::{Buf, BufMut, Bytes};
use resurge_store::{Key, MAX_KEY_LEN, MAX_NAMESPACE_LEN, MAX_VALUE_BYTES};

use crate::super_file::ImageSpan;

pub(super) const BLOCK: usize = 4096;
/// Payload length from which on a chunk is closed.
pub(super) const CHUNK_TARGET: usize = 1 << 20;
pub(super) const CHUNK_HEAD: usize = 8;
pub(super) const CHUNK_TAIL: usize = 4;
const ENTRY_HEAD: usize = 6;
/// The longest payload: just short of closing, and then the largest entry.
pub(super) const MAX_CHUNK: usize =
    CHUNK_TARGET + ENTRY_HEAD + 1 + MAX_NAMESPACE_LEN + MAX_KEY_LEN + MAX_VALUE_BYTES;

const MAGIC: [u8; 8] = *b"RSGIMG\0\x01";
const CHECKED: usize = BLOCK - 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store_id: [u8; 16],
    pub(super) span: ImageSpan,
    pub(super) entries: u64,
    pub(super) chunks: u64,
    pub(super) body: u64,
    pub(super) chain: u32,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        out.put_slice(&MAGIC);
        out.put_slice(&self.store_id);
        out.put_u64(self.span.begin);
        out.put_u64(self.span.end);
        out.put_u64(self.entries);
        out.put_u64(self.chunks);
        out.put_u64(self.body);
        out.put_u32(self.chain);
        out.resize(CHECKED, 0);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    pub(super) fn decode(block: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "image header is cut short";
        let (covered, stored) = block.split_last_chunk::<4>().ok_or(SHORT)?;
        if covered.len() != CHECKED {
            return Err(SHORT);
        }
        if !covered.starts_with(&MAGIC) {
            return Err("no image of this format version");
        }
        if *stored != crc32c::crc32c(covered).to_be_bytes() {
            return Err("image header checksum does not match");
        }
        let mut from = covered;
        from.advance(MAGIC.len());
        let mut store_id = [0; 16];
        from.copy_to_slice(&mut store_id);
        let header = Self {
            store_id,
            span: ImageSpan { begin: from.get_u64(), end: from.get_u64() },
            entries: from.get_u64(),
            chunks: from.get_u64(),
            body: from.get_u64(),
            chain: from.get_u32(),
        };
        if header.span.begin > header.span.end || header.chunks > header.entries {
            return Err("image header holds impossible values");
        }
        Ok(header)
    }
}

/// What the checksum of the first chunk goes on from.
pub(super) fn chain_start(store_id: &[u8; 16], begin: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(store_id), &begin.to_be_bytes())
}

pub(super) fn put_entry(out: &mut Vec<u8>, key: &Key, value: &[u8]) {
    // INVARIANT: the contract bounds both far below their integer's range.
    out.put_u16(u16::try_from(key.raw().len()).unwrap_or(u16::MAX));
    out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
    out.put_slice(key.raw());
    out.put_slice(value);
}

/// The entries of a payload whose checksum held. `last` is the raw key before (empty for none), and
/// then the last one.
pub(super) fn decode_payload(
    payload: &Bytes,
    count: u32,
    last: &mut Vec<u8>,
) -> Result<Vec<(Key, Bytes)>, &'static str> {
    // What the payload can hold at most, whatever the count claims.
    let most = payload.len() / ENTRY_HEAD;
    let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(most).min(most));
    walk(payload, count, last, |key, value| {
        entries.push((Key::from_raw(payload.slice_ref(key))?, payload.slice_ref(value)));
        Ok(())
    })?;
    Ok(entries)
}

/// Checks what [`decode_payload`] checks and keeps nothing.
pub(super) fn check_payload(
    payload: &[u8],
    count: u32,
    last: &mut Vec<u8>,
) -> Result<(), &'static str> {
    walk(payload, count, last, |key, _| Key::check_raw(key))
}

fn walk<'a>(
    mut payload: &'a [u8],
    count: u32,
    last: &mut Vec<u8>,
    mut each: impl FnMut(&'a [u8], &'a [u8]) -> resurge_store::Result<()>,
) -> Result<(), &'static str> {
    const SHORT: &str = "entry is cut short";
    let mut before: Option<&[u8]> = None;
    for _ in 0..count {
        let key_len = usize::from(payload.try_get_u16().map_err(|_| SHORT)?);
        let value_len = usize::try_from(payload.try_get_u32().map_err(|_| SHORT)?);
        let value_len = value_len.map_err(|_| SHORT)?;
        if value_len > MAX_VALUE_BYTES {
            return Err(SHORT);
        }
        let (key, rest) = payload.split_at_checked(key_len).ok_or(SHORT)?;
        let (value, rest) = rest.split_at_checked(value_len).ok_or(SHORT)?;
        each(key, value).map_err(|_| "entry without a key")?;
        // No key is empty: an empty one is before them all.
        if before.unwrap_or(last) >= key {
            return Err("keys do not ascend");
        }
        before = Some(key);
        payload = rest;
    }
    if let Some(key) = before {
        last.clear();
        last.extend_from_slice(key);
    }
    if payload.is_empty() { Ok(()) } else { Err("bytes after the last entry") }
}
