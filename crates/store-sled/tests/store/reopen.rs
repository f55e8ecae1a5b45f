//! What was acknowledged is there after a clean close, after a kill, and with the other index.

use std::sync::Arc;

use resurge_store::{Batch, Durability, StateStore};
use resurge_store_sled::{How, IndexKind};

use crate::faults::FaultVfs;
use crate::fixture::{Dir, KINDS, close, copy, dump, get, key, open, options, put, wait};

#[test]
fn a_clean_close_and_a_kill_keep_everything() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, report) = open(&dir.path(), options(kind));
        assert_eq!(report.how, How::Fresh, "{report}");
        for n in 0..100 {
            put(&store, format!("k{n}"), format!("v{n}")).unwrap();
        }
        let mut batch = Batch::new();
        batch.delete(key("k7")).put(key("k8"), "other");
        wait(store.commit(batch, Durability::Buffered)).unwrap();
        put(&store, "last", "durable").unwrap();
        let before = dump(&store);
        // As a kill leaves it: not closed, the lock of the copy is free.
        let killed = dir.tmp.path().join("killed");
        copy(&dir.path(), &killed);
        close(&store);
        drop(store);
        for path in [killed, dir.path()] {
            let (store, report) = open(&path, options(kind));
            assert_eq!(dump(&store), before, "{report}");
            assert_eq!(report.last_seq.0, 102);
            assert_eq!(get(&store, "k7"), None);
            assert_eq!(put(&store, "more", "x").unwrap().0, 103);
            close(&store);
            drop(store);
        }
    }
}

#[test]
fn the_index_can_be_changed_at_any_open() {
    let dir = Dir::new();
    let mut expected = Vec::new();
    for (n, kind) in KINDS.into_iter().cycle().take(5).enumerate() {
        let (store, report) = open(&dir.path(), options(kind));
        assert_eq!(dump(&store), expected, "{report}");
        put(&store, format!("round{n}"), "x").unwrap();
        expected = dump(&store);
        close(&store);
        drop(store);
        assert_eq!(dir.sub("index").exists(), kind == IndexKind::Sled);
    }
}

#[test]
fn names_that_a_kill_left_in_the_page_cache_are_synced_before_anything_is_served() {
    // Every directory is there already: what a kill between creating and syncing leaves behind.
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory));
    put(&store, "k", "v").unwrap();
    close(&store);
    drop(store);
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory).vfs(Arc::new(vfs.clone())));
    let operations = vfs.operations();
    let parent = dir.tmp.path().file_name().unwrap().to_string_lossy().into_owned();
    for synced in ["state", "log", &parent] {
        let synced = format!("sync_dir {synced}");
        assert!(operations.contains(&synced), "{synced}: {operations:?}");
    }
    close(&store);
}
