//! A batch: what one logical act changes, as plain data, all or nothing.

use bytes::Bytes;

use crate::{Key, MAX_KEY_LEN, Result, StoreError};

mod codec;
mod ops;

use ops::Ops;

/// The largest batch, in bytes of keys, values and guards.
pub const MAX_BATCH_BYTES: usize = 64 << 20;
/// The largest single value, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;
/// What one operation or guard counts for beside its key and value.
const OP_OVERHEAD: usize = 16;

/// The number of a commit. Strictly increasing in the order in which commits took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitSeq(pub u64);

impl std::fmt::Display for CommitSeq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What an acknowledged commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Readable at once, survives `kill -9`; on disk at the next sync or within one second, so an OS
    /// crash or a power loss may take it (and everything after it, never something before it).
    Buffered,
    /// Survives `kill -9`, an OS crash and power loss, and so does every commit before it. Nobody
    /// reads it before that is true.
    Durable,
}

/// A condition on one key, checked against every earlier commit before the batch's own operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is stored under the key.
    Absent,
    /// Something is stored under the key.
    Present,
    /// Exactly these bytes are stored under the key.
    Exact(Bytes),
}

impl Guard {
    /// Whether it holds for what is stored.
    pub fn holds(&self, stored: Option<&Bytes>) -> bool {
        match self {
            Self::Absent => stored.is_none(),
            Self::Present => stored.is_some(),
            Self::Exact(bytes) => stored == Some(bytes),
        }
    }

    /// The guard for what is stored now: `Exact`, or `Absent` for nothing.
    pub fn of(stored: Option<Bytes>) -> Self {
        stored.map_or(Self::Absent, Self::Exact)
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Store `value` under `key`.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Bytes,
    },
    /// Remove whatever is under `key`; removing nothing is fine.
    Delete {
        /// Where.
        key: Key,
    },
}

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    /// The value it leaves behind.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }
}

/// Puts, deletes and guards across any namespaces that take effect together or not at all.
///
/// Plain data: it can be staged by several crates, replayed, faulted in tests and sent to a server.
/// Guards are checked first; operations then apply in order, the last one to a key wins.
///
/// ```
/// use resurge_store::{Batch, Guard, Namespace};
/// let ns = Namespace::new("app")?;
/// let mut batch = Batch::new();
/// batch.guard(ns.key("order-1")?, Guard::Absent).put(ns.key("order-1")?, "paid");
/// assert_eq!(batch.ops().len(), 1);
/// # Ok::<(), resurge_store::StoreError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Ops,
    guards: Vec<(Key, Guard)>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores `value` under `key`.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) -> &mut Self {
        let value = value.into();
        self.bytes += OP_OVERHEAD + key.raw().len() + value.len();
        self.ops.push(Op::Put { key, value });
        self
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Key) -> &mut Self {
        self.bytes += OP_OVERHEAD + key.raw().len();
        self.ops.push(Op::Delete { key });
        self
    }

    /// Makes the whole batch conditional on `guard`.
    pub fn guard(&mut self, key: Key, guard: Guard) -> &mut Self {
        let exact = if let Guard::Exact(bytes) = &guard { bytes.len() } else { 0 };
        self.bytes += OP_OVERHEAD + key.raw().len() + exact;
        self.guards.push((key, guard));
        self
    }

    /// Adds everything `other` holds, after what is here.
    pub fn merge(&mut self, other: Self) -> &mut Self {
        self.bytes += other.bytes;
        self.ops.append(other.ops);
        self.guards.extend(other.guards);
        self
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        self.ops.as_slice()
    }

    /// The conditions.
    pub fn guards(&self) -> &[(Key, Guard)] {
        &self.guards
    }

    /// What it counts for against limits, in bytes.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// True when it neither changes nor checks anything.
    pub fn is_empty(&self) -> bool {
        self.ops().is_empty() && self.guards.is_empty()
    }

    /// Checks the limits every backend keeps. Backends call it at the start of `commit`.
    ///
    /// # Errors
    /// `Invalid` above 64 MiB in all or 16 MiB for one value, naming the key.
    pub fn validate(&self) -> Result<()> {
        if self.bytes > MAX_BATCH_BYTES {
            return Err(StoreError::invalid(format!(
                "a batch of {} bytes is over the limit of {MAX_BATCH_BYTES}",
                self.bytes
            )));
        }
        if self.bytes <= MAX_VALUE_BYTES {
            return Ok(());
        }
        for op in self.ops() {
            let len = op.value().map_or(0, Bytes::len);
            if len > MAX_VALUE_BYTES {
                return Err(StoreError::invalid(format!(
                    "the value for key {} has {len} bytes; the limit is {MAX_VALUE_BYTES}",
                    op.key()
                )));
            }
        }
        Ok(())
    }
}

// A key can never be longer than the wire format's u16 can say.
const _: () = assert!(MAX_KEY_LEN + 1 + crate::MAX_NAMESPACE_LEN <= u16::MAX as usize);
