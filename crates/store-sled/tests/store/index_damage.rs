//! Whatever happens to the index: the store opens, says so, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use resurge_store::Key;
use resurge_store_sled::{
    How, IndexFactory, IndexKind, OpenReport, SledIndexFactory, SledIndexOptions, SledOptions,
    Verify,
};

use crate::fixture::{Dir, close, copy, dump, get, open, options, put, wait};

type State = Vec<(Key, Bytes)>;

fn sled() -> SledOptions {
    options(IndexKind::Sled)
}

/// A store with `commits` of its own, closed.
fn filled(path: &Path, commits: u32) -> State {
    let (store, _) = open(path, sled());
    for n in 0..commits {
        put(&store, format!("k{:03}", n % 150), format!("{n:0>100}")).unwrap();
    }
    let state = dump(&store);
    close(&store);
    state
}

/// Opens, compares, commits once more, reopens.
fn expect(path: &Path, state: &State, what: &str) -> OpenReport {
    let (store, report) = open(path, sled());
    assert_eq!(dump(&store), *state, "{what}: {report}");
    put(&store, "after", what.to_owned()).unwrap();
    close(&store);
    drop(store);
    let (store, again) = open(path, sled());
    assert_eq!(again.how, How::Verified, "{what}: {again}");
    assert_eq!(get(&store, "after").unwrap(), what.as_bytes());
    close(&store);
    report
}

fn rebuilt(report: &OpenReport, why: &str) {
    match &report.how {
        How::Rebuilt { why: said } if said.contains(why) => {}
        _ => panic!("expected a rebuild for `{why}`: {report}"),
    }
}

#[test]
fn it_is_deleted() {
    let dir = Dir::new();
    let state = filled(&dir.path(), 200);
    fs::remove_dir_all(dir.sub("index")).unwrap();
    rebuilt(&expect(&dir.path(), &state, "deleted"), "empty");
}

#[test]
fn it_was_left_as_it_was() {
    let dir = Dir::new();
    let state = filled(&dir.path(), 200);
    let report = expect(&dir.path(), &state, "untouched");
    assert_eq!((report.how, report.replayed), (How::Verified, 0));
}

#[test]
fn it_belongs_to_another_store() {
    let (dir, other) = (Dir::new(), Dir::new());
    let state = filled(&dir.path(), 200);
    filled(&other.path(), 200);
    replace_index(&other.path(), &dir.path());
    rebuilt(&expect(&dir.path(), &state, "another"), "another store");
}

#[test]
fn it_is_ahead_of_the_log() {
    let (dir, later) = (Dir::new(), Dir::new());
    let state = filled(&dir.path(), 200);
    copy(&dir.path(), &later.path());
    filled(&later.path(), 50);
    replace_index(&later.path(), &dir.path());
    rebuilt(&expect(&dir.path(), &state, "ahead"), "the log ends at");
}

#[test]
fn it_is_old() {
    let (dir, earlier) = (Dir::new(), Dir::new());
    filled(&dir.path(), 200);
    copy(&dir.path(), &earlier.path());
    let state = filled(&dir.path(), 77);
    replace_index(&earlier.path(), &dir.path());
    let report = expect(&dir.path(), &state, "old");
    assert_eq!((report.how, report.replayed), (How::Verified, 77));
}

#[test]
fn it_is_older_than_the_log() {
    let (dir, earlier) = (Dir::new(), Dir::new());
    filled(&dir.path(), 100);
    copy(&dir.path(), &earlier.path());
    let (store, _) = open(&dir.path(), sled());
    for round in 0..4 {
        for n in 0..100 {
            put(&store, format!("r{round}-{n}"), vec![1; 2_000]).unwrap();
        }
        wait(store.image_now()).unwrap();
    }
    assert!(store.status().log_first_seq > 101, "{:?}", store.status());
    let state = dump(&store);
    close(&store);
    drop(store);
    replace_index(&earlier.path(), &dir.path());
    let report = expect(&dir.path(), &state, "older");
    rebuilt(&report, "the log begins at");
    assert_eq!(report.from_image.unwrap().0, 500);
}

#[test]
fn its_rebuild_was_interrupted() {
    let dir = Dir::new();
    let state = filled(&dir.path(), 200);
    let factory = SledIndexFactory::new(dir.sub("index"), SledIndexOptions::default());
    let old = factory.open().unwrap().index;
    let id = old.meta().unwrap().unwrap().store_id;
    old.close(std::time::Duration::from_secs(30)).unwrap();
    factory.destroy().unwrap();
    let index = factory.open().unwrap().index;
    index.begin(id).unwrap();
    index.load(&state[..50]).unwrap();
    index.close(std::time::Duration::from_secs(30)).unwrap();
    drop((old, index));
    rebuilt(&expect(&dir.path(), &state, "interrupted"), "never finished");
}

#[test]
fn an_entry_was_lost_or_changed_behind_its_back() {
    // What sled does after damage that it does not notice.
    type Harm = fn(&sled::Db, &[u8]);
    let harms: [(&str, Harm); 3] = [
        ("lost", |db, key| drop(db.remove(key).unwrap())),
        ("stale", |db, key| drop(db.insert(key, &b"\0stale"[..]).unwrap())),
        ("added", |db, key| drop(db.insert([key, b"!"].concat(), &b"\0new"[..]).unwrap())),
    ];
    for (what, harm) in harms {
        let dir = Dir::new();
        let state = filled(&dir.path(), 200);
        let db = sled::Config::new().path(dir.sub("index")).open().unwrap();
        harm(&db, state[7].0.raw());
        db.flush().unwrap();
        drop(db);
        rebuilt(&expect(&dir.path(), &state, what), "it holds");
    }
}

#[test]
fn sled_was_killed_while_it_opened() {
    let dir = Dir::new();
    let state = filled(&dir.path(), 200);
    let leftover = dir.sub("index").join("snap.000000000000ABCD.generating");
    fs::write(&leftover, b"not a snapshot").unwrap();
    let report = expect(&dir.path(), &state, "generating");
    assert_eq!(report.how, How::Verified, "{report}");
    assert!(report.swept.iter().any(|name| name.ends_with(".generating")), "{report:?}");
}

#[test]
fn a_bit_flips_or_a_file_is_cut_anywhere() {
    let dir = Dir::new();
    let state = filled(&dir.path(), 300);
    let files = index_files(&dir.path());
    assert!(files.iter().any(|f| f.ends_with("db")), "{files:?}");
    let mut counts = (0, 0);
    for file in &files {
        let whole = fs::read(dir.path().join(file)).unwrap();
        let used = whole.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        // Densely at the front, where headers are, and spread over the rest.
        let spread = (0..24).map(|n| used * n / 24);
        let positions = (0..8.min(used)).chain(spread).collect::<Vec<_>>();
        for at in positions {
            for cut in [false, true] {
                let broken = Dir::new();
                copy(&dir.path(), &broken.path());
                let mut bytes = whole.clone();
                if cut {
                    bytes.truncate(at);
                } else if at < bytes.len() {
                    bytes[at] ^= 1 << (at % 8);
                }
                fs::write(broken.path().join(file), bytes).unwrap();
                let (store, report) = open(&broken.path(), sled());
                assert_eq!(dump(&store), state, "{} at {at}: {report}", file.display());
                match report.how {
                    How::Verified => counts.0 += 1,
                    How::Rebuilt { .. } => counts.1 += 1,
                    _ => panic!("{report}"),
                }
                close(&store);
            }
        }
    }
    assert!(counts.1 > 10, "damage was noticed: {counts:?}");
}

#[test]
fn trust_reads_nothing_after_a_clean_close_in_the_same_boot() {
    let dir = Dir::new();
    let state = filled(&dir.path(), 100);
    let boot = Some([3; 16]);
    let how = |options: SledOptions| {
        let (store, report) = open(&dir.path(), options);
        assert_eq!(dump(&store), state);
        let killed = dir.tmp.path().join("killed");
        drop(fs::remove_dir_all(&killed));
        copy(&dir.path(), &killed);
        close(&store);
        (report.how, killed)
    };
    let trust = || sled().verify(Verify::Trust);
    how(trust().boot_id(boot));
    assert_eq!(how(trust().boot_id(boot)).0, How::Trusted);
    assert_eq!(how(sled().boot_id(boot)).0, How::Verified, "not asked for");
    assert_eq!(how(trust().boot_id(Some([4; 16]))).0, How::Verified, "another boot");
    assert_eq!(how(trust().boot_id(None)).0, How::Verified, "unknown boot");
    how(trust().boot_id(boot));
    let (how, killed) = how(trust().boot_id(boot));
    assert_eq!(how, How::Trusted);
    let (store, report) = open(&killed, trust().boot_id(boot));
    assert_eq!(report.how, How::Verified, "it was not closed");
    close(&store);
}

fn replace_index(from: &Path, to: &Path) {
    fs::remove_dir_all(to.join("index")).unwrap();
    copy(&from.join("index"), &to.join("index"));
}

fn index_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("index")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            files.push(Path::new("index").join(entry.file_name()));
        }
    }
    files.sort();
    files
}

#[test]
fn the_state_survives_an_index_that_only_ever_saw_part_of_it() {
    // A kill while the drainer works: the index holds a prefix, the log everything.
    let dir = Dir::new();
    let (store, _) = open(&dir.path(), sled());
    for n in 0..500 {
        put(&store, format!("k{n:04}"), format!("{n}")).unwrap();
    }
    let state = dump(&store);
    let killed = dir.tmp.path().join("killed");
    copy(&dir.path(), &killed);
    close(&store);
    drop(store);
    let report = expect(&killed, &state, "killed");
    assert!(!report.path.as_os_str().is_empty());
    wait(async {});
}
