#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod clock;
mod codec;
mod contract;
mod engine;
mod entropy;
mod error;
mod group_commit;
mod key;
mod memory;
mod record;
mod store;
mod watch;

pub use batch::{Batch, CommitSeq, Durability, Guard, MAX_BATCH_BYTES, MAX_VALUE_BYTES, Op};
pub use clock::{Clock, Monotonic, SystemClock, Timestamp, VirtualClock};
pub use codec::Codec;
pub use contract::{
    BoxFuture, DurableMeans, Entry, Order, Page, ScanOptions, StateStore, StoreInfo,
};
pub use engine::{Engine, Group};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::{ErrorKind, Result, StoreError};
pub use group_commit::{GroupCommit, GroupOptions};
pub use key::{Key, KeyRange, MAX_KEY_LEN, MAX_NAMESPACE_LEN, Namespace};
pub use memory::{MemoryEngine, MemoryMap, MemoryStore};
pub use record::Record;
pub use store::{Read, Store, Swept};
pub use watch::{Watch, WatchRegistry};
