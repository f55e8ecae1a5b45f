//! A page: the records of one commit, framed, checked and chained.
//!
//! Layout, inside the record envelope, big-endian: `[version u8][flags u8 = 0][count u32][first u64]
//! [prev_end u64][digest of the previous page, 16]`, then per record
//! `[len u32][payload][crc32c of len and payload, u32]`. The digest of a page is the XXH3-128 of all
//! of this. `prev_end` is one after the last record of the previous page; it is below `first` only
//! where numbers were given up.

use bytes::{Buf, Bytes};
use resurge_store::{Key, Record};

use crate::keys::Keys;
use crate::{Damage, DamageKind};

const VERSION: u8 = 1;
/// Framing in front of the records, in bytes.
pub(crate) const HEADER: usize = 38;
/// Framing of one record, in bytes.
pub(crate) const PER_RECORD: usize = 8;
/// The record envelope around it all, in bytes.
pub(crate) const ENVELOPE: usize = 8;

/// XXH3-128. Against accidents, not against forgers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(twox_hash::XxHash3_128::oneshot(bytes).to_be_bytes())
    }
}

/// Frames one record whose payload was appended to `out` from `start + 4` on.
///
/// `false` when its length does not fit.
pub(crate) fn close_record(out: &mut Vec<u8>, start: usize) -> bool {
    let len = out.len().saturating_sub(start + 4);
    let (Ok(len), Some(slot)) = (u32::try_from(len), out.get_mut(start..start + 4)) else {
        return false;
    };
    slot.copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_be_bytes());
    true
}

/// Where a page stands in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) prev_end: u64,
    pub(crate) prev: Digest,
}

impl Framing {
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// Fills in the header that was left blank in front of the records, and digests the whole.
    pub(crate) fn seal(&self, page: &mut [u8]) -> Digest {
        let mut header = [0; HEADER];
        let mut rest = header.as_mut_slice();
        for part in [
            [VERSION, 0].as_slice(),
            &self.count.to_be_bytes(),
            &self.first.to_be_bytes(),
            &self.prev_end.to_be_bytes(),
            &self.prev.0,
        ] {
            let (to, after) = rest.split_at_mut(part.len().min(rest.len()));
            to.copy_from_slice(part);
            rest = after;
        }
        if let Some(to) = page.get_mut(..HEADER) {
            to.copy_from_slice(&header);
        }
        Digest::of(page)
    }
}

/// A page as read and found intact.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) framing: Framing,
    pub(crate) digest: Digest,
    /// As stored, in bytes.
    pub(crate) stored_bytes: usize,
    /// The framed records.
    pub(crate) records: Bytes,
}

impl Page {
    /// Checks everything that can be checked without its neighbours.
    pub(crate) fn decode(keys: &Keys, key: &Key, stored: &Bytes) -> Result<Self, Damage> {
        let at = keys.first_of(key).unwrap_or_default();
        let bad = |kind, lsn| keys.damage(kind, lsn, key.clone());
        let Ok(record) = Record::decode(key, stored) else {
            return Err(locate(keys, key, at, stored));
        };
        let body = record.into_payload();
        let framing = parse_header(&body).filter(|f| f.first == at && f.prev_end <= f.first);
        let framing = framing.ok_or_else(|| bad(DamageKind::PageUnreadable, at))?;
        let records = body.slice(HEADER..);
        let mut rest = records.clone();
        for i in 0..u64::from(framing.count) {
            take(&mut rest).ok_or_else(|| bad(DamageKind::RecordUnreadable, at + i))?;
        }
        if !rest.is_empty() || framing.first.checked_add(u64::from(framing.count)).is_none() {
            return Err(bad(DamageKind::PageUnreadable, at));
        }
        let digest = Digest::of(&body);
        Ok(Self { framing, digest, stored_bytes: stored.len(), records })
    }

    /// Its records in order, each with its number.
    pub(crate) fn into_records(self) -> Records {
        Records { next: self.framing.first, rest: self.records }
    }
}

/// The records of a page found intact.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    next: u64,
    rest: Bytes,
}

impl Iterator for Records {
    type Item = (u64, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        // INVARIANT: `Page::decode` took every one of them before.
        let payload = take(&mut self.rest)?;
        let lsn = self.next;
        self.next = lsn.saturating_add(1);
        Some((lsn, payload))
    }
}

/// Takes one record off the front, if it is whole and passes its checksum.
fn take(rest: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(u32::from_be_bytes(*rest.first_chunk::<4>()?)).ok()?;
    let framed = len.checked_add(4)?;
    let crc = rest.get(framed..framed.checked_add(4)?)?;
    let crc = u32::from_be_bytes(crc.try_into().ok()?);
    if crc32c::crc32c(rest.get(..framed)?) != crc {
        return None;
    }
    let mut record = rest.split_to(framed);
    rest.advance(4);
    record.advance(4);
    Some(record)
}

fn parse_header(body: &Bytes) -> Option<Framing> {
    let mut header = body.get(..HEADER)?;
    if header.get_u8() != VERSION || header.get_u8() != 0 {
        return None;
    }
    let (count, first, prev_end) = (header.get_u32(), header.get_u64(), header.get_u64());
    let prev = Digest(header.try_into().ok()?);
    // A count that the bytes cannot hold is not believed.
    let fits = usize::try_from(count).ok()? <= (body.len() - HEADER) / PER_RECORD;
    (count > 0 && fits).then_some(Framing { first, count, prev_end, prev })
}

/// The page fails its checksum: which record is it, if it is one?
fn locate(keys: &Keys, key: &Key, at: u64, stored: &Bytes) -> Damage {
    let body = stored.get(4..stored.len().saturating_sub(4)).map(|body| stored.slice_ref(body));
    let unreadable = keys.damage(DamageKind::PageUnreadable, at, key.clone());
    let Some(body) = body else { return unreadable };
    let Some(framing) = parse_header(&body).filter(|f| f.first == at) else { return unreadable };
    let mut rest = body.slice(HEADER..);
    let bad = (0..u64::from(framing.count)).find(|_| take(&mut rest).is_none());
    match bad {
        Some(i) => keys.damage(DamageKind::RecordUnreadable, at + i, key.clone()),
        None => unreadable,
    }
}
