//! Damage to acknowledged data: refused by default, the valid prefix on demand.

use std::fs;
use std::path::{Path, PathBuf};

use resurge_store::ErrorKind;
use resurge_store_sled::{IndexKind, Recovery, SledStore};

use crate::fixture::{Dir, KINDS, close, dump, get, open, options, put, wait};

fn segments(dir: &Dir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.sub("log")).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// 60 commits, image at 20, closed.
fn filled(dir: &Dir, kind: IndexKind) {
    let (store, _) = open(&dir.path(), options(kind));
    for n in 0..60 {
        put(&store, format!("k{n:02}"), vec![n; 5_000]).unwrap();
        if n == 19 {
            wait(store.image_now()).unwrap();
        }
    }
    close(&store);
}

#[test]
fn strict_refuses_and_changes_nothing_salvage_keeps_the_prefix() {
    for kind in KINDS {
        let dir = Dir::new();
        filled(&dir, kind);
        let segments = segments(&dir);
        assert!(segments.len() > 2, "{segments:?}");
        let first_lost: usize = {
            let name = segments[1].file_stem().unwrap().to_str().unwrap();
            usize::from_str_radix(name, 16).unwrap()
        };
        flip(&segments[1], 4096 + 2_000);
        for _ in 0..2 {
            let refused = SledStore::open_blocking(dir.path(), options(kind)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupt);
            assert!(refused.to_string().contains(".log"), "{refused}");
        }
        let (store, report) = open(&dir.path(), options(kind).recovery(Recovery::Salvage));
        let salvaged = report.salvaged.as_ref().unwrap();
        assert_eq!(salvaged.first_lost, first_lost as u64);
        assert!(report.to_string().contains("SALVAGED"), "{report}");
        assert!(!report.quarantined.is_empty());
        assert_eq!(dump(&store).len(), first_lost - 1);
        // The image at 20 is past the cut or not, depending on where the segment ends.
        assert_eq!(report.from_image.is_some(), first_lost > 20);
        put(&store, "again", "written").unwrap();
        close(&store);
        drop(store);
        let (store, report) = open(&dir.path(), options(kind));
        assert!(report.salvaged.is_none(), "{report}");
        assert_eq!(get(&store, "again").unwrap(), "written");
        assert_eq!(dump(&store).len(), first_lost);
        close(&store);
    }
}

#[test]
fn an_image_past_the_cut_is_moved_away() {
    let dir = Dir::new();
    let kind = IndexKind::Memory;
    let (store, _) = open(&dir.path(), options(kind));
    for n in 0..60 {
        put(&store, format!("k{n:02}"), vec![n; 5_000]).unwrap();
    }
    wait(store.image_now()).unwrap();
    close(&store);
    drop(store);
    flip(&segments(&dir)[1], 4096 + 2_000);
    let salvage = options(kind).recovery(Recovery::Salvage);
    let (store, report) = open(&dir.path(), salvage);
    assert_eq!(report.images_skipped.len(), 1, "{report}");
    assert!(report.images_skipped[0].quarantined.as_ref().unwrap().exists());
    assert!(report.from_image.is_none());
    assert!(dump(&store).len() < 60);
    close(&store);
}

#[test]
fn an_image_shows_that_a_shorter_log_lost_something() {
    // The super file is as old as a power loss may leave it, the end of the log is damaged: only
    // the image knows that it was acknowledged.
    let dir = Dir::new();
    let kind = IndexKind::Memory;
    let (store, _) = open(&dir.path(), options(kind));
    let old = fs::read(dir.sub("super")).unwrap();
    put(&store, "k", "v").unwrap();
    wait(store.image_now()).unwrap();
    close(&store);
    drop(store);
    fs::write(dir.sub("super"), old).unwrap();
    flip(&segments(&dir)[0], 4096 + 60);
    let refused = SledStore::open_blocking(dir.path(), options(kind)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
}

#[test]
fn a_lost_log_goes_on_after_an_image_that_needs_none() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        put(&store, "k", "v").unwrap();
        put(&store, "l", "w").unwrap();
        wait(store.image_now()).unwrap();
        let state = dump(&store);
        close(&store);
        drop(store);
        fs::remove_dir_all(dir.sub("log")).unwrap();
        let refused = SledStore::open_blocking(dir.path(), options(kind)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        let (store, _) = open(&dir.path(), options(kind).recovery(Recovery::Salvage));
        assert_eq!(dump(&store), state);
        assert_eq!(put(&store, "m", "x").unwrap().0, 3);
        close(&store);
        drop(store);
        let (store, _) = open(&dir.path(), options(kind));
        assert_eq!(dump(&store).len(), 3);
        close(&store);
    }
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        put(&store, "k", "v").unwrap();
        close(&store);
        drop(store);
        // Half a frame behind the last one.
        let path = &segments(&dir)[0];
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        let end = end.next_multiple_of(8);
        bytes[end..end + 20].copy_from_slice(b"RSGF....half a frame");
        fs::write(path, bytes).unwrap();
        let (store, report) = open(&dir.path(), options(kind));
        let cut = report.tail_cut.as_ref().unwrap();
        assert_eq!((cut.seq, cut.copied_bytes), (2, cut.bytes));
        assert_eq!(report.quarantined.len(), 1);
        assert!(report.to_string().contains("unacknowledged tail"), "{report}");
        assert_eq!(get(&store, "k").unwrap(), "v");
        close(&store);
    }
}
