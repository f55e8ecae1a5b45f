//! A commit log whose segment is not as it was written.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resurge_commit_log::{Frame, Log, LogError, LogOptions, Preparation};
use resurge_testkit::{SimVfs, mangle};

use super::{number, seal};

const DIR: &str = "/log";
const BLOCK: usize = 4096;
const HEADER: usize = 48;

fn options() -> LogOptions {
    LogOptions::new(*b"log to be harmed").segment_sizes(8192, 8192).preparation(Preparation::Inline)
}

/// A log of two segments, and what is in it.
fn written() -> (SimVfs, Vec<PathBuf>, Vec<Vec<u8>>) {
    let disk = SimVfs::new();
    let mut log = Log::open(Arc::new(disk.clone()), Path::new(DIR), options(), 0).unwrap().0;
    let mut entries = Vec::new();
    for n in 0..14_u8 {
        let mut frame = Frame::new();
        for part in 0..=n % 3 {
            let entry = vec![n ^ part | 1; usize::from(n) * 37 + usize::from(part)];
            frame.push(&entry).unwrap();
            entries.push(entry);
        }
        log.append(&mut frame).unwrap();
        log.sync().unwrap();
    }
    let segments = log.segments().iter().map(|segment| segment.path.clone()).collect::<Vec<_>>();
    assert!(segments.len() > 1, "{segments:?}");
    drop(log);
    (disk.kill(), segments, entries)
}

/// Makes every checksum and every link of the chain fit what is there.
pub(super) fn reseal(file: &mut [u8]) {
    if file.len() < BLOCK {
        return;
    }
    let mut chain = crc32c::crc32c(&file[..BLOCK - 4]);
    seal(file, BLOCK - 4, chain);
    let mut at = BLOCK;
    while file.get(at..at + HEADER).is_some_and(|header| header.starts_with(b"RSGF")) {
        seal(file, at + 40, chain);
        let checked = crc32c::crc32c(&file[at..at + 44]);
        seal(file, at + 44, checked);
        let len = number(file, at + 8).unwrap();
        let end = (at + HEADER).saturating_add(len).saturating_add(4).next_multiple_of(8);
        if end > file.len() {
            return;
        }
        let body = crc32c::crc32c(&file[at + HEADER..end - 4]);
        chain = crc32c::crc32c_append(body, &file[at..at + 44]);
        seal(file, end - 4, chain);
        at = end;
    }
}

pub(super) fn run(cases: Range<u64>) -> String {
    let (disk, segments, entries) = written();
    let acked = entries.len() as u64;
    let (mut refused, mut opened, mut forged) = (0, 0, 0);
    let total = cases.end;
    for seed in cases {
        let path = &segments[usize::try_from(seed / 30).unwrap() % segments.len()];
        let whole = disk.contents(path).unwrap();
        let mut harmed = mangle(&whole, seed);
        let resealed = seed % 3 == 0;
        if resealed {
            reseal(&mut harmed);
        }
        let told = seed % 2 == 0;
        let salvage = seed % 5 == 0;
        let disk = disk.fork();
        disk.damage(path, &harmed).unwrap();
        let high_water = if told { acked } else { 0 };
        let options = options().salvage(salvage);
        let log = match Log::open(Arc::new(disk), Path::new(DIR), options, high_water) {
            Ok((log, _)) => log,
            Err(LogError::Corrupt { .. }) => {
                refused += 1;
                continue;
            }
            Err(e) => panic!("seed {seed}: {e}"),
        };
        opened += 1;
        forged += u64::from(resealed);
        let verified = log.verify();
        let mut replay = match log.replay(log.first_seq()) {
            Ok(replay) => replay,
            Err(e) => panic!("seed {seed}: opened, and not to be read: {e}"),
        };
        let mut found = Vec::new();
        while let Some((seq, bytes)) = replay.next_entry().unwrap_or_else(|e| {
            panic!("seed {seed}: opened, and not to be read to its end: {e}");
        }) {
            found.push((seq, bytes.to_vec()));
        }
        // It also looks at what no entry is in.
        let sound = matches!(verified, Ok(_) | Err(LogError::Corrupt { .. }));
        assert!(sound, "seed {seed}: {verified:?}");
        if resealed {
            // Whoever forges checksums is believed.
            continue;
        }
        for (seq, bytes) in &found {
            let index = usize::try_from(*seq - 1).unwrap();
            assert_eq!(Some(bytes), entries.get(index), "seed {seed}: entry {seq} is made up");
        }
        let all = found.len() == entries.len();
        assert!(all || salvage || !told, "seed {seed}: {} of {acked} are left", found.len());
    }
    assert!(refused > total / 4 && opened > total / 20 && forged > total / 200);
    format!(
        "{total} mangled logs: {refused} refused with the place, {opened} opened ({forged} of them \
         forged), 0 wrong entries, 0 panics"
    )
}
