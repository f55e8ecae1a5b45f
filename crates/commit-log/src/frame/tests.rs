//! The frame codec under truncation, flips and lying lengths.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A sealed frame.
fn sealed(entries: &[Vec<u8>], first_seq: u64, salt: u64, chain: u32) -> Vec<u8> {
    let mut frame = Frame::new();
    for entry in entries {
        frame.push(entry).unwrap();
    }
    let expected = frame.sealed_len();
    let bytes = frame.seal(first_seq, first_seq - 1, salt, chain).unwrap().0.to_vec();
    assert_eq!(bytes.len() as u64, expected);
    bytes
}

/// What a reader sees: the header and the entries, or nothing.
fn decode(bytes: &[u8]) -> Option<(FrameHeader, Vec<Vec<u8>>)> {
    let (front, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let header = FrameHeader::decode(front).ok()?;
    let body = rest.get(..padded_len(header.len as usize))?;
    let (payload, _) = check_body(front, &header, body).ok()?;
    Some((header, Entries::new(payload).map(<[u8]>::to_vec).collect()))
}

fn some_entries() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..60), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(
        entries in some_entries(), first in 1..u64::MAX / 2, salt: u64, chain: u32,
    ) {
        let bytes = sealed(&entries, first, salt, chain);
        prop_assert_eq!(bytes.len() % 8, 0);
        let (header, decoded) = decode(&bytes).unwrap();
        prop_assert_eq!(decoded, entries);
        prop_assert_eq!((header.first_seq, header.salt, header.chain), (first, salt, chain));
        prop_assert_eq!(header.durable_upto, first - 1);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_detected(entries in some_entries(), salt: u64) {
        let bytes = sealed(&entries, 9, salt, 5);
        for len in 0..bytes.len() {
            prop_assert!(decode(&bytes[..len]).is_none(), "cut to {}", len);
        }
        let mut bad = bytes.clone();
        for bit in 0..bytes.len() * 8 {
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bad).is_none(), "bit {}", bit);
            bad[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn noise_is_no_frame(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_none());
    }

    #[test]
    fn noise_behind_a_true_header_is_no_frame(
        len in 0..200_u32, count in 1..20_u32, noise in vec(any::<u8>(), 0..300),
    ) {
        let header = FrameHeader { len, count, first_seq: 1, durable_upto: 0, salt: 0, chain: 0 };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&noise);
        prop_assert!(decode(&bytes).is_none());
    }
}

#[test]
fn a_header_with_impossible_values_is_refused_though_its_checksum_holds() {
    let good = FrameHeader { len: 8, count: 1, first_seq: 5, durable_upto: 4, salt: 0, chain: 0 };
    assert_eq!(FrameHeader::decode(&good.encode()), Ok(good));
    let too_long = u32::try_from(MAX_FRAME + 1).unwrap();
    for bad in [
        FrameHeader { len: too_long, ..good },
        FrameHeader { len: u32::MAX, ..good },
        FrameHeader { count: 0, ..good },
        FrameHeader { first_seq: 0, durable_upto: 0, ..good },
        FrameHeader { first_seq: u64::MAX, count: 2, ..good },
        FrameHeader { durable_upto: 5, ..good },
    ] {
        assert!(FrameHeader::decode(&bad.encode()).is_err(), "{bad:?}");
    }
}

#[test]
fn entry_lengths_that_lie_are_refused_though_the_checksums_hold() {
    // One entry of four bytes that claims more, less, or to be two.
    for (len, count) in [(5_u32, 1), (u32::MAX, 1), (3, 1), (4, 2), (0, 1)] {
        let header =
            FrameHeader { len: 8, count, first_seq: 1, durable_upto: 0, salt: 0, chain: 0 };
        let front = header.encode();
        let mut body = len.to_be_bytes().to_vec();
        body.extend_from_slice(b"four");
        body.resize(padded_len(8) - TRAILER_LEN, 0);
        let crc = header::trailer(&front, &body);
        body.extend_from_slice(&crc.to_be_bytes());
        assert!(check_body(&front, &header, &body).is_err(), "{len} x {count}");
    }
}

#[test]
fn the_trailer_depends_on_the_header() {
    let entries = [b"same".to_vec()];
    let trailer = |bytes: Vec<u8>| bytes[bytes.len() - TRAILER_LEN..].to_vec();
    let base = trailer(sealed(&entries, 5, 1, 1));
    assert_ne!(base, trailer(sealed(&entries, 6, 1, 1)), "sequence");
    assert_ne!(base, trailer(sealed(&entries, 5, 2, 1)), "salt");
    assert_ne!(base, trailer(sealed(&entries, 5, 1, 2)), "chain");
}

#[test]
fn in_place_entries_equal_pushed_ones() {
    let mut frame = Frame::new();
    frame.entry(|buf| buf.extend_from_slice(b"one")).unwrap();
    frame.push(b"").unwrap();
    assert_eq!(frame.entry(|buf| buf.len()).unwrap(), HEADER_LEN + 4 + 3 + 4 + 4);
    // Sealing changes nothing for the builder: an append refused as `Full` is tried again.
    frame.seal(1, 0, 7, 7).unwrap();
    frame.entry(|buf| buf.extend_from_slice(b"four")).unwrap();
    assert_eq!((frame.count(), frame.payload_len()), (4, 4 * 4 + 7));
    let expected = [b"one".to_vec(), Vec::new(), Vec::new(), b"four".to_vec()];
    assert_eq!(frame.seal(1, 0, 7, 7).unwrap().0, sealed(&expected, 1, 7, 7));
}

#[test]
fn an_encoder_that_shortens_the_buffer_is_refused() {
    let mut frame = Frame::new();
    frame.push(b"before").unwrap();
    let refused = frame.entry(Vec::clear);
    assert!(matches!(refused, Err(crate::LogError::Invalid { .. })), "{refused:?}");
    assert!(frame.is_empty());
    frame.push(b"after").unwrap();
    let bytes = frame.seal(1, 0, 0, 0).unwrap().0.to_vec();
    assert_eq!(decode(&bytes).unwrap().1, [b"after".to_vec()]);
}

#[test]
fn limits_hold_and_leave_the_frame_as_it_was() {
    let big = vec![1; MAX_ENTRY];
    let mut frame = Frame::new();
    assert!(frame.fits(MAX_ENTRY) && !frame.fits(MAX_ENTRY + 1));
    let refused = frame.entry(|buf| buf.resize(buf.len() + MAX_ENTRY + 1, 0));
    assert!(matches!(refused, Err(crate::LogError::TooLarge { .. })));
    assert!(frame.is_empty() && frame.payload_len() == 0);
    frame.push(&big).unwrap();
    assert!(!frame.fits(1 << 20) && frame.fits(1 << 19));
    assert!(matches!(frame.push(&big), Err(crate::LogError::TooLarge { .. })));
    assert_eq!((frame.count(), frame.payload_len()), (1, MAX_ENTRY + 4));
    frame.clear();
    frame.shrink_to(0);
    assert!(frame.is_empty() && frame.fits(MAX_ENTRY));
}
