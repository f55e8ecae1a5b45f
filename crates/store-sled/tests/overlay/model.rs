//! Any sequence of groups, syncs and drains reads like an ordered map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use resurge_store::{Batch, Key, MemoryMap, Order, ScanOptions};
use resurge_store_sled::OverlayOptions;

use crate::scripted::{Bench, eager, lazy, namespace};

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    Buffered(Vec<(u8, Option<u8>)>),
    Drain,
    Get(u8),
    Scan { from: u8, to: u8, options: ScanOptions },
}

fn step() -> impl Strategy<Value = Step> {
    let ops = || prop::collection::vec((0..24_u8, prop::option::weighted(0.7, any::<u8>())), 0..8);
    let options = (any::<bool>(), 1..12_usize, any::<bool>(), 0..400_usize).prop_map(
        |(reverse, max_entries, keys_only, max_bytes)| ScanOptions {
            order: if reverse { Order::Reverse } else { Order::Forward },
            max_entries,
            max_bytes,
            keys_only,
        },
    );
    prop_oneof![
        3 => ops().prop_map(Step::Commit),
        2 => ops().prop_map(Step::Buffered),
        1 => Just(Step::Drain),
        2 => (0..24_u8).prop_map(Step::Get),
        4 => (0..26_u8, 0..26_u8, options).prop_map(|(from, to, options)| Step::Scan { from, to, options }),
    ]
}

fn key(n: u8) -> Key {
    namespace().key([n]).expect("short")
}

fn batch(ops: &[(u8, Option<u8>)]) -> Batch {
    let mut batch = Batch::new();
    for (n, value) in ops {
        match value {
            Some(value) => batch.put(key(*n), vec![*value; usize::from(*value) % 40]),
            None => batch.delete(key(*n)),
        };
    }
    batch
}

fn options() -> impl Strategy<Value = OverlayOptions> {
    prop_oneof![Just(eager()), Just(lazy()), Just(OverlayOptions { drain_keys: 5, ..lazy() })]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reads_like_a_map(options in options(), steps in prop::collection::vec(step(), 1..60)) {
        let bench = Bench::new(options);
        // The naive model; and one of the contract's own maps, for the cut of a page.
        let mut values = BTreeMap::<u8, Bytes>::new();
        let model = MemoryMap::new();
        for step in steps {
            match step {
                Step::Commit(ops) | Step::Buffered(ops) if ops.is_empty() => {}
                Step::Commit(ops) => {
                    let batch = batch(&ops);
                    model.apply([&batch]);
                    note(&mut values, &ops);
                    bench.commit(batch);
                }
                Step::Buffered(ops) => {
                    let batch = batch(&ops);
                    model.apply([&batch]);
                    note(&mut values, &ops);
                    bench.buffered(batch);
                }
                Step::Drain => {
                    bench.overlay.made_durable(bench.overlay.published());
                    bench.drain();
                    prop_assert_eq!(bench.overlay.status().keys, 0);
                }
                Step::Get(n) => {
                    let got = bench.overlay.get(&key(n)).unwrap();
                    prop_assert_eq!(got.as_ref(), values.get(&n));
                }
                Step::Scan { from, to, options } => {
                    let range = namespace().range(&[from][..]..&[to][..]);
                    let page = bench.overlay.scan(&range, &options).unwrap();
                    prop_assert_eq!(&page, &model.scan(&range, &options).unwrap());
                    let mut rest = page.next;
                    let mut seen = page.entries.len();
                    while let Some(range) = rest {
                        let page = bench.overlay.scan(&range, &options).unwrap();
                        prop_assert_eq!(&page, &model.scan(&range, &options).unwrap());
                        seen += page.entries.len();
                        rest = page.next;
                    }
                    prop_assert_eq!(seen, values.range(from..to.max(from)).count());
                }
            }
        }
        prop_assert!(bench.failures.lock().is_empty());
    }
}

fn note(values: &mut BTreeMap<u8, Bytes>, ops: &[(u8, Option<u8>)]) {
    for (n, value) in ops {
        match value {
            Some(value) => values.insert(*n, vec![*value; usize::from(*value) % 40].into()),
            None => values.remove(n),
        };
    }
}
