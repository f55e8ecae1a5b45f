//! Where cut and damaged data is kept for people to look at.

use std::path::{Path, PathBuf};

use crate::error::{LogError, Result};
use crate::scan::SegmentReader;
use crate::vfs::{OpenMode, Vfs};

const CHUNK: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Quarantine<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) dir: &'a Path,
    pub(crate) cap: u64,
}

impl Quarantine<'_> {
    /// Copies `from..to` of a segment, as much of it as the cap leaves room for. A disk without
    /// space keeps no copy: a full disk must not keep a log from opening.
    pub(crate) fn keep(
        &self,
        reader: &SegmentReader,
        from: u64,
        to: u64,
    ) -> Result<Option<(PathBuf, u64)>> {
        let copied = self.copy(reader, from, to);
        match copied {
            Err(e) if e.is_storage_full() => Ok(None),
            other => other,
        }
    }

    fn copy(&self, reader: &SegmentReader, from: u64, to: u64) -> Result<Option<(PathBuf, u64)>> {
        let room = self.cap.saturating_sub(self.used()?);
        let to = to.min(from.saturating_add(room));
        if to <= from {
            return Ok(None);
        }
        let path = self.free_name(&format!("{:016x}-{from:08x}.tail", reader.header.first_seq))?;
        let file = self.vfs.open(&path, OpenMode::CreateNew);
        let file = file.map_err(LogError::io("create", &path))?;
        let mut chunk = vec![0; CHUNK];
        let mut at = from;
        while at < to {
            let n = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            chunk.resize(n, 0);
            let read = reader.file.read_exact_at(&mut chunk, at);
            read.map_err(LogError::io("read", &reader.path))?;
            let written = file.write_at(&chunk, at - from).and_then(|()| {
                // Synced piecewise, so that what the cap and the disk allow is really there.
                if at + n as u64 == to { file.sync_data() } else { Ok(()) }
            });
            if let Err(e) = written {
                let _ = self.vfs.remove_file(&path);
                return Err(LogError::io("write", &path)(e));
            }
            at += n as u64;
        }
        self.vfs.sync_dir(self.dir).map_err(LogError::io("sync", self.dir))?;
        Ok(Some((path, to - from)))
    }

    /// Moves a whole file here.
    pub(crate) fn take(&self, path: &Path) -> Result<PathBuf> {
        self.create()?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let target = self.free_name(&name)?;
        self.vfs.rename(path, &target).map_err(LogError::io("rename", path))?;
        self.vfs.sync_dir(self.dir).map_err(LogError::io("sync", self.dir))?;
        Ok(target)
    }

    fn create(&self) -> Result<()> {
        crate::open::create_dir(self.vfs, self.dir)
    }

    fn used(&self) -> Result<u64> {
        self.create()?;
        let entries = self.vfs.list(self.dir).map_err(LogError::io("list", self.dir))?;
        Ok(entries.iter().map(|e| e.len).fold(0, u64::saturating_add))
    }

    /// `name`, or the first free `name.1`, `name.2`, ...
    fn free_name(&self, name: &str) -> Result<PathBuf> {
        let mut path = self.dir.join(name);
        let mut n = 0_u64;
        while self.vfs.exists(&path).map_err(LogError::io("stat", &path))? {
            n += 1;
            path = self.dir.join(format!("{name}.{n}"));
        }
        Ok(path)
    }
}
