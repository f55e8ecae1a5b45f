//! Where the figures are taken: a directory on the disk of the working directory, and its size.

use std::io;
use std::path::Path;

/// A temporary directory beside the sources: `/tmp` may be memory.
pub(crate) fn scratch() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(".bench-").tempdir_in(".")
}

/// Bytes of all files below `dir`.
pub(crate) fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}

/// The most memory this process has held so far, in bytes; `None` where the system does not say.
pub(crate) fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// The memory this process holds now, in bytes; `None` where the system does not say.
pub(crate) fn memory() -> Option<u64> {
    status("VmRSS:")
}

fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Processor time of this process, in ticks of 10 ms; `None` where the system does not say.
pub(crate) fn ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // What precedes the last parenthesis may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}
