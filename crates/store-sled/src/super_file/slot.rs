//! One slot of the super file.
//!
//! ```text
//!   0  magic "RSGSUP\0\1"  8 bytes
//!   8  generation          u64   the higher valid one counts
//!  16  store id            16 bytes
//!  32  boot id             16 bytes of the boot that wrote it; zeros when unknown
//!  48  high-water          u64   highest sequence known to be durable
//!  56  flags               u8    1 = closed cleanly
//!  57  images              u8    how many follow, at most 8
//!  58  zeros
//!  64  per image           begin u64, end u64; newest first
//! 192  zeros
//! 508  checksum            u32   crc32c of bytes 0..508
//! ```

use bytes::{Buf, BufMut};

/// One sector: written whole or, after a power loss, at worst damaged alone.
pub(crate) const SLOT_LEN: usize = 512;
/// Slots are this far apart, so that no page holds both.
pub(crate) const SLOT_DISTANCE: u64 = 4096;
/// How many images a slot has room for.
pub(crate) const MAX_IMAGES: usize = 8;

const MAGIC: [u8; 8] = *b"RSGSUP\0\x01";
const CHECKED: usize = SLOT_LEN - 4;
const CLEAN: u8 = 1;

/// The span of sequences in which an image was dumped; valid with the log from `begin + 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageSpan {
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// What the super file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) generation: u64,
    pub(crate) store_id: [u8; 16],
    pub(crate) boot_id: [u8; 16],
    pub(crate) high_water: u64,
    pub(crate) clean: bool,
    images: [ImageSpan; MAX_IMAGES],
    image_count: u8,
}

impl Slot {
    /// Of a store that has nothing yet.
    pub(crate) fn new(store_id: [u8; 16]) -> Self {
        Self { store_id, ..Self::default() }
    }

    pub(crate) fn images(&self) -> &[ImageSpan] {
        self.images.get(..usize::from(self.image_count)).unwrap_or_default()
    }

    /// Keeps the first eight.
    pub(crate) fn set_images(&mut self, newest_first: impl IntoIterator<Item = ImageSpan>) {
        self.images = [ImageSpan::default(); MAX_IMAGES];
        self.image_count = 0;
        for (slot, span) in self.images.iter_mut().zip(newest_first) {
            *slot = span;
            self.image_count += 1;
        }
    }

    pub(crate) fn encode(&self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&MAGIC);
        out.put_u64(self.generation);
        out.put_slice(&self.store_id);
        out.put_slice(&self.boot_id);
        out.put_u64(self.high_water);
        out.put_u8(if self.clean { CLEAN } else { 0 });
        out.put_u8(self.image_count);
        out.put_bytes(0, 6);
        for image in &self.images {
            out.put_u64(image.begin);
            out.put_u64(image.end);
        }
        let crc = crc32c::crc32c(checked(&bytes));
        if let Some(field) = bytes.last_chunk_mut() {
            *field = crc.to_be_bytes();
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SLOT_LEN]) -> Result<Self, &'static str> {
        let mut from = bytes.as_slice();
        if !from.starts_with(&MAGIC) {
            return Err("no super slot of this format version");
        }
        if bytes.last_chunk() != Some(&crc32c::crc32c(checked(bytes)).to_be_bytes()) {
            return Err("super slot checksum does not match");
        }
        from.advance(MAGIC.len());
        let mut slot = Self { generation: from.get_u64(), ..Self::default() };
        from.copy_to_slice(&mut slot.store_id);
        from.copy_to_slice(&mut slot.boot_id);
        slot.high_water = from.get_u64();
        let flags = from.get_u8();
        slot.clean = flags == CLEAN;
        slot.image_count = from.get_u8();
        from.advance(6);
        for image in &mut slot.images {
            *image = ImageSpan { begin: from.get_u64(), end: from.get_u64() };
        }
        if flags > CLEAN || usize::from(slot.image_count) > MAX_IMAGES {
            return Err("super slot holds impossible values");
        }
        Ok(slot)
    }
}

fn checked(bytes: &[u8; SLOT_LEN]) -> &[u8] {
    bytes.get(..CHECKED).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        let mut slot = Slot {
            generation: 7,
            store_id: *b"0123456789abcdef",
            boot_id: *b"fedcba9876543210",
            high_water: 99,
            clean: true,
            ..Slot::default()
        };
        slot.set_images([ImageSpan { begin: 5, end: 6 }, ImageSpan { begin: 1, end: 2 }]);
        slot
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = slot().encode();
        assert_eq!(Slot::decode(&bytes), Ok(slot()));
        assert_eq!(slot().images().len(), 2);
        for bit in 0..SLOT_LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn impossible_values_are_refused_though_the_checksum_holds() {
        let mut bad = slot();
        bad.image_count = 9;
        assert!(Slot::decode(&bad.encode()).is_err());
    }

    #[test]
    fn only_the_newest_eight_images_are_listed() {
        let mut many = slot();
        many.set_images((0..20).map(|n| ImageSpan { begin: n, end: n }));
        assert_eq!(many.images().len(), MAX_IMAGES);
        assert_eq!(Slot::decode(&many.encode()), Ok(many));
    }
}
