//! Which keys may be in the index: spares a read for each key that is new.
//!
//! Replacing an entry takes its old hash out of the digest, so the old entry must be read; for a key
//! that was never there this would be a third of the cost of storing it. A Bloom filter says so in
//! one cache line per layer. It never forgets: a removed key only costs a read.

use twox_hash::XxHash3_128;

/// One cache line; all bits of a key are in one block.
const BLOCK_BITS: u64 = 512;
const BLOCK_WORDS: usize = 8;
const BITS_PER_KEY: u64 = 10;
const PROBES: u32 = 6;
/// The first layer's keys, at least.
const MIN_KEYS: u64 = 1 << 16;
/// Beyond this many blocks (64 MiB, about 50 million keys) every key may be there.
const MAX_BLOCKS: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct KnownKeys {
    /// Each larger than the one before; only the last one is added to.
    layers: Vec<Layer>,
    blocks: u64,
    /// Grew over the limit: says nothing any more.
    full: bool,
}

#[derive(Debug)]
struct Layer {
    blocks: Vec<[u64; BLOCK_WORDS]>,
    keys: u64,
    capacity: u64,
}

impl KnownKeys {
    /// Empty, with room for about `keys`.
    pub(super) fn for_keys(keys: u64) -> Self {
        let mut known = Self { layers: Vec::new(), blocks: 0, full: false };
        known.grow(keys);
        known
    }

    /// Adds a key; true when it may have been there before.
    pub(super) fn insert(&mut self, key: &[u8]) -> bool {
        if self.full {
            return true;
        }
        let hash = Hash::of(key);
        if self.layers.iter().any(|layer| layer.contains(hash)) {
            return true;
        }
        if self.layers.last().is_none_or(|last| last.keys >= last.capacity) {
            let filled = self.layers.iter().map(|layer| layer.keys).sum();
            self.grow(filled);
        }
        match self.layers.last_mut() {
            Some(last) => last.insert(hash),
            None => return true,
        }
        false
    }

    /// A further layer, for twice as many keys as `keys`.
    fn grow(&mut self, keys: u64) {
        let capacity = keys.saturating_mul(2).max(MIN_KEYS);
        let blocks = capacity.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS);
        self.blocks = self.blocks.saturating_add(blocks);
        if self.blocks > MAX_BLOCKS {
            self.full = true;
            self.layers = Vec::new();
            return;
        }
        let len = usize::try_from(blocks).unwrap_or(usize::MAX);
        self.layers.push(Layer { blocks: vec![[0; BLOCK_WORDS]; len], keys: 0, capacity });
    }
}

/// Chooses a block and the bits in it.
#[derive(Clone, Copy)]
struct Hash {
    block: u64,
    bits: u64,
}

impl Hash {
    fn of(key: &[u8]) -> Self {
        let hash = XxHash3_128::oneshot(key);
        let low = u64::try_from(hash & u128::from(u64::MAX)).unwrap_or_default();
        let high = u64::try_from(hash >> 64).unwrap_or_default();
        Self { block: high, bits: low }
    }

    /// Word and bit of each probe.
    fn probes(self) -> impl Iterator<Item = (usize, u64)> {
        (0..PROBES).map(move |n| {
            let nine = (self.bits >> (n * 9)) & (BLOCK_BITS - 1);
            (usize::try_from(nine / 64).unwrap_or_default(), 1 << (nine % 64))
        })
    }
}

impl Layer {
    fn block(&self, hash: Hash) -> usize {
        // The upper half of a wide product: even for any number of blocks.
        let wide = u128::from(hash.block) * (self.blocks.len() as u128);
        usize::try_from(wide >> 64).unwrap_or_default()
    }

    fn contains(&self, hash: Hash) -> bool {
        let block = self.blocks.get(self.block(hash));
        block.is_some_and(|block| {
            hash.probes().all(|(word, bit)| block.get(word).is_some_and(|w| w & bit != 0))
        })
    }

    fn insert(&mut self, hash: Hash) {
        let at = self.block(hash);
        self.keys += 1;
        if let Some(block) = self.blocks.get_mut(at) {
            for (word, bit) in hash.probes() {
                if let Some(word) = block.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    #[test]
    fn what_was_inserted_is_never_denied_and_little_else_is_claimed() {
        let mut known = KnownKeys::for_keys(0);
        let total = 3 * MIN_KEYS;
        let wrong = (0..total).filter(|n| known.insert(&key(*n))).count();
        assert!(known.layers.len() > 1, "it grew");
        assert!((0..total).all(|n| known.insert(&key(n))), "a key it was given is denied");
        assert!(wrong < 3 * 5_000, "{wrong} of {total} new keys were taken for known ones");
        assert!(wrong > 0, "a filter of ten bits a key is not exact: the test counts nothing");
    }

    #[test]
    fn over_its_limit_it_says_nothing() {
        let mut known = KnownKeys::for_keys(1 << 40);
        assert!(known.insert(b"a") && known.layers.is_empty());
    }
}
