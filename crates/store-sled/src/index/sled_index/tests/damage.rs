//! Files that are damaged, left over or not ours: an error or no proof, never a wrong answer.

use std::fs;
use std::path::Path;

use resurge_store::CommitSeq;

use super::super::{directory, format};
use super::{
    Change, IndexErrorKind, IndexFactory, LONG, Place, key, kind, meta, proves, put, value,
};

#[test]
fn what_it_says_about_itself_is_checked() {
    let place = Place::new();
    place.fresh().close(LONG).unwrap();
    let good = place.raw(|db| db.get(format::META_KEY).unwrap().unwrap());
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(kind(format::decode_meta(&bad)), IndexErrorKind::Corrupt, "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(kind(format::decode_meta(&good[..len])), IndexErrorKind::Corrupt);
    }
    place.raw(|db| db.insert(format::META_KEY, &good[1..]).unwrap());
    assert_eq!(kind(place.factory().open()), IndexErrorKind::Corrupt);
    directory::wait_released(&place.path()).unwrap();
    place.raw(|db| {
        db.remove(format::META_KEY).unwrap();
        db.insert(key("a").raw(), "x").unwrap();
    });
    assert_eq!(kind(place.factory().open()), IndexErrorKind::Corrupt, "entries without meta");
    directory::wait_released(&place.path()).unwrap();
    place.factory().destroy().unwrap();
    assert!(place.open().meta().unwrap().is_none(), "destroyed and new");
}

#[test]
fn lost_stale_and_foreign_entries_do_not_prove() {
    type Plant = fn(&sled::Db);
    let plants: [(&str, Plant); 6] = [
        ("lost", |db| drop(db.remove(key("a").raw()).unwrap())),
        ("stale", |db| drop(db.insert(key("a").raw(), &b"\0old"[..]).unwrap())),
        ("foreign", |db| drop(db.insert(key("new").raw(), &b"\0x"[..]).unwrap())),
        ("lost chunk", |db| {
            drop(db.remove(format::chunk_key(key("big").raw(), 1)).unwrap());
        }),
        ("stale chunk", |db| {
            drop(db.insert(format::chunk_key(key("big").raw(), 1), &[9; 100][..]).unwrap());
        }),
        ("orphan chunk", |db| {
            drop(db.insert(format::chunk_key(key("a").raw(), 0), &[9; 100][..]).unwrap());
        }),
    ];
    for (what, plant) in plants {
        let place = Place::new();
        let index = place.fresh();
        let big = value(3, 20_000);
        index.apply(&[put("a", "1"), put("big", big.clone())], CommitSeq(1)).unwrap();
        assert!(proves(&index));
        index.close(LONG).unwrap();
        place.raw(plant);
        let index = place.open();
        assert!(!proves(&index), "{what} went unnoticed");
        if what.ends_with(" chunk") && what != "orphan chunk" {
            assert_eq!(kind(index.get(&key("big"))), IndexErrorKind::Corrupt, "{what}");
        }
    }
}

#[test]
fn an_unfinished_snapshot_is_swept_and_reported() {
    let place = Place::new();
    let index = place.fresh();
    index.apply(&[put("a", "1")], CommitSeq(1)).unwrap();
    index.close(LONG).unwrap();
    let leftover = "snap.0000000000000FFF.generating";
    fs::write(place.path().join(leftover), b"half").unwrap();
    let opened = place.factory().open().unwrap();
    assert_eq!(opened.swept, [leftover]);
    assert!(!place.path().join(leftover).exists());
    assert_eq!(opened.index.get(&key("a")).unwrap().unwrap(), "1");
}

#[test]
fn spilled_pages_raise_an_alarm() {
    let place = Place::new();
    let index = place.fresh();
    assert!(index.alarms().is_empty());
    fs::write(place.path().join("blobs").join("77"), b"x").unwrap();
    assert!(index.alarms()[0].contains("spilled 1 pages"), "{:?}", index.alarms());
}

#[test]
fn damaged_files_are_an_error_or_do_not_prove() {
    let place = Place::new();
    let index = place.fresh();
    let changes: Vec<Change> = (0..2_000).map(|n| put(format!("{n:05}"), value(n, 100))).collect();
    index.apply(&changes, CommitSeq(1)).unwrap();
    index.close(LONG).unwrap();
    let (mut refused, mut unproved) = (0, 0);
    for trial in 0..40_usize {
        let copy = Place::new();
        copy_dir(&place.path(), &copy.path());
        let file = copy.path().join("db");
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.len() * trial / 40 + trial * 7;
        bytes[at % 300_000] ^= 1 << (trial % 8);
        fs::write(&file, bytes).unwrap();
        // Never a panic; and nothing that proves differs from what was applied.
        let Ok(opened) = copy.factory().open() else {
            refused += 1;
            continue;
        };
        let index = opened.index;
        let proved = index.meta().unwrap().zip(index.prove().ok());
        let Some((_, _)) = proved.filter(|(meta, found)| meta.ready && meta.digest == *found)
        else {
            unproved += 1;
            continue;
        };
        let applied = meta(&index).applied_seq;
        let expected = if applied == CommitSeq(1) { &changes[..] } else { &[] };
        for change in expected {
            assert_eq!(index.get(&change.key).unwrap(), change.value, "trial {trial}");
        }
        index.close(LONG).unwrap();
    }
    assert!(refused + unproved > 0, "no trial did damage: the test is blind");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
