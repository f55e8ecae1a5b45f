//! The simulator itself: it keeps the index's contract, and its lies are the ones asked for.

use std::time::Duration;

use resurge_store::{KeyRange, Namespace, ScanOptions};
use resurge_store_sled::{Change, Index};

use super::*;

const ID: [u8; 16] = *b"simulated index ";

fn key(n: u64) -> Key {
    Namespace::new("app").unwrap().key(n.to_be_bytes()).unwrap()
}

fn change(n: u64, value: Option<&'static str>) -> Change {
    Change { key: key(n), value: value.map(Bytes::from) }
}

/// Loaded with two entries at commit 3, then two applied steps.
fn built() -> (SimIndex, Arc<dyn Index>) {
    let place = SimIndex::new();
    let index = place.open().unwrap().index;
    assert_eq!(index.meta().unwrap(), None);
    index.begin(ID).unwrap();
    index.load(&[(key(1), "a".into()), (key(2), "b".into())]).unwrap();
    assert!(!index.meta().unwrap().unwrap().ready);
    index.finish(CommitSeq(3)).unwrap();
    index.apply(&[change(1, None), change(3, Some("c"))], CommitSeq(5)).unwrap();
    index.apply(&[change(2, Some("d"))], CommitSeq(6)).unwrap();
    (place, index)
}

#[test]
fn it_is_an_index() {
    let (place, index) = built();
    let meta = index.meta().unwrap().unwrap();
    assert_eq!((meta.applied_seq, meta.ready, meta.digest.keys), (CommitSeq(6), true, 2));
    assert_eq!(index.prove().unwrap(), meta.digest);
    assert_eq!(index.get(&key(1)).unwrap(), None);
    assert_eq!(index.get(&key(2)).unwrap().unwrap(), "d");
    for options in [ScanOptions::new(), ScanOptions::new().reverse()] {
        let page = index.scan(&KeyRange::everything(), &options.max_entries(1)).unwrap();
        assert_eq!(page.entries.len(), 1);
        assert!(page.next.is_some());
    }
    index.close(Duration::ZERO).unwrap();
    assert_eq!(index.get(&key(2)).unwrap_err().kind(), IndexErrorKind::Closed);
    let again = place.open().unwrap().index;
    assert_eq!(again.meta().unwrap(), Some(meta));
    place.destroy().unwrap();
    assert_eq!(again.meta().unwrap(), None);
}

#[test]
fn misuse_changes_nothing() {
    let (place, index) = built();
    let before = place.meta();
    for error in [
        index.begin(ID).unwrap_err(),
        index.load(&[(key(9), "x".into())]).unwrap_err(),
        index.finish(CommitSeq(9)).unwrap_err(),
        index.apply(&[change(9, None)], CommitSeq(5)).unwrap_err(),
        index.apply(&[change(9, None), change(8, None)], CommitSeq(9)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), IndexErrorKind::Misuse);
    }
    assert_eq!((place.meta(), place.proof()), (before, before.unwrap().digest));
}

#[test]
fn what_can_really_happen_proves_itself_and_lies_do_not() {
    let (place, _index) = built();
    let now = place.meta().unwrap();
    let mut old = std::collections::BTreeSet::new();
    for seed in 0..32 {
        assert_eq!(place.crash(IndexFate::Intact).meta(), Some(now));
        assert_eq!(place.crash(IndexFate::Gone).meta(), None);
        let before = place.crash(IndexFate::Old { seed });
        let meta = before.meta().unwrap();
        assert_eq!(before.proof(), meta.digest);
        old.insert((meta.ready, meta.applied_seq));

        let lossy = place.crash(IndexFate::Lossy { seed });
        assert!(lossy.proof().keys < now.digest.keys && lossy.meta() == Some(now));
        let wrong = place.crash(IndexFate::Wrong { seed });
        assert_eq!((wrong.proof().keys, wrong.meta()), (now.digest.keys, Some(now)));
        assert_ne!(wrong.proof(), now.digest);
        let unfinished = place.crash(IndexFate::Unfinished { seed });
        assert!(!unfinished.meta().unwrap().ready && unfinished.proof().keys < 2);
    }
    assert!(old.len() >= 3, "{old:?}");
    let ahead = place.crash(IndexFate::Ahead { by: 2 });
    assert_eq!(ahead.meta().unwrap().applied_seq, CommitSeq(8));
    assert_eq!(ahead.proof(), now.digest);
    let foreign = place.crash(IndexFate::Foreign);
    assert_ne!(foreign.meta().unwrap().store_id, ID);
    assert_eq!(foreign.proof(), foreign.meta().unwrap().digest);
    assert_eq!(place.meta(), Some(now), "the place itself does not change");
}

#[test]
fn trouble_is_cured_by_destroying_it_or_not_at_all() {
    let (place, _index) = built();
    for (fate, kind) in [
        (IndexFate::Unopenable, IndexErrorKind::Corrupt),
        (IndexFate::PanicsAtOpen, IndexErrorKind::Panicked),
    ] {
        let place = place.crash(fate);
        assert_eq!(place.open().unwrap_err().kind(), kind);
        place.destroy().unwrap();
        assert!(place.open().is_ok());
    }
    let stuck = place.crash(IndexFate::Stuck);
    assert!(stuck.open().is_err() && stuck.destroy().is_err());
    let failing = place.crash(IndexFate::FailsAtApply).open().unwrap().index;
    let error = failing.apply(&[change(7, None)], CommitSeq(7)).unwrap_err();
    assert_eq!(error.kind(), IndexErrorKind::Io);
    let panicking = place.crash(IndexFate::PanicsAtApply).open().unwrap().index;
    let apply = || panicking.apply(&[change(7, None)], CommitSeq(7));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(apply)).is_err());
}

#[test]
fn a_place_can_be_made_up() {
    let entries = BTreeMap::from([(key(1), Bytes::from_static(b"x"))]);
    let place = SimIndex::holding(ID, entries, CommitSeq(4));
    let meta = place.meta().unwrap();
    assert_eq!((meta.store_id, meta.applied_seq, meta.ready), (ID, CommitSeq(4), true));
    assert_eq!(place.proof(), meta.digest);
}
