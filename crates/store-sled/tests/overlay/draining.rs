//! When the drainer drains, how far, and what a failing index does to it.

use std::sync::Arc;
use std::time::Duration;

use resurge_store::{Batch, CommitSeq, ErrorKind};
use resurge_store_sled::{Drainer, OverlayOptions};

use crate::scripted::{Bench, Failure, LONG, eager, key, lazy, put};

#[test]
fn enough_keys_are_drained_at_once_and_fewer_are_not() {
    let bench = Bench::new(OverlayOptions { drain_keys: 3, ..lazy() });
    bench.index.hold();
    bench.commit(put(&["a", "b"], "1"));
    bench.commit(put(&["c"], "1"));
    bench.index.wait_held();
    bench.index.release();
    bench.drain();
    assert_eq!(*bench.index.applies.lock(), [(3, CommitSeq(2))]);
}

#[test]
fn enough_bytes_are_drained_at_once() {
    let bench = Bench::new(OverlayOptions { drain_bytes: 1_000, ..lazy() });
    bench.index.hold();
    bench.commit(put(&["a"], &"x".repeat(1_000)));
    bench.index.wait_held();
    bench.index.release();
}

#[test]
fn little_is_drained_after_a_while() {
    let bench = Bench::new(OverlayOptions {
        drain_after: Duration::from_millis(1),
        ..OverlayOptions::default()
    });
    bench.index.hold();
    bench.commit(put(&["a"], "1"));
    bench.index.wait_held();
    bench.index.release();
}

#[test]
fn overwritten_keys_reach_the_index_once() {
    let bench = Bench::new(lazy());
    for n in 0..50 {
        bench.commit(put(&["hot"], &n.to_string()));
    }
    bench.drain();
    assert_eq!(*bench.index.applies.lock(), [(1, CommitSeq(50))]);
    assert_eq!(bench.overlay.applied(), CommitSeq(50));
    assert_eq!(bench.overlay.get(&key("hot")).unwrap().unwrap(), "49");
}

#[test]
fn what_is_not_durable_never_reaches_the_index() {
    let bench = Bench::new(eager());
    let first = bench.commit(put(&["a"], "1"));
    bench.drain();
    let second = bench.buffered(put(&["b"], "2"));
    assert!(bench.drainer.drain_all(Duration::from_millis(5)).is_err(), "it was not synced");
    assert_eq!(bench.overlay.applied(), first);
    assert_eq!(bench.overlay.get(&key("b")).unwrap().unwrap(), "2", "visible all the same");
    bench.overlay.made_durable(second);
    bench.drain();
    assert_eq!(bench.overlay.applied(), second);
}

#[test]
fn a_stream_of_buffered_groups_is_drained_up_to_each_sync() {
    let bench = Bench::new(eager());
    for round in 0..20 {
        bench.index.hold();
        let synced = bench.buffered(put(&["a"], &round.to_string()));
        bench.overlay.made_durable(synced);
        // There before the drainer has looked; and not durable.
        bench.buffered(put(&["b"], &round.to_string()));
        bench.index.wait_held();
        bench.index.release();
        // The next round's sync finds the drainer free.
        bench.overlay.made_durable(bench.overlay.published());
        bench.drain();
    }
}

#[test]
fn a_group_without_operations_moves_the_sequence() {
    let bench = Bench::new(eager());
    let seq = bench.commit(Batch::new());
    bench.drain();
    assert_eq!(bench.overlay.applied(), seq);
    assert_eq!(*bench.index.applies.lock(), [(0, seq)]);
}

#[test]
fn a_failing_index_is_told_once_and_ends_the_overlay() {
    for (failure, text) in [
        (Failure::Error, "planted in apply"),
        (Failure::Panic, "panic in apply: planted in apply"),
        (Failure::WrongSeq, "it says it is at commit 2 after applying 1"),
    ] {
        let bench = Bench::new(lazy());
        bench.index.fail_next(failure);
        bench.commit(put(&["a"], "1"));
        let error = bench.drainer.drain_all(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert_eq!(*bench.failures.lock(), [format!("index: {text}")], "{failure:?}");

        assert_eq!(bench.overlay.applied(), CommitSeq(0), "nothing counts as applied");
        assert_eq!(bench.overlay.get(&key("a")).unwrap().unwrap(), "1", "memory still answers");
        let error = bench.overlay.get(&key("z")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(bench.overlay.reserve(1, LONG).unwrap_err().kind(), ErrorKind::Closed);
        bench.drainer.stop(LONG).expect("it has stopped by itself");
        assert_eq!(bench.failures.lock().len(), 1, "told once");
    }
}

#[test]
fn a_failing_read_ends_it_too() {
    let bench = Bench::new(lazy());
    bench.index.fail_next(Failure::Error);
    assert!(bench.overlay.get(&key("a")).is_err());
    assert_eq!(*bench.failures.lock(), ["index: planted in get"]);
    assert!(bench.overlay.failure().is_some());
    bench.commit(put(&["a"], "1"));
    assert!(bench.drainer.drain_all(LONG).is_err());
    assert!(bench.index.applies.lock().is_empty(), "applied to an index that failed");
}

#[test]
fn those_who_wait_for_room_hear_of_the_failure() {
    let bench = Bench::new(OverlayOptions { max_bytes: 200, ..lazy() });
    bench.index.hold();
    bench.commit(put(&["a"], &"x".repeat(200)));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| bench.overlay.reserve(200, LONG));
        bench.index.wait_held();
        bench.index.fail_next(Failure::Error);
        bench.index.release();
        let error = waiting.join().expect("no panic").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn stop_leaves_the_rest_and_keeps_its_deadline() {
    let bench = Bench::new(lazy());
    bench.index.hold();
    bench.commit(put(&["a"], "1"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            bench.index.wait_held();
            let error = bench.drainer.stop(Duration::from_millis(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "it is in the index");
            bench.index.release();
        });
        // Ends because the drainer stops, whether or not the step before was the last one needed.
        let _ = bench.drainer.drain_all(LONG);
    });
    bench.drainer.stop(LONG).unwrap();
    let applied = bench.overlay.applied();
    bench.commit(put(&["b"], "2"));
    assert!(bench.drainer.drain_all(LONG).is_err(), "nobody drains any more");
    assert_eq!(bench.overlay.applied(), applied);
}

#[test]
fn an_overlay_has_one_drainer_in_its_life() {
    let bench = Bench::new(lazy());
    let second = Drainer::start(Arc::clone(&bench.overlay)).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Invalid);
    let Bench { overlay, drainer, .. } = bench;
    drop(drainer);
    assert!(Drainer::start(overlay).is_err());
}
