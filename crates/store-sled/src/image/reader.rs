//! Reading an image: nothing is believed before its checksum held.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use resurge_commit_log::{OpenMode, Vfs, VfsFile};
use resurge_store::{Key, Result, StoreError};

use super::format::{self, BLOCK, CHUNK_HEAD, CHUNK_TAIL, Header, MAX_CHUNK};
use crate::error::{corrupt, io_error};
use crate::super_file::ImageSpan;

/// An image, read chunk by chunk. `Corrupt` means damaged, any other error that it cannot be read.
#[derive(Debug)]
pub(crate) struct ImageReader {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    header: Header,
    /// Bytes of the body read so far.
    at: u64,
    chunks: u64,
    entries: u64,
    chain: u32,
    /// Checksum and length of the chunk that was read last.
    pending: (u32, u64),
    /// The last raw key, empty before the first.
    last: Vec<u8>,
}

impl ImageReader {
    /// Opens the image and checks its header against the store and the file.
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, store_id: &[u8; 16]) -> Result<Self> {
        let file = vfs.open(path, OpenMode::Read).map_err(io_error("open", path))?;
        let len = file.len().map_err(io_error("stat", path))?;
        let mut block = vec![0; BLOCK];
        file.read_exact_at(&mut block, 0).map_err(|e| read_error(path, e))?;
        let header = Header::decode(&block).map_err(|what| corrupt(path, what))?;
        if header.store_id != *store_id {
            return Err(corrupt(path, "image belongs to another store"));
        }
        if header.body.checked_add(BLOCK as u64) != Some(len) {
            return Err(corrupt(path, format_args!("image has {len} bytes, not what it says")));
        }
        let chain = format::chain_start(store_id, header.span.begin);
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            header,
            at: 0,
            chunks: 0,
            entries: 0,
            chain,
            pending: (0, 0),
            last: Vec::new(),
        })
    }

    pub(crate) fn span(&self) -> ImageSpan {
        self.header.span
    }

    /// Entries it holds, as its header says.
    pub(crate) fn entries(&self) -> u64 {
        self.header.entries
    }

    /// Length of the file.
    pub(crate) fn file_len(&self) -> u64 {
        BLOCK as u64 + self.header.body
    }

    /// The next entries in key order; `None` at the end, when all of it was there and right.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Vec<(Key, Bytes)>>> {
        let mut payload = Vec::new();
        let Some(count) = self.read_chunk(&mut payload)? else { return Ok(None) };
        let entries = format::decode_payload(&payload.into(), count, &mut self.last);
        let entries = entries.map_err(|what| self.damaged(what))?;
        self.accept(count);
        Ok(Some(entries))
    }

    /// Reads all of it.
    pub(crate) fn verify(mut self) -> Result<()> {
        let mut payload = Vec::new();
        while let Some(count) = self.read_chunk(&mut payload)? {
            let right = format::check_payload(&payload, count, &mut self.last);
            right.map_err(|what| self.damaged(what))?;
            self.accept(count);
        }
        Ok(())
    }

    /// Reads the next chunk, whose checksum holds, into `payload`; returns how many entries it has.
    fn read_chunk(&mut self, payload: &mut Vec<u8>) -> Result<Option<u32>> {
        if self.at == self.header.body {
            let whole = self.chunks == self.header.chunks
                && self.entries == self.header.entries
                && self.chain == self.header.chain;
            return if whole { Ok(None) } else { Err(self.damaged("chunks are missing")) };
        }
        let mut head = [0; CHUNK_HEAD];
        self.read(&mut head, self.at)?;
        let mut fields = head.as_slice();
        let (len, count) = (fields.get_u32(), fields.get_u32());
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let left = self.header.body - self.at;
        let total = (len as u64).saturating_add((CHUNK_HEAD + CHUNK_TAIL) as u64);
        // Compared before anything is allocated.
        if len > MAX_CHUNK || total > left || count == 0 {
            return Err(self.damaged("chunk length is impossible"));
        }
        payload.resize(len + CHUNK_TAIL, 0);
        self.read(payload, self.at + CHUNK_HEAD as u64)?;
        let stored = payload.split_off(len);
        let chain = crc32c::crc32c_append(self.chain, &head);
        let chain = crc32c::crc32c_append(chain, payload);
        if stored != chain.to_be_bytes() {
            return Err(self.damaged("chunk checksum does not match"));
        }
        self.pending = (chain, total);
        Ok(Some(count))
    }

    /// The chunk just read is right, its entries, too.
    fn accept(&mut self, count: u32) {
        let (chain, total) = self.pending;
        self.chain = chain;
        self.chunks += 1;
        self.entries += u64::from(count);
        self.at += total;
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let read = self.file.read_exact_at(buf, BLOCK as u64 + at);
        read.map_err(|e| read_error(&self.path, e))
    }

    fn damaged(&self, what: &str) -> StoreError {
        let offset = BLOCK as u64 + self.at;
        corrupt(&self.path, format_args!("offset {offset}: {what}"))
    }
}

fn read_error(path: &Path, e: io::Error) -> StoreError {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        corrupt(path, "image is cut short")
    } else {
        io_error("read", path)(e)
    }
}
