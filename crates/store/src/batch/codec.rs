//! The bytes of a batch's effects, as engines log them. Guards are not effects and not encoded.
//!
//! `[op count u32]` then per operation `[tag u8][key len u16][raw key]` and, for a put,
//! `[value len u32][value]`. Integrity is the log's business: what arrives here passed its checksum.

use bytes::{Buf, BufMut, Bytes};

use super::{Batch, MAX_VALUE_BYTES, Op};
use crate::{ErrorKind, Key, Result, StoreError};

const TAG_DELETE: u8 = 0;
const TAG_PUT: u8 = 1;

impl Batch {
    /// Appends the encoded operations to `out`.
    ///
    /// ```
    /// use resurge_store::{Batch, Namespace};
    /// let ns = Namespace::new("app")?;
    /// let mut batch = Batch::new();
    /// batch.put(ns.key("k")?, "v").delete(ns.key("old")?);
    /// let mut bytes = Vec::new();
    /// batch.encode_ops(&mut bytes);
    /// assert_eq!(Batch::decode_ops(bytes.into())?, batch);
    /// # Ok::<(), resurge_store::StoreError>(())
    /// ```
    pub fn encode_ops(&self, out: &mut Vec<u8>) {
        // INVARIANT: `validate` bounds all three lengths far below their integer's range.
        out.put_u32(u32::try_from(self.ops().len()).unwrap_or(u32::MAX));
        for op in self.ops() {
            let key = op.key().raw();
            out.put_u8(if matches!(op, Op::Put { .. }) { TAG_PUT } else { TAG_DELETE });
            out.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
            out.put_slice(key);
            if let Some(value) = op.value() {
                out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.put_slice(value);
            }
        }
    }

    /// Reads back what [`encode_ops`](Self::encode_ops) wrote. Values share `bytes`, nothing is copied.
    ///
    /// # Errors
    /// `Corrupt` for anything else, without allocating what a length claims.
    pub fn decode_ops(mut bytes: Bytes) -> Result<Self> {
        let bad = |what: &str| StoreError::new(ErrorKind::Corrupt, format!("batch: {what}"));
        let count = bytes.try_get_u32().map_err(|_| bad("no operation count"))?;
        let mut batch = Self::new();
        for _ in 0..count {
            let tag = bytes.try_get_u8().map_err(|_| bad("operation cut short"))?;
            let len = usize::from(bytes.try_get_u16().map_err(|_| bad("key length cut short"))?);
            if len > bytes.len() {
                return Err(bad("key longer than what is left"));
            }
            let key = Key::from_raw(bytes.split_to(len)).map_err(|_| bad("not a key"))?;
            match tag {
                TAG_DELETE => batch.delete(key),
                TAG_PUT => {
                    let len = bytes.try_get_u32().map_err(|_| bad("value length cut short"))?;
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    if len > bytes.len() || len > MAX_VALUE_BYTES {
                        return Err(bad("value longer than what is left or allowed"));
                    }
                    batch.put(key, bytes.split_to(len))
                }
                _ => return Err(bad("unknown operation tag")),
            };
        }
        if bytes.is_empty() { Ok(batch) } else { Err(bad("bytes after the last operation")) }
    }
}
