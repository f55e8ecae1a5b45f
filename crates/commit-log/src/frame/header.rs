//! Decoding: bytes from disk are untrusted until both checksums hold.

use super::{HEADER_LEN, MAGIC, MAX_FRAME, TRAILER_LEN};

const VERSION: u16 = 1;
const KIND_ENTRIES: u8 = 1;
/// Header bytes that the checksums cover. The header checksum itself stays out of the trailer: a
/// CRC over data followed by its own CRC is a constant, the header would drop out of the chain.
const CHECKED: usize = HEADER_LEN - 4;

/// The header of a frame, its checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) len: u32,
    pub(crate) count: u32,
    pub(crate) first_seq: u64,
    pub(crate) durable_upto: u64,
    pub(crate) salt: u64,
    pub(crate) chain: u32,
}

impl FrameHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let rest = put(&mut out, &MAGIC);
        let rest = put(rest, &VERSION.to_be_bytes());
        let rest = put(rest, &[KIND_ENTRIES, 0]);
        let rest = put(rest, &self.len.to_be_bytes());
        let rest = put(rest, &self.count.to_be_bytes());
        let rest = put(rest, &self.first_seq.to_be_bytes());
        let rest = put(rest, &self.durable_upto.to_be_bytes());
        let rest = put(rest, &self.salt.to_be_bytes());
        put(rest, &self.chain.to_be_bytes());
        let crc = crc32c::crc32c(checked(&out));
        if let Some(field) = out.last_chunk_mut() {
            *field = crc.to_be_bytes();
        }
        out
    }

    /// The reason is for people; every reason means "no frame here".
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, &'static str> {
        let mut rest = bytes.as_slice();
        if take(&mut rest)? != MAGIC {
            return Err("no frame where one is expected");
        }
        if bytes.last_chunk() != Some(&crc32c::crc32c(checked(bytes)).to_be_bytes()) {
            return Err("frame header checksum does not match");
        }
        if u16::from_be_bytes(take(&mut rest)?) != VERSION {
            return Err("unknown frame version");
        }
        if take(&mut rest)? != [KIND_ENTRIES, 0] {
            return Err("unknown frame kind");
        }
        let header = Self {
            len: u32::from_be_bytes(take(&mut rest)?),
            count: u32::from_be_bytes(take(&mut rest)?),
            first_seq: u64::from_be_bytes(take(&mut rest)?),
            durable_upto: u64::from_be_bytes(take(&mut rest)?),
            salt: u64::from_be_bytes(take(&mut rest)?),
            chain: u32::from_be_bytes(take(&mut rest)?),
        };
        if header.len as usize > MAX_FRAME {
            return Err("frame longer than the limit");
        }
        if header.count == 0 || header.first_seq == 0 || header.last_seq().is_none() {
            return Err("frame without valid sequences");
        }
        if header.durable_upto >= header.first_seq {
            return Err("frame claims to be older than what was synced before it");
        }
        Ok(header)
    }

    /// `None` when the sequences would overflow.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.first_seq.checked_add(u64::from(self.count))?.checked_sub(1)
    }

    /// Length of the whole frame, header to trailer.
    pub(crate) fn frame_len(&self) -> u64 {
        (HEADER_LEN + padded_len(self.len as usize)) as u64
    }
}

/// Length of payload, zeros and trailer.
pub(crate) const fn padded_len(payload: usize) -> usize {
    // The header is a multiple of 8, so the body is one too.
    (payload + TRAILER_LEN).next_multiple_of(8)
}

/// The trailer: a running checksum, because the header holds the previous trailer.
pub(super) fn trailer(header: &[u8; HEADER_LEN], payload_and_zeros: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(payload_and_zeros), checked(header))
}

/// Checks what follows the header (`body` is payload, zeros, trailer). Returns the payload and
/// the trailer, the next frame's chain value.
pub(crate) fn check_body<'a>(
    header_bytes: &[u8; HEADER_LEN],
    header: &FrameHeader,
    body: &'a [u8],
) -> Result<(&'a [u8], u32), &'static str> {
    if body.len() != padded_len(header.len as usize) {
        return Err("frame is cut short");
    }
    let Some((covered, stored)) = body.split_last_chunk::<TRAILER_LEN>() else {
        return Err("frame is cut short");
    };
    let crc = trailer(header_bytes, covered);
    if *stored != crc.to_be_bytes() {
        return Err("frame checksum does not match");
    }
    let Some((payload, zeros)) = covered.split_at_checked(header.len as usize) else {
        return Err("frame is cut short");
    };
    if zeros.iter().any(|b| *b != 0) {
        return Err("frame padding is not zero");
    }
    let mut entries = Entries::new(payload);
    for _ in 0..header.count {
        if entries.next().is_none() {
            return Err("frame holds fewer entries than it says");
        }
    }
    if !entries.rest.is_empty() {
        return Err("frame holds more bytes than its entries");
    }
    Ok((payload, crc))
}

/// The entries of a payload. Ends early on lengths that do not fit.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk()?;
        let (entry, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        self.rest = rest;
        Some(entry)
    }
}

fn checked(header: &[u8; HEADER_LEN]) -> &[u8] {
    header.first_chunk::<CHECKED>().map_or(&[], <[u8; CHECKED]>::as_slice)
}

/// Copies `bytes` to the front of `out` and returns what is behind them.
fn put<'a>(out: &'a mut [u8], bytes: &[u8]) -> &'a mut [u8] {
    match out.split_at_mut_checked(bytes.len()) {
        Some((front, rest)) => {
            front.copy_from_slice(bytes);
            rest
        }
        None => &mut [],
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (front, back) = rest.split_first_chunk().ok_or("frame header is cut short")?;
    *rest = back;
    Ok(*front)
}
