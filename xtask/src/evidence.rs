//! Lines that tests leave behind to be read by people ("812 crash points, 0 lost acknowledgements").
//!
//! A test writes one line to `$RESURGE_EVIDENCE_DIR/<slug>`; test runners hide what passing tests
//! print, so this is how a number gets out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// The variable tests look at.
pub(crate) const VARIABLE: &str = "RESURGE_EVIDENCE_DIR";

/// An empty directory below `target` for the tests of this run.
pub(crate) fn prepare(target: &Path) -> Result<PathBuf> {
    let dir = target.join("evidence");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// What the tests wrote, as `slug: line`, sorted by slug.
pub(crate) fn collect(dir: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        lines.push(format!("{}: {}", entry.file_name().to_string_lossy(), text.trim_end()));
    }
    lines.sort_unstable();
    Ok(lines)
}

/// Shows what the tests wrote.
pub(crate) fn print(dir: &Path) -> Result<()> {
    let lines = collect(dir)?;
    if !lines.is_empty() {
        println!("\nevidence");
    }
    for line in lines {
        println!("  {line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_are_dropped_and_new_ones_sorted() {
        let base = std::env::temp_dir().join(format!("resurge-evidence-{}", std::process::id()));
        let dir = prepare(&base).unwrap();
        fs::write(dir.join("stale"), "from an earlier run\n").unwrap();
        let dir = prepare(&base).unwrap();
        fs::write(dir.join("wal-flips"), "9 flips, 9 detected\n").unwrap();
        fs::write(dir.join("crash-points"), "812 crash points\n").unwrap();
        let lines = collect(&dir).unwrap();
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(lines, ["crash-points: 812 crash points", "wal-flips: 9 flips, 9 detected"]);
    }
}
