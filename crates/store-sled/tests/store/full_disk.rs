//! A full disk: commits stop in time, reads go on, and the store can be opened.

use std::sync::Arc;

use resurge_store::ErrorKind;
use resurge_store_sled::{IndexKind, Maintenance, SledOptions, SledStore};

use crate::faults::FaultVfs;
use crate::fixture::{Dir, KINDS, close, dump, get, open, options, put};

const MIB: u64 = 1 << 20;

fn with(vfs: &FaultVfs, kind: IndexKind) -> SledOptions {
    options(kind).vfs(Arc::new(vfs.clone()))
}

#[test]
fn commits_stop_at_the_reserve_and_go_on_when_there_is_space() {
    for kind in KINDS {
        let dir = Dir::new();
        let vfs = FaultVfs::default();
        let (store, _) = open(&dir.path(), with(&vfs, kind).free_space_reserve(10 * MIB));
        put(&store, "k", "v").unwrap();
        vfs.set_free(Some(11 * MIB));
        let mut refused = None;
        for n in 0..100_u64 {
            if let Err(e) = put(&store, format!("n{n}"), vec![1; 100_000]) {
                refused = Some((n, e));
                break;
            }
        }
        let (n, refused) = refused.expect("refused in time");
        assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
        assert!(n < 25, "after {n} commits");
        // Even the smallest one, as long as it lasts; and reads go on.
        vfs.set_free(Some(9 * MIB));
        assert_eq!(put(&store, "tiny", "x").unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(get(&store, "k").unwrap(), "v");
        assert_eq!(store.status().free_bytes, Some(9 * MIB));
        vfs.set_free(Some(1_000 * MIB));
        put(&store, "tiny", "x").unwrap();
        let state = dump(&store);
        close(&store);
        drop(store);
        let (store, _) = open(&dir.path(), options(kind));
        assert!(dump(&store) == state);
        close(&store);
    }
}

#[test]
fn the_reserve_can_be_changed() {
    for (reserve, fits) in [(0, true), (100 * MIB, false)] {
        let dir = Dir::new();
        let vfs = FaultVfs::default();
        vfs.set_free(Some(50 * MIB));
        let (store, _) =
            open(&dir.path(), with(&vfs, IndexKind::Memory).free_space_reserve(reserve));
        assert_eq!(put(&store, "k", "v").is_ok(), fits);
        close(&store);
    }
}

#[test]
fn an_unknown_amount_of_space_stops_nobody() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), with(&vfs, IndexKind::Memory));
    put(&store, "k", "v").unwrap();
    close(&store);
}

#[test]
fn the_ballast_is_given_up_to_open_and_made_again() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let ballast = |size| {
        with(&vfs, IndexKind::Memory)
            .maintenance(Maintenance::Inline)
            .ballast(size)
            .free_space_reserve(8 * MIB)
    };
    let (store, _) = open(&dir.path(), ballast(MIB + 5));
    put(&store, "k", "v").unwrap();
    let size = || dir.sub("ballast").metadata().ok().map(|m| m.len());
    assert_eq!(size(), Some(MIB + 5));
    close(&store);
    drop(store);
    vfs.set_free(Some(7 * MIB));
    let (store, report) = open(&dir.path(), ballast(MIB + 5));
    assert!(report.ballast_freed && report.to_string().contains("ballast"), "{report}");
    assert_eq!(get(&store, "k").unwrap(), "v");
    assert_eq!(size(), None);
    assert_eq!(put(&store, "k", "w").unwrap_err().kind(), ErrorKind::Full);
    close(&store);
    drop(store);
    vfs.set_free(None);
    let (store, report) = open(&dir.path(), ballast(MIB + 5));
    assert!(!report.ballast_freed);
    put(&store, "k", "w").unwrap();
    assert_eq!(size(), Some(MIB + 5));
    close(&store);
    drop(store);
    let (store, _) = open(&dir.path(), ballast(0));
    put(&store, "k", "x").unwrap();
    assert_eq!(size(), None, "switched off");
    close(&store);
}

#[test]
fn a_segment_that_cannot_be_made_is_full_not_fatal() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) =
        open(&dir.path(), with(&vfs, IndexKind::Memory).maintenance(Maintenance::Inline));
    vfs.fail("create", ".tmp", std::io::ErrorKind::StorageFull);
    let fill = |store: &SledStore| {
        (0..200).find_map(|n| put(store, format!("k{n}"), vec![0; 10_000]).err())
    };
    let refused = fill(&store).expect("segments run out");
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    vfs.heal();
    assert!(fill(&store).is_none());
    close(&store);
}

#[test]
fn a_full_disk_takes_an_image_that_lets_old_segments_go() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), with(&vfs, IndexKind::Memory).free_space_reserve(8 * MIB));
    let image_at = |round: u8| {
        for n in 0..150 {
            put(&store, format!("k{n}"), vec![round; 2_000]).unwrap();
        }
    };
    image_at(0);
    crate::fixture::wait(store.image_now()).unwrap();
    image_at(1);
    // Room for an image, but not for commits.
    vfs.set_free(Some(4 * MIB));
    let begins = || store.status().images.iter().map(|i| i.begin).collect::<Vec<_>>();
    let mut n = 0;
    while begins().len() < 2 || store.status().log_first_seq == 1 {
        // The space is asked for every megabyte; from then on every commit is refused.
        let _ = put(&store, "k0", vec![n; 100_000]);
        n = n.wrapping_add(1);
    }
    // No room for that either: nothing is begun.
    vfs.set_free(Some(100));
    let before = vfs.operations().len();
    let refused = crate::fixture::wait(store.image_now());
    let begun = vfs.operations().split_off(before);
    assert!(!begun.iter().any(|o| o.starts_with("create 0000")), "{begun:?}");
    if begins()[0] < store.status().published_seq {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
    }
    close(&store);
}
