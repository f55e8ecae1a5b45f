//! What guards see beyond the published state: commits that are logged but not yet published.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, CommitSeq, Engine, Group, Guard, Key, Result, StoreError};

/// What a key holds after some commit.
#[derive(Clone, Debug)]
struct Effect(Option<Bytes>);

/// The effects of a run of batches, indexed only once somebody asks.
#[derive(Debug, Default)]
struct Indexed {
    effects: HashMap<Key, Effect>,
    upto: usize,
}

impl Indexed {
    fn find(&mut self, batches: &[Batch], key: &Key) -> Option<&Effect> {
        for batch in batches.get(self.upto..).unwrap_or_default() {
            for op in batch.ops() {
                self.effects.insert(op.key().clone(), Effect(op.value().cloned()));
            }
        }
        self.upto = batches.len();
        self.effects.get(key)
    }
}

/// Logged groups that may not be published yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    groups: VecDeque<(Arc<Group>, Indexed)>,
}

/// Groups that guards need not look at any more.
#[derive(Debug, Default)]
pub(super) struct Forgotten(
    #[expect(dead_code, reason = "held to be dropped later")] Vec<(Arc<Group>, Indexed)>,
);

impl Pending {
    pub(super) fn logged(&mut self, group: Arc<Group>) {
        self.groups.push_back((group, Indexed::default()));
    }

    /// Forgets what readers see by now. What is returned may take a while to drop.
    pub(super) fn forget_published(&mut self, published: CommitSeq) -> Forgotten {
        let count = self.groups.partition_point(|(group, _)| group.last() <= published);
        Forgotten(self.groups.drain(..count).collect())
    }

    fn find(&mut self, key: &Key) -> Option<Effect> {
        let newest_first = self.groups.iter_mut().rev();
        newest_first
            .into_iter()
            .find_map(|(group, indexed)| indexed.find(&group.batches, key).cloned())
    }
}

/// Why a batch does not join the group.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: StoreError,
    /// It conflicts with a batch of its own group, so it stands only if that group is written.
    pub(super) within_group: bool,
}

/// Decides, batch by batch in order of arrival, which join the next group.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pub(super) batches: Vec<Batch>,
    indexed: Indexed,
}

impl Admission {
    /// Adds the batch if its guards hold against every earlier commit.
    pub(super) fn admit<E: Engine>(
        &mut self,
        batch: Batch,
        pending: &mut Pending,
        engine: &E,
    ) -> Result<(), Refusal> {
        for (key, guard) in batch.guards() {
            let own = self.indexed.find(&self.batches, key).cloned();
            let within_group = own.is_some();
            let stored = match own.or_else(|| pending.find(key)) {
                Some(Effect(stored)) => stored,
                None => engine.get(key).map_err(|error| Refusal { error, within_group })?,
            };
            if !guard.holds(stored.as_ref()) {
                let error = StoreError::conflict(key.clone(), describe(guard, stored.as_ref()));
                return Err(Refusal { error, within_group });
            }
        }
        self.batches.push(batch);
        Ok(())
    }
}

fn describe(guard: &Guard, stored: Option<&Bytes>) -> String {
    let found = match stored {
        None => "nothing is there".to_owned(),
        Some(bytes) => format!("{} other bytes are there", bytes.len()),
    };
    match guard {
        Guard::Absent => format!("expected nothing, {found}"),
        Guard::Present => format!("expected a value, {found}"),
        Guard::Exact(bytes) => format!("expected {} exact bytes, {found}", bytes.len()),
    }
}
