//! Checking the index: sled writes whenever it is opened, so a copy of it is.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use resurge_commit_log::{OpenMode, Vfs};
use resurge_store::Result;

use super::{Check, IndexCheck, Severity};
use crate::error::io_error;
use crate::index::{IndexFactory, IndexMeta, IndexResult, SledIndexFactory, SledIndexOptions};
use crate::super_file::Slot;

const CLOSE_WITHIN: Duration = Duration::from_secs(30);
const CHUNK: usize = 1 << 20;

impl Check<'_> {
    /// Lets a copy of the index in `scratch` prove itself, and removes the copy.
    ///
    /// # Errors
    /// When the copy cannot be written or removed.
    pub(super) fn index(&mut self, slot: &Slot, scratch: &Path) -> Result<()> {
        let dir = self.layout.index.clone();
        if !self.vfs.exists(&dir).map_err(io_error("look for", &dir))? {
            return Ok(());
        }
        fs::create_dir(scratch).map_err(io_error("create", scratch))?;
        let copied = copy(&**self.vfs, &dir, scratch);
        let verdict = match copied {
            Ok((files, bytes)) => {
                self.report.files += files;
                self.report.bytes = self.report.bytes.saturating_add(bytes);
                prove(scratch).map_err(|e| e.to_string())
            }
            Err(e) => Err(e),
        };
        fs::remove_dir_all(scratch).map_err(io_error("remove", scratch))?;
        let verdict = verdict.and_then(|meta| self.belongs(slot, meta));
        self.report.index = match verdict {
            Ok(check) => check,
            Err(what) => {
                let what = format!("{what}; the next open builds it again");
                self.found(Severity::Damage, &dir, None, what);
                IndexCheck::Damaged
            }
        };
        Ok(())
    }

    /// As opening decides whether it is used.
    fn belongs(&self, slot: &Slot, meta: Option<IndexMeta>) -> Result<IndexCheck, String> {
        let Some(meta) = meta else { return Err("it is empty".to_owned()) };
        let applied = meta.applied_seq.0;
        let (first, last) = (self.report.first_seq, self.report.last_seq);
        if meta.store_id != slot.store_id {
            return Err("it belongs to another store".to_owned());
        }
        if !meta.ready {
            return Err("it was never finished".to_owned());
        }
        if applied.saturating_add(1) < first || applied > last {
            return Err(format!("it is at commit {applied}, the log holds {first} to {last}"));
        }
        Ok(IndexCheck::Proved { keys: meta.digest.keys, applied_seq: applied })
    }
}

/// What it says about itself, once a scan of all of it has shown that to be so.
fn prove(path: &Path) -> IndexResult<Option<IndexMeta>> {
    let factory = SledIndexFactory::new(path, SledIndexOptions::default());
    let index = factory.open()?.index;
    let proved = index.meta().and_then(|meta| {
        let Some(expected) = meta else { return Ok(None) };
        let found = index.prove()?;
        if found == expected.digest {
            return Ok(meta);
        }
        let what = format!("it holds {found:?} and says {:?}", expected.digest);
        Err(crate::IndexError::new(crate::IndexErrorKind::Corrupt, what))
    });
    index.close(CLOSE_WITHIN)?;
    proved
}

fn copy(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(u64, u64), String> {
    let failed = |e: io::Error| format!("{}: cannot be copied: {e}", from.display());
    let (mut files, mut bytes) = (0, 0);
    for entry in vfs.list(from).map_err(failed)? {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            fs::create_dir(&target).map_err(failed)?;
            let (f, b) = copy(vfs, &source, &target)?;
            files += f;
            bytes += b;
        } else {
            bytes += copy_file(vfs, &source, &target).map_err(failed)?;
            files += 1;
        }
    }
    Ok((files, bytes))
}

fn copy_file(vfs: &dyn Vfs, from: &Path, to: &Path) -> io::Result<u64> {
    let source = vfs.open(from, OpenMode::Read)?;
    let mut target = fs::File::create(to)?;
    let mut buf = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let n = source.read_at(&mut buf, at)?;
        let Some(read) = buf.get(..n).filter(|read| !read.is_empty()) else { return Ok(at) };
        io::Write::write_all(&mut target, read)?;
        at += n as u64;
    }
}
