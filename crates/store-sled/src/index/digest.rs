//! How an index says in a few bytes what it holds, whatever the order in which it got there.

use std::fmt;

use twox_hash::XxHash3_128;

/// The number of keys and an order-independent sum over keys and values.
///
/// The sum is of XXH3-128 hashes, modulo 2^128: an entry is added when it is stored and subtracted
/// when it is replaced. It finds lost, stale and damaged entries; it is no defence against forgery.
///
/// ```
/// use resurge_store_sled::Digest;
/// let mut one = Digest::default();
/// one.add(b"a", b"1");
/// one.add(b"b", b"2");
/// let mut other = Digest::default();
/// other.add(b"b", b"2");
/// other.add(b"a", b"0");
/// assert_ne!(one, other);
/// other.remove(b"a", b"0");
/// other.add(b"a", b"1");
/// assert_eq!(one, other);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    /// How many keys.
    pub keys: u64,
    /// The sum of what they and their values hash to.
    pub sum: u128,
}

impl Digest {
    /// Counts an entry in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.keys = self.keys.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    /// Counts an entry out.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.keys = self.keys.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({} keys, {:032x})", self.keys, self.sum)
    }
}

/// XXH3-128 of `[key len u32 BE][key][value]`; the length keeps `ab`+`c` apart from `a`+`bc`.
pub(super) fn hash(key: &[u8], value: &[u8]) -> u128 {
    /// Beyond this the streaming state costs less than the copy.
    const INLINE: usize = 512;
    let len = u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes();
    let total = len.len() + key.len() + value.len();
    let mut buffer = [0_u8; INLINE];
    if let Some(space) = buffer.get_mut(..total) {
        let (head, rest) = space.split_at_mut(len.len());
        head.copy_from_slice(&len);
        let (middle, tail) = rest.split_at_mut(key.len());
        middle.copy_from_slice(key);
        tail.copy_from_slice(value);
        return XxHash3_128::oneshot(space);
    }
    let mut stream = XxHash3_128::new();
    stream.write(&len);
    stream.write(key);
    stream.write(value);
    stream.finish_128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_entries_hash_alike() {
        // The buffer ends between these lengths; the reference is the concatenation.
        for len in [0, 1, 100, 505, 506, 507, 508, 509, 510, 4_000] {
            let value: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let whole = [&[0, 0, 0, 3], &b"key"[..], &value].concat();
            assert_eq!(hash(b"key", &value), XxHash3_128::oneshot(&whole), "{len}");
        }
    }

    #[test]
    fn the_border_between_key_and_value_counts() {
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!(hash(b"\x01nkey", b"value"), XxHash3_128::oneshot(b"\0\0\0\x05\x01nkeyvalue"),);
    }
}
