//! Readers beside a writer and a drainer: every page shows whole groups, every key goes forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resurge_store::{Batch, CommitSeq, Key, Order, ScanOptions};
use resurge_store_sled::{
    Drainer, Index, IndexFactory, Overlay, OverlayOptions, SledIndexFactory, SledIndexOptions,
};

use crate::scripted::{LONG, ScriptedIndex, namespace};

const KEYS: u8 = 40;

fn key(n: u8) -> Key {
    namespace().key([n]).expect("short")
}

/// Every group writes its number under every key, the even or the odd ones being deleted.
fn group(number: u64, len: usize) -> Batch {
    let mut batch = Batch::new();
    for n in 0..KEYS {
        if u64::from(n) % 2 == number % 2 {
            batch.delete(key(n));
        } else {
            batch.put(key(n), number.to_be_bytes().repeat(len));
        }
    }
    batch
}

fn number(value: &[u8]) -> u64 {
    let (first, rest) = value.split_first_chunk::<8>().expect("a number");
    assert!(rest.chunks(8).all(|next| next == first), "a torn value");
    u64::from_be_bytes(*first)
}

/// `len`: how many numbers long a value is.
fn whole_groups(index: Arc<dyn Index>, groups: u64, len: usize) {
    let options = OverlayOptions {
        drain_keys: 1,
        drain_after: Duration::from_millis(1),
        ..OverlayOptions::default()
    };
    let overlay = Overlay::new(index, CommitSeq(0), options, Box::new(|e| panic!("{e}")));
    let overlay = Arc::new(overlay);
    let drainer = Drainer::start(Arc::clone(&overlay)).expect("starts");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for order in [Order::Forward, Order::Reverse] {
            let (overlay, done) = (&overlay, &done);
            scope.spawn(move || {
                let options = ScanOptions { order, max_bytes: usize::MAX, ..ScanOptions::new() };
                let mut newest = 0;
                while !done.load(Ordering::Acquire) {
                    let page = overlay.scan(&namespace().all(), &options).expect("reads");
                    let mut keys: Vec<u8> =
                        page.entries.iter().flat_map(|e| e.key.bytes().to_vec()).collect();
                    keys.sort_unstable();
                    let numbers: Vec<u64> = page.entries.iter().map(|e| number(&e.value)).collect();
                    let Some(seen) = numbers.first().copied() else { continue };
                    assert!(numbers.iter().all(|n| *n == seen), "a torn page: {numbers:?}");
                    let expected: Vec<u8> =
                        (0..KEYS).filter(|n| u64::from(*n) % 2 != seen % 2).collect();
                    assert_eq!(keys, expected, "keys of two groups in one page");
                    assert!(seen >= newest, "a page went back from {newest} to {seen}");
                    newest = seen;
                }
            });
        }
        let (overlay_read, done_read) = (&overlay, &done);
        scope.spawn(move || {
            let mut newest = 0;
            while !done_read.load(Ordering::Acquire) {
                for n in [0, 1, KEYS - 1] {
                    if let Some(value) = overlay_read.get(&key(n)).expect("reads") {
                        let seen = number(&value);
                        assert!(seen >= newest, "a key went back from {newest} to {seen}");
                        newest = seen;
                    }
                }
            }
        });
        for n in 1..=groups {
            let group = resurge_store::Group { first: CommitSeq(n), batches: vec![group(n, len)] };
            overlay.reserve(Overlay::size_of(&group), LONG).expect("room");
            // Every third group is buffered: published first, durable with the next one.
            if n % 3 != 0 {
                overlay.made_durable(CommitSeq(n));
            }
            overlay.publish(&group);
        }
        overlay.made_durable(CommitSeq(groups));
        drainer.drain_all(LONG).expect("drains");
        done.store(true, Ordering::Release);
    });
    assert_eq!(overlay.applied(), CommitSeq(groups));
}

#[test]
fn pages_show_whole_groups() {
    whole_groups(ScriptedIndex::new(), 3_000, 1);
}

#[test]
fn pages_show_whole_groups_over_sled() {
    let dir = tempfile::tempdir().unwrap();
    let factory = SledIndexFactory::new(dir.path().join("index"), SledIndexOptions::default());
    let index = factory.open().unwrap().index;
    index.begin([1; 16]).unwrap();
    index.finish(CommitSeq(0)).unwrap();
    whole_groups(Arc::clone(&index), 300, 1);
    // Values in two and three chunks.
    let index = {
        index.close(LONG).unwrap();
        factory.destroy().unwrap();
        factory.open().unwrap().index
    };
    index.begin([1; 16]).unwrap();
    index.finish(CommitSeq(0)).unwrap();
    whole_groups(Arc::clone(&index), 100, 1_200);
    assert_eq!(index.prove().unwrap(), index.meta().unwrap().unwrap().digest);
    assert!(index.alarms().is_empty(), "{:?}", index.alarms());
    index.close(LONG).unwrap();
}
