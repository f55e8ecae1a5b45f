//! Which keys may be in the index: spares a read for each key that is new.
//!
//! Replacing an entry takes its old hash out of the digest, so the old entry must be read; for a key
//! that was never there this would be a third of the cost of storing it. And a guard that wants a
//! key absent would wait for sled's lock. A Bloom filter answers both in one cache line per layer. It
//! never forgets: a removed key only costs a read.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
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

/// Filled by one thread, asked by any.
#[derive(Debug)]
pub(super) struct KnownKeys(RwLock<Layers>);

#[derive(Debug, Default)]
struct Layers {
    /// Each larger than the one before; only the last one is added to. Without any, every key may be
    /// there.
    layers: Vec<Layer>,
    blocks: u64,
}

#[derive(Debug)]
struct Layer {
    blocks: Vec<Block>,
    keys: AtomicU64,
    capacity: u64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Block([AtomicU64; BLOCK_WORDS]);

impl KnownKeys {
    /// Every key may be there, until [`replace`](Self::replace).
    pub(super) fn unknown() -> Self {
        Self(RwLock::new(Layers::default()))
    }

    /// No key is there; with room for about `keys`.
    pub(super) fn for_keys(keys: u64) -> Self {
        let mut layers = Layers::default();
        layers.grow(keys);
        Self(RwLock::new(layers))
    }

    /// Knows from now on what `other` knows.
    pub(super) fn replace(&self, other: Self) {
        *self.0.write() = other.0.into_inner();
    }

    /// False when the key was certainly never inserted.
    pub(super) fn may_contain(&self, key: &[u8]) -> bool {
        let layers = &self.0.read().layers;
        layers.is_empty() || layers.iter().any(|layer| layer.contains(Hash::of(key)))
    }

    /// Adds a key; true when it may have been there before.
    pub(super) fn insert(&self, key: &[u8]) -> bool {
        let hash = Hash::of(key);
        {
            let layers = &self.0.read().layers;
            if layers.is_empty() || layers.iter().any(|layer| layer.contains(hash)) {
                return true;
            }
            if let Some(last) = layers.last().filter(|last| !last.is_full()) {
                last.insert(hash);
                return false;
            }
        }
        let mut layers = self.0.write();
        let filled = layers.layers.iter().map(|layer| layer.keys.load(Ordering::Relaxed)).sum();
        layers.grow(filled);
        if let Some(last) = layers.layers.last() {
            last.insert(hash);
        }
        false
    }
}

impl Layers {
    /// A further layer, for twice as many keys as `keys`; none at all over the limit.
    fn grow(&mut self, keys: u64) {
        let capacity = keys.saturating_mul(2).max(MIN_KEYS);
        let blocks = capacity.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS);
        self.blocks = self.blocks.saturating_add(blocks);
        if self.blocks > MAX_BLOCKS {
            self.layers = Vec::new();
            return;
        }
        let empty = || Block(std::array::from_fn(|_| AtomicU64::new(0)));
        let blocks = (0..blocks).map(|_| empty()).collect();
        self.layers.push(Layer { blocks, keys: AtomicU64::new(0), capacity });
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

    // ORDER: relaxed is enough. A key is asked for in the index only by who found it gone from the
    // overlay, under the lock that was taken after it was inserted here.
    fn contains(&self, hash: Hash) -> bool {
        let block = self.blocks.get(self.block(hash));
        block.is_some_and(|block| {
            hash.probes().all(|(word, bit)| {
                block.0.get(word).is_some_and(|w| w.load(Ordering::Relaxed) & bit != 0)
            })
        })
    }

    fn insert(&self, hash: Hash) {
        self.keys.fetch_add(1, Ordering::Relaxed);
        if let Some(block) = self.blocks.get(self.block(hash)) {
            for (word, bit) in hash.probes() {
                if let Some(word) = block.0.get(word) {
                    word.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.keys.load(Ordering::Relaxed) >= self.capacity
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
        let known = KnownKeys::for_keys(0);
        let total = 3 * MIN_KEYS;
        let wrong = (0..total).filter(|n| known.insert(&key(*n))).count();
        assert!(known.0.read().layers.len() > 1, "it grew");
        assert!((0..total).all(|n| known.may_contain(&key(n))), "a key it was given is denied");
        assert!((0..total).all(|n| known.insert(&key(n))), "a key it was given is denied");
        assert!(wrong < 3 * 5_000, "{wrong} of {total} new keys were taken for known ones");
        assert!(wrong > 0, "a filter of ten bits a key is not exact: the test counts nothing");
    }

    #[test]
    fn it_knows_nothing_until_told() {
        let known = KnownKeys::unknown();
        assert!(known.may_contain(b"a") && known.insert(b"a"));
        known.replace(KnownKeys::for_keys(0));
        assert!(!known.may_contain(b"a"));
        assert!(!known.insert(b"a") && known.may_contain(b"a") && !known.may_contain(b"b"));
    }

    #[test]
    fn over_its_limit_it_says_nothing() {
        let known = KnownKeys::for_keys(1 << 40);
        assert!(known.insert(b"a") && known.may_contain(b"b"));
    }
}
