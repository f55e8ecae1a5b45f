//! The head of a log: where it begins and ends, and who may write. Changed with every page.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use resurge_store::{Guard, Record};

use crate::keys::Keys;
use crate::page::Digest;
use crate::{Damage, DamageKind};

const VERSION: u8 = 1;
const FLAG_CLEANING: u8 = 1;
/// The encoded size, in bytes.
const LEN: usize = 2 + 8 * 8 + 16;

/// Layout, inside the record envelope, big-endian: `[version u8][flags u8][epoch u64][owner u64]
/// [revision u64][first_lsn u64][first_page u64][last_page u64][end u64][next u64][digest 16]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Pages outside `first_page..=last_page` may still be there and must go before the next page is written.
    pub(crate) cleaning: bool,
    /// One more with every writer that takes over.
    pub(crate) epoch: u64,
    /// Random, so that two writers never share an epoch.
    pub(crate) owner: u64,
    /// One more with every head this writer makes, also of those that failed: no two are equal, so a
    /// guard for one never holds for another.
    pub(crate) revision: u64,
    /// The oldest record that readers are shown.
    pub(crate) first_lsn: u64,
    /// Pages that begin before it are gone. A page begins here, or the next one will.
    pub(crate) first_page: u64,
    /// Where the last page begins; below `first_page` when there is none.
    pub(crate) last_page: u64,
    /// One after the last record.
    pub(crate) end: u64,
    /// The next number to give; above `end` after numbers were given up.
    pub(crate) next: u64,
    /// Of the last page ever written: what the next one chains on.
    pub(crate) digest: Digest,
}

impl Head {
    /// Of a log without records.
    pub(crate) fn genesis(keys: &Keys) -> Self {
        Self {
            cleaning: false,
            epoch: 0,
            owner: 0,
            revision: 0,
            first_lsn: 1,
            first_page: 1,
            last_page: 0,
            end: 1,
            next: 1,
            digest: Digest::of(keys.name.as_bytes()),
        }
    }

    pub(crate) fn has_pages(&self) -> bool {
        self.last_page >= self.first_page
    }

    /// No page begins here or later.
    pub(crate) fn beyond(&self) -> u64 {
        self.first_page.max(self.last_page.saturating_add(1))
    }

    pub(crate) fn encode(&self, keys: &Keys) -> Bytes {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u8(VERSION);
        out.put_u8(if self.cleaning { FLAG_CLEANING } else { 0 });
        for n in [
            self.epoch,
            self.owner,
            self.revision,
            self.first_lsn,
            self.first_page,
            self.last_page,
            self.end,
            self.next,
        ] {
            out.put_u64(n);
        }
        out.put_slice(&self.digest.0);
        Record::new(out.freeze()).encode(&keys.head)
    }

    pub(crate) fn decode(keys: &Keys, stored: &Bytes) -> Result<Self, Damage> {
        Self::parse(keys, stored)
            .ok_or_else(|| keys.damage(DamageKind::HeadUnreadable, 1, keys.head.clone()))
    }

    fn parse(keys: &Keys, stored: &Bytes) -> Option<Self> {
        let mut body = Record::decode(&keys.head, stored).ok()?.into_payload();
        if body.len() != LEN || body.get_u8() != VERSION {
            return None;
        }
        let cleaning = match body.get_u8() {
            0 => false,
            FLAG_CLEANING => true,
            _ => return None,
        };
        let head = Self {
            cleaning,
            epoch: body.get_u64(),
            owner: body.get_u64(),
            revision: body.get_u64(),
            first_lsn: body.get_u64(),
            first_page: body.get_u64(),
            last_page: body.get_u64(),
            end: body.get_u64(),
            next: body.get_u64(),
            digest: Digest(body.as_ref().try_into().ok()?),
        };
        let ordered = head.first_page >= 1
            && head.first_page <= head.first_lsn
            && head.first_page <= head.end
            && head.last_page < head.end
            && head.end <= head.next
            && head.first_lsn <= head.next;
        ordered.then_some(head)
    }
}

/// A head together with what the store holds for it, the thing the next head must guard.
#[derive(Clone, Debug)]
pub(crate) struct Tip {
    pub(crate) head: Head,
    /// `None` before anything was stored.
    pub(crate) stored: Option<Bytes>,
}

impl Tip {
    pub(crate) fn guard(&self) -> Guard {
        Guard::of(self.stored.clone())
    }
}
