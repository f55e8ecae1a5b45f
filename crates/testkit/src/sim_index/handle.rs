//! An opened index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{CommitSeq, Entry, Key, KeyRange, Order, Page, ScanOptions};
use resurge_store_sled::{
    Change, Digest, Index, IndexError, IndexErrorKind, IndexMeta, IndexResult,
};

use super::{Place, State, Trouble, digest};

/// States that are remembered.
const HISTORY: usize = 64;

#[derive(Debug)]
pub(super) struct Handle {
    place: Arc<Mutex<Place>>,
    closed: Mutex<bool>,
}

fn misuse(what: &str) -> IndexError {
    IndexError::new(IndexErrorKind::Misuse, what)
}

impl Handle {
    pub(super) fn new(place: Arc<Mutex<Place>>) -> Self {
        Self { place, closed: Mutex::new(false) }
    }

    fn check_open(&self) -> IndexResult<()> {
        if *self.closed.lock() {
            return Err(IndexError::new(IndexErrorKind::Closed, "it was closed"));
        }
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> IndexResult<Option<T>> {
        self.check_open()?;
        Ok(self.place.lock().state.as_ref().map(read))
    }

    /// Changes the state in one step, remembering the one before.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> IndexResult<T>) -> IndexResult<T> {
        self.check_open()?;
        let mut place = self.place.lock();
        let Some(before) = place.state.clone() else { return Err(misuse("there is no index")) };
        let mut after = before.clone();
        let done = change(&mut after)?;
        place.state = Some(after);
        place.history.push(before);
        if place.history.len() > HISTORY {
            place.history.remove(0);
        }
        Ok(done)
    }
}

impl State {
    fn put(&mut self, key: &Key, value: Option<&Bytes>) {
        let entries = Arc::make_mut(&mut self.entries);
        let before = match value {
            Some(value) => entries.insert(key.clone(), value.clone()),
            None => entries.remove(key),
        };
        if let Some(before) = before {
            self.meta.digest.remove(key.raw(), &before);
        }
        if let Some(value) = value {
            self.meta.digest.add(key.raw(), value);
        }
    }
}

impl Index for Handle {
    fn meta(&self) -> IndexResult<Option<IndexMeta>> {
        self.read(|state| state.meta)
    }

    fn get(&self, key: &Key) -> IndexResult<Option<Bytes>> {
        Ok(self.read(|state| state.entries.get(key).cloned())?.flatten())
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> IndexResult<Page> {
        let entries = self.read(|state| Arc::clone(&state.entries))?.unwrap_or_default();
        let found = entries.range::<[u8], _>(range.bounds());
        let entry =
            |(key, value): (&Key, &Bytes)| Ok(Entry { key: key.clone(), value: value.clone() });
        let page = match options.order {
            Order::Forward => Page::collect(range, options, found.map(entry)),
            Order::Reverse => Page::collect(range, options, found.rev().map(entry)),
        };
        page.map_err(|e| IndexError::with_source(IndexErrorKind::Corrupt, "simulated scan", e))
    }

    #[expect(clippy::panic, reason = "to panic is what it was asked for")]
    fn apply(&self, changes: &[Change], applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        match self.place.lock().trouble {
            Some(Trouble::FailsAtApply) => {
                return Err(IndexError::new(IndexErrorKind::Io, "simulated: apply fails"));
            }
            Some(Trouble::PanicsAtApply) => panic!("simulated: apply panics"),
            _ => {}
        }
        self.change(|state| {
            if !state.meta.ready || applied_seq < state.meta.applied_seq {
                return Err(misuse("apply before finish, or back in time"));
            }
            if !changes.is_sorted_by(|a, b| a.key < b.key) {
                return Err(misuse("unsorted changes"));
            }
            for change in changes {
                state.put(&change.key, change.value.as_ref());
            }
            state.meta.applied_seq = applied_seq;
            Ok(state.meta)
        })
    }

    fn prove(&self) -> IndexResult<Digest> {
        Ok(self.read(|state| digest(&state.entries))?.unwrap_or_default())
    }

    fn begin(&self, store_id: [u8; 16]) -> IndexResult<()> {
        self.check_open()?;
        let mut place = self.place.lock();
        if place.state.is_some() {
            return Err(misuse("begin over an index that holds something"));
        }
        let meta = IndexMeta {
            store_id,
            ready: false,
            applied_seq: CommitSeq(0),
            digest: Digest::default(),
        };
        place.state = Some(State { entries: Arc::new(BTreeMap::new()), meta });
        Ok(())
    }

    fn load(&self, entries: &[(Key, Bytes)]) -> IndexResult<()> {
        self.change(|state| {
            let last = state.entries.last_key_value().map(|(key, _)| key);
            let ascends = entries.first().is_none_or(|(key, _)| last.is_none_or(|l| l < key));
            if state.meta.ready || !ascends || !entries.is_sorted_by(|a, b| a.0 < b.0) {
                return Err(misuse("load outside of a rebuild, or unsorted entries"));
            }
            for (key, value) in entries {
                state.put(key, Some(value));
            }
            Ok(())
        })
    }

    fn finish(&self, applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        self.change(|state| {
            if state.meta.ready {
                return Err(misuse("finish without begin"));
            }
            state.meta.ready = true;
            state.meta.applied_seq = applied_seq;
            Ok(state.meta)
        })
    }

    fn flush(&self) -> IndexResult<()> {
        self.check_open()
    }

    fn close(&self, _deadline: Duration) -> IndexResult<()> {
        *self.closed.lock() = true;
        Ok(())
    }
}
