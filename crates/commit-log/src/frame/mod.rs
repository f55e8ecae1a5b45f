//! Frames: what one append writes.
//!
//! ```text
//!  0  magic "RSGF"      u32
//!  4  version           u16
//!  6  kind              u8    1 = entries
//!  7  flags             u8    0
//!  8  payload length    u32
//! 12  count of entries  u32
//! 16  first sequence    u64
//! 24  durable_upto      u64   highest sequence known to be synced when this was written
//! 32  salt              u64   of the segment
//! 40  chain             u32   trailer of the previous frame, or checksum of the segment header
//! 44  header checksum   u32   crc32c of bytes 0..44
//! 48  payload                 count times: length u32, bytes
//!     zeros                   so that the frame ends on a multiple of 8
//!     trailer           u32   crc32c of payload, zeros and header bytes 0..44
//! ```

mod builder;
mod header;
#[cfg(test)]
mod tests;

pub use builder::Frame;
pub(crate) use header::{Entries, FrameHeader, check_body, padded_len};

/// Longest entry, in bytes: 64 MiB.
pub const MAX_ENTRY: usize = 64 << 20;

/// Longest payload of a frame, in bytes: its entries and 4 bytes for each. A mebibyte more than
/// one entry of the longest kind.
pub const MAX_FRAME: usize = MAX_ENTRY + (1 << 20);

pub(crate) const MAGIC: [u8; 4] = *b"RSGF";
pub(crate) const HEADER_LEN: usize = 48;
pub(crate) const TRAILER_LEN: usize = 4;
