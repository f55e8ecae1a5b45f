//! Who a store is when its super file is lost: segments and images say so, too.

use std::path::Path;

use resurge_commit_log::{OpenMode, Vfs};
use resurge_store::Result;

use crate::error::io_error;
use crate::layout::Layout;

const BLOCK: usize = 4096;
/// Both headers: magic, then the store's id; a checksum of it all in the last four bytes.
const MAGICS: [[u8; 8]; 2] = [*b"RSGSEG\0\x01", *b"RSGIMG\0\x01"];

/// The id that the first readable segment or image carries.
pub(crate) fn find(vfs: &dyn Vfs, layout: &Layout) -> Result<Option<[u8; 16]>> {
    for dir in [&layout.log, &layout.images] {
        if !vfs.exists(dir).map_err(io_error("look for", dir))? {
            continue;
        }
        let mut files = vfs.list(dir).map_err(io_error("list", dir))?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        for file in files.iter().filter(|file| !file.is_dir) {
            if let Some(id) = read(vfs, &dir.join(&file.name))? {
                return Ok(Some(id));
            }
        }
    }
    Ok(None)
}

fn read(vfs: &dyn Vfs, path: &Path) -> Result<Option<[u8; 16]>> {
    let file = vfs.open(path, OpenMode::Read).map_err(io_error("open", path))?;
    let mut block = [0; BLOCK];
    if file.read_exact_at(&mut block, 0).is_err() {
        return Ok(None);
    }
    Ok(parse(&block))
}

fn parse(block: &[u8; BLOCK]) -> Option<[u8; 16]> {
    let (covered, stored) = block.split_last_chunk::<4>()?;
    let (magic, rest) = covered.split_first_chunk::<8>()?;
    let whole = *stored == crc32c::crc32c(covered).to_be_bytes();
    let known = whole && MAGICS.contains(magic);
    rest.first_chunk().copied().filter(|_| known)
}
