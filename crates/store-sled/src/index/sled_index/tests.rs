//! The sled index against a map.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use resurge_store::{CommitSeq, Key, KeyRange, MemoryMap, Namespace, Order, ScanOptions};
use tempfile::TempDir;

use super::super::{
    Change, Index, IndexError, IndexErrorKind, IndexFactory, IndexMeta, IndexResult,
};
use super::{STEP_KEYS, SledIndexFactory, SledIndexOptions, directory, format};

mod damage;

const LONG: Duration = Duration::from_secs(30);
const ID: [u8; 16] = [7; 16];

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    fn factory(&self) -> SledIndexFactory {
        SledIndexFactory::new(self.path(), SledIndexOptions::default())
    }

    fn open(&self) -> Arc<dyn Index> {
        self.factory().open().unwrap().index
    }

    /// Open, empty and ready.
    fn fresh(&self) -> Arc<dyn Index> {
        let index = self.open();
        index.begin(ID).unwrap();
        index.finish(CommitSeq(0)).unwrap();
        index
    }

    /// Does something to the tree below, while nothing else has it open.
    fn raw<T>(&self, body: impl FnOnce(&sled::Db) -> T) -> T {
        let db = sled::open(self.path()).unwrap();
        let result = body(&db);
        drop(db);
        directory::wait_released(&self.path()).unwrap();
        result
    }
}

fn key(name: impl AsRef<[u8]>) -> Key {
    Namespace::new("app/t").unwrap().key(name).unwrap()
}

fn put(name: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Change {
    Change { key: key(name), value: Some(value.into()) }
}

fn delete(name: impl AsRef<[u8]>) -> Change {
    Change { key: key(name), value: None }
}

/// A value that differs in every chunk and from every other seed's.
fn value(seed: usize, len: usize) -> Bytes {
    let byte = |i| u8::try_from((seed * 31 + i / 7 + i % 251) % 256).unwrap();
    (0..len).map(byte).collect()
}

fn meta(index: &Arc<dyn Index>) -> IndexMeta {
    index.meta().unwrap().unwrap()
}

fn proves(index: &Arc<dyn Index>) -> bool {
    index.prove().unwrap() == meta(index).digest
}

fn kind<T: std::fmt::Debug>(result: IndexResult<T>) -> IndexErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn what_was_applied_is_there_and_is_there_again_after_a_reopen() {
    let place = Place::new();
    let index = place.fresh();
    index.apply(&[put("a", "1"), put("b", "2"), put("c", "3")], CommitSeq(5)).unwrap();
    let said = index.apply(&[put("a", "one"), delete("b"), delete("z")], CommitSeq(9)).unwrap();
    assert_eq!((said.applied_seq, said.digest.keys), (CommitSeq(9), 2));
    for reopened in [false, true] {
        let index = if reopened {
            index.close(LONG).unwrap();
            place.open()
        } else {
            Arc::clone(&index)
        };
        assert_eq!(meta(&index), said);
        assert_eq!(index.get(&key("a")).unwrap().unwrap(), "one");
        assert_eq!(index.get(&key("b")).unwrap(), None);
        assert_eq!(index.get(&key("c")).unwrap().unwrap(), "3");
        assert!(proves(&index));
    }
}

#[test]
fn values_of_every_size_come_back_and_leave_nothing_behind() {
    let place = Place::new();
    let index = place.fresh();
    let lengths =
        [0, 1, 4_000, 4_083, 4_084, 4_085, 4_090, 8_160, 8_200, 70_000, 1 << 20, 16 << 20];
    let names: Vec<String> = (0..lengths.len()).map(|n| format!("{n:02}")).collect();
    let all: Vec<Change> =
        names.iter().zip(lengths).map(|(n, len)| put(n, value(1, len))).collect();
    let mut seq = 0;
    // In place of each other: larger, smaller, of the same size, and gone.
    for shift in [0, 1, 5, 0] {
        let lengths = lengths.iter().cycle().skip(shift);
        let changes: Vec<Change> =
            names.iter().zip(lengths).map(|(n, len)| put(n, value(shift, *len))).collect();
        seq += 1;
        index.apply(&changes, CommitSeq(seq)).unwrap();
        for change in &changes {
            assert_eq!(index.get(&change.key).unwrap(), change.value, "{}", change.key);
        }
        let options = ScanOptions { max_bytes: usize::MAX, ..ScanOptions::new() };
        let page = index.scan(&KeyRange::everything(), &options).unwrap();
        let values: Vec<_> = page.entries.into_iter().map(|e| Some(e.value)).collect();
        assert!(values == changes.iter().map(|c| c.value.clone()).collect::<Vec<_>>());
        assert!(proves(&index), "shift {shift}");
    }
    assert!(index.alarms().is_empty(), "{:?}", index.alarms());
    let gone: Vec<Change> = all.iter().map(|c| Change { value: None, ..c.clone() }).collect();
    let said = index.apply(&gone, CommitSeq(seq + 1)).unwrap();
    assert_eq!(said.digest, super::Digest::default());
    assert!(proves(&index));
    index.close(LONG).unwrap();
    let left: Vec<_> = place.raw(|db| db.iter().keys().map(Result::unwrap).collect());
    assert_eq!(left, [format::META_KEY], "chunks nobody owns");
}

#[test]
fn many_changes_are_applied_in_steps_that_each_prove() {
    let place = Place::new();
    let index = place.fresh();
    let count = 3 * STEP_KEYS + 1;
    let changes: Vec<Change> = (0..count).map(|n| put(format!("{n:05}"), n.to_string())).collect();
    index.apply(&changes, CommitSeq(1)).unwrap();
    assert_eq!(
        index
            .scan(&KeyRange::everything(), &ScanOptions::new().max_entries(10_000))
            .unwrap()
            .entries
            .len(),
        count
    );
    assert!(proves(&index));
    assert_eq!(meta(&index).applied_seq, CommitSeq(1));
}

#[test]
fn a_step_that_ends_early_leaves_the_old_sequence() {
    let place = Place::new();
    let index = place.fresh();
    let mut changes: Vec<Change> =
        (0..2 * STEP_KEYS).map(|n| put(format!("{n:05}"), n.to_string())).collect();
    index.apply(&changes[..STEP_KEYS], CommitSeq(1)).unwrap();
    index.close(LONG).unwrap();
    // The entry of a key in the second step cannot be read: the first step stands, the call fails.
    let bad = key(format!("{:05}", 2 * STEP_KEYS - 1));
    let said = place.raw(|db| {
        db.insert(bad.raw(), &b"\xEEbad"[..]).unwrap();
        format::decode_meta(&db.get(format::META_KEY).unwrap().unwrap()).unwrap()
    });
    for change in &mut changes {
        change.value = Some(Bytes::from_static(b"new"));
    }
    let index = place.open();
    assert_eq!(kind(index.apply(&changes, CommitSeq(2))), IndexErrorKind::Corrupt);
    assert_eq!(kind(index.get(&key("00000"))), IndexErrorKind::Closed, "used after a failure");
    index.close(LONG).unwrap();
    let index = place.open();
    let after = meta(&index);
    assert_eq!(after.applied_seq, said.applied_seq, "it moves with the last step only");
    assert_eq!(index.get(&key("00000")).unwrap().unwrap(), "new", "the first step was applied");
    // But for what the test planted, it proves.
    let mut found = index.prove().unwrap();
    found.remove(bad.raw(), b"\xEEbad");
    assert_eq!(found, after.digest);
}

#[test]
fn loading_ends_with_ready_and_is_nothing_before() {
    let place = Place::new();
    let index = place.open();
    index.begin(ID).unwrap();
    let entries: Vec<(Key, Bytes)> =
        (0..1_000).map(|n| (key(format!("{n:04}")), value(n, n * 13))).collect();
    index.load(&entries[..300]).unwrap();
    index.load(&[]).unwrap();
    assert_eq!(kind(index.apply(&[put("a", "1")], CommitSeq(1))), IndexErrorKind::Misuse);
    assert_eq!(kind(index.load(&entries[..1])), IndexErrorKind::Misuse, "went back");
    let twice = [entries[300].clone(), entries[300].clone()];
    assert_eq!(kind(index.load(&twice)), IndexErrorKind::Misuse);
    assert!(!meta(&index).ready);
    index.close(LONG).unwrap();

    // Killed here, it is found half done.
    let index = place.open();
    assert!(!meta(&index).ready);
    assert_eq!(kind(index.begin(ID)), IndexErrorKind::Misuse, "it holds something");
    assert_eq!(kind(index.load(&entries[300..])), IndexErrorKind::Misuse, "by another handle");
    assert_eq!(kind(index.finish(CommitSeq(1))), IndexErrorKind::Misuse);
    index.close(LONG).unwrap();
    place.factory().destroy().unwrap();

    let index = place.open();
    assert!(index.meta().unwrap().is_none());
    index.begin(ID).unwrap();
    for some in entries.chunks(77) {
        index.load(some).unwrap();
    }
    let said = index.finish(CommitSeq(42)).unwrap();
    assert_eq!((said.ready, said.store_id, said.digest.keys), (true, ID, 1_000));
    assert!(proves(&index));
    assert_eq!(kind(index.load(&entries)), IndexErrorKind::Misuse, "after finish");
    index.close(LONG).unwrap();
    let index = place.open();
    assert_eq!(meta(&index), said);
    for (key, value) in &entries {
        assert_eq!(index.get(key).unwrap().as_ref(), Some(value));
    }
}

#[test]
fn rules_broken_by_the_caller_change_nothing() {
    let place = Place::new();
    let index = place.fresh();
    index.apply(&[put("a", "1")], CommitSeq(5)).unwrap();
    let unsorted = [put("c", "1"), put("b", "1")];
    assert_eq!(kind(index.apply(&unsorted, CommitSeq(6))), IndexErrorKind::Misuse);
    let twice = [put("b", "1"), put("b", "2")];
    assert_eq!(kind(index.apply(&twice, CommitSeq(6))), IndexErrorKind::Misuse);
    assert_eq!(kind(index.apply(&[put("b", "1")], CommitSeq(4))), IndexErrorKind::Misuse);
    assert_eq!(index.get(&key("b")).unwrap(), None);
    index.apply(&[put("b", "1")], CommitSeq(6)).expect("it goes on");
}

#[test]
fn a_closed_index_says_so_and_its_files_are_free() {
    let place = Place::new();
    for round in 0..5_u64 {
        let index = if round == 0 { place.fresh() } else { place.open() };
        index.apply(&[put("a", round.to_string())], CommitSeq(round)).unwrap();
        index.close(LONG).unwrap();
        index.close(LONG).expect("once more");
        assert_eq!(kind(index.get(&key("a"))), IndexErrorKind::Closed);
        assert_eq!(kind(index.apply(&[], CommitSeq(9))), IndexErrorKind::Closed);
        assert_eq!(kind(index.flush()), IndexErrorKind::Closed);
    }
    assert_eq!(place.open().get(&key("a")).unwrap().unwrap(), "4");
}

#[test]
fn a_second_handle_is_refused() {
    let place = Place::new();
    let _index = place.fresh();
    assert_eq!(kind(place.factory().open()), IndexErrorKind::Io);
}

#[test]
fn a_large_value_is_read_whole_while_it_is_replaced() {
    let place = Place::new();
    let index = place.fresh();
    let versions: Vec<Bytes> = (0..3).map(|n| value(n * 77, 9_000 + n * 4_000)).collect();
    index.apply(&[put("big", versions[0].clone())], CommitSeq(0)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let got = index.get(&key("big")).unwrap();
                    assert!(got.is_none_or(|got| versions.contains(&got)), "a mix of two versions");
                }
            });
        }
        for n in 1..400_usize {
            let new = (n % 4 != 3).then(|| versions[n % 3].clone());
            let change = Change { key: key("big"), value: new };
            index.apply(&[change], CommitSeq(n as u64)).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(proves(&index));
}

#[test]
fn the_cache_is_as_large_as_asked_for() {
    // sled refuses a cache below its minimum: the option reaches it.
    let place = Place::new();
    let factory = SledIndexFactory::new(place.path(), SledIndexOptions { cache_bytes: 1 });
    assert!(factory.open().is_err());
}

#[test]
fn a_panic_is_an_error_and_the_end() {
    let place = Place::new();
    let path = place.path();
    let db = sled::open(&path).unwrap();
    let index = super::SledIndex::new(path, db).unwrap();
    let error = index.with_db("get", |_| -> IndexResult<()> { panic!("in sled") }).unwrap_err();
    assert_eq!(error.kind(), IndexErrorKind::Panicked);
    assert_eq!(error.to_string(), "index: panic in get: in sled");
    assert_eq!(kind(index.get(&key("a"))), IndexErrorKind::Closed);
    let misuse = IndexError::new(IndexErrorKind::Misuse, "m");
    let place = Place::new();
    let index = super::SledIndex::new(place.path(), sled::open(place.path()).unwrap()).unwrap();
    assert!(index.with_db("get", |_| -> IndexResult<()> { Err(misuse.clone()) }).is_err());
    assert!(index.get(&key("a")).is_ok(), "a caller's mistake does not end it");
}

fn change() -> impl Strategy<Value = (u8, Option<(usize, usize)>)> {
    let len = prop_oneof![8 => 0..200_usize, 1 => 4_000..4_200_usize, 1 => 4_000..13_000_usize];
    (0..30_u8, prop::option::weighted(0.7, (0..1_000_usize, len)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reads_like_a_map_and_always_proves(
        batches in prop::collection::vec(prop::collection::vec(change(), 0..20), 1..12),
        reopen in any::<u8>(),
    ) {
        let place = Place::new();
        let mut index = place.fresh();
        let mut model = BTreeMap::new();
        for (n, batch) in batches.iter().enumerate() {
            let changes: BTreeMap<Key, Option<Bytes>> = batch.iter().map(|(k, v)| {
                // Keys of different lengths, one the prefix of another.
                let name = vec![b'k'; usize::from(*k) % 5 + 1].into_iter().chain([*k]);
                (key(name.collect::<Vec<_>>()), v.map(|(seed, len)| value(seed, len)))
            }).collect();
            let changes: Vec<Change> =
                changes.into_iter().map(|(key, value)| Change { key, value }).collect();
            for Change { key, value } in &changes {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let said = index.apply(&changes, CommitSeq(n as u64)).unwrap();
            prop_assert_eq!(said.digest.keys, model.len() as u64);
            if n == usize::from(reopen) % 8 {
                index.close(LONG).unwrap();
                // Not proved yet: every old entry is read.
                index = place.open();
                prop_assert_eq!(meta(&index), said);
            }
        }
        prop_assert!(proves(&index));
        let map = MemoryMap::new();
        for n in 0..30 {
            let absent = key([n; 7]);
            prop_assert_eq!(index.get(&absent).unwrap(), None);
        }
        for (key, value) in &model {
            map.insert(key.clone(), value.clone());
            let got = index.get(key).unwrap();
            prop_assert_eq!(got.as_ref(), Some(value));
        }
        for order in [Order::Forward, Order::Reverse] {
            for (max_entries, keys_only) in [(3, false), (7, true), (100, false)] {
                let options = ScanOptions { order, max_entries, keys_only, max_bytes: 9_000 };
                let mut rest = Some(KeyRange::everything());
                while let Some(range) = rest {
                    let page = index.scan(&range, &options).unwrap();
                    prop_assert_eq!(&page, &map.scan(&range, &options).unwrap());
                    rest = page.next;
                }
            }
        }
        index.close(LONG).unwrap();
    }
}
