//! Building a frame in one reused buffer.

use super::header::{FrameHeader, padded_len, trailer};
use super::{HEADER_LEN, MAX_ENTRY, MAX_FRAME, TRAILER_LEN};
use crate::error::{LogError, Result};

/// A frame being built: the entries that one [`Log::append`](crate::Log::append) writes, all or
/// nothing. Keeps its buffer when cleared; entries are encoded where they will be written from.
///
/// ```
/// # use resurge_commit_log::Frame;
/// let mut frame = Frame::new();
/// frame.push(b"ready made")?;
/// frame.entry(|buf| buf.extend_from_slice(b"encoded in place"))?;
/// assert_eq!(frame.count(), 2);
/// # Ok::<(), resurge_commit_log::LogError>(())
/// ```
#[derive(Debug)]
pub struct Frame {
    /// Room for the header, then the payload; zeros and trailer too once sealed.
    buf: Vec<u8>,
    payload: usize,
    count: u32,
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// An empty frame.
    pub fn new() -> Self {
        Self { buf: vec![0; HEADER_LEN], payload: 0, count: 0 }
    }

    /// Adds a copy of `bytes` as one entry.
    ///
    /// `TooLarge` when the entry exceeds [`MAX_ENTRY`] or the frame would exceed [`MAX_FRAME`];
    /// the frame is unchanged then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.check(bytes.len())?;
        self.unseal();
        let len = u32::try_from(bytes.len()).map_err(|_| too_large(bytes.len(), MAX_ENTRY))?;
        self.buf.extend_from_slice(&len.to_be_bytes());
        self.buf.extend_from_slice(bytes);
        self.payload += 4 + bytes.len();
        self.count += 1;
        Ok(())
    }

    /// Adds one entry: what `encode` appends to the buffer it is given, which holds the earlier
    /// entries too, so `encode` may only append.
    ///
    /// `TooLarge` as for [`push`](Self::push), the entry is taken back. `Invalid` when `encode`
    /// shortened the buffer; the frame is empty then.
    pub fn entry<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> Result<R> {
        self.check(0)?;
        self.unseal();
        let prefix = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        let start = prefix + 4;
        let out = encode(&mut self.buf);
        let Some(len) = self.buf.len().checked_sub(start) else {
            self.clear();
            return Err(LogError::Invalid { what: "the encoder shortened the frame" });
        };
        if let Err(e) = self.check(len) {
            self.buf.truncate(prefix);
            return Err(e);
        }
        let len32 = u32::try_from(len).map_err(|_| too_large(len, MAX_ENTRY))?;
        if let Some(field) = self.buf.get_mut(prefix..start) {
            field.copy_from_slice(&len32.to_be_bytes());
        }
        self.payload += 4 + len;
        self.count += 1;
        Ok(out)
    }

    /// Would an entry of `len` bytes still fit?
    pub fn fits(&self, len: usize) -> bool {
        self.check(len).is_ok()
    }

    /// Number of entries.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// No entry yet?
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all entries and their length prefixes.
    pub fn payload_len(&self) -> usize {
        self.payload
    }

    /// Removes all entries and keeps the buffer.
    pub fn clear(&mut self) {
        self.buf.truncate(HEADER_LEN);
        self.buf.resize(HEADER_LEN, 0);
        self.payload = 0;
        self.count = 0;
    }

    /// Gives memory back when the buffer grew beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.buf.shrink_to(bytes);
    }

    /// Length on disk.
    pub(crate) fn sealed_len(&self) -> u64 {
        (HEADER_LEN + padded_len(self.payload)) as u64
    }

    /// Writes header, zeros and trailer around the payload. Returns the bytes to write and the
    /// chain value for the next frame.
    pub(crate) fn seal(
        &mut self,
        first_seq: u64,
        durable_upto: u64,
        salt: u64,
        chain: u32,
    ) -> Result<(&[u8], u32)> {
        self.unseal();
        let len = u32::try_from(self.payload).map_err(|_| too_large(self.payload, MAX_FRAME))?;
        let header = FrameHeader { len, count: self.count, first_seq, durable_upto, salt, chain };
        let header = header.encode();
        self.buf.resize(HEADER_LEN + padded_len(self.payload) - TRAILER_LEN, 0);
        let Some((front, body)) = self.buf.split_first_chunk_mut() else {
            return Err(LogError::Invalid { what: "the encoder shortened the frame" });
        };
        *front = header;
        let crc = trailer(&header, body);
        self.buf.extend_from_slice(&crc.to_be_bytes());
        Ok((&self.buf, crc))
    }

    fn unseal(&mut self) {
        self.buf.truncate(HEADER_LEN + self.payload);
    }

    fn check(&self, len: usize) -> Result<()> {
        if len > MAX_ENTRY {
            return Err(too_large(len, MAX_ENTRY));
        }
        let total = self.payload.saturating_add(len).saturating_add(4);
        if total > MAX_FRAME || self.count == u32::MAX {
            return Err(too_large(total, MAX_FRAME));
        }
        Ok(())
    }
}

fn too_large(len: usize, limit: usize) -> LogError {
    LogError::TooLarge { len: len as u64, limit: limit as u64 }
}
