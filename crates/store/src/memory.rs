//! State in memory: an ordered map of raw keys, and the store made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    Batch, CommitSeq, DurableMeans, Engine, Entry, Group, GroupCommit, GroupOptions, Key, KeyRange,
    Op, Order, Page, Result, ScanOptions, StoreInfo,
};

/// An ordered map that applies whole groups. The state of every engine that keeps it in memory.
#[derive(Debug, Default)]
pub struct MemoryMap {
    map: RwLock<BTreeMap<Key, Bytes>>,
}

impl MemoryMap {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &Key) -> Option<Bytes> {
        self.map.read().get(key.raw().as_ref()).cloned()
    }

    /// One page of `range`.
    ///
    /// # Errors
    /// None today; the type is the contract's.
    pub fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        let map = self.map.read();
        let found = map.range::<[u8], _>(range.bounds());
        let entry =
            |(key, value): (&Key, &Bytes)| Ok(Entry { key: key.clone(), value: value.clone() });
        match options.order {
            Order::Forward => Page::collect(range, options, found.map(entry)),
            Order::Reverse => Page::collect(range, options, found.rev().map(entry)),
        }
    }

    /// Shows the entries of `range` to `each`, ascending, until it says no; returns what is left of the
    /// range then. Nothing is copied, and nothing can be applied meanwhile.
    pub fn visit(
        &self,
        range: &KeyRange,
        mut each: impl FnMut(&Key, &Bytes) -> bool,
    ) -> Option<KeyRange> {
        let map = self.map.read();
        let mut found = map.range::<[u8], _>(range.bounds());
        let last = found.find(|(key, value)| !each(key, value));
        last.map(|(key, _)| range.after(key))
    }

    /// Applies `batches` in order; readers see all of it or nothing.
    pub fn apply<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>) {
        let mut map = self.map.write();
        for op in batches.into_iter().flat_map(Batch::ops) {
            match op {
                Op::Put { key, value } => {
                    map.insert(key.clone(), value.clone());
                }
                Op::Delete { key } => {
                    map.remove(key.raw().as_ref());
                }
            }
        }
    }

    /// Inserts one entry; for rebuilding it from a dump.
    pub fn insert(&self, key: Key, value: Bytes) {
        self.map.write().insert(key, value);
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.map.read().len()
    }

    /// True when it holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The whole contract in memory, for tests, caches and trying things out. Nothing survives the process.
pub type MemoryStore = GroupCommit<MemoryEngine>;

impl MemoryStore {
    /// An empty store. Should the system refuse it a thread, every call answers `Closed`.
    pub fn in_memory() -> Self {
        Self::start(MemoryEngine::default(), GroupOptions::default())
    }
}

/// The engine of [`MemoryStore`].
#[derive(Debug, Default)]
pub struct MemoryEngine {
    map: MemoryMap,
}

impl Engine for MemoryEngine {
    fn last_seq(&self) -> CommitSeq {
        CommitSeq(0)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.map.get(key))
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        self.map.scan(range, options)
    }

    fn log(&self, _group: &Group) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn publish(&self, group: &Arc<Group>) -> Result<()> {
        self.map.apply(&group.batches);
        Ok(())
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("memory", DurableMeans::ProcessLifetime)
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn scans_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;

    #[test]
    fn a_visit_stops_where_it_is_told_and_goes_on_behind() {
        let ns = Namespace::new("n").unwrap();
        let map = MemoryMap::new();
        for n in 0..10_u8 {
            map.insert(ns.key([n]).unwrap(), Bytes::from(vec![n]));
        }
        for stop in 1..12_usize {
            let mut rest = Some(ns.range(&[2][..]..));
            let mut seen = Vec::new();
            let mut visits = 0;
            while let Some(range) = rest {
                let mut here = 0;
                rest = map.visit(&range, |key, value| {
                    assert_eq!(key.bytes(), value);
                    seen.extend_from_slice(value);
                    here += 1;
                    here < stop
                });
                assert!(here <= stop);
                visits += 1;
            }
            assert_eq!((seen, visits), ((2..10).collect(), 8 / stop + 1));
        }
    }
}
