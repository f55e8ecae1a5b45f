//! sled's directory, seen from outside: leftovers, spilled pages, its lock.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::super::IndexResult;
use super::fault;

/// Deletes snapshots that were being written when the process died: sled reads them as whole ones
/// and cannot be opened again. Returns their names.
pub(super) fn sweep(path: &Path) -> IndexResult<Vec<String>> {
    let mut swept = Vec::new();
    for entry in list(path)? {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())
                .map_err(|e| fault::io(format!("cannot remove {}", entry.path().display()), e))?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// What sled moved out of its pages. Our entries are small enough that it never should.
pub(super) fn blobs(path: &Path) -> Vec<String> {
    let path = path.join("blobs");
    match list(&path) {
        Ok(files) if files.is_empty() => Vec::new(),
        Ok(files) => vec![format!(
            "sled spilled {} pages into {}: slow, but nothing is lost",
            files.len(),
            path.display()
        )],
        Err(e) => vec![format!("sled's spill directory cannot be read: {e}")],
    }
}

/// Waits until sled has released its lock; its threads hold on to it a little after the drop.
pub(super) fn wait_released(path: &Path) -> IndexResult<()> {
    let file = match fs::File::open(path.join("db")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| fault::io("cannot open sled's file".to_owned(), e))?,
    };
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|e| fault::io("cannot wait for sled's lock".to_owned(), e.into()))
    // Dropping the file releases our lock.
}

/// Deletes it all.
pub(super) fn remove(path: &Path) -> IndexResult<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(fault::io(format!("cannot remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

fn list(path: &Path) -> IndexResult<Vec<fs::DirEntry>> {
    let failed = |e| fault::io(format!("cannot list {}", path.display()), e);
    match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(failed),
    }
}
