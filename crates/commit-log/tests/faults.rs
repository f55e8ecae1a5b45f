//! Failing writes and syncs poison; a full disk does not; every single I/O failure is survived.
#![expect(clippy::unwrap_used, reason = "a failing helper fails the test")]

mod memory;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use memory::{Memory, Op};
use resurge_commit_log::{Frame, Log, LogError, LogOptions, NextSegment, Preparation, Result};

fn options() -> LogOptions {
    LogOptions::new([4; 16]).segment_sizes(8192, 8192).preparation(Preparation::Inline)
}

fn open(vfs: &Memory, high_water: u64) -> Result<Log> {
    Log::open(Arc::new(vfs.clone()), Path::new("/log"), options(), high_water).map(|(log, _)| log)
}

fn append(log: &mut Log, len: usize) -> Result<u64> {
    let mut frame = Frame::new();
    frame.push(&vec![1; len])?;
    log.append(&mut frame).map(|seqs| *seqs.end())
}

fn count(log: &Log) -> usize {
    log.replay(log.first_seq()).unwrap().map(Result::unwrap).count()
}

#[test]
fn a_failed_sync_is_never_retried() {
    let vfs = Memory::default();
    let mut log = open(&vfs, 0).unwrap();
    append(&mut log, 10).unwrap();
    log.sync().unwrap();
    append(&mut log, 10).unwrap();
    vfs.fail(|op| matches!(op, Op::Sync(_)).then_some(ErrorKind::Other));
    assert!(matches!(log.sync(), Err(LogError::Io { op: "sync", .. })));
    vfs.heal();
    vfs.take_ops();
    for _ in 0..2 {
        let Err(LogError::Poisoned { cause }) = log.sync() else { panic!("retried") };
        assert!(matches!(*cause, LogError::Io { .. }));
        assert!(matches!(append(&mut log, 10), Err(LogError::Poisoned { .. })));
    }
    assert_eq!(vfs.take_ops(), []);
    assert_eq!(log.durable_seq(), 1);
    assert_eq!(log.reader().replay(1).unwrap().count(), 1, "readable up to what is durable");
    assert!(matches!(log.close(), Err(LogError::Poisoned { .. })));
    // The kill of a process does not lose what it wrote.
    assert_eq!(count(&open(&vfs, 1).unwrap()), 2);
}

#[test]
fn a_failed_write_poisons() {
    let vfs = Memory::default();
    let mut log = open(&vfs, 0).unwrap();
    append(&mut log, 10).unwrap();
    vfs.fail(|op| matches!(op, Op::Write(..)).then_some(ErrorKind::Other));
    assert!(matches!(append(&mut log, 10), Err(LogError::Io { op: "write", .. })));
    vfs.heal();
    vfs.take_ops();
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert_eq!(vfs.take_ops(), []);
    drop(log);
    assert_eq!(count(&open(&vfs, 0).unwrap()), 1);
}

#[test]
fn a_full_disk_is_told_early_and_does_not_poison() {
    for by_error in [true, false] {
        let vfs = Memory::default();
        let mut log = open(&vfs, 0).unwrap();
        if by_error {
            vfs.fail(|op| matches!(op, Op::Allocate(..)).then_some(ErrorKind::StorageFull));
        } else {
            vfs.free(8191);
        }
        append(&mut log, 1000).unwrap();
        let told = log.next_segment();
        assert!(matches!(told, NextSegment::Failed(LogError::Full { .. })), "{told:?}");
        // What is prepared can be used up.
        append(&mut log, 1000).unwrap();
        append(&mut log, 1000).unwrap();
        log.sync().unwrap();
        let mut frame = Frame::new();
        frame.push(&[2; 2000]).unwrap();
        for _ in 0..2 {
            assert!(matches!(log.append(&mut frame), Err(LogError::Full { needed: 8192 })));
            assert_eq!(frame.count(), 1, "the frame is as it was");
            assert_eq!((log.last_seq(), count(&log)), (3, 3));
        }
        append(&mut log, 500).unwrap();
        log.sync().unwrap();
        assert!(!vfs.names("/log").iter().any(|n| n.strip_suffix(".tmp").is_some()));

        // A full disk does not keep the log from opening.
        drop(log);
        let mut log = open(&vfs, 4).unwrap();
        assert!(matches!(log.append(&mut frame), Err(LogError::Full { .. })));
        // And with space it goes on.
        vfs.heal();
        vfs.free(u64::MAX);
        assert_eq!(log.append(&mut frame).unwrap(), 5..=5);
        log.sync().unwrap();
        assert_eq!(count(&log), 5);
        log.verify().unwrap();
    }
}

#[test]
fn a_disk_that_fills_up_while_the_prepared_segment_is_named_is_full_too() {
    for failing in ["write", "rename"] {
        let vfs = Memory::default();
        let mut log = open(&vfs, 0).unwrap();
        append(&mut log, 3000).unwrap();
        vfs.fail(move |op| {
            let hit = match op {
                Op::Write(file, 0, _) => failing == "write" && file.starts_with("segment"),
                Op::Rename(..) => failing == "rename",
                _ => false,
            };
            hit.then_some(ErrorKind::StorageFull)
        });
        assert!(matches!(append(&mut log, 3000), Err(LogError::Full { .. })));
        vfs.heal();
        assert_eq!(append(&mut log, 3000).unwrap(), 2);
        log.sync().unwrap();
        log.verify().unwrap();
    }
}

#[test]
fn a_full_disk_keeps_no_copy_of_a_cut_tail_but_opens() {
    let vfs = Memory::default();
    let mut log = open(&vfs, 0).unwrap();
    append(&mut log, 10).unwrap();
    log.sync().unwrap();
    drop(log);
    vfs.edit(Path::new("/log/0000000000000001.log"), |b| b[5000] = 1);
    vfs.fail(|op| matches!(op, Op::Create(_)).then_some(ErrorKind::StorageFull));
    let opened = Log::open(Arc::new(vfs), Path::new("/log"), options(), 1).unwrap().1;
    let cut = opened.tail_cut.unwrap();
    assert_eq!((cut.copy, cut.copied_bytes), (None, 0));
    assert!(cut.bytes > 0);
}

/// Opens, appends 40 entries syncing each, cuts, until something fails. Returns what was synced.
fn life(vfs: &Memory, acked: &mut u64) -> Result<()> {
    let mut log = open(vfs, *acked)?;
    *acked = log.durable_seq();
    while log.last_seq() < 40 {
        append(&mut log, 700)?;
        *acked = log.sync()?;
        if *acked == 20 {
            log.cut_before(10)?;
        }
    }
    log.close()
}

#[test]
fn every_single_failing_operation_is_survived() {
    let vfs = Memory::default();
    life(&vfs, &mut 0).unwrap();
    let all = vfs.take_ops().len();
    assert!(all > 100);
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for nth in 0..all {
            for sticky in [false, true] {
                let vfs = Memory::default();
                let mut op = 0;
                vfs.fail(move |_| {
                    op += 1;
                    (op == nth + 1 || sticky && op > nth).then_some(kind)
                });
                let mut acked = 0;
                let first = life(&vfs, &mut acked);
                assert!(!sticky || first.is_err(), "operation {nth} failed unnoticed");
                vfs.heal();
                life(&vfs, &mut acked).unwrap_or_else(|e| panic!("{kind} {nth} {sticky}: {e}"));
                assert_eq!(acked, 40);
                let log = open(&vfs, acked).unwrap();
                assert_eq!(log.last_seq(), 40, "{kind} {nth} {sticky}");
                log.verify().unwrap();
            }
        }
    }
}

#[test]
fn a_panic_while_preparing_ahead_leaves_nobody_waiting() {
    let vfs = Memory::default();
    let background = options().preparation(Preparation::Background);
    let mut log = Log::open(Arc::new(vfs.clone()), Path::new("/log"), background, 0).unwrap().0;
    let mut first = true;
    vfs.hold_mut(move |op| {
        let hit = matches!(op, Op::Create(_)) && std::mem::take(&mut first);
        assert!(!hit, "a file system that panics, as part of a test");
    });
    for _ in 0..4 {
        append(&mut log, 3000).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(count(&log), 4);
}
