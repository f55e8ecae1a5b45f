//! Strict base64url without padding, read in blocks: branch-free, so that the compiler makes vectors of it and
//! its time tells the length only.

/// Symbols of a block, and the bytes they are.
const SYMBOLS: usize = 64;
const BYTES: usize = SYMBOLS / 4 * 3;

/// The most bytes so many symbols may be.
pub(super) const fn decoded_len(symbols: usize) -> usize {
    symbols / 4 * 3 + (symbols % 4) * 3 / 4
}

/// Decodes into the front of `out`, which has room for it. `None` for what no encoder writes: other symbols, a
/// length that cannot be, bits after the last byte.
pub(super) fn decode<'a>(text: &str, out: &'a mut [u8]) -> Option<&'a [u8]> {
    let len = decoded_len(text.len());
    let out = out.get_mut(..len)?;
    let (mut invalid, mut left_over) = (0, 0);
    for (symbols, to) in text.as_bytes().chunks(SYMBOLS).zip(out.chunks_mut(BYTES)) {
        let mut block = [i16::from(b'A'); SYMBOLS];
        block.iter_mut().zip(symbols).for_each(|(to, from)| *to = i16::from(*from));
        let mut bytes = [0; BYTES];
        invalid |= decode_block(&mut block, &mut bytes);
        // What a short last block leaves over is bits of its last symbol, then zeros.
        left_over |=
            bytes.get(to.len()..).unwrap_or_default().iter().fold(0, |all, byte| all | byte);
        to.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
    }
    (text.len() % 4 != 1 && invalid >= 0 && left_over == 0).then_some(&*out)
}

/// Negative: there is a symbol that is none.
fn decode_block(block: &mut [i16; SYMBOLS], bytes: &mut [u8; BYTES]) -> i16 {
    let mut invalid = 0;
    for symbol in block.iter_mut() {
        *symbol = value(*symbol);
        invalid |= *symbol;
    }
    let (quads, _) = block.as_chunks::<4>();
    let (triples, _) = bytes.as_chunks_mut::<3>();
    for ([a, b, c, d], triple) in quads.iter().zip(triples) {
        let [_, first, second, third] =
            ((i32::from(*a) << 18) | (i32::from(*b) << 12) | (i32::from(*c) << 6) | i32::from(*d))
                .to_be_bytes();
        *triple = [first, second, third];
    }
    invalid
}

/// What a symbol stands for; -1 if it is none. Arithmetic alone, 16 bits wide: that is what vectors have.
fn value(symbol: i16) -> i16 {
    // All ones between the two, and 0 elsewhere, because only then both differences are negative.
    let within =
        |from: u8, to: u8| ((i16::from(from) - 1 - symbol) & (symbol - i16::from(to) - 1)) >> 15;
    -1 + (within(b'A', b'Z') & (symbol - 64))
        + (within(b'a', b'z') & (symbol - 70))
        + (within(b'0', b'9') & (symbol + 5))
        + (within(b'-', b'-') & 63)
        + (within(b'_', b'_') & 64)
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64UrlUnpadded, Encoding};

    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut out = vec![0; decoded_len(text.len())];
        decode(text, &mut out).map(<[u8]>::to_vec)
    }

    #[test]
    fn every_symbol_and_no_other_is_read() {
        for byte in 0..=u8::MAX {
            let text = [b'A', byte, b'A', b'A'];
            let text = String::from_utf8(text.to_vec());
            let expected = text.as_deref().ok().and_then(|t| Base64UrlUnpadded::decode_vec(t).ok());
            assert_eq!(text.ok().and_then(|text| decoded(&text)), expected, "{byte}");
        }
    }

    #[test]
    fn lengths_and_left_over_bits_are_strict() {
        for (text, expected) in [
            ("", Some(&[][..])),
            ("A", None),
            ("AA", Some(&[0])),
            ("QQ", Some(b"A")),
            ("QR", None),
            ("QUI", Some(b"AB")),
            ("QUJ", None),
            ("QUJD", Some(b"ABC")),
            ("QUJDQ", None),
            ("QQ==", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
        assert_eq!(decode("QUJD", &mut [0; 2]), None);
    }

    proptest::proptest! {
        #[test]
        fn it_reads_what_another_decoder_reads_and_nothing_else(
            text in "[A-Za-z0-9_-]{0,200}",
            other in "[A-Za-z0-9_+/=\n -]{0,140}",
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            proptest::prop_assert_eq!(decoded(&Base64UrlUnpadded::encode_string(&bytes)), Some(bytes));
            for text in [text, other] {
                proptest::prop_assert_eq!(decoded(&text), Base64UrlUnpadded::decode_vec(&text).ok());
            }
        }
    }
}
