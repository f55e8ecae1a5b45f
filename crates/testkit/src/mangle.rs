//! Bytes that nobody wrote, for decoders to refuse.

use resurge_store::{Entropy, SeededEntropy};

/// Numbers that lengths and counts are often wrong by.
const TELLING: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x0100_0000, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// `bytes` damaged in one to four places, or (once in sixteen) something else altogether: bits
/// flipped, numbers of every width replaced by telling ones, parts zeroed, repeated, removed, put in,
/// cut off. Never allocates more than twice as much and a few bytes. The same seed always does the
/// same, and may do nothing.
///
/// ```
/// let written = b"a header, a length, what it is the length of".as_slice();
/// let read = resurge_testkit::mangle(written, 7);
/// assert_ne!(read, written);
/// assert_eq!(read, resurge_testkit::mangle(written, 7));
/// ```
pub fn mangle(bytes: &[u8], seed: u64) -> Vec<u8> {
    let chance = Chance(SeededEntropy::new(seed));
    if chance.below(16) == 0 {
        return chance.bytes(chance.below(2 * bytes.len() + 64));
    }
    let mut out = bytes.to_vec();
    for _ in 0..=chance.below(4) {
        change(&mut out, &chance);
    }
    out
}

fn change(out: &mut Vec<u8>, chance: &Chance) {
    let at = chance.place(out);
    let rest = out.len() - at;
    match chance.below(8) {
        0 | 1 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        2..=4 => {
            let telling = TELLING.get(chance.below(TELLING.len() + 1));
            // Or a number that nearly fits.
            let number = telling.copied().unwrap_or(rest as u64 + chance.below(3) as u64);
            let number = number.to_be_bytes();
            let width = 1 << chance.below(4);
            let number = number.get(number.len() - width..).unwrap_or_default();
            for (byte, new) in out.iter_mut().skip(at).zip(number) {
                *byte = *new;
            }
        }
        5 => {
            let len = chance.below(rest.min(600) + 1);
            let from = chance.below(out.len() + 1 - len);
            let zeros = chance.below(2) == 0;
            let source = if zeros { None } else { out.get(from..from + len).map(<[u8]>::to_vec) };
            let source = source.unwrap_or_else(|| vec![0; len]);
            for (byte, new) in out.iter_mut().skip(at).zip(source) {
                *byte = new;
            }
        }
        6 => out.truncate(at),
        _ if chance.below(2) == 0 => {
            out.drain(at..at + chance.below(rest.min(64) + 1));
        }
        _ => {
            let put_in = chance.bytes(chance.below(16));
            out.splice(at..at, put_in);
        }
    }
}

struct Chance(SeededEntropy);

impl Chance {
    /// A number below `n`; 0 when `n` is.
    fn below(&self, n: usize) -> usize {
        let number = self.0.next_u64().unwrap_or_default() % (n as u64).max(1);
        usize::try_from(number).unwrap_or_default()
    }

    fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // A seeded one does not fail.
        drop(self.0.fill(&mut bytes));
        bytes
    }

    /// Any place, or one where something is: most of a file is often zeros.
    fn place(&self, bytes: &[u8]) -> usize {
        let busy: Vec<usize> = if self.below(4) == 0 {
            Vec::new()
        } else {
            (0..).zip(bytes).filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect()
        };
        busy.get(self.below(busy.len())).copied().unwrap_or_else(|| self.below(bytes.len() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::mangle;

    #[test]
    fn nearly_every_seed_damages_and_none_panics() {
        let written: Vec<u8> = (0..200).map(|n| n % 3).collect();
        let harmed = (0..2_000).filter(|seed| mangle(&written, *seed) != written).count();
        assert!(harmed > 1_900, "{harmed}");
        for seed in 0..2_000 {
            assert!(mangle(&[], seed).len() <= 64);
            mangle(&[1], seed);
        }
    }

    #[test]
    fn it_cuts_and_it_lengthens() {
        let written = [7; 100];
        let lens: Vec<usize> = (0..500).map(|seed| mangle(&written, seed).len()).collect();
        assert!(lens.iter().any(|len| *len < 100) && lens.iter().any(|len| *len > 100));
        assert!(lens.contains(&100));
    }
}
