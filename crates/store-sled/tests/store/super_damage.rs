//! The super file damaged, lost, half written.

use std::fs;

use resurge_store::ErrorKind;
use resurge_store_sled::{IndexKind, Recovery, SledStore};

use crate::fixture::{Dir, KINDS, close, dump, open, options, put};

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_damaged_slot_is_reported_and_harmless() {
    for kind in KINDS {
        for slot in 0..2 {
            let dir = Dir::new();
            let (store, _) = open(&dir.path(), options(kind));
            put(&store, "k", "v").unwrap();
            let state = dump(&store);
            close(&store);
            drop(store);
            flip(&dir.sub("super"), slot * 4096 + 60);
            let (store, report) = open(&dir.path(), options(kind));
            assert!(report.super_slot.is_some(), "{report}");
            assert!(report.to_string().contains("super slot"));
            assert_eq!(dump(&store), state);
            close(&store);
            drop(store);
            assert!(open(&dir.path(), options(kind)).1.super_slot.is_none(), "cured");
        }
    }
}

#[test]
fn without_a_super_file_data_is_neither_guessed_at_nor_started_over() {
    for lost in [false, true] {
        let dir = Dir::new();
        let kind = IndexKind::Memory;
        let (store, _) = open(&dir.path(), options(kind));
        put(&store, "k", "v").unwrap();
        let state = dump(&store);
        close(&store);
        drop(store);
        if lost {
            fs::remove_file(dir.sub("super")).unwrap();
        } else {
            flip(&dir.sub("super"), 60);
            flip(&dir.sub("super"), 4096 + 60);
        }
        let refused = SledStore::open_blocking(dir.path(), options(kind)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert!(refused.to_string().contains("super"), "{refused}");
        // The log says who the store is; salvage writes a new super file.
        let salvage = options(kind).recovery(Recovery::Salvage);
        let (store, report) = open(&dir.path(), salvage);
        assert!(report.super_slot.is_some() && report.salvaged.is_none(), "{report}");
        assert_eq!(report.quarantined.len(), usize::from(!lost));
        assert_eq!(dump(&store), state);
        close(&store);
        drop(store);
        let (store, report) = open(&dir.path(), options(kind));
        assert!(report.super_slot.is_none());
        assert_eq!(dump(&store), state);
        close(&store);
    }
}

#[test]
fn a_super_file_that_was_being_made_is_made_again() {
    let dir = Dir::new();
    fs::create_dir_all(dir.path()).unwrap();
    fs::write(dir.sub("super.tmp"), b"half").unwrap();
    let (store, report) = open(&dir.path(), options(IndexKind::Memory));
    assert_eq!(report.swept, ["super.tmp"]);
    close(&store);
    assert!(!dir.sub("super.tmp").exists());
}
