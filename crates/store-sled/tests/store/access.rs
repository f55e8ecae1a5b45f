//! Who may open the directory, and with which rights its files are made.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use resurge_store::{ErrorKind, StateStore};
use resurge_store_sled::{IndexKind, SledStore};

use crate::fixture::{Dir, KINDS, close, open, options, put, wait};

#[test]
fn a_second_open_is_refused_until_the_first_is_closed() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        let refused = SledStore::open_blocking(dir.path(), options(kind)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains(&dir.path().display().to_string()), "{refused}");
        put(&store, "k", "v").unwrap();
        close(&store);
        // Closed is enough; dropping may come later.
        let (again, _) = open(&dir.path(), options(kind));
        close(&again);
    }
}

#[test]
fn a_store_that_was_only_dropped_can_be_opened_again() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        put(&store, "k", "v").unwrap();
        drop(store);
        let (store, report) = open(&dir.path(), options(kind));
        assert_eq!(report.last_seq.0, 1);
        close(&store);
        assert_eq!(put(&store, "k", "w").unwrap_err().kind(), ErrorKind::Closed);
        wait(store.close()).unwrap();
    }
}

#[test]
fn nobody_else_may_read_it() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory).ballast(4096));
    put(&store, "k", "v").unwrap();
    wait(store.image_now()).unwrap();
    close(&store);
    check(&dir.path());
}

fn check(dir: &Path) {
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path);
        } else {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}
