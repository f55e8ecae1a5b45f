//! Every decoder is fed bytes that nobody wrote: damaged ones, random ones, and damaged ones whose
//! checksums were made to fit again, so that what is behind the checksum is reached. None panics,
//! none allocates what a length claims, and nothing is believed that was not written.
//!
//! The number of cases is multiplied by `RESURGE_MANGLED`, 1 when not set.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "arbitrary_bytes/log.rs"]
mod log;
#[path = "arbitrary_bytes/store.rs"]
mod store;
#[path = "arbitrary_bytes/values.rs"]
mod values;

use std::ops::Range;

use resurge_testkit::evidence;

fn cases(n: u64) -> Range<u64> {
    let times = std::env::var("RESURGE_MANGLED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    0..n * times
}

/// Big-endian, where a checksum belongs.
fn seal(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_be_bytes());
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_be_bytes(field.try_into().unwrap())).ok()
}

#[test]
fn segments_and_frames() {
    let told = log::run(cases(6_000));
    evidence("mangled-logs", &told);
}

#[test]
fn super_files_and_images_and_logs_of_a_store() {
    let told = store::run(cases(2_500));
    evidence("mangled-stores", &told);
}

#[test]
fn records() {
    values::records(cases(30_000));
}

#[test]
fn batches() {
    values::batches(cases(30_000));
}

/// All of the above again, where a length that is believed cannot be allocated.
#[test]
#[cfg(target_os = "linux")]
fn all_of_it_needs_little_memory() {
    use std::process::Command;

    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 393216; exec \"$0\" \"$@\""]);
    limited.arg(std::env::current_exe().unwrap());
    limited.args(["--test-threads=1", "--skip=all_of_it_needs_little_memory"]);
    let output = limited.env("MALLOC_ARENA_MAX", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("4 passed"), "{text}");
}
