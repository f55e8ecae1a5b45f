//! How entries lie in the sled tree; the bytes are described in `docs/format.md`.

use resurge_store::{CommitSeq, Key};

use super::super::{Digest, IndexError, IndexErrorKind, IndexMeta, IndexResult, digest};

/// The first byte of a raw key is the length of its namespace, 1 to 64: what is below and above is ours.
pub(super) const META_KEY: &[u8] = b"\x00meta";
/// Everything but the meta entry is at or after it.
pub(super) const FIRST_KEY: &[u8] = &[0x01];
/// Chunks of large values start with it and come after every key.
const CHUNK: u8 = 0xFF;
/// The first key after every key of the store.
pub(super) const KEYS_END: &[u8] = &[CHUNK];
/// Key and value of one sled entry; sled moves pages that grow far beyond into files of their own.
const MAX_ENTRY: usize = 4096;
/// A value may at most have this many chunks: 16 MiB in the smallest ones, and some.
const MAX_CHUNKS: usize = 8192;

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

/// True for the key of a chunk.
pub(super) fn is_chunk(key: &[u8]) -> bool {
    key.first() == Some(&CHUNK)
}

/// Counts a chunk into the sum; it is no key.
pub(super) fn count_chunk(digest: &mut Digest, key: &[u8], bytes: &[u8]) {
    digest.sum = digest.sum.wrapping_add(digest::hash(key, bytes));
}

/// `[0xFF][raw key][chunk number u32 BE]`: unique, since the number always has four bytes.
pub(super) fn chunk_key(key: &[u8], number: usize) -> Vec<u8> {
    let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    [&[CHUNK], key, &number].concat()
}

/// How many bytes of a value one chunk under `key` holds.
fn chunk_len(key: &[u8]) -> usize {
    // INVARIANT: at least 3,002, since raw keys have at most 1,089 bytes.
    MAX_ENTRY.saturating_sub(1 + key.len() + 4).max(1)
}

/// What is stored under the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored<'a> {
    /// The value.
    Inline(&'a [u8]),
    /// Where to find the value.
    Chunked(Head),
}

/// Stands for a value that is stored in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: usize,
    /// The sum over the chunks' keys and bytes: they are subtracted without being read, and chunks of
    /// different values are never mistaken for one.
    pub(super) sum: u128,
}

impl Head {
    pub(super) fn chunks(&self, key: &[u8]) -> usize {
        self.len.div_ceil(chunk_len(key))
    }

    fn encode(self) -> [u8; 21] {
        let mut bytes = [0; 21];
        let [tag, rest @ ..] = &mut bytes;
        *tag = CHUNKED;
        let (len, sum) = rest.split_at_mut(4);
        len.copy_from_slice(&u32::try_from(self.len).unwrap_or(u32::MAX).to_be_bytes());
        sum.copy_from_slice(&self.sum.to_be_bytes());
        bytes
    }
}

/// A value, ready to be stored.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    /// What goes under the key itself.
    pub(super) stored: Vec<u8>,
    /// Of how many chunks, and their sum; `None` for a value that is inline.
    pub(super) head: Option<Head>,
    /// The value in chunks, in order.
    pub(super) chunks: Vec<&'a [u8]>,
}

/// Divides a value as its length asks for.
pub(super) fn encode<'a>(key: &[u8], value: &'a [u8]) -> Encoded<'a> {
    if 1 + key.len() + value.len() <= MAX_ENTRY {
        let mut stored = Vec::with_capacity(1 + value.len());
        stored.push(INLINE);
        stored.extend_from_slice(value);
        return Encoded { stored, head: None, chunks: Vec::new() };
    }
    let chunks: Vec<&[u8]> = value.chunks(chunk_len(key)).collect();
    let hashes =
        chunks.iter().enumerate().map(|(n, bytes)| digest::hash(&chunk_key(key, n), bytes));
    let sum = hashes.fold(0_u128, u128::wrapping_add);
    let head = Head { len: value.len(), sum };
    Encoded { stored: head.encode().to_vec(), head: Some(head), chunks }
}

/// Reads what is stored under a key.
pub(super) fn decode<'a>(key: &[u8], stored: &'a [u8]) -> IndexResult<Stored<'a>> {
    let corrupt = || {
        let place = key.escape_ascii();
        IndexError::new(IndexErrorKind::Corrupt, format!("the entry of {place} is malformed"))
    };
    match stored.split_first() {
        Some((&INLINE, value)) => Ok(Stored::Inline(value)),
        Some((&CHUNKED, head)) => {
            let (len, sum) = head.split_at_checked(4).ok_or_else(corrupt)?;
            let len: [u8; 4] = len.try_into().map_err(|_| corrupt())?;
            let sum: [u8; 16] = sum.try_into().map_err(|_| corrupt())?;
            let len = usize::try_from(u32::from_be_bytes(len)).map_err(|_| corrupt())?;
            let head = Head { len, sum: u128::from_be_bytes(sum) };
            if head.chunks(key) > MAX_CHUNKS {
                return Err(corrupt());
            }
            Ok(Stored::Chunked(head))
        }
        _ => Err(corrupt()),
    }
}

/// Counts an entry, with all its chunks, out.
pub(super) fn count_out(digest: &mut Digest, key: &Key, stored: &[u8], head: Option<Head>) {
    digest.remove(key.raw(), stored);
    digest.sum = digest.sum.wrapping_sub(head.map_or(0, |h| h.sum));
}

/// Counts an entry, with all its chunks, in.
pub(super) fn count_in(digest: &mut Digest, key: &Key, stored: &[u8], head: Option<Head>) {
    digest.add(key.raw(), stored);
    digest.sum = digest.sum.wrapping_add(head.map_or(0, |h| h.sum));
}

const META_VERSION: u8 = 1;
const META_LEN: usize = 1 + 16 + 1 + 8 + 8 + 16 + 4;

/// `[version][store id][ready][applied_seq][keys][sum][crc32c]`
pub(super) fn encode_meta(meta: &IndexMeta) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(META_LEN);
    bytes.push(META_VERSION);
    bytes.extend_from_slice(&meta.store_id);
    bytes.push(u8::from(meta.ready));
    bytes.extend_from_slice(&meta.applied_seq.0.to_be_bytes());
    bytes.extend_from_slice(&meta.digest.keys.to_be_bytes());
    bytes.extend_from_slice(&meta.digest.sum.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

pub(super) fn decode_meta(bytes: &[u8]) -> IndexResult<IndexMeta> {
    let corrupt = |what: &str| {
        IndexError::new(IndexErrorKind::Corrupt, format!("what it says about itself {what}"))
    };
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("is too short"))?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Err(corrupt("fails its checksum"));
    }
    let short = || corrupt("has the wrong length");
    let ([version], body) = body.split_first_chunk().ok_or_else(short)?;
    if *version != META_VERSION {
        return Err(corrupt(&format!("has format version {version}, this is {META_VERSION}")));
    }
    let (store_id, body) = body.split_first_chunk::<16>().ok_or_else(short)?;
    let ([ready], body) = body.split_first_chunk().ok_or_else(short)?;
    let (applied, body) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let (keys, body) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let sum: [u8; 16] = body.try_into().map_err(|_| short())?;
    Ok(IndexMeta {
        store_id: *store_id,
        ready: *ready == 1,
        applied_seq: CommitSeq(u64::from_be_bytes(*applied)),
        digest: Digest { keys: u64::from_be_bytes(*keys), sum: u128::from_be_bytes(sum) },
    })
}
