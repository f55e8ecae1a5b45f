//! What one page shows while the index changes under it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_store::{KeyRange, ScanOptions};

use crate::scripted::{Bench, delete, eager, key, lazy, namespace, put, show};

const ALL: [&str; 4] = ["a", "b", "c", "d"];

fn all() -> KeyRange {
    namespace().all()
}

#[test]
fn the_newest_layer_wins_and_tombstones_hide() {
    let bench = Bench::new(lazy());
    bench.commit(put(&ALL, "index"));
    bench.drain();
    bench.index.hold();
    bench.commit(put(&["a", "b"], "draining"));
    bench.commit(delete(&["c"]));
    std::thread::scope(|scope| {
        scope.spawn(|| bench.drain());
        bench.index.wait_held();
        bench.commit(put(&["a", "c"], "active"));
        bench.commit(delete(&["b"]));

        let shown = show(&bench.overlay.scan(&all(), &ScanOptions::new()).unwrap());
        assert_eq!(shown, "a=active c=active d=index");
        assert_eq!(bench.overlay.get(&key("a")).unwrap().unwrap(), "active");
        assert_eq!(bench.overlay.get(&key("b")).unwrap(), None);
        assert_eq!(bench.overlay.get(&key("d")).unwrap().unwrap(), "index");
        bench.index.release();
    });
    bench.drain();
    let shown = show(&bench.overlay.scan(&all(), &ScanOptions::new()).unwrap());
    assert_eq!(shown, "a=active c=active d=index");
}

#[test]
fn a_page_overtaken_by_a_rotation_is_read_again() {
    let bench = Arc::new(Bench::new(eager()));
    bench.commit(put(&ALL, "old"));
    bench.drain();
    let during = Arc::clone(&bench);
    bench.index.in_page(move |number| {
        // Published after the page was pinned, and in the index before its second half is read.
        if number == 0 {
            during.commit(put(&ALL, "new"));
            during.drain();
        }
    });
    let page = bench.overlay.scan(&all(), &ScanOptions::new().max_entries(4)).unwrap();
    assert_eq!(show(&page), "a=new b=new c=new d=new");
    assert!(bench.index.pages.load(Ordering::SeqCst) >= 2, "the first page was torn");
}

#[test]
fn a_key_that_is_new_does_not_appear_in_half_a_page() {
    let bench = Arc::new(Bench::new(eager()));
    bench.commit(put(&["b", "c", "d"], "old"));
    bench.drain();
    let during = Arc::clone(&bench);
    bench.index.in_page(move |number| {
        if number == 0 {
            let mut batch = put(&["a", "d"], "new");
            batch.delete(key("b")).delete(key("c"));
            during.commit(batch);
            during.drain();
        }
    });
    let page = bench.overlay.scan(&all(), &ScanOptions::new().max_entries(3)).unwrap();
    assert_eq!(show(&page), "a=new d=new");
}

#[test]
fn a_page_is_not_overtaken_for_ever() {
    let bench = Arc::new(Bench::new(eager()));
    bench.commit(put(&ALL, "0"));
    bench.drain();
    let during = Arc::clone(&bench);
    bench.index.in_page(move |number| {
        let seq = during.commit(put(&ALL, &(number + 1).to_string()));
        // Rotates at once if it can.
        during.overlay.made_durable(seq);
        if number < 3 {
            during.drain();
        } else {
            // The page holds the gate: this commit is visible, but it stays where it is.
            let status = during.overlay.status();
            assert_eq!((status.keys, status.applied.0), (4, 4), "drained through the gate");
        }
    });
    let page = bench.overlay.scan(&all(), &ScanOptions::new().max_entries(4)).unwrap();
    assert_eq!(
        show(&page),
        "a=3 b=3 c=3 d=3",
        "the last attempt sees what was there when it began"
    );
    bench.drain();
    assert_eq!(bench.overlay.status().keys, 0, "the gate is open again");
}

#[test]
fn a_generation_that_is_applied_during_a_page_does_not_disturb_it() {
    let bench = Arc::new(Bench::new(lazy()));
    bench.commit(put(&ALL, "old"));
    bench.drain();
    bench.index.hold();
    bench.commit(put(&ALL, "new"));
    std::thread::scope(|scope| {
        scope.spawn(|| bench.drain());
        bench.index.wait_held();
        let before = bench.index.pages.load(Ordering::SeqCst);
        let during = Arc::clone(&bench);
        bench.index.in_page(move |_| {
            during.index.release();
            during.drain();
        });
        let page = bench.overlay.scan(&all(), &ScanOptions::new().max_entries(4)).unwrap();
        assert_eq!(show(&page), "a=new b=new c=new d=new");
        assert_eq!(bench.index.pages.load(Ordering::SeqCst), before + 1, "no second attempt");
    });
}

#[test]
fn an_exactly_full_page_knows_whether_there_is_more() {
    let bench = Bench::new(lazy());
    bench.commit(put(&ALL, "1"));
    bench.drain();
    let page = |n: usize| {
        show(&bench.overlay.scan(&all(), &ScanOptions::new().max_entries(n).keys_only()).unwrap())
    };
    assert_eq!(page(4), "a= b= c= d=");
    assert_eq!(page(3), "a= b= c= +");
    // What the index still has is hidden: there is no more.
    bench.commit(delete(&["c", "d"]));
    assert_eq!(page(2), "a= b=");
    assert_eq!(page(1), "a= +");
}
