//! What is known about a snapshot without reading it.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use resurge_store::{Codec, Timestamp};

const FORMAT: u8 = 1;

/// The number of a snapshot, unique under its name for ever, larger for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub u64);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A snapshot as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its number.
    pub id: SnapshotId,
    /// What the state covers, for example the lsn of the last applied record.
    pub position: u64,
    /// When it was taken.
    pub created_at: Timestamp,
    /// The version of the state's type.
    pub schema_version: u32,
    /// How the state is serialised.
    pub codec: Codec,
    /// The length of the serialised state.
    pub bytes: u64,
    /// In how many chunks it is stored.
    pub chunks: u32,
    /// How many items the state held, where the options count them.
    pub items: Option<u64>,
    /// XXH3-128 over the serialised state.
    pub digest: u128,
}

/// A snapshot that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damaged {
    /// Its number.
    pub id: SnapshotId,
    /// What is wrong with it.
    pub what: String,
}

/// The snapshots under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// Those with an intact manifest, newest first. Their chunks were not read.
    pub snapshots: Vec<SnapshotInfo>,
    /// Those with a damaged manifest.
    pub damaged: Vec<Damaged>,
}

impl SnapshotInfo {
    /// Newest is what covers most; between equals, what was taken last.
    pub(crate) fn order(&self) -> (u64, SnapshotId) {
        (self.position, self.id)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(FORMAT);
        out.put_u8(match self.codec {
            Codec::Json => 2,
            _ => 1,
        });
        out.put_u32(self.schema_version);
        out.put_u64(self.position);
        out.put_u64(self.created_at.as_millis());
        out.put_u64(self.bytes);
        out.put_u32(self.chunks);
        out.put_u128(self.digest);
        if let Some(items) = self.items {
            out.put_u64(items);
        }
        out.freeze()
    }

    /// The reverse of [`encode`](Self::encode); says what is wrong otherwise.
    pub(crate) fn decode(id: SnapshotId, mut from: Bytes) -> Result<Self, String> {
        let short = |_| "the manifest is cut short".to_owned();
        match from.try_get_u8().map_err(short)? {
            FORMAT => {}
            other => return Err(format!("manifest format {other} is unknown to this build")),
        }
        let codec = match from.try_get_u8().map_err(short)? {
            1 => Codec::Cbor,
            2 => Codec::Json,
            other => return Err(format!("codec {other} is unknown to this build")),
        };
        Ok(Self {
            id,
            codec,
            schema_version: from.try_get_u32().map_err(short)?,
            position: from.try_get_u64().map_err(short)?,
            created_at: Timestamp::from_millis(from.try_get_u64().map_err(short)?),
            bytes: from.try_get_u64().map_err(short)?,
            chunks: from.try_get_u32().map_err(short)?,
            digest: from.try_get_u128().map_err(short)?,
            items: match from.len() {
                0 => None,
                8 => Some(from.get_u64()),
                _ => return Err("the manifest has bytes left over".to_owned()),
            },
        })
    }
}
