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
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
