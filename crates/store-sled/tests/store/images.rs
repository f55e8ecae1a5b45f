//! Images: exact though taken while commits go on, believed only when whole, and the log is cut
//! only behind two of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resurge_store::{Batch, Durability, ErrorKind, GroupOptions, StateStore};
use resurge_store_sled::{How, IndexKind, Maintenance, SledOptions, SledStatus, SledStore};

use crate::faults::FaultVfs;
use crate::fixture::{Dir, KINDS, close, copy, dump, get, key, open, options, put, wait};

fn memory() -> SledOptions {
    options(IndexKind::Memory)
}

fn image_files(dir: &Dir) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.sub("images")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, from_end: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// About 200 KB of log, more than two small segments.
fn fill(store: &SledStore, round: usize) {
    for n in 0..100 {
        put(store, format!("r{round}-{n:02}"), vec![7; 2_000]).unwrap();
    }
}

#[test]
fn an_image_taken_during_commits_is_exact_with_the_log() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        let store = Arc::new(store);
        fill(&store, 0);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let writers = (0..4).map(|w| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for n in 0..300_u32 {
                        let mut batch = Batch::new();
                        batch
                            .put(key(format!("w{w}-{:03}", n % 50)), vec![w; 300])
                            .put(key(format!("z{w}")), n.to_be_bytes().to_vec())
                            .delete(key(format!("r0-{:02}", n % 100)));
                        let durability =
                            if n % 3 == 0 { Durability::Buffered } else { Durability::Durable };
                        store.commit(batch, durability).await.unwrap();
                    }
                })
            });
            let writers: Vec<_> = writers.collect();
            for _ in 0..5 {
                store.image_now().await.unwrap();
            }
            for writer in writers {
                writer.await.unwrap();
            }
        });
        let state = dump(&store);
        close(&store);
        let image = store.status().images[0];
        assert!(image.verified && image.begin <= image.end);
        // Only image and log are left.
        for kind in KINDS {
            let rebuilt = Dir::new();
            copy(&dir.path(), &rebuilt.path());
            drop(fs::remove_dir_all(rebuilt.sub("index")));
            let (store, report) = open(&rebuilt.path(), options(kind));
            assert!(dump(&store) == state, "{report}");
            assert_eq!(report.from_image.unwrap().0, image.begin);
            close(&store);
        }
    }
}

#[test]
fn the_log_is_cut_behind_two_images_and_never_before() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        fill(&store, 0);
        wait(store.image_now()).unwrap();
        assert_eq!(store.status().log_first_seq, 1, "one image is not enough");
        fill(&store, 1);
        wait(store.image_now()).unwrap();
        let SledStatus { log_first_seq, images, .. } = store.status();
        assert!((2..=101).contains(&log_first_seq), "{kind:?}: {log_first_seq}");
        let begins: Vec<_> = images.iter().map(|i| i.begin).collect();
        assert_eq!(begins, [200, 100]);
        for round in 2..5 {
            fill(&store, round);
            wait(store.image_now()).unwrap();
        }
        assert_eq!(image_files(&dir).len(), 2, "the older ones are gone");
        let later = store.status().log_first_seq;
        assert!(later > log_first_seq && later <= 401, "{later}");
        let state = dump(&store);
        close(&store);
        drop(store);
        let (store, report) = open(&dir.path(), options(kind));
        assert!(dump(&store) == state, "{report}");
        assert_eq!(store.status().images.len(), 2);
        close(&store);
    }
}

#[test]
fn nothing_new_needs_no_new_image() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), memory());
    put(&store, "k", "v").unwrap();
    let first = wait(store.image_now()).unwrap();
    assert_eq!(wait(store.image_now()).unwrap(), first);
    assert_eq!(image_files(&dir).len(), 1);
    close(&store);
}

#[test]
fn growth_of_the_log_takes_an_image() {
    for (after, expected) in [(64 << 20, 0), (64 << 10, 2)] {
        let dir = Dir::new();
        let inline = memory().maintenance(Maintenance::Inline).image_after(after);
        let (store, _) = open(&dir.path(), inline);
        fill(&store, 0);
        fill(&store, 1);
        let status = store.status();
        assert_eq!(status.images.len(), expected, "{status:?}");
        close(&store);
    }
}

#[test]
fn growth_takes_an_image_in_the_background_too() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), memory().image_after(64 << 10));
    let mut round = 0;
    // The thread is free to come late; it must come.
    while store.status().images.is_empty() {
        fill(&store, round);
        round += 1;
        assert!(round < 1_000, "no image came");
    }
    close(&store);
}

#[test]
fn as_many_are_kept_as_asked_for() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), memory().images_kept(3));
    for round in 0..5 {
        fill(&store, round);
        wait(store.image_now()).unwrap();
    }
    assert_eq!(image_files(&dir).len(), 3);
    assert!(store.status().log_first_seq <= 301, "the log reaches back to the oldest");
    close(&store);
}

#[test]
fn a_damaged_image_is_replaced_by_the_older_one_and_more_log() {
    for kind in KINDS {
        for damage in ["flip", "cut", "header", "gone"] {
            let dir = Dir::new();
            let (store, _) = open(&dir.path(), options(kind));
            for round in 0..3 {
                fill(&store, round);
                wait(store.image_now()).unwrap();
            }
            put(&store, "last", "one").unwrap();
            let state = dump(&store);
            close(&store);
            drop(store);
            drop(fs::remove_dir_all(dir.sub("index")));
            let newest = image_files(&dir).pop().unwrap();
            match damage {
                "flip" => flip(&newest, 1_000),
                "cut" => {
                    fs::File::options().write(true).open(&newest).unwrap().set_len(9_000).unwrap();
                }
                "header" => {
                    let len = fs::metadata(&newest).unwrap().len();
                    flip(&newest, usize::try_from(len).unwrap() - 40);
                }
                _ => fs::remove_file(&newest).unwrap(),
            }
            let (store, report) = open(&dir.path(), options(kind));
            assert!(dump(&store) == state, "{damage}: {report}");
            assert_eq!(report.from_image.unwrap().0, 200, "{damage}: {report}");
            assert_eq!(report.replayed, 101);
            assert_eq!(report.images_skipped.len(), 1, "{report}");
            let kept = report.images_skipped[0].quarantined.is_some();
            assert_eq!(kept, damage != "gone");
            let quarantine = store.status().quarantine.unwrap();
            assert_eq!(quarantine.files, u64::from(damage != "gone"));
            assert!(!newest.exists());
            close(&store);
            drop(store);
            let (store, report) = open(&dir.path(), options(kind));
            assert!(report.images_skipped.is_empty(), "said once: {report}");
            close(&store);
        }
    }
}

#[test]
fn without_images_the_whole_log_is_enough_and_a_cut_one_is_not() {
    for cut in [false, true] {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), memory());
        for round in 0..if cut { 3 } else { 1 } {
            fill(&store, round);
            wait(store.image_now()).unwrap();
        }
        let state = dump(&store);
        close(&store);
        drop(store);
        for image in image_files(&dir) {
            flip(&image, 500);
        }
        if cut {
            let refused = SledStore::open_blocking(dir.path(), memory()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupt);
            assert!(refused.to_string().contains("no image is whole"), "{refused}");
        } else {
            let (store, report) = open(&dir.path(), memory());
            assert!(dump(&store) == state, "{report}");
            assert_eq!((report.from_image, report.replayed), (None, 100));
            close(&store);
        }
    }
}

#[test]
fn another_stores_image_is_not_used() {
    let (dir, other) = (Dir::new(), Dir::new());
    for dir in [&dir, &other] {
        let (store, _) = open(&dir.path(), memory());
        put(&store, "k", dir.path().display().to_string()).unwrap();
        wait(store.image_now()).unwrap();
        close(&store);
    }
    fs::copy(&image_files(&other)[0], &image_files(&dir)[0]).unwrap();
    let (store, report) = open(&dir.path(), memory());
    assert_eq!(get(&store, "k").unwrap(), dir.path().display().to_string().as_bytes());
    assert!(report.images_skipped[0].why.contains("another store"), "{report}");
    close(&store);
}

#[test]
fn a_damaged_old_image_keeps_the_log() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), memory());
    for round in 0..2 {
        fill(&store, round);
        wait(store.image_now()).unwrap();
    }
    close(&store);
    drop(store);
    // Neither is read at this open of sled's index: both are only known by their headers.
    let (store, _) = open(&dir.path(), options(IndexKind::Sled));
    close(&store);
    drop(store);
    let (store, report) = open(&dir.path(), options(IndexKind::Sled));
    assert_eq!(report.how, How::Verified);
    let first = store.status().log_first_seq;
    flip(&image_files(&dir)[1], 500);
    fill(&store, 2);
    wait(store.image_now()).unwrap();
    let status = store.status();
    let begins: Vec<_> = status.images.iter().map(|i| i.begin).collect();
    assert_eq!(begins, [300, 100], "the damaged one went, the older one stays");
    assert_eq!(status.log_first_seq, first, "{status:?}");
    assert_eq!(status.quarantine.unwrap().files, 1);
    close(&store);
}

#[test]
fn leftovers_are_removed_unread() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), memory());
    put(&store, "k", "v").unwrap();
    close(&store);
    drop(store);
    fs::write(dir.sub("images").join("00000000000000ff.tmp"), b"half an image").unwrap();
    let (store, report) = open(&dir.path(), memory());
    assert_eq!(report.swept, ["00000000000000ff.tmp"]);
    assert!(report.images_skipped.is_empty() && image_files(&dir).is_empty());
    close(&store);
}

#[test]
fn the_quarantine_is_capped() {
    for (cap, files) in [(64 << 20, 1), (100, 0)] {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), memory());
        fill(&store, 0);
        wait(store.image_now()).unwrap();
        close(&store);
        drop(store);
        flip(&image_files(&dir)[0], 500);
        let (store, report) = open(&dir.path(), memory().quarantine_cap(cap));
        assert_eq!(store.status().quarantine.unwrap().files, files);
        assert_eq!(report.images_skipped[0].quarantined.is_some(), files > 0);
        assert!(image_files(&dir).is_empty());
        close(&store);
    }
}

#[test]
fn what_an_image_holds_is_durable_in_the_log_before_it_has_a_name() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let group = GroupOptions {
        buffered_sync_interval: std::time::Duration::from_secs(1),
        clock: Arc::new(resurge_store::VirtualClock::new()),
        ..GroupOptions::default()
    };
    let (store, _) = open(&dir.path(), memory().vfs(Arc::new(vfs.clone())).group(group));
    let mut batch = Batch::new();
    batch.put(key("k"), "only buffered");
    wait(store.commit(batch, Durability::Buffered)).unwrap();
    let before = vfs.operations().len();
    wait(store.image_now()).unwrap();
    let operations = vfs.operations().split_off(before);
    let at = |what: &str| operations.iter().position(|op| op == what);
    // A file is known by the name it was opened under.
    let log = at("sync segment-0.tmp").expect("the log was synced");
    let content = at("sync 0000000000000001.tmp").expect("the image was synced");
    let name = at("rename 0000000000000001.img").expect("the image got its name");
    let directory = at("sync_dir images").expect("the name was synced");
    assert!(log < name && content < name && name < directory, "{operations:?}");
    close(&store);
}

#[test]
fn no_room_for_an_image_is_no_disaster_and_a_failing_disk_is() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), memory().vfs(Arc::new(vfs.clone())));
    put(&store, "k", "v").unwrap();
    vfs.fail("write", "/images/", io::ErrorKind::StorageFull);
    assert_eq!(wait(store.image_now()).unwrap_err().kind(), ErrorKind::Full);
    assert!(image_files(&dir).is_empty(), "nothing is left of it");
    put(&store, "k", "w").unwrap();
    vfs.heal();
    wait(store.image_now()).unwrap();
    put(&store, "k", "x").unwrap();
    vfs.fail("sync", "/images/", io::ErrorKind::Other);
    wait(store.image_now()).unwrap_err();
    let refused = put(&store, "k", "y").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed, "{refused}");
    assert!(store.status().failure.unwrap().contains("taking an image"));
    drop(store);
    let (store, _) = open(&dir.path(), memory());
    assert_eq!(get(&store, "k").unwrap(), "x");
    close(&store);
}

#[test]
fn the_super_file_forgets_an_image_before_it_goes() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), memory().vfs(Arc::new(vfs.clone())));
    for n in 0..3 {
        put(&store, format!("k{n}"), "v").unwrap();
        wait(store.image_now()).unwrap();
    }
    let operations = vfs.operations();
    let last = |what: &str| operations.iter().rposition(|op| op == what).unwrap();
    let first_image = last("remove 0000000000000001.img");
    assert!(last("rename 0000000000000003.img") < last("sync super.tmp"));
    assert!(last("sync super.tmp") < first_image, "{operations:?}");
    close(&store);
}
