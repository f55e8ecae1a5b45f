//! Segment files: their names and their header block.
//!
//! ```text
//!  0  magic "RSGSEG\0\1"  8 bytes
//!  8  log id              16 bytes
//! 24  segment number      u64   from 1, without gaps
//! 32  first sequence      u64   also the file name, in hexadecimal
//! 40  salt                u64   carried by every frame of this segment
//! 48  prepared size       u64   length of the file, header included
//! 56  chain               u32   trailer of the last frame before this segment
//! 60  zeros
//! 4092 checksum           u32   crc32c of bytes 0..4092
//! ```

use std::path::{Path, PathBuf};

use crate::frame::{HEADER_LEN, MAX_FRAME, padded_len};

/// The header has a block of its own, so writing frames never rewrites it.
pub(crate) const BLOCK: usize = 4096;
pub(crate) const MIN_SEGMENT: u64 = 2 * BLOCK as u64;
/// Enough for one frame of the longest kind.
pub(crate) const MAX_SEGMENT: u64 =
    ((BLOCK + HEADER_LEN + padded_len(MAX_FRAME)) as u64).next_multiple_of(BLOCK as u64);

const MAGIC: [u8; 8] = *b"RSGSEG\0\x01";
const CHECKED: usize = BLOCK - 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: [u8; 16],
    pub(crate) number: u64,
    pub(crate) first_seq: u64,
    pub(crate) salt: u64,
    pub(crate) prepared: u64,
    pub(crate) chain: u32,
}

impl SegmentHeader {
    /// The block, and its checksum: the chain value of the segment's first frame.
    pub(crate) fn encode(&self) -> (Box<[u8]>, u32) {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.log_id);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.first_seq.to_be_bytes());
        out.extend_from_slice(&self.salt.to_be_bytes());
        out.extend_from_slice(&self.prepared.to_be_bytes());
        out.extend_from_slice(&self.chain.to_be_bytes());
        out.resize(CHECKED, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        (out.into_boxed_slice(), crc)
    }

    pub(crate) fn decode(block: &[u8]) -> Result<(Self, u32), &'static str> {
        const SHORT: &str = "segment header is cut short";
        let (covered, stored) = block.split_last_chunk::<4>().ok_or(SHORT)?;
        if covered.len() != CHECKED {
            return Err(SHORT);
        }
        let (magic, rest) = covered.split_first_chunk::<8>().ok_or(SHORT)?;
        if *magic != MAGIC {
            return Err("not a segment of this format version");
        }
        let crc = crc32c::crc32c(covered);
        if *stored != crc.to_be_bytes() {
            return Err("segment header checksum does not match");
        }
        let (log_id, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
        let (number, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (first_seq, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (prepared, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (chain, _) = rest.split_first_chunk().ok_or(SHORT)?;
        let header = Self {
            log_id: *log_id,
            number: u64::from_be_bytes(*number),
            first_seq: u64::from_be_bytes(*first_seq),
            salt: u64::from_be_bytes(*salt),
            prepared: u64::from_be_bytes(*prepared),
            chain: u32::from_be_bytes(*chain),
        };
        if !(MIN_SEGMENT..=MAX_SEGMENT).contains(&header.prepared) || header.first_seq == 0 {
            return Err("segment header holds impossible values");
        }
        Ok((header, crc))
    }
}

/// `<first_seq as 16 hex digits>.log`
pub(crate) fn path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{first_seq:016x}.log"))
}

/// The first sequence a file name stands for; `None` when it is no segment's name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".log")?;
    let canonical = hex.len() == 16 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical {
        return None;
    }
    u64::from_str_radix(hex, 16).ok().filter(|seq| *seq > 0)
}

/// A salt that differs between segments and, with a fresh `seed`, between lives of the same one.
pub(crate) fn salt(seed: u64, log_id: &[u8; 16], number: u64, first_seq: u64, chain: u32) -> u64 {
    let id = u128::from_be_bytes(*log_id);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let words = [(id >> 64) as u64, id as u64, number, first_seq, u64::from(chain)];
    words.iter().fold(mix(seed), |salt, word| mix(salt ^ word))
}

/// The finaliser of `SplitMix64`: a bijection, every bit of the input changes half the output.
fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: *b"0123456789abcdef",
            number: 3,
            first_seq: 77,
            salt: 5,
            prepared: MIN_SEGMENT,
            chain: 9,
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_header_is_detected() {
        let (block, crc) = header().encode();
        assert_eq!(SegmentHeader::decode(&block), Ok((header(), crc)));
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..block.len() {
            assert!(SegmentHeader::decode(&block[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn impossible_sizes_are_refused_though_the_checksum_holds() {
        for prepared in [0, MIN_SEGMENT - 1, MAX_SEGMENT + 1, u64::MAX] {
            let (block, _) = SegmentHeader { prepared, ..header() }.encode();
            assert!(SegmentHeader::decode(&block).is_err(), "{prepared}");
        }
        let (block, _) = SegmentHeader { first_seq: 0, ..header() }.encode();
        assert!(SegmentHeader::decode(&block).is_err());
    }

    #[test]
    fn only_canonical_names_are_segments() {
        assert_eq!(parse_name("000000000000004d.log"), Some(77));
        for name in
            ["4d.log", "000000000000004D.log", "+00000000000004d.log", "0000000000000000.log", "x"]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn salts_differ_by_every_input() {
        let base = salt(1, &[0; 16], 1, 1, 1);
        for other in [
            salt(2, &[0; 16], 1, 1, 1),
            salt(1, &[1; 16], 1, 1, 1),
            salt(1, &[0; 16], 2, 1, 1),
            salt(1, &[0; 16], 1, 2, 1),
            salt(1, &[0; 16], 1, 1, 2),
        ] {
            assert_ne!(base, other);
        }
    }
}
