//! The bound: who waits for room, and what makes some.

use std::time::Duration;

use resurge_store::{Batch, CommitSeq, ErrorKind, Group};
use resurge_store_sled::{Overlay, OverlayOptions};

use crate::scripted::{Bench, LONG, key, lazy, put};

fn small() -> OverlayOptions {
    OverlayOptions { max_bytes: 1_000, ..lazy() }
}

fn size(batch: &Batch) -> usize {
    Overlay::size_of(&Group { first: CommitSeq(1), batches: vec![batch.clone()] })
}

#[test]
fn over_the_bound_nothing_is_let_in_until_the_index_has_caught_up() {
    let bench = Bench::new(small());
    bench.index.hold();
    let batch = put(&["a"], &"x".repeat(800));
    bench.overlay.reserve(size(&batch), Duration::ZERO).unwrap();
    bench.commit(batch);
    let refused = bench.overlay.reserve(200, Duration::ZERO).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    bench.overlay.reserve(10, Duration::ZERO).expect("that much is left");
    bench.overlay.cancel(10);

    std::thread::scope(|scope| {
        // Whoever waits makes the drainer go, though nothing else would for an hour.
        scope.spawn(|| bench.overlay.reserve(200, LONG).expect("room came"));
        bench.index.wait_held();
        bench.index.release();
    });
    assert_eq!(bench.overlay.status().bytes, 200, "reserved, and nothing else is held");
}

#[test]
fn reserved_room_counts_until_published_or_cancelled() {
    let bench = Bench::new(small());
    bench.overlay.reserve(600, Duration::ZERO).unwrap();
    assert!(bench.overlay.reserve(600, Duration::ZERO).is_err());
    bench.overlay.cancel(600);
    bench.overlay.reserve(600, Duration::ZERO).expect("it was given back");
    let batch = put(&["a"], "1");
    bench.overlay.cancel(600);
    bench.overlay.reserve(size(&batch), Duration::ZERO).unwrap();
    bench.commit(batch.clone());
    assert_eq!(bench.overlay.status().bytes, size(&batch), "counted once");
}

#[test]
fn a_group_over_the_bound_is_let_in_alone() {
    let bench = Bench::new(small());
    bench.overlay.reserve(5_000, Duration::ZERO).expect("nothing is held");
    assert!(bench.overlay.reserve(1, Duration::ZERO).is_err());
}

#[test]
fn overwritten_keys_count_once() {
    let bench = Bench::new(lazy());
    bench.buffered(put(&["a"], "12345"));
    let before = bench.overlay.status();
    for _ in 0..100 {
        bench.buffered(put(&["a"], "67890"));
    }
    assert_eq!(bench.overlay.status().bytes, before.bytes);
    let mut batch = Batch::new();
    batch.delete(key("a"));
    bench.buffered(batch);
    assert_eq!(bench.overlay.status().bytes, before.bytes - 5, "a tombstone holds no value");
}

#[test]
fn a_wait_for_room_that_only_a_sync_can_make_is_told_so() {
    let bench = Bench::new(small());
    let batch = put(&["a"], &"x".repeat(800));
    bench.overlay.reserve(size(&batch), Duration::ZERO).unwrap();
    let seq = bench.buffered(batch);
    assert!(bench.overlay.reserve(500, Duration::ZERO).is_err());
    assert!(bench.overlay.waits_for_sync());
    bench.overlay.made_durable(seq);
    bench.overlay.reserve(500, LONG).expect("drained after the sync");
    assert!(!bench.overlay.waits_for_sync());
}
