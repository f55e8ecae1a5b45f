//! A serialised state as a stream of chunks between a blocking thread and the async side.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use twox_hash::XxHash3_128;

/// How many chunks wait between the two sides; with one in each hand this bounds the memory.
const WAITING: usize = 2;

pub(crate) fn channel() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(WAITING)
}

/// What was written in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) chunks: u32,
    pub(crate) digest: u128,
}

/// Cuts what is written into chunks. Refuses to write more than its limit.
pub(crate) struct ChunkWriter {
    to: mpsc::Sender<Bytes>,
    chunk_bytes: usize,
    limit: u64,
    buffer: Vec<u8>,
    bytes: u64,
    chunks: u32,
    hash: XxHash3_128,
}

impl ChunkWriter {
    pub(crate) fn new(to: mpsc::Sender<Bytes>, chunk_bytes: usize, limit: u64) -> Self {
        Self {
            to,
            chunk_bytes,
            limit,
            buffer: Vec::new(),
            bytes: 0,
            chunks: 0,
            hash: XxHash3_128::new(),
        }
    }

    /// Sends what is left.
    pub(crate) fn finish(mut self) -> io::Result<Written> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        Ok(Written { bytes: self.bytes, chunks: self.chunks, digest: self.hash.finish_128() })
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.hash.write(&chunk);
        self.chunks = self
            .chunks
            .checked_add(1)
            .ok_or_else(|| io::Error::other("the state takes more than 2^32 chunks"))?;
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the snapshot was given up");
        self.to.blocking_send(chunk).map_err(gone)
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let n = from.len().min(self.chunk_bytes - self.buffer.len());
        self.bytes += n as u64;
        if self.bytes > self.limit {
            let limit = self.limit;
            return Err(io::Error::other(format!("it takes more than the {limit} bytes allowed")));
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(self.chunk_bytes);
        }
        self.buffer.extend_from_slice(from.get(..n).unwrap_or_default());
        if self.buffer.len() == self.chunk_bytes {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts the chunks together again.
pub(crate) struct ChunkReader {
    from: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl ChunkReader {
    pub(crate) fn new(from: mpsc::Receiver<Bytes>) -> Self {
        Self { from, chunk: Bytes::new() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let n = to.len().min(self.chunk.len());
        if let Some(to) = to.get_mut(..n) {
            self.chunk.copy_to_slice(to);
        }
        Ok(n)
    }
}
