//! How snapshots of one name are taken and read.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use resurge_store::Codec;

use crate::{OldState, Result, SnapshotError};

const MAX_CHUNK_BYTES: usize = 8 << 20;

pub(crate) type Migrate<S> =
    Arc<dyn Fn(u32, OldState) -> Result<S, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// How snapshots are taken and read. The defaults are those of [`new`](Self::new).
///
/// ```
/// use resurge_snapshot::SnapshotOptions;
/// // Version 1 was a plain number; version 2 has a name beside it.
/// let options = SnapshotOptions::<(String, u64)>::new()
///     .retain(3)
///     .schema_version(2)
///     .migrate(|from, old| match from {
///         1 => Ok(("unnamed".to_owned(), old.decode::<u64>()?)),
///         other => Err(format!("version {other} was never released").into()),
///     });
/// # let _ = options;
/// ```
pub struct SnapshotOptions<S> {
    pub(crate) retain: usize,
    pub(crate) chunk_bytes: usize,
    pub(crate) max_bytes: u64,
    pub(crate) codec: Codec,
    pub(crate) schema_version: u32,
    pub(crate) migrate: Option<Migrate<S>>,
    pub(crate) items: Option<fn(&S) -> u64>,
}

impl<S> SnapshotOptions<S> {
    /// Keep 5, chunks of 256 KiB, states up to 4 GiB, CBOR, schema version 1, no migration, items not
    /// counted.
    pub fn new() -> Self {
        Self {
            retain: 5,
            chunk_bytes: 256 << 10,
            max_bytes: 4 << 30,
            codec: Codec::Cbor,
            schema_version: 1,
            migrate: None,
            items: None,
        }
    }

    /// Keep this many valid snapshots, at least 1.
    #[must_use]
    pub fn retain(mut self, n: usize) -> Self {
        self.retain = n;
        self
    }

    /// Store the state in pieces of this size, 1 byte to 8 MiB. Smaller ones cost more keys, larger
    /// ones more memory.
    #[must_use]
    pub fn chunk_bytes(mut self, n: usize) -> Self {
        self.chunk_bytes = n;
        self
    }

    /// Neither write nor read a serialised state larger than this.
    #[must_use]
    pub fn max_bytes(mut self, n: u64) -> Self {
        self.max_bytes = n;
        self
    }

    /// How new snapshots are serialised. Old ones are read as they were written.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The version of the state's type. Raise it when old bytes no longer decode as it, and say
    /// in [`migrate`](Self::migrate) how to read those.
    #[must_use]
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    /// How a state of an older schema version becomes one of today's. It is called on a blocking
    /// thread, with the old version.
    #[must_use]
    pub fn migrate(
        mut self,
        migrate: impl Fn(u32, OldState) -> Result<S, Box<dyn Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.migrate = Some(Arc::new(migrate));
        self
    }

    /// Counts the items of a state, for [`SnapshotInfo::items`](crate::SnapshotInfo::items).
    #[must_use]
    pub fn items(mut self, count: fn(&S) -> u64) -> Self {
        self.items = Some(count);
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.retain == 0 {
            return Err(SnapshotError::Invalid("retain is 0; at least 1 is kept".to_owned()));
        }
        if self.chunk_bytes == 0 || self.chunk_bytes > MAX_CHUNK_BYTES {
            return Err(SnapshotError::Invalid(format!(
                "chunk_bytes is {}; 1 to {MAX_CHUNK_BYTES} are allowed",
                self.chunk_bytes
            )));
        }
        Ok(())
    }
}

impl<S> Default for SnapshotOptions<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Clone for SnapshotOptions<S> {
    fn clone(&self) -> Self {
        Self { migrate: self.migrate.clone(), ..*self }
    }
}

impl<S> fmt::Debug for SnapshotOptions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotOptions")
            .field("retain", &self.retain)
            .field("chunk_bytes", &self.chunk_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("codec", &self.codec)
            .field("schema_version", &self.schema_version)
            .field("migrates", &self.migrate.is_some())
            .finish_non_exhaustive()
    }
}
