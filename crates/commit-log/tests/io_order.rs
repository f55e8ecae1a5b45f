//! The order of effects on disk, which is what durability is made of.
#![expect(clippy::unwrap_used, reason = "a failing helper fails the test")]

mod memory;

use std::path::Path;
use std::sync::Arc;

use memory::{Memory, Op};
use resurge_commit_log::{Frame, Log, LogOptions, OpenedLog, Preparation};

const FIRST: &str = "0000000000000001.log";

fn options() -> LogOptions {
    LogOptions::new([3; 16]).segment_sizes(8192, 8192).preparation(Preparation::Inline)
}

fn open(vfs: &Memory, high_water: u64) -> (Log, OpenedLog) {
    Log::open(Arc::new(vfs.clone()), Path::new("/state/log"), options(), high_water).unwrap()
}

fn append(log: &mut Log, len: usize) {
    let mut frame = Frame::new();
    frame.push(&vec![1; len]).unwrap();
    log.append(&mut frame).unwrap();
}

fn position(ops: &[Op], wanted: impl Fn(&Op) -> bool) -> usize {
    ops.iter().position(wanted).unwrap()
}

#[test]
fn a_new_log_is_named_only_when_it_is_on_disk() {
    let vfs = Memory::default();
    let (log, _) = open(&vfs, 0);
    drop(log);
    let tmp = "segment-0.tmp".to_owned();
    let expected = [
        Op::SyncDir(String::new()), // where "state" is
        Op::SyncDir("state".to_owned()),
        Op::Create(tmp.clone()),
        Op::Allocate(tmp.clone(), 0, 8192),
        Op::Sync(tmp.clone()),
        Op::Write(tmp.clone(), 0, 4096),
        Op::Sync(tmp.clone()),
        Op::Rename(tmp, FIRST.to_owned()),
        Op::SyncDir("log".to_owned()),
    ];
    let mut ops = vfs.take_ops();
    ops.get_mut(..2).unwrap().sort_by_key(|op| *op == Op::SyncDir("state".to_owned()));
    assert_eq!(ops, expected);
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, 0);
    append(&mut log, 10); // asks for the next segment too
    log.sync().unwrap();
    vfs.take_ops();
    let mut frame = Frame::new();
    for _ in 0..20 {
        frame.push(b"0123456789").unwrap();
    }
    log.append(&mut frame).unwrap();
    log.sync().unwrap();
    let (at, len) = (4096 + 48 + 24, 48 + 20 * 14 + 8);
    let expected = [Op::Write(FIRST.to_owned(), at, len), Op::Sync(FIRST.to_owned())];
    assert_eq!(vfs.take_ops(), expected);
    log.sync().unwrap();
    assert_eq!(vfs.take_ops(), [], "nothing to sync");
}

#[test]
fn at_a_roll_the_old_segment_is_synced_before_the_new_one_exists() {
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, 0);
    append(&mut log, 3000);
    vfs.take_ops();
    append(&mut log, 3000); // does not fit; the first was never synced
    let ops = vfs.take_ops();
    let second = "0000000000000002.log";
    let synced = position(&ops, |op| *op == Op::Sync(FIRST.to_owned()));
    let header =
        position(&ops, |op| matches!(op, Op::Write(f, 0, 4096) if f.starts_with("segment")));
    let synced_header = header + position(&ops[header..], |op| matches!(op, Op::Sync(_)));
    let renamed = position(&ops, |op| matches!(op, Op::Rename(_, to) if to == second));
    let named = renamed + position(&ops[renamed..], |op| matches!(op, Op::SyncDir(_)));
    let written = position(&ops, |op| matches!(op, Op::Write(f, 4096, _) if f == second));
    let order = [synced, header, synced_header, renamed, named, written];
    assert!(order.is_sorted(), "{order:?} {ops:?}");
    assert_eq!(log.durable_seq(), 1, "synced on the way");
    drop(log);
    assert_eq!(open(&vfs, 0).1.last_seq, 2);
}

#[test]
fn opening_writes_the_tail_again_before_it_serves_anything() {
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, 0);
    append(&mut log, 100);
    log.sync().unwrap();
    append(&mut log, 100);
    append(&mut log, 100);
    drop(log); // killed before the sync
    vfs.take_ops();

    let frame = 48 + 104 + 8;
    let rest = 8192 - 4096 - 3 * frame;
    // What the frames say: 1 was durable when 2 was written.
    let (log, opened) = open(&vfs.copy(), 0);
    assert_eq!((opened.high_water, opened.last_seq), (1, 3));
    assert_eq!(opened.rewritten_bytes, 2 * frame + rest);
    assert_eq!(log.durable_seq(), 3);
    drop(log);

    // The caller knows of 2.
    let copy = vfs.copy();
    let before = copy.edit(Path::new("/state/log").join(FIRST), |b| b.clone());
    let (_, opened) = open(&copy, 2);
    assert_eq!((opened.high_water, opened.last_seq), (2, 3));
    let ops = copy.take_ops().into_iter().filter(|op| !matches!(op, Op::Remove(_)));
    let expected = [
        // An earlier life may have been killed right after it created the directory.
        Op::SyncDir("state".to_owned()),
        Op::Write(FIRST.to_owned(), 4096 + 2 * frame, usize::try_from(frame).unwrap()),
        Op::Write(FIRST.to_owned(), 4096 + 3 * frame, usize::try_from(rest).unwrap()),
        Op::Sync(FIRST.to_owned()),
        Op::SyncDir("log".to_owned()),
    ];
    assert_eq!(ops.collect::<Vec<_>>(), expected);
    assert!(copy.edit(Path::new("/state/log").join(FIRST), |b| *b == before), "the same bytes");
}

#[test]
fn segments_are_removed_oldest_first_each_for_good() {
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, 0);
    for _ in 0..4 {
        append(&mut log, 3000);
    }
    vfs.take_ops();
    log.cut_before(3).unwrap();
    let dir = || Op::SyncDir("log".to_owned());
    let second = "0000000000000002.log".to_owned();
    assert_eq!(vfs.take_ops(), [Op::Remove(FIRST.to_owned()), dir(), Op::Remove(second), dir()]);
}

#[test]
fn salvage_moves_the_newest_first() {
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, 0);
    for _ in 0..4 {
        append(&mut log, 3000);
    }
    drop(log);
    vfs.edit(Path::new("/state/log/0000000000000002.log"), |b| b[0] ^= 1);
    vfs.take_ops();
    let salvage = options().salvage(true);
    Log::open(Arc::new(vfs.clone()), Path::new("/state/log"), salvage, 0).unwrap();
    let moved = vfs.take_ops().into_iter().filter_map(|op| match op {
        Op::Rename(from, _) => Some(from),
        _ => None,
    });
    let expected = [4, 3, 2].map(|n| format!("{n:016x}.log"));
    assert_eq!(moved.collect::<Vec<_>>(), expected);
}
