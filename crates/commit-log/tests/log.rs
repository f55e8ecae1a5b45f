//! The life of a log on a real directory: append, reopen, roll, cut, verify.
#![expect(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::path::Path;
use std::sync::Arc;

use resurge_commit_log::{
    Frame, Log, LogError, LogOptions, MAX_ENTRY, NextSegment, OpenedLog, OsVfs, Preparation,
};

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

#[test]
fn many_segments_double_up_to_the_limit_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    for n in 1..=2000_u64 {
        append(&mut log, &[&n.to_be_bytes(), &[7; 60]]);
        if n % 3 == 0 {
            log.sync().unwrap();
        }
    }
    let sizes = log.segments().iter().map(|s| s.file_bytes).collect::<Vec<_>>();
    assert_eq!(sizes[..4], [8192, 16384, 32768, 32768]);
    let check = |log: &Log| {
        let entries = contents(log);
        assert_eq!(entries.len(), 4000);
        for (n, pair) in entries.chunks(2).enumerate() {
            let n = n as u64;
            assert_eq!(pair[0], (2 * n + 1, (n + 1).to_be_bytes().to_vec()));
            assert_eq!(pair[1], (2 * n + 2, vec![7; 60]));
        }
        // From the middle of a frame in a segment in the middle.
        assert_eq!(log.replay(1500).unwrap().map(Result::unwrap).next().unwrap().0, 1500);
        let report = log.verify().unwrap();
        assert_eq!((report.frames, report.entries), (2000, 4000));
        assert_eq!(report.bytes, log.bytes_since(0));
        assert_eq!(report.segments, sizes.len());
    };
    check(&log);
    let segments = log.segments();
    drop(log);
    let (log, opened) = open(dir.path(), small());
    check(&log);
    assert_eq!(opened.segments, sizes.len());
    assert_eq!(log.segments(), segments);
    for pair in segments.windows(2) {
        assert_eq!(pair[0].last_seq + 1, pair[1].first_seq);
    }
}

#[test]
fn a_frame_larger_than_any_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    // Into the empty first segment, which is replaced; then behind others.
    let big = vec![3; 100_000];
    append(&mut log, &[&big]);
    append(&mut log, &[b"small"]);
    append(&mut log, &[&big, &big]);
    append(&mut log, &[&[1; 6000]]);
    log.sync().unwrap();
    let sizes = log.segments().iter().map(|s| s.file_bytes).collect::<Vec<_>>();
    assert!(sizes[0] > 100_000 && sizes.iter().any(|s| *s > 200_000), "{sizes:?}");
    assert_eq!(*sizes.last().unwrap(), 32768, "back to the usual size");
    drop(log);
    let (log, _) = open(dir.path(), small());
    let lengths = contents(&log).iter().map(|(_, b)| b.len()).collect::<Vec<_>>();
    assert_eq!(lengths, [100_000, 5, 100_000, 100_000, 6000]);
    log.verify().unwrap();
}

#[test]
fn the_largest_entry_fits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    let big = vec![1; MAX_ENTRY];
    append(&mut log, &[&big]);
    log.sync().unwrap();
    drop(log);
    let (log, _) = open(dir.path(), small());
    let (seq, bytes) = log.replay(1).unwrap().next().unwrap().unwrap();
    assert_eq!(seq, 1);
    assert!(bytes == big);
}

#[test]
fn cutting_removes_whole_segments_and_never_the_active_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    for _ in 0..300 {
        append(&mut log, &[&[1; 200]]);
    }
    log.sync().unwrap();
    let segments = log.segments();
    assert!(segments.len() > 3);
    assert_eq!(log.cut_before(segments[1].first_seq - 1).unwrap(), 0, "still needed");
    assert_eq!(log.cut_before(segments[2].first_seq).unwrap(), 2);
    assert_eq!(log.first_seq(), segments[2].first_seq);
    assert!(!segments[1].path.exists() && segments[2].path.exists());
    let Err(LogError::Cut { seq: 1, first_seq }) = log.replay(1).map(|_| ()) else {
        panic!("the beginning is gone");
    };
    assert_eq!(first_seq, segments[2].first_seq);
    log.cut_before(u64::MAX).unwrap();
    let last = segments.last().unwrap();
    assert_eq!(log.first_seq(), last.first_seq);
    assert_eq!(log.segments().len(), 1);
    assert_eq!(log.bytes_since(0), last.used_bytes);
    assert_eq!(log.bytes_since(log.last_seq()), 0);
    append(&mut log, &[b"more"]);
    log.sync().unwrap();
    drop(log);
    let (log, opened) = open(dir.path(), small());
    assert_eq!((opened.first_seq, opened.last_seq), (last.first_seq, 301));
    assert_eq!(contents(&log).last().unwrap().1, b"more");
}

#[test]
fn a_fresh_log_starts_where_it_is_told_and_an_old_one_does_not_listen() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, opened) = open(dir.path(), small().start_at(1000));
    assert_eq!((opened.first_seq, opened.last_seq), (1000, 999));
    assert_eq!(append(&mut log, &[b"x"]), 1000);
    drop(log);
    let (log, opened) = open(dir.path(), small().start_at(5));
    assert_eq!((opened.first_seq, opened.last_seq, log.last_seq()), (1000, 1000, 1000));
}

#[test]
fn leftover_temporary_files_are_removed_unread() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), small()));
    let tmp = dir.path().join("segment-7.tmp");
    std::fs::write(&tmp, "anything").unwrap();
    std::fs::write(dir.path().join("README"), "not ours").unwrap();
    let (log, opened) = open(dir.path(), small());
    assert_eq!(opened.tmp_removed, 1);
    assert!(!tmp.exists() && dir.path().join("README").exists());
    assert!(contents(&log).is_empty());
}

#[test]
fn closing_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    for preparation in [Preparation::Inline, Preparation::Background] {
        let (mut log, _) = open(dir.path(), small().preparation(preparation));
        append(&mut log, &[b"asks for the next segment"]);
        log.close().unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
        assert!(!names.into_iter().any(|n| n.to_string_lossy().ends_with(".tmp")));
    }
}

#[test]
fn inline_preparation_is_done_when_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small().preparation(Preparation::Inline));
    assert!(matches!(log.next_segment(), NextSegment::Idle));
    append(&mut log, &[b"x"]);
    assert!(matches!(log.next_segment(), NextSegment::Ready));
}

#[test]
fn a_second_writer_is_locked_out_unless_the_caller_locks_himself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small());
    let second = Log::open(Arc::new(OsVfs), dir.path(), small(), 0).map(|_| ());
    assert!(matches!(second, Err(LogError::Locked { .. })), "{second:?}");
    Log::open(Arc::new(OsVfs), dir.path(), small().lock(false), 0).unwrap();
    drop(log);
    open(dir.path(), small());
}

#[test]
fn files_are_private_and_links_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("a/b");
    let (mut log, _) = open(&dir, small());
    append(&mut log, &[b"x"]);
    log.close().unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let segment = dir.join("0000000000000001.log");
    assert_eq!(mode(&segment), 0o600);

    let elsewhere = outer.path().join("elsewhere");
    std::fs::rename(&segment, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &segment).unwrap();
    let refused = Log::open(Arc::new(OsVfs), &dir, small(), 0).map(|_| ());
    assert!(matches!(refused, Err(LogError::Io { .. })), "{refused:?}");
}

#[test]
fn empty_frames_and_other_identities_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    let refused = log.append(&mut Frame::new());
    assert!(matches!(refused, Err(LogError::Invalid { .. })));
    append(&mut log, &[b"still usable"]);
    drop(log);
    let other = LogOptions::new([1; 16]).segment_sizes(8192, 32768);
    let refused = Log::open(Arc::new(OsVfs), dir.path(), other, 0).map(|_| ());
    assert!(matches!(refused, Err(LogError::Corrupt { .. })), "{refused:?}");
}

#[test]
fn a_reader_follows_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    let reader = log.reader();
    append(&mut log, &[b"a", b"b"]);
    assert_eq!(reader.replay(1).unwrap().count(), 0);
    assert_eq!(log.replay(1).unwrap().count(), 2, "the writer sees what it appended");
    log.sync().unwrap();
    append(&mut log, &[b"c"]);
    assert_eq!(reader.durable_seq(), 2);
    assert_eq!(reader.replay(2).unwrap().count(), 1);
    assert_eq!(reader.replay(4).unwrap().count(), 0);
    assert_eq!(reader.verify().unwrap().entries, 2);
}

#[test]
fn replay_memory_is_bounded_by_a_frame_not_by_the_log() {
    // Entries of one frame share nothing with the next: a replay of many holds one window.
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), LogOptions::new(ID));
    for _ in 0..40 {
        append(&mut log, &[&vec![5; 100_000]]);
    }
    log.sync().unwrap();
    let mut replay = log.replay(1).unwrap();
    let mut most = 0;
    while replay.next_entry().unwrap().is_some() {
        most = most.max(replay.buffered_bytes());
    }
    assert!((100_000..=300_000).contains(&most), "{most}");
}

#[test]
fn a_frame_that_just_fits_stays_and_one_that_just_does_not_rolls() {
    // 4096 bytes of room; a frame is 48 + 4 + entry + 4, rounded up to 8.
    for (entry, segments) in [(4096 - 72 - 56, 1), (4096 - 72 - 56 + 1, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path(), small());
        append(&mut log, &[b"72 bytes.."]);
        append(&mut log, &[&vec![1; entry]]);
        log.sync().unwrap();
        assert_eq!(log.segments().len(), segments);
        drop(log);
        let (mut log, opened) = open(dir.path(), small());
        assert_eq!((opened.last_seq, opened.segments), (2, segments));
        append(&mut log, &[b"behind a full segment"]);
        log.sync().unwrap();
        log.verify().unwrap();
        assert_eq!(log.segments().len(), 2);
    }
}
