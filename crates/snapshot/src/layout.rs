//! Which key holds what. `docs/format.md` describes the same for readers of the disk.

use resurge_store::{Key, KeyRange, Namespace};

use crate::{Result, SnapshotError, SnapshotId};

const NAMESPACE: &str = "resurge/snapshot";
const MAX_NAME_LEN: usize = 200;

const HEAD: u8 = 0;
const MARKER: u8 = 1;
const MANIFEST: u8 = 2;
const CHUNK: u8 = 3;

/// The keys of one name: `[name length u8][name][kind u8]`, then the id u64 and the chunk's index u32
/// where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    namespace: Namespace,
    prefix: Vec<u8>,
}

impl Layout {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let fits = u8::try_from(name.len()).ok().filter(|n| usize::from(*n) <= MAX_NAME_LEN);
        let Some(len) = fits.filter(|n| *n > 0) else {
            return Err(SnapshotError::Invalid(format!(
                "the name `{name}` has {} bytes; 1 to {MAX_NAME_LEN} are allowed",
                name.len()
            )));
        };
        let mut prefix = vec![len];
        prefix.extend_from_slice(name.as_bytes());
        Ok(Self { namespace: Namespace::new(NAMESPACE)?, prefix })
    }

    fn bytes(&self, kind: u8, id: Option<SnapshotId>, index: Option<u32>) -> Vec<u8> {
        let mut bytes = self.prefix.clone();
        bytes.push(kind);
        bytes.extend(id.iter().flat_map(|id| id.0.to_be_bytes()));
        bytes.extend(index.iter().flat_map(|index| index.to_be_bytes()));
        bytes
    }

    fn key(&self, kind: u8, id: Option<SnapshotId>, index: Option<u32>) -> Result<Key> {
        Ok(self.namespace.key(self.bytes(kind, id, index))?)
    }

    /// Holds the next id.
    pub(crate) fn head(&self) -> Result<Key> {
        self.key(HEAD, None, None)
    }

    /// Present while the snapshot is being taken. Whoever deletes it decides what becomes of it.
    pub(crate) fn marker(&self, id: SnapshotId) -> Result<Key> {
        self.key(MARKER, Some(id), None)
    }

    pub(crate) fn manifest(&self, id: SnapshotId) -> Result<Key> {
        self.key(MANIFEST, Some(id), None)
    }

    pub(crate) fn chunk(&self, id: SnapshotId, index: u32) -> Result<Key> {
        self.key(CHUNK, Some(id), Some(index))
    }

    pub(crate) fn markers(&self) -> KeyRange {
        self.namespace.prefix(self.bytes(MARKER, None, None))
    }

    pub(crate) fn manifests(&self) -> KeyRange {
        self.namespace.prefix(self.bytes(MANIFEST, None, None))
    }

    pub(crate) fn chunks(&self, id: SnapshotId) -> KeyRange {
        self.namespace.prefix(self.bytes(CHUNK, Some(id), None))
    }

    /// Every chunk of a snapshot with this id or a later one.
    pub(crate) fn chunks_from(&self, id: SnapshotId) -> KeyRange {
        let from = self.bytes(CHUNK, Some(id), None);
        let to = self.bytes(CHUNK + 1, None, None);
        self.namespace.range(from.as_slice()..to.as_slice())
    }

    /// Every key after those of this name.
    pub(crate) fn after(&self) -> KeyRange {
        let mut from = self.prefix.clone();
        from.push(u8::MAX);
        self.namespace.range(from.as_slice()..)
    }

    /// The id and, for a chunk, its index. `None` for a key nobody here writes.
    pub(crate) fn parse(&self, key: &Key) -> Option<(SnapshotId, Option<u32>)> {
        let rest = key.bytes().strip_prefix(self.prefix.as_slice())?;
        let (id, index) = rest.get(1..)?.split_first_chunk()?;
        let id = SnapshotId(u64::from_be_bytes(*id));
        match index {
            [] => Some((id, None)),
            index => Some((id, Some(u32::from_be_bytes(index.try_into().ok()?)))),
        }
    }
}

/// Every key of every name.
pub(crate) fn all() -> Result<KeyRange> {
    Ok(Namespace::new(NAMESPACE)?.all())
}

/// The name in a key of the namespace.
pub(crate) fn name_of(key: &Key) -> Option<&str> {
    let (len, rest) = key.bytes().split_first()?;
    std::str::from_utf8(rest.get(..usize::from(*len))?).ok()
}
