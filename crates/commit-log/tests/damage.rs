//! Damage: every truncation and every flipped bit of a small log, missing, foreign and overlapping
//! segments, stale data, the tail rules, salvage.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod memory;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory::Memory;
use resurge_commit_log::{Frame, Log, LogError, LogOptions, OpenedLog, Preparation, Result, Scan};

const ID: [u8; 16] = *b"log under test 2";
const DIR: &str = "/log";

fn options() -> LogOptions {
    LogOptions::new(ID).segment_sizes(8192, 8192).preparation(Preparation::Inline)
}

fn open(vfs: &Memory, options: LogOptions, high_water: u64) -> Result<(Log, OpenedLog)> {
    Log::open(Arc::new(vfs.clone()), Path::new(DIR), options, high_water)
}

fn entry(seq: u64) -> Vec<u8> {
    let len = usize::try_from(seq * 37 % 400).unwrap();
    let mut bytes = format!("entry {seq} ").into_bytes();
    bytes.resize(bytes.len() + len, seq.to_be_bytes()[7]);
    bytes
}

/// Appends up to `upto`, three entries to a frame, syncing each one.
fn fill(log: &mut Log, upto: u64, sync: bool) {
    let mut frame = Frame::new();
    while log.last_seq() < upto {
        let first = log.last_seq() + 1;
        for seq in first..=(first + 2).min(upto) {
            frame.push(&entry(seq)).unwrap();
        }
        log.append(&mut frame).unwrap();
        if sync {
            log.sync().unwrap();
        }
    }
}

/// A synced log of `n` entries, not closed in any orderly way.
fn log_of(n: u64) -> Memory {
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, options(), 0).unwrap();
    fill(&mut log, n, true);
    drop(log);
    vfs
}

fn segments(vfs: &Memory) -> Vec<PathBuf> {
    let logs = |p: &PathBuf| p.extension().is_some_and(|e| e == "log");
    vfs.files().into_iter().map(|(p, _)| p).filter(logs).collect()
}

/// All files but temporary ones.
fn lasting(vfs: &Memory) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = vfs.files();
    files.retain(|(p, _)| p.extension().is_none_or(|e| e != "tmp"));
    files
}

/// All entries, or the error; panics on any entry that is wrong.
fn check(log: &Log) -> Result<u64> {
    let mut next = log.first_seq();
    let mut replay = log.replay(next)?;
    while let Some((seq, bytes)) = replay.next_entry()? {
        assert_eq!((seq, bytes), (next, &entry(seq)[..]), "wrong entry");
        next += 1;
    }
    Ok(next - 1)
}

/// Where the valid bytes of the last segment end.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).unwrap() + 1
}

/// Opens a damaged copy and judges the answer: `acked` entries were acknowledged and the opener
/// knows it (`told`) or not.
fn judge(vfs: &Memory, acked: u64, last_frame: u64, told: bool, what: &str) {
    let before = lasting(vfs);
    match open(vfs, options(), if told { acked } else { 0 }) {
        Ok((log, opened)) => {
            let last = check(&log).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(last, opened.last_seq, "{what}");
            if last != acked {
                assert!(!told, "{what}: entries after {last} are gone");
                assert_eq!(last, last_frame, "{what}: more than the last group is gone");
                let cut = opened.tail_cut.unwrap_or_else(|| panic!("{what}: cut silently"));
                assert_eq!(cut.seq, last + 1, "{what}");
            }
        }
        Err(LogError::Corrupt { segment, offset, seq, .. }) => {
            assert!(segments(vfs).contains(&segment), "{what}: {}", segment.display());
            assert!(offset <= 8192 && (1..=acked).contains(&seq) || offset > 0, "{what}: {seq}");
            assert!(seq <= acked + 1, "{what}: {seq}");
            assert!(lasting(vfs) == before, "{what}: changed on disk though refused");
        }
        Err(e) => panic!("{what}: {e}"),
    }
}

#[test]
fn every_flipped_bit_is_harmless_or_found() {
    let acked = 44;
    let vfs = log_of(acked);
    assert!(segments(&vfs).len() >= 2);
    for path in segments(&vfs) {
        let bytes = vfs.edit(&path, |b| b.clone());
        let end = used(&bytes);
        // Every bit near the frames' headers costs too long; one bit of every byte, and all
        // bits of the headers and of the first frames.
        for at in (0..80).chain(4088..bytes.len()) {
            for bit in 0..8 {
                if at > 4500 && at < end && bit != at % 8 || at > end + 100 && at % 97 > 0 {
                    continue;
                }
                let copy = vfs.copy();
                copy.edit(&path, |b| b[at] ^= 1 << bit);
                let what = format!("{} byte {at} bit {bit}", path.display());
                judge(&copy, acked, 42, at % 2 == 0, &what);
            }
        }
    }
}

#[test]
fn every_truncation_is_damage() {
    let acked = 26;
    let vfs = log_of(acked);
    for path in segments(&vfs) {
        let len = vfs.edit(&path, |b| b.len());
        for len in 0..len {
            let copy = vfs.copy();
            copy.edit(&path, |b| b.truncate(len));
            let refused = open(&copy, options(), 0).map(|_| ());
            let Err(LogError::Corrupt { segment, seq, .. }) = refused else {
                panic!("{} cut to {len}: {refused:?}", path.display());
            };
            assert_eq!(segment, path);
            assert!(seq <= acked + 1);
        }
    }
}

#[test]
fn every_torn_write_of_the_last_frame_is_a_tail() {
    let vfs = log_of(12);
    let path = segments(&vfs).pop().unwrap();
    let before = vfs.edit(&path, |b| b.clone());
    let (mut log, _) = open(&vfs, options(), 0).unwrap();
    fill(&mut log, 15, false);
    drop(log);
    let after = vfs.edit(&path, |b| b.clone());
    let (start, end) = (used(&before).next_multiple_of(8), used(&after));
    for cut in start..=end {
        for keep_front in [true, false] {
            let copy = vfs.copy();
            copy.edit(&path, |b| {
                let (from, to) = if keep_front { (cut, end) } else { (start, cut) };
                b[from..to].fill(0);
            });
            let whole = copy.edit(&path, |b| *b == after);
            let empty = copy.edit(&path, |b| *b == before);
            let (log, opened) = open(&copy, options(), 12).unwrap();
            assert_eq!(check(&log).unwrap(), if whole { 15 } else { 12 }, "at {cut}");
            assert_eq!(opened.tail_cut.is_some(), !whole && !empty, "at {cut}");
            drop(log);
            // Zeroed to the end: the next opening finds nothing to cut.
            let (mut log, again) = open(&copy, options(), 12).unwrap();
            assert!(again.tail_cut.is_none());
            fill(&mut log, 20, true);
            assert_eq!(check(&log).unwrap(), 20);
            log.verify().unwrap();
            // And with the high-water of one entry more it was acknowledged.
            if !whole {
                let copy = vfs.copy();
                copy.edit(&path, |b| b[cut.min(end - 1)] ^= 0xff);
                let refused = open(&copy, options(), 13).map(|_| ());
                assert!(matches!(refused, Err(LogError::Corrupt { seq: 13, .. })), "{refused:?}");
            }
        }
    }
}

#[test]
fn a_cut_tail_is_copied_to_the_quarantine_up_to_its_cap() {
    let vfs = log_of(12);
    let path = segments(&vfs).pop().unwrap();
    let start = used(&vfs.edit(&path, |b| b.clone())).next_multiple_of(8);
    vfs.edit(&path, |b| b[start..start + 1000].fill(0xab));

    let whole = vfs.copy();
    let (_, opened) = open(&whole, options(), 12).unwrap();
    let cut = opened.tail_cut.unwrap();
    assert_eq!((cut.offset, cut.bytes, cut.copied_bytes), (start as u64, 1000, 1000));
    let copy = cut.copy.unwrap();
    assert_eq!(copy.parent(), Some(Path::new("/log/quarantine")));
    assert_eq!(whole.edit(copy, |b| b.clone()), vec![0xab; 1000]);

    let capped = vfs.copy();
    let to = options().quarantine("/elsewhere").quarantine_cap(300);
    let cut = open(&capped, to.clone(), 12).unwrap().1.tail_cut.unwrap();
    assert_eq!((cut.bytes, cut.copied_bytes), (1000, 300));
    assert_eq!(cut.copy.unwrap().parent(), Some(Path::new("/elsewhere")));
    capped.edit(&path, |b| b[start] = 1);
    let cut = open(&capped, to, 12).unwrap().1.tail_cut.unwrap();
    assert_eq!((cut.copy, cut.copied_bytes), (None, 0));
}

#[test]
fn a_later_frame_that_knows_of_a_sync_proves_damage() {
    let vfs = log_of(12);
    let path = segments(&vfs).pop().unwrap();
    // The first frame: three more follow that were written after it was synced.
    vfs.edit(&path, |b| b[4096 + 60] ^= 1);
    let refused = open(&vfs, options(), 0).map(|_| ());
    let Err(LogError::Corrupt { segment, offset, seq, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((segment, offset, seq), (path.clone(), 4096, 1));

    // The same frames, never synced: nothing proves that the first one was acknowledged.
    let vfs = Memory::default();
    let (mut log, _) = open(&vfs, options(), 0).unwrap();
    fill(&mut log, 12, false);
    drop(log);
    vfs.edit(&path, |b| b[4096 + 60] ^= 1);
    let (log, opened) = open(&vfs, options(), 0).unwrap();
    assert_eq!(opened.tail_cut.unwrap().seq, 1);
    assert_eq!(log.last_seq(), 0);
}

#[test]
fn a_stale_frame_behind_the_end_is_no_entry() {
    let vfs = log_of(12);
    let path = segments(&vfs).pop().unwrap();
    let bytes = vfs.edit(&path, |b| b.clone());
    let start = used(&bytes).next_multiple_of(8);
    // The first frame again, with its right salt and checksums.
    vfs.edit(&path, |b| b.copy_within(4096..4700, start));
    let (log, opened) = open(&vfs, options(), 12).unwrap();
    assert_eq!(check(&log).unwrap(), 12);
    assert!(opened.tail_cut.is_some());
}

#[test]
fn missing_foreign_and_repeated_segments_are_named() {
    let vfs = log_of(80);
    let paths = segments(&vfs);
    assert!(paths.len() >= 4);
    let corrupt = |vfs: &Memory, scan| match open(vfs, options().scan(scan), 0).map(|_| ()) {
        Err(LogError::Corrupt { segment, what, .. }) => (segment, what),
        other => panic!("{other:?}"),
    };
    for scan in [Scan::All, Scan::Active] {
        // In the middle.
        let copy = vfs.copy();
        copy.remove(&paths[1]);
        let (segment, what) = corrupt(&copy, scan);
        assert_eq!(what, "a segment before is missing");
        assert_eq!(segment, if scan == Scan::All { &paths[1] } else { &paths[2] }.clone());

        // Of another log.
        let copy = vfs.copy();
        let other = Memory::default();
        let foreign = LogOptions::new([9; 16]).segment_sizes(8192, 8192);
        let start = u64::from_str_radix(paths[1].file_stem().unwrap().to_str().unwrap(), 16);
        drop(open(&other, foreign.start_at(start.unwrap()), 0).unwrap());
        copy.put(&paths[1], other.edit(&paths[1], |b| b.clone()));
        assert_eq!(corrupt(&copy, scan), (paths[1].clone(), "segment belongs to another log"));

        // Under another name.
        let copy = vfs.copy();
        copy.put("/log/00000000000000ff.log", copy.edit(&paths[1], |b| b.clone()));
        let (segment, what) = corrupt(&copy, scan);
        assert_eq!(segment, Path::new("/log/00000000000000ff.log"));
        assert_eq!(what, "segment is named after another sequence");
    }
    // The last ones: only the high-water knows.
    let copy = vfs.copy();
    copy.remove(paths.last().unwrap());
    assert!(matches!(open(&copy, options(), 80), Err(LogError::Corrupt { .. })));
    // All of them.
    let copy = vfs.copy();
    for path in &paths {
        copy.remove(path);
    }
    assert!(matches!(open(&copy, options(), 80), Err(LogError::Corrupt { seq: 1, .. })));
    // The first one: that is what cutting does.
    vfs.remove(&paths[0]);
    let (log, opened) = open(&vfs, options(), 80).unwrap();
    assert!(opened.first_seq > 1);
    assert_eq!(check(&log).unwrap(), 80);
}

#[test]
fn segments_of_two_histories_do_not_join() {
    let vfs = log_of(80);
    let paths = segments(&vfs);
    // The same log, another content of the same length, so that names and sequences agree.
    let other = Memory::default();
    let (mut log, _) = open(&other, options().salt(7), 0).unwrap();
    let mut frame = Frame::new();
    while log.last_seq() < 80 {
        let first = log.last_seq() + 1;
        for seq in first..=(first + 2).min(80) {
            frame.push(&vec![1; entry(seq).len()]).unwrap();
        }
        log.append(&mut frame).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    assert_eq!(segments(&other), paths);
    vfs.put(&paths[1], other.edit(&paths[1], |b| b.clone()));
    let refused = open(&vfs, options(), 0).map(|_| ());
    let Err(LogError::Corrupt { segment, what, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(segment, paths[1]);
    assert_eq!(what, "segment does not follow from the one before it");
}

#[test]
fn scan_active_finds_old_damage_at_replay_and_verify() {
    let vfs = log_of(80);
    let path = segments(&vfs)[1].clone();
    vfs.edit(&path, |b| b[5000] ^= 1);
    assert!(matches!(open(&vfs, options(), 80), Err(LogError::Corrupt { .. })));
    let (log, _) = open(&vfs, options().scan(Scan::Active), 80).unwrap();
    for error in [check(&log).unwrap_err(), log.verify().unwrap_err()] {
        assert!(matches!(error, LogError::Corrupt { segment, .. } if segment == path));
    }
    // Nothing comes after an error.
    let mut replay = log.replay(1).unwrap();
    assert!(replay.by_ref().any(|e| e.is_err()));
    assert!(replay.next().is_none());
}

#[test]
fn verify_finds_data_behind_the_last_frame() {
    let vfs = log_of(80);
    let (log, _) = open(&vfs, options(), 80).unwrap();
    let report = log.verify().unwrap();
    assert_eq!((report.entries, report.segments), (80, segments(&vfs).len()));
    vfs.edit(&segments(&vfs)[0], |b| *b.last_mut().unwrap() = 1);
    assert!(matches!(log.verify(), Err(LogError::Corrupt { .. })));
    assert_eq!(check(&log).unwrap(), 80, "entries are not affected");
}

#[test]
fn salvage_keeps_exactly_the_valid_prefix_and_says_so() {
    let acked = 80;
    let vfs = log_of(acked);
    let paths = segments(&vfs);
    for (index, path) in paths.iter().enumerate() {
        let used = used(&vfs.edit(path, |b| b.clone()));
        for at in [10, 4100, used.midpoint(4096), used - 1] {
            let copy = vfs.copy();
            copy.edit(path, |b| b[at] ^= 1);
            let refused = open(&copy, options(), acked).map(|_| ());
            let Err(LogError::Corrupt { seq, .. }) = refused else { panic!("{refused:?}") };
            let (mut log, opened) = open(&copy, options().salvage(true), acked).unwrap();
            let salvaged = opened.salvaged.expect("says so");
            assert_eq!((salvaged.first_lost, salvaged.last_lost), (seq, Some(acked)));
            assert!(matches!(salvaged.damage, LogError::Corrupt { .. }));
            let moved = paths.len() - index - usize::from(at > 4096);
            let tail = usize::from(at > 4096);
            assert_eq!(salvaged.quarantined.len(), moved + tail, "{} {at}", path.display());
            assert_eq!(check(&log).unwrap(), seq - 1);
            fill(&mut log, acked + 5, true);
            drop(log);
            let (log, opened) = open(&copy, options(), acked + 5).unwrap();
            assert!(opened.salvaged.is_none());
            assert_eq!(check(&log).unwrap(), acked + 5);
            log.verify().unwrap();
        }
    }
}

#[test]
fn salvage_mends_a_short_segment() {
    let vfs = log_of(80);
    let paths = segments(&vfs);
    vfs.edit(&paths[1], |b| b.truncate(6000));
    let (log, opened) = open(&vfs, options().salvage(true), 80).unwrap();
    let kept = check(&log).unwrap();
    assert_eq!(opened.salvaged.unwrap().first_lost, kept + 1);
    assert_eq!(vfs.edit(&paths[1], |b| b.len()), 8192);
    assert_eq!(segments(&vfs).iter().filter(|p| p.parent() == Some(Path::new(DIR))).count(), 2);
    drop(log);
    assert_eq!(check(&open(&vfs, options(), kept).unwrap().0).unwrap(), kept);
}

#[test]
fn salvage_of_a_sound_log_changes_nothing() {
    let vfs = log_of(80);
    let (log, opened) = open(&vfs, options().salvage(true), 80).unwrap();
    assert!(opened.salvaged.is_none());
    assert_eq!(check(&log).unwrap(), 80);
}

#[test]
fn a_longer_segment_is_damage_too() {
    let vfs = log_of(12);
    let path = segments(&vfs).pop().unwrap();
    vfs.edit(&path, |b| b.extend_from_slice(&[0; 8]));
    assert!(matches!(open(&vfs, options(), 12), Err(LogError::Corrupt { .. })));
    let (log, _) = open(&vfs, options().salvage(true), 12).unwrap();
    assert_eq!(check(&log).unwrap(), 12);
    drop(log);
    open(&vfs, options(), 12).unwrap();
}

#[test]
fn frames_of_an_earlier_life_of_the_file_are_stale() {
    // Two lives of one log that differ in nothing but the salt of their opening.
    let lives = [1, 2].map(|salt| {
        let vfs = Memory::default();
        let (mut log, _) = open(&vfs, options().salt(salt), 0).unwrap();
        fill(&mut log, 12, true);
        drop(log);
        vfs
    });
    let path = segments(&lives[0]).pop().unwrap();
    let old = lives[0].edit(&path, |b| b.clone());
    let new = &lives[1];
    new.edit(&path, |b| b[4096..].copy_from_slice(&old[4096..]));
    // Not even as a proof of damage: they say nothing about this life.
    let (log, opened) = open(new, options(), 0).unwrap();
    assert_eq!((log.last_seq(), opened.tail_cut.unwrap().seq), (0, 1));
}

#[test]
fn a_frame_that_does_not_follow_from_the_one_before_is_no_entry() {
    // Two histories with the same salt and the same lengths, apart from the second entry on.
    let histories = [b"left_", b"right"].map(|second| {
        let vfs = Memory::default();
        let (mut log, _) = open(&vfs, options(), 0).unwrap();
        let mut frame = Frame::new();
        for entry in [b"first", second, b"third"] {
            frame.push(entry).unwrap();
            log.append(&mut frame).unwrap();
        }
        vfs
    });
    let path = segments(&histories[0]).pop().unwrap();
    let frame = 48 + 4 + 5 + 3 + 4;
    let third = histories[1].edit(&path, |b| b[4096 + 2 * frame..][..frame].to_vec());
    histories[0].edit(&path, |b| b[4096 + 2 * frame..][..frame].copy_from_slice(&third));
    let (log, opened) = open(&histories[0], options(), 0).unwrap();
    assert_eq!((log.last_seq(), opened.tail_cut.unwrap().seq), (2, 3));
}

#[test]
fn the_very_last_sync_a_later_frame_knows_of_counts() {
    for synced in [true, false] {
        let vfs = Memory::default();
        let (mut log, _) = open(&vfs, options(), 0).unwrap();
        let mut frame = Frame::new();
        for _ in 0..2 {
            frame.push(b"entry").unwrap();
            log.append(&mut frame).unwrap();
            if synced && log.durable_seq() == 0 {
                log.sync().unwrap();
            }
        }
        drop(log);
        vfs.edit(segments(&vfs).pop().unwrap(), |b| b[4096 + 50] ^= 1);
        // The second frame says that the first was durable, or does not.
        let opened = open(&vfs, options(), 0).map(|(_, opened)| opened);
        match opened {
            Err(LogError::Corrupt { seq: 1, .. }) => assert!(synced),
            Ok(opened) => assert!(!synced && opened.tail_cut.is_some()),
            Err(e) => panic!("{e}"),
        }
    }
}
