//! Backups: a whole prefix though commits go on, and the way back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, Key, StateStore};
use resurge_store_sled::{
    How, IndexKind, Maintenance, Offline, OfflineError, SledOptions, SledStore,
};

use crate::faults::FaultVfs;
use crate::fixture::{Dir, KINDS, close, copy, dump, get, key, open, options, put, wait};

fn offline() -> Offline {
    Offline::new().options(options(IndexKind::Memory))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// What a state must be after the commits up to `seq`.
fn model(commits: &BTreeMap<u64, Vec<(Key, Bytes)>>, seq: u64) -> Vec<(Key, Bytes)> {
    let mut state = BTreeMap::new();
    for (_, puts) in commits.range(..=seq) {
        state.extend(puts.iter().cloned());
    }
    state.into_iter().collect()
}

/// Commits, with a backup in the middle of them, in a store that takes images meanwhile.
#[test]
fn a_backup_under_writers_is_a_whole_prefix() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind).image_after(256 << 10));
        let store = Arc::new(store);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let dest = |n: usize| dir.tmp.path().join(format!("backup-{n}"));
        let (commits, reports) = runtime.block_on(async {
            let (started, mut running) = tokio::sync::mpsc::unbounded_channel();
            let writers: Vec<_> = (0..4_u8)
                .map(|w| {
                    let (store, started) = (Arc::clone(&store), started.clone());
                    tokio::spawn(async move {
                        let mut done = Vec::new();
                        for n in 0..250_u32 {
                            let value = Bytes::from(vec![w; 900 + n as usize]);
                            let stamp = Bytes::from(n.to_be_bytes().to_vec());
                            let puts = vec![
                                (key(format!("a{w}")), stamp.clone()),
                                (key(format!("m{w}-{:03}", n % 60)), value),
                                (key(format!("z{w}")), stamp),
                            ];
                            let mut batch = Batch::new();
                            for (key, value) in &puts {
                                batch.put(key.clone(), value.clone());
                            }
                            let durability =
                                if n % 3 == 0 { Durability::Buffered } else { Durability::Durable };
                            let seq = store.commit(batch, durability).await.unwrap();
                            done.push((seq.0, puts));
                            started.send(seq.0).unwrap();
                        }
                        done
                    })
                })
                .collect();
            drop(started);
            let mut reports = Vec::new();
            for n in 0..3 {
                let mut acknowledged = 0;
                for _ in 0..120 {
                    acknowledged = running.recv().await.unwrap().max(acknowledged);
                }
                reports.push((acknowledged, store.backup(dest(n)).await.unwrap()));
            }
            let mut commits = BTreeMap::new();
            for writer in writers {
                commits.extend(writer.await.unwrap());
            }
            (commits, reports)
        });
        close(&store);
        assert!(reports.iter().any(|(_, report)| report.seq.0 < 1_000), "none was under way");
        for (n, (acknowledged, report)) in reports.iter().enumerate() {
            assert!(report.seq.0 >= *acknowledged, "{report} misses commit {acknowledged}");
            let checked = offline().verify(dest(n)).unwrap();
            assert!(checked.findings.is_empty(), "{checked}");
            let (opened, how) = open(&dest(n), options(kind));
            assert_eq!(how.last_seq, report.seq);
            assert!(dump(&opened) == model(&commits, report.seq.0), "{report}");
            close(&opened);
        }
    }
}

#[test]
fn what_is_only_buffered_is_in_it_and_the_source_goes_on() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), options(IndexKind::Sled));
    let mut batch = Batch::new();
    batch.put(key("k"), "buffered");
    wait(store.commit(batch, Durability::Buffered)).unwrap();
    let dest = dir.tmp.path().join("backup");
    let report = wait_on_runtime(store.backup(&dest));
    assert_eq!((report.seq.0, report.from_image, report.commits), (1, None, 1));
    put(&store, "k", "later").unwrap();
    let files = fs::read_dir(&dest).unwrap().map(|e| e.unwrap().path());
    assert!(files.count() >= 4);
    let (copy, _) = open(&dest, options(IndexKind::Memory));
    assert_eq!(get(&copy, "k").unwrap(), "buffered");
    close(&copy);
    close(&store);
}

fn wait_on_runtime<T>(future: impl Future<Output = resurge_store::Result<T>>) -> T {
    wait(future).unwrap()
}

/// Three images' worth of history, so that the log no longer begins at 1.
fn store_with_history(dir: &Dir, options: SledOptions) -> SledStore {
    let (store, _) = open(&dir.path(), options);
    for round in 0..3 {
        for n in 0..60 {
            put(&store, format!("r{round}-{n:02}"), vec![7; 2_000]).unwrap();
        }
        wait(store.image_now()).unwrap();
    }
    put(&store, "last", "word").unwrap();
    assert!(store.status().log_first_seq > 1);
    store
}

#[test]
fn a_restored_store_is_the_same_and_goes_on_with_either_index() {
    let dir = Dir::new();
    let store = store_with_history(&dir, options(IndexKind::Sled));
    let (backup, restored) = (dir.tmp.path().join("backup"), dir.tmp.path().join("restored"));
    let state = dump(&store);
    let taken = wait_on_runtime(store.backup(&backup));
    assert_eq!((taken.seq.0, taken.commits), (181, 1));
    close(&store);
    drop(store);
    for (n, kind) in KINDS.into_iter().enumerate() {
        let dest = restored.join(format!("deep/{n}"));
        let report = offline().restore(&backup, &dest).unwrap();
        assert_eq!((report.seq, report.from_image), (taken.seq, taken.from_image));
        let ids = [&taken.source_id, &taken.store_id, &report.store_id];
        assert_eq!(taken.store_id, report.source_id);
        assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
        let (opened, how) = open(&dest, options(kind));
        assert_eq!(how.last_seq, taken.seq);
        assert!(dump(&opened) == state);
        assert_eq!(put(&opened, "next", "one").unwrap().0, taken.seq.0 + 1);
        // Images and cutting go on behind it.
        for _ in 0..3 {
            put(&opened, "more", vec![1; 100]).unwrap();
            wait(opened.image_now()).unwrap();
        }
        close(&opened);
        drop(opened);
        assert!(offline().verify(&dest).unwrap().is_intact());
    }
}

#[test]
fn a_restored_store_takes_nothing_of_the_original_for_its_own() {
    let dir = Dir::new();
    let store = store_with_history(&dir, options(IndexKind::Sled));
    let dest = dir.tmp.path().join("backup");
    wait_on_runtime(store.backup(&dest));
    let state = dump(&store);
    put(&store, "last", "after the backup").unwrap();
    close(&store);
    drop(store);
    copy(&dir.sub("index"), &dest.join("index"));
    for image in fs::read_dir(dir.sub("images")).unwrap() {
        let image = image.unwrap();
        let target = dest.join("images").join(image.file_name());
        if !target.exists() {
            fs::copy(image.path(), target).unwrap();
        }
    }
    let (opened, report) = open(&dest, options(IndexKind::Sled));
    assert_eq!(report.images_skipped.len(), 1, "{report}");
    let How::Rebuilt { why } = &report.how else { panic!("{report}") };
    assert!(why.contains("another store"), "{why}");
    assert!(dump(&opened) == state);
    close(&opened);
}

#[test]
fn a_destination_that_cannot_be_used_is_refused_untouched() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory));
    put(&store, "k", "v").unwrap();
    let full = dir.tmp.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("note"), "mine").unwrap();
    for dest in [full.clone(), dir.path(), dir.sub("backup"), dir.sub("log/../b")] {
        let refused = wait(store.backup(&dest)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    assert_eq!(fs::read(full.join("note")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    assert!(!dir.sub("backup").exists());
    let file = dir.tmp.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(wait(store.backup(&file)).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    close(&store);
    let closed = wait(store.backup(dir.tmp.path().join("late"))).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

#[test]
fn a_backup_that_fails_leaves_an_empty_directory_and_the_store_goes_on() {
    let kinds = [("sync", "images"), ("rename", "super"), ("write", "log"), ("sync_dir", "backup")];
    for (op, part) in kinds {
        let dir = Dir::new();
        let vfs = FaultVfs::default();
        let with = options(IndexKind::Memory).vfs(Arc::new(vfs.clone()));
        let (store, _) = open(&dir.path(), with);
        put(&store, "k", "v").unwrap();
        wait(store.image_now()).unwrap();
        let dest = dir.tmp.path().join("backup");
        fs::create_dir(&dest).unwrap();
        let within: &'static str = match part {
            "images" => "backup/images",
            "log" => "backup/log",
            "super" => "backup/super",
            other => other,
        };
        vfs.fail(op, within, io::ErrorKind::Other);
        let failed = wait(store.backup(&dest)).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{op} {part}: {failed}");
        vfs.heal();
        assert_eq!(fs::read_dir(&dest).unwrap().count(), 0, "{op} {part}");
        put(&store, "k", "w").unwrap();
        let report = wait(store.backup(&dest)).unwrap();
        assert_eq!(report.seq.0, 2);
        close(&store);
    }
}

#[test]
fn a_disk_without_room_is_left_alone() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory).vfs(Arc::new(vfs.clone())));
    put(&store, "k", "v").unwrap();
    vfs.set_free(Some(1 << 20));
    let dest = dir.tmp.path().join("backup");
    let refused = wait(store.backup(&dest)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    assert!(!dest.exists());
    close(&store);
}

#[test]
fn a_damaged_image_is_passed_over_for_an_older_one() {
    let dir = Dir::new();
    let store = store_with_history(&dir, options(IndexKind::Memory));
    let state = dump(&store);
    let image = |seq: u64| dir.sub("images").join(format!("{seq:016x}.img"));
    flip(&image(180), 5_000);
    let dest = dir.tmp.path().join("backup");
    let report = wait_on_runtime(store.backup(&dest));
    assert_eq!((report.seq.0, report.from_image.unwrap().0, report.commits), (181, 120, 61));
    let (opened, _) = open(&dest, options(IndexKind::Memory));
    assert!(dump(&opened) == state);
    close(&opened);
    // Without any, there is nothing to make one from.
    flip(&image(120), 5_000);
    let refused = wait(store.backup(dir.tmp.path().join("none"))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    close(&store);
}

#[test]
fn nothing_is_restored_from_a_damaged_backup() {
    let dir = Dir::new();
    let store = store_with_history(&dir, options(IndexKind::Memory));
    let (backup, dest) = (dir.tmp.path().join("backup"), dir.tmp.path().join("dest"));
    wait_on_runtime(store.backup(&backup));
    close(&store);
    let image = fs::read_dir(backup.join("images")).unwrap().next().unwrap().unwrap().path();
    for path in [image, backup.join(format!("log/{:016x}.log", 181))] {
        flip(&path, 4_100);
        let refused = offline().restore(&backup, &dest).unwrap_err();
        assert!(matches!(refused, OfflineError::Damaged { .. }), "{refused}");
        assert!(!dest.exists());
        flip(&path, 4_100);
    }
    // A backup that was interrupted has no super file: it is none.
    fs::remove_file(backup.join("super")).unwrap();
    assert!(matches!(offline().restore(&backup, &dest), Err(OfflineError::Damaged { .. })));
}

#[test]
fn nothing_that_a_backup_needs_goes_while_it_is_taken() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    // An image is due when the log grew by the size of the last one.
    let with = options(IndexKind::Memory).vfs(Arc::new(vfs.clone())).image_after(1);
    let store = Arc::new(store_with_history(&dir, with.maintenance(Maintenance::Inline)));
    let state = dump(&store);
    let writer = Arc::clone(&store);
    vfs.before("write", "backup/images", move || {
        for n in 0..500 {
            put(&writer, format!("r{}-{:02}", n % 3, n % 60), vec![8; 2_000]).unwrap();
        }
        assert_eq!(writer.status().images[0].begin, 180, "no image meanwhile");
    });
    let dest = dir.tmp.path().join("backup");
    let report = wait_on_runtime(store.backup(&dest));
    assert_eq!(report.seq.0, 181);
    let (opened, _) = open(&dest, options(IndexKind::Memory));
    assert!(dump(&opened) == state);
    close(&opened);
    // It is made up for.
    put(&store, "after", "it").unwrap();
    assert!(store.status().images[0].begin > 600);
    close(&store);
}

#[test]
fn a_copy_that_is_not_what_was_written_is_no_backup() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let with = options(IndexKind::Memory).vfs(Arc::new(vfs.clone()));
    let store = store_with_history(&dir, with);
    let dest = dir.tmp.path().join("backup");
    for (part, file) in
        [("backup/images", "images/00000000000000b4.tmp"), ("backup/log", "log/segment-0.tmp")]
    {
        let path = dest.join(file);
        let named = dest.join(format!("log/{:016x}.log", 181));
        // Before the sync of its content; the segment has its name by then.
        vfs.before(if part == "backup/log" { "sync_dir" } else { "sync" }, part, move || {
            flip(if path.exists() { &path } else { &named }, 4_500);
        });
        let refused = wait(store.backup(&dest)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert_eq!(fs::read_dir(&dest).unwrap().count(), 0);
    }
    assert_eq!(wait_on_runtime(store.backup(&dest)).seq.0, 181);
    close(&store);
}

#[test]
fn an_empty_store_is_backed_up_and_restored() {
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory));
    let (backup, dest) = (dir.tmp.path().join("backup"), dir.tmp.path().join("dest"));
    assert_eq!(wait_on_runtime(store.backup(&backup)).seq.0, 0);
    close(&store);
    offline().restore(&backup, &dest).unwrap();
    let (opened, _) = open(&dest, options(IndexKind::Sled));
    assert_eq!(put(&opened, "k", "v").unwrap().0, 1);
    close(&opened);
}

#[test]
fn the_super_file_comes_last() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory).vfs(Arc::new(vfs.clone())));
    put(&store, "k", "v").unwrap();
    wait(store.image_now()).unwrap();
    put(&store, "k", "w").unwrap();
    let before = vfs.operations().len();
    wait_on_runtime(store.backup(dir.tmp.path().join("backup")));
    let done = vfs.operations().split_off(before);
    let at =
        |what: &str| done.iter().rposition(|op| op == what).unwrap_or_else(|| panic!("{what}"));
    let named = at("rename super");
    // A file is called here what it was created as.
    for (last_write, sync) in [
        ("write 0000000000000001.tmp", "sync 0000000000000001.tmp"),
        ("rename 0000000000000001.img", "sync_dir images"),
        ("write segment-0.tmp", "sync segment-0.tmp"),
        ("rename 0000000000000002.log", "sync_dir log"),
        ("write super.tmp", "sync super.tmp"),
    ] {
        assert!(at(last_write) < at(sync) && at(sync) < named, "{last_write}: {done:#?}");
    }
    assert!(at("sync_dir backup") > named);
    close(&store);
}
