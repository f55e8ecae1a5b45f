//! Verifying a store: every byte is looked at, nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use resurge_store_sled::{
    IndexCheck, IndexKind, Offline, OfflineError, Severity, SledStore, VerifyReport,
};

use crate::fixture::{Dir, close, copy, dump, open, options, put, wait};

fn verify(path: &Path) -> VerifyReport {
    Offline::new().verify(path).unwrap()
}

/// Two images, several segments, the last one with zeros behind its frames, a ballast.
fn make(dir: &Dir, kind: IndexKind) -> SledStore {
    let (store, _) =
        open(&dir.path(), options(kind).ballast(8192).segment_sizes(16 << 10, 64 << 10));
    for round in 0..3 {
        for n in 0..40 {
            put(&store, format!("r{round}-{n:02}"), vec![7; 701]).unwrap();
        }
        if round < 2 {
            wait(store.image_now()).unwrap();
        }
    }
    store
}

/// Every file with its bytes and the time of its last change.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let changed = path.metadata().unwrap().modified().unwrap();
        if path.is_dir() {
            files.extend(snapshot(&path));
            files.insert(path, (Vec::new(), changed));
        } else {
            files.insert(path.clone(), (fs::read(&path).unwrap(), changed));
        }
    }
    files
}

/// Files that are checked byte by byte, relative to the directory.
fn checked_files(root: &Path) -> Vec<String> {
    let mut files = vec!["super".to_owned(), "ballast".to_owned()];
    for dir in ["log", "images"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            files.push(format!("{dir}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    files.sort();
    files
}

/// A prime step and the edges of everything that has any.
fn samples(len: usize) -> Vec<usize> {
    let mut at: Vec<usize> = (0..len).step_by(len / 12 + 7).collect();
    at.extend([0, 8, 56, 508, 511, 512, 4095, 4096, 4100, 4608, len.saturating_sub(1)]);
    at.retain(|at| *at < len);
    at.sort_unstable();
    at.dedup();
    at
}

#[test]
fn a_whole_store_has_no_findings_and_stays_as_it_is() {
    for kind in [IndexKind::Memory, IndexKind::Sled] {
        let dir = Dir::new();
        let store = make(&dir, kind);
        close(&store);
        drop(store);
        let before = snapshot(&dir.path());
        let scratch = dir.tmp.path().join("scratch");
        let report = Offline::new().check_index_in(&scratch).verify(dir.path()).unwrap();
        assert!(report.findings.is_empty() && report.is_intact(), "{report}");
        assert_eq!((report.last_seq, report.images.len()), (120, 2));
        assert_eq!(report.commits, 120 - report.first_seq + 1);
        assert_eq!(report.clean, Some(true));
        assert!(report.segments.len() > 1, "{report}");
        match (kind, report.index) {
            (IndexKind::Sled, IndexCheck::Proved { keys: 120, applied_seq: 120 })
            | (IndexKind::Memory, IndexCheck::Absent) => {}
            (_, other) => panic!("{other:?}"),
        }
        let all: u64 = before.values().map(|(bytes, _)| bytes.len() as u64).sum();
        assert_eq!(report.bytes, all, "every byte of every file");
        let loaded = Offline::new().load(dir.path()).unwrap();
        assert_eq!(
            wait(loaded.store.unwrap().scan(
                resurge_store::KeyRange::everything(),
                resurge_store::ScanOptions::new().keys_only(),
            ))
            .unwrap()
            .entries
            .len(),
            120
        );
        assert!(!scratch.exists());
        assert!(snapshot(&dir.path()) == before, "something was changed");
    }
}

#[test]
fn a_store_in_use_is_left_alone_and_said_to_be() {
    let dir = Dir::new();
    let store = make(&dir, IndexKind::Memory);
    let offline = Offline::new();
    let dest = dir.tmp.path().join("dest");
    let refusals = [
        offline.verify(dir.path()).map(drop).unwrap_err(),
        offline.load(dir.path()).map(drop).unwrap_err(),
        offline.backup(dir.path(), &dest).map(drop).unwrap_err(),
        offline.restore(dir.path(), &dest).map(drop).unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, OfflineError::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains("in use"), "{refused}");
    }
    assert!(!dest.exists());
    close(&store);
    assert!(verify(&dir.path()).is_intact());
    for none in [dir.tmp.path().join("absent"), dir.tmp.path().to_owned()] {
        let refused = offline.verify(&none).unwrap_err();
        assert!(matches!(refused, OfflineError::NotAStore { .. }), "{refused}");
        assert!(!none.join("LOCK").exists());
    }
}

#[test]
fn every_flipped_byte_is_found_where_it_is() {
    let dir = Dir::new();
    let store = make(&dir, IndexKind::Memory);
    close(&store);
    drop(store);
    let before = snapshot(&dir.path());
    let mut cases = 0;
    for file in checked_files(&dir.path()) {
        let path = dir.sub(&file);
        let whole = fs::read(&path).unwrap();
        for at in samples(whole.len()) {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let report = verify(&dir.path());
            assert!(!report.is_intact(), "{file} at {at}: {report}");
            assert!(report.findings.iter().any(|f| f.file == file), "{file} at {at}: {report}");
            cases += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(cases > 100, "{cases}");
    let contents = |files: BTreeMap<PathBuf, (Vec<u8>, SystemTime)>| {
        files.into_iter().map(|(path, (bytes, _))| (path, bytes)).collect::<Vec<_>>()
    };
    assert!(contents(snapshot(&dir.path())) == contents(before));
}

#[test]
fn every_cut_and_every_missing_file_is_found() {
    let dir = Dir::new();
    let store = make(&dir, IndexKind::Memory);
    close(&store);
    drop(store);
    for file in checked_files(&dir.path()) {
        // How long the ballast is to be is written nowhere, and it may go at any time.
        if file == "ballast" {
            continue;
        }
        let path = dir.sub(&file);
        let whole = fs::read(&path).unwrap();
        for len in samples(whole.len()) {
            fs::write(&path, &whole[..len]).unwrap();
            let report = verify(&dir.path());
            assert!(!report.is_intact(), "{file} cut to {len}: {report}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        fs::write(&path, &longer).unwrap();
        assert!(!verify(&dir.path()).is_intact(), "{file} with one byte more");
        fs::remove_file(&path).unwrap();
        assert!(!verify(&dir.path()).is_intact(), "without {file}");
        fs::write(&path, &whole).unwrap();
    }
    assert!(verify(&dir.path()).is_intact());
}

/// `Fatal` and nothing less means that the store does not open.
#[test]
fn the_verdict_is_what_opening_says() {
    let dir = Dir::new();
    let store = make(&dir, IndexKind::Memory);
    close(&store);
    let state = dump_closed(&dir);
    let (mut opened, mut refused) = (0, 0);
    for file in checked_files(&dir.path()) {
        let len = fs::metadata(dir.sub(&file)).unwrap().len();
        let len = usize::try_from(len).unwrap();
        for at in [3, 4_000, 4_500, 8_000, len - 1] {
            if at >= len {
                continue;
            }
            let bad = Dir::new();
            copy(&dir.path(), &bad.path());
            let mut bytes = fs::read(bad.sub(&file)).unwrap();
            bytes[at] ^= 1;
            fs::write(bad.sub(&file), bytes).unwrap();
            let report = verify(&bad.path());
            match SledStore::open_blocking(bad.path(), options(IndexKind::Memory)) {
                Ok((store, _)) => {
                    assert!(report.is_usable(), "{file} at {at} opens: {report}");
                    assert!(dump(&store) == state);
                    close(&store);
                    opened += 1;
                }
                Err(e) => {
                    assert!(!report.is_usable(), "{file} at {at}, {e}: {report}");
                    refused += 1;
                }
            }
        }
    }
    assert!(opened > 10 && refused > 5, "{opened} {refused}");
}

fn dump_closed(dir: &Dir) -> Vec<(resurge_store::Key, bytes::Bytes)> {
    let (store, _) = open(&dir.path(), options(IndexKind::Memory).ballast(8192));
    let state = dump(&store);
    close(&store);
    state
}

#[test]
fn a_tail_after_a_crash_is_no_damage_and_after_a_clean_close_it_is() {
    for clean in [false, true] {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(IndexKind::Memory));
        put(&store, "k", "v").unwrap();
        let crashed = Dir::new();
        copy(&dir.path(), &crashed.path());
        close(&store);
        drop(store);
        let dir = if clean { dir } else { crashed };
        let path = dir.sub("log/0000000000000001.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[30_000..30_100].fill(9);
        fs::write(&path, bytes).unwrap();
        let report = verify(&dir.path());
        assert_eq!(report.clean, Some(clean));
        assert_eq!(report.is_intact(), !clean, "{report}");
        assert!(report.is_usable(), "{report}");
        let tail = report.findings.iter().find(|f| f.what.contains("tail")).expect("a finding");
        assert_eq!(tail.severity, if clean { Severity::Damage } else { Severity::Note });
        // Neither is in a copy.
        let copied = Offline::new().backup(dir.path(), dir.tmp.path().join("copy")).unwrap();
        assert_eq!(copied.seq.0, 1);
    }
}

#[test]
fn leftovers_quarantine_and_unknown_files_are_listed() {
    let dir = Dir::new();
    let store = make(&dir, IndexKind::Memory);
    close(&store);
    drop(store);
    let strays = ["super.tmp", "log/segment-9.tmp", "images/x.tmp", "images/x.img", "log/y", "z"];
    for stray in strays.into_iter().chain(["quarantine/q"]) {
        fs::write(dir.sub(stray), b"?").unwrap();
    }
    let report = verify(&dir.path());
    assert!(report.is_intact(), "{report}");
    for stray in strays.into_iter().chain(["quarantine/q"]) {
        let finding = report.findings.iter().find(|f| f.file == stray);
        assert_eq!(finding.map(|f| f.severity), Some(Severity::Note), "{stray}: {report}");
    }
    assert_eq!((report.quarantine.files, report.quarantine.bytes), (1, 1));
}

#[test]
fn a_damaged_index_is_found_in_a_copy_of_it() {
    let dir = Dir::new();
    let store = make(&dir, IndexKind::Sled);
    close(&store);
    drop(store);
    let db = dir.sub("index/db");
    let whole = fs::read(&db).unwrap();
    let mut bad = whole.clone();
    for byte in bad.iter_mut().skip(100).step_by(50) {
        *byte ^= 0xFF;
    }
    fs::write(&db, bad).unwrap();
    let before = snapshot(&dir.path());
    assert!(verify(&dir.path()).is_intact(), "not looked at");
    let scratch = dir.tmp.path().join("scratch");
    let report = Offline::new().check_index_in(&scratch).verify(dir.path()).unwrap();
    assert_eq!(report.worst(), Some(Severity::Damage), "{report}");
    assert_eq!(report.index, IndexCheck::Damaged);
    assert!(report.is_usable());
    assert!(snapshot(&dir.path()) == before && !scratch.exists());
    let inside = Offline::new().check_index_in(dir.sub("scratch")).verify(dir.path());
    assert!(inside.is_err() && !dir.sub("scratch").exists());
}
