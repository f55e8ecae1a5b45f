//! The name of a session in the store.

use std::fmt;

pub(crate) const LEN: usize = 16;

/// Which session: random, made by the server, the same for all tokens of one family. Nobody gets in with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub(crate) [u8; LEN]);

impl RecordId {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// The first 8 bytes.
    pub(crate) fn leading(&self) -> u64 {
        let (halves, _) = self.0.as_chunks::<8>();
        halves.first().map_or(0, |half| u64::from_be_bytes(*half))
    }

    /// As it is printed, without the machinery of printing.
    pub(crate) fn hex<'a>(&self, out: &'a mut [u8; 2 * LEN]) -> &'a str {
        let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
        let (pairs, _) = out.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        // INVARIANT: digits only.
        str::from_utf8(out).unwrap_or_default()
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex(&mut [0; 2 * LEN]))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_as_32_digits() {
        let mut id = [0; LEN];
        (0..).map(|n: u8| n.wrapping_mul(0x1f)).zip(&mut id).for_each(|(n, byte)| *byte = n);
        let plain: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(RecordId(id).to_string(), plain.concat());
    }
}
