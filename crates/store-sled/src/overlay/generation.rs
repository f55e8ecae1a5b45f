//! One generation: the newest state of every key that a run of groups changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use resurge_store::{CommitSeq, Key, KeyRange, Order, ScanOptions};

use crate::index::Change;

/// What an entry takes in memory beside its bytes: the two handles and its share of a tree node.
const ENTRY_OVERHEAD: usize = 96;

/// What an operation counts for against the overlay's bound.
pub(super) fn cost(key: &Key, value: Option<&Bytes>) -> usize {
    ENTRY_OVERHEAD + key.raw().len() + value.map_or(0, Bytes::len)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// `None` is a tombstone.
    entries: BTreeMap<Key, Option<Bytes>>,
    bytes: usize,
    last: CommitSeq,
}

impl Generation {
    pub(super) fn insert(&mut self, key: Key, value: Option<Bytes>) {
        let key_len = key.raw().len();
        let value_len = value.as_ref().map_or(0, Bytes::len);
        match self.entries.insert(key, value) {
            None => self.bytes += ENTRY_OVERHEAD + key_len + value_len,
            Some(old) => {
                self.bytes += value_len;
                self.bytes -= old.map_or(0, |old| old.len());
            }
        }
    }

    /// Everything up to `seq` is in it.
    pub(super) fn reached(&mut self, seq: CommitSeq) {
        self.last = seq;
    }

    pub(crate) fn last(&self) -> CommitSeq {
        self.last
    }

    pub(super) fn size(&self) -> Size {
        Size { keys: self.entries.len(), bytes: self.bytes }
    }

    /// True when no group was put in since it was made. (A group may have no operation.)
    pub(super) fn is_empty(&self) -> bool {
        self.last == CommitSeq(0)
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Option<Bytes>> {
        self.entries.get(key)
    }

    /// Everything in it, ascending.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let change = |(key, value): (&Key, &Option<Bytes>)| Change {
            key: key.clone(),
            value: value.clone(),
        };
        self.entries.iter().map(change).collect()
    }

    /// The entries of a range, in the order of a scan.
    pub(super) fn range<'a>(
        &'a self,
        range: &KeyRange,
        order: Order,
    ) -> Box<dyn Iterator<Item = (&'a Key, &'a Option<Bytes>)> + 'a> {
        let found = self.entries.range::<[u8], _>(range.bounds());
        match order {
            Order::Forward => Box::new(found),
            Order::Reverse => Box::new(found.rev()),
        }
    }

    /// As much of it as can matter for one page: entries are in every page that reaches their key,
    /// so behind a page's worth of them (tombstones do not count) nothing is looked at.
    pub(super) fn copy_page(
        &self,
        range: &KeyRange,
        options: &ScanOptions,
    ) -> Vec<(Key, Option<Bytes>)> {
        let (mut live, mut bytes) = (0, 0);
        let mut copy = Vec::new();
        for (key, value) in self.range(range, options.order) {
            let full = live > options.max_entries.max(1) || bytes > options.max_bytes;
            let value = match value {
                Some(_) if options.keys_only => Some(Bytes::new()),
                other => other.clone(),
            };
            if let Some(value) = &value {
                live += 1;
                bytes += key.raw().len() + value.len();
            }
            let last = full && value.is_some();
            copy.push((key.clone(), value));
            if last {
                break;
            }
        }
        copy
    }
}
