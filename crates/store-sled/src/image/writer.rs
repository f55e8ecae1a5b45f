//! Writing an image under its temporary name.

use std::path::PathBuf;

use bytes::{BufMut, Bytes};
use resurge_commit_log::{OpenMode, Vfs, VfsFile};
use resurge_store::{Key, Result};

use super::format::{self, BLOCK, CHUNK_HEAD, CHUNK_TARGET, Header};
use crate::error::io_error;
use crate::super_file::ImageSpan;

/// An image that is being written. Its header comes last, so that until then it is none.
#[derive(Debug)]
pub(crate) struct ImageWriter {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    header: Header,
    /// Head and payload of the open chunk.
    chunk: Vec<u8>,
    count: u32,
}

impl ImageWriter {
    /// Starts the image of the state after commit `begin` (and maybe some later ones).
    pub(crate) fn create(
        vfs: &dyn Vfs,
        path: PathBuf,
        store_id: [u8; 16],
        begin: u64,
    ) -> Result<Self> {
        if vfs.exists(&path).map_err(io_error("look for", &path))? {
            vfs.remove_file(&path).map_err(io_error("remove", &path))?;
        }
        let file = vfs.open(&path, OpenMode::CreateNew).map_err(io_error("create", &path))?;
        let header = Header {
            store_id,
            span: ImageSpan { begin, end: begin },
            entries: 0,
            chunks: 0,
            body: 0,
            chain: format::chain_start(&store_id, begin),
        };
        Ok(Self { path, file, header, chunk: vec![0; CHUNK_HEAD], count: 0 })
    }

    /// Adds an entry; keys must ascend.
    pub(crate) fn add(&mut self, key: &Key, value: &Bytes) -> Result<()> {
        self.push(key, value);
        self.flush()
    }

    /// Adds an entry to the open chunk, in memory; keys must ascend. True when the chunk is full: then
    /// [`flush`](Self::flush) comes before the next entry.
    pub(crate) fn push(&mut self, key: &Key, value: &Bytes) -> bool {
        format::put_entry(&mut self.chunk, key, value);
        self.count += 1;
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.chunk.len() - CHUNK_HEAD >= CHUNK_TARGET
    }

    /// Writes the open chunk if it is full.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.is_full() { self.close_chunk() } else { Ok(()) }
    }

    /// Writes the rest and the header, and syncs. Returns the length of the file.
    pub(crate) fn finish(mut self, end: u64) -> Result<u64> {
        if self.count > 0 {
            self.close_chunk()?;
        }
        self.header.span.end = end;
        let written = self.file.write_at(&self.header.encode(), 0);
        written.map_err(io_error("write", &self.path))?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        Ok(BLOCK as u64 + self.header.body)
    }

    fn close_chunk(&mut self) -> Result<()> {
        let payload = self.chunk.len() - CHUNK_HEAD;
        // INVARIANT: a payload is at most `MAX_CHUNK` bytes.
        let len = u32::try_from(payload).unwrap_or(u32::MAX);
        if let Some(mut head) = self.chunk.get_mut(..CHUNK_HEAD) {
            head.put_u32(len);
            head.put_u32(self.count);
        }
        self.header.chain = crc32c::crc32c_append(self.header.chain, &self.chunk);
        self.chunk.put_u32(self.header.chain);
        let written = self.file.write_at(&self.chunk, BLOCK as u64 + self.header.body);
        written.map_err(io_error("write", &self.path))?;
        self.header.body += self.chunk.len() as u64;
        self.header.entries += u64::from(self.count);
        self.header.chunks += 1;
        self.count = 0;
        self.chunk.truncate(CHUNK_HEAD);
        if self.chunk.capacity() > 4 * CHUNK_TARGET {
            self.chunk.shrink_to(2 * CHUNK_TARGET);
        }
        Ok(())
    }
}
