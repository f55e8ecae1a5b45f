//! What a stretch of the log changes, each key once, in key order.

use std::collections::BTreeMap;

use bytes::Bytes;
use resurge_commit_log::Replay;
use resurge_store::{Batch, ErrorKind, Key, Op, Result, StoreError};

use crate::error::while_opening;
use crate::index::Change;

/// The effects of consecutive commits.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) by_key: BTreeMap<Key, Option<Bytes>>,
    /// How many commits.
    pub(super) commits: u64,
    /// The last one.
    pub(super) last: u64,
}

impl Changes {
    /// Reads on until `max_bytes` of log were taken or it ends. `None` when nothing was left.
    pub(super) fn read(replay: &mut Replay, max_bytes: usize) -> Result<Option<Self>> {
        let mut changes = Self::default();
        let mut taken = 0;
        while taken < max_bytes {
            let Some((seq, bytes)) = replay.next_entry().map_err(while_opening)? else { break };
            taken += bytes.len();
            for op in decode(seq, bytes)?.ops() {
                let value = match op {
                    Op::Put { value, .. } => Some(value.clone()),
                    Op::Delete { .. } => None,
                };
                changes.by_key.insert(op.key().clone(), value);
            }
            changes.commits += 1;
            changes.last = seq;
        }
        Ok((changes.commits > 0).then_some(changes))
    }

    pub(super) fn into_sorted(self) -> Vec<Change> {
        self.by_key.into_iter().map(|(key, value)| Change { key, value }).collect()
    }
}

/// The batch that is commit `seq`.
pub(crate) fn decode(seq: u64, bytes: &[u8]) -> Result<Batch> {
    Batch::decode_ops(Bytes::copy_from_slice(bytes)).map_err(|e| {
        let message = format!("commit {seq} of the log is whole but makes no sense: {e}");
        StoreError::with_source(ErrorKind::Corrupt, message, e)
    })
}
