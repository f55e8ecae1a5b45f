//! The life of a log on a real directory: append, reopen, roll, cut, verify.
#![expect(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::path::Path;
use std::sync::Arc;

use resurge_commit_log::{Frame, Log, LogOptions, OpenedLog, OsVfs};

const ID: [u8; 16] = *b"log under test 1";

fn small() -> LogOptions {
    LogOptions::new(ID).segment_sizes(8192, 32768)
}

fn open(dir: &Path, options: LogOptions) -> (Log, OpenedLog) {
    Log::open(Arc::new(OsVfs), dir, options, 0).unwrap()
}

fn append(log: &mut Log, entries: &[&[u8]]) -> u64 {
    let mut frame = Frame::new();
    for entry in entries {
        frame.push(entry).unwrap();
    }
    *log.append(&mut frame).unwrap().end()
}

fn contents(log: &Log) -> Vec<(u64, Vec<u8>)> {
    log.replay(log.first_seq()).unwrap().map(|e| e.map(|(s, b)| (s, b.to_vec())).unwrap()).collect()
}

#[test]
fn entries_survive_clean_and_unclean_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, opened) = open(dir.path(), small());
    assert!(opened.created);
    assert_eq!((opened.first_seq, opened.last_seq), (1, 0));
    append(&mut log, &[b"a", b"bb"]);
    assert_eq!(log.durable_seq(), 0);
    assert_eq!(log.sync().unwrap(), 2);
    log.close().unwrap();

    let (mut log, opened) = open(dir.path(), small());
    assert!(!opened.created);
    assert_eq!((opened.first_seq, opened.last_seq), (1, 2));
    append(&mut log, &[b"", b"dddd"]);
    drop(log); // neither synced nor closed

    let (log, opened) = open(dir.path(), small());
    assert_eq!((opened.last_seq, log.durable_seq()), (4, 4));
    assert!(opened.tail_cut.is_none() && opened.salvaged.is_none());
    let entries = contents(&log);
    let expected: [(u64, &[u8]); 4] = [(1, b"a"), (2, b"bb"), (3, b""), (4, b"dddd")];
    assert_eq!(entries, expected.map(|(s, b)| (s, b.to_vec())));
}
