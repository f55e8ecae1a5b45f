//! Reading the frames of one segment, through a window that is at most one frame long.

use std::path::{Path, PathBuf};

use crate::error::{LogError, Result};
use crate::frame::{self, Entries, FrameHeader};
use crate::segment::{self, BLOCK, SegmentHeader};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes read at once when frames are small.
const WINDOW: usize = 256 * 1024;
/// What a long frame leaves behind is given back beyond this.
const KEEP: usize = 4 << 20;

/// A place in a segment where valid data ends, with the reason.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) segment: PathBuf,
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) what: &'static str,
}

impl From<Damage> for LogError {
    fn from(d: Damage) -> Self {
        Self::Corrupt { segment: d.segment, offset: d.offset, seq: d.seq, what: d.what }
    }
}

/// What [`SegmentReader::advance`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Frame(FrameAt),
    /// No valid frame here, and why.
    Stop(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) durable_upto: u64,
}

#[derive(Debug)]
pub(crate) struct SegmentReader {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn VfsFile>,
    pub(crate) header: SegmentHeader,
    /// Where the next frame is expected, its first sequence, its chain value.
    pub(crate) pos: u64,
    pub(crate) seq: u64,
    pub(crate) chain: u32,
    /// Actual length of the file.
    pub(crate) len: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Payload of the last frame, as a range of `window`.
    payload: std::ops::Range<usize>,
}

impl SegmentReader {
    /// Opens the segment with this first sequence. Damage to the header is the inner error.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        dir: &Path,
        first_seq: u64,
        log_id: &[u8; 16],
    ) -> Result<std::result::Result<Self, Damage>> {
        let path = segment::path(dir, first_seq);
        let file = vfs.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let len = file.len().map_err(LogError::io("stat", &path))?;
        let damage = |what| Damage { segment: path.clone(), offset: 0, seq: first_seq, what };
        if len < BLOCK as u64 {
            return Ok(Err(damage("segment header is cut short")));
        }
        let mut block = vec![0; BLOCK];
        file.read_exact_at(&mut block, 0).map_err(LogError::io("read", &path))?;
        let (header, chain) = match SegmentHeader::decode(&block) {
            Ok(decoded) => decoded,
            Err(what) => return Ok(Err(damage(what))),
        };
        if header.log_id != *log_id {
            return Ok(Err(damage("segment belongs to another log")));
        }
        if header.first_seq != first_seq {
            return Ok(Err(damage("segment is named after another sequence")));
        }
        Ok(Ok(Self {
            path,
            file,
            header,
            pos: BLOCK as u64,
            seq: first_seq,
            chain,
            len,
            window: Vec::new(),
            window_at: 0,
            payload: 0..0,
        }))
    }

    /// Where frames end: bytes behind the prepared size are never read.
    pub(crate) fn end(&self) -> u64 {
        self.len.min(self.header.prepared)
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.window.capacity()
    }

    /// Damage at the current place.
    pub(crate) fn damage(&self, what: &'static str) -> Damage {
        Damage { segment: self.path.clone(), offset: self.pos, seq: self.seq, what }
    }

    /// Reads and checks the next frame. Stays where it is on `Stop`.
    pub(crate) fn advance(&mut self) -> Result<Step> {
        let Some(bytes) = self.load(frame::HEADER_LEN)?.and_then(|b| b.first_chunk().copied())
        else {
            return Ok(Step::Stop("segment ends"));
        };
        let header = match FrameHeader::decode(&bytes) {
            Ok(header) => header,
            Err(what) => return Ok(Step::Stop(what)),
        };
        if header.salt != self.header.salt {
            return Ok(Step::Stop("frame of an earlier life of this file"));
        }
        if header.first_seq != self.seq {
            return Ok(Step::Stop("frame with another sequence"));
        }
        if header.chain != self.chain {
            return Ok(Step::Stop("frame does not follow from the one before it"));
        }
        let Some(last_seq) = header.last_seq() else {
            return Ok(Step::Stop("frame without valid sequences"));
        };
        let Ok(total) = usize::try_from(header.frame_len()) else {
            return Ok(Step::Stop("frame longer than the limit"));
        };
        let Some(body) = self.load(total)?.and_then(|b| b.get(frame::HEADER_LEN..)) else {
            return Ok(Step::Stop("frame longer than its segment"));
        };
        let chain = match frame::check_body(&bytes, &header, body) {
            Ok((_, chain)) => chain,
            Err(what) => return Ok(Step::Stop(what)),
        };
        let start = usize::try_from(self.pos - self.window_at).unwrap_or(usize::MAX);
        let start = start.saturating_add(frame::HEADER_LEN);
        self.payload = start..start.saturating_add(header.len as usize);
        let at =
            FrameAt { first_seq: header.first_seq, last_seq, durable_upto: header.durable_upto };
        self.pos += header.frame_len();
        self.seq = last_seq.saturating_add(1);
        self.chain = chain;
        Ok(Step::Frame(at))
    }

    /// The payload of the frame that `advance` returned last.
    pub(crate) fn payload(&self) -> &[u8] {
        self.window.get(self.payload.clone()).unwrap_or_default()
    }

    /// The entry that starts at this offset of the payload, and the offset after it.
    pub(crate) fn entry_at(&self, offset: usize) -> Option<(&[u8], usize)> {
        let entry = Entries::new(self.payload().get(offset..)?).next()?;
        Some((entry, offset + 4 + entry.len()))
    }

    /// The next `n` bytes; `None` when the segment ends before. Never allocates more than the
    /// file is long: `n` is compared with the file first.
    fn load(&mut self, n: usize) -> Result<Option<&[u8]>> {
        let left = self.end().saturating_sub(self.pos);
        if left < n as u64 {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if self.pos < self.window_at || self.pos + n as u64 > window_end {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(WINDOW).max(n);
            if self.window.capacity() > KEEP && want < KEEP {
                self.window = Vec::new();
            }
            if self.window.len() < want {
                self.window = vec![0; want];
            }
            self.window.truncate(want);
            self.window_at = self.pos;
            let read = self.file.read_exact_at(&mut self.window, self.pos);
            read.map_err(LogError::io("read", &self.path))?;
        }
        let start = usize::try_from(self.pos - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(start..).and_then(|w| w.get(..n)))
    }
}

/// What lies between the last valid frame of a segment and its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slack {
    /// End of the last byte that is not zero; 0 when all are.
    pub(crate) used_upto: u64,
    /// The highest `durable_upto` of any later frame of this segment.
    pub(crate) durable_upto: u64,
}

/// Looks through everything from `from` (a multiple of 8) to `reader.end()`.
pub(crate) fn look_ahead(reader: &SegmentReader, from: u64) -> Result<Slack> {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut slack = Slack::default();
    let mut chunk = vec![0; WINDOW];
    let mut at = from;
    while at < reader.end() {
        let n = usize::try_from(reader.end() - at).unwrap_or(WINDOW).min(WINDOW);
        chunk.resize(n, 0);
        reader.file.read_exact_at(&mut chunk, at).map_err(LogError::io("read", &reader.path))?;
        for (block_at, block) in (at..).step_by(BLOCK).zip(chunk.chunks(BLOCK)) {
            if ZEROS.get(..block.len()) == Some(block) {
                continue;
            }
            for (word_at, word) in (block_at..).step_by(8).zip(block.chunks(8)) {
                if word.iter().all(|b| *b == 0) {
                    continue;
                }
                slack.used_upto = word_at + word.len() as u64;
                if word.starts_with(&frame::MAGIC)
                    && let Some(durable_upto) = claim(reader, word_at)?
                {
                    slack.durable_upto = slack.durable_upto.max(durable_upto);
                }
            }
        }
        at += n as u64;
    }
    Ok(slack)
}

/// What a frame header at this place says was durable when it was written. The header alone is
/// proof enough: it has the segment's salt and a checksum of its own, and it was written after
/// the sync it speaks of, even if its payload was torn later.
fn claim(reader: &SegmentReader, at: u64) -> Result<Option<u64>> {
    if reader.end().saturating_sub(at) < frame::HEADER_LEN as u64 {
        return Ok(None);
    }
    let mut bytes = [0; frame::HEADER_LEN];
    reader.file.read_exact_at(&mut bytes, at).map_err(LogError::io("read", &reader.path))?;
    Ok(FrameHeader::decode(&bytes)
        .ok()
        .filter(|h| h.salt == reader.header.salt)
        .map(|h| h.durable_upto))
}
