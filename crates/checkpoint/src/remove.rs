//! Removing what is no longer wanted: by filter, one key, or because its time is over.

use std::time::Duration;

use resurge_store::{
    Batch, Durability, Entry as StoredEntry, ErrorKind, Guard, KeyRange, ScanOptions, StoreError,
    Timestamp,
};

use crate::checkpoints::not_run;
use crate::entry::Entry;
use crate::inspect::{decode, time_of};
use crate::owner::{self, Holder};
use crate::{CheckpointKey, Checkpoints, Filter, Result, layout};

/// How many deletes one commit carries.
const PAGE: usize = 200;
/// For how long a sweep leaves claims alone that nobody renewed and that may run again.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What [`Checkpoints::purge`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Results, expired ones among them.
    pub results: u64,
    /// Claims: of steps in doubt, and of steps that run. What those return is not stored.
    pub claims: u64,
    /// Entries that failed their check.
    pub damaged: u64,
}

/// What [`Checkpoints::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptCheckpoints {
    /// Entries looked at.
    pub scanned: u64,
    /// Results removed because their time is over.
    pub expired: u64,
    /// Claims removed because their owner is gone for a day, and the step may run again anyway.
    pub abandoned: u64,
    /// Entries left alone because they fail their check.
    pub damaged: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Result,
    Claim,
    Damaged,
}

impl Checkpoints {
    /// Removes the checkpoints meant by `filter`; durable on return. Their steps run again when asked
    /// for. A step that is running meanwhile is not stopped; what it returns goes to its caller and
    /// is not stored.
    ///
    /// Not atomic as a whole: when it fails or is dropped, call it again.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn purge(&self, filter: &Filter) -> Result<Removed> {
        let mut removed = Removed::default();
        let range = filter.range()?;
        let now = self.inner.store.now();
        let decide = |stored: &StoredEntry| {
            if !filter.is_about(layout::parse(&stored.key).as_ref()) {
                return None;
            }
            let entry = decode(stored).ok().map(|(entry, _)| entry);
            let kind = match &entry {
                Some(Entry::Done(_)) => Kind::Result,
                Some(Entry::Claimed(_)) => Kind::Claim,
                None => Kind::Damaged,
            };
            filter.is_of_age(entry.as_ref().map(time_of), now).then_some(kind)
        };
        let kinds = self.remove_where(range.clone(), decide).await?;
        for kind in kinds {
            match kind {
                Kind::Result => removed.results += 1,
                Kind::Claim => removed.claims += 1,
                Kind::Damaged => removed.damaged += 1,
            }
        }
        // ORDER: after the removal: who asks from here on joins no run from before it.
        self.inner.flights.detach(&range);
        self.inner.store.sync().await?;
        tracing::info!(?filter, ?removed, "checkpoints purged");
        Ok(removed)
    }

    /// Removes what is stored under `key`, whatever it is; durable on return. True when there was
    /// something. This is how a step in doubt is allowed to run again.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget(&self, key: &CheckpointKey) -> Result<bool> {
        let store = &self.inner.store;
        let mut batch = Batch::new();
        batch.guard(key.stored().clone(), Guard::Present).delete(key.stored().clone());
        let there = match store.commit(batch, Durability::Durable).await {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::Conflict => false,
            Err(e) => return Err(not_run(key, e)),
        };
        self.inner.flights.detach_one(key.stored());
        if there {
            self.inner.observed.metrics.removed.increment(1);
            tracing::info!(%key, "checkpoint forgotten");
        }
        Ok(there)
    }

    /// Removes results whose time is over, and claims of steps that may run again whose owner is gone
    /// for a day. Claims of steps that must not run again stay until somebody decides.
    ///
    /// # Errors
    /// Those of the store; what is left stays for the next call.
    pub async fn sweep(&self) -> Result<SweptCheckpoints> {
        let store = &self.inner.store;
        let mut swept = SweptCheckpoints::default();
        let now: Timestamp = store.now();
        let counted = &mut swept;
        let decide = |stored: &StoredEntry| {
            counted.scanned += 1;
            match decode(stored) {
                Err(_) => {
                    counted.damaged += 1;
                    None
                }
                Ok((Entry::Done(_), expires_at)) => {
                    expires_at.is_some_and(|at| at <= now).then_some(Kind::Result)
                }
                Ok((Entry::Claimed(claimed), _)) => {
                    let over = claimed.deadline.saturating_add(ABANDONED_AFTER) <= now;
                    let gone = matches!(owner::holder(store, &claimed), Holder::Gone);
                    (over && gone && !claimed.never_again).then_some(Kind::Claim)
                }
            }
        };
        let kinds = self.remove_where(layout::range(None, None)?, decide).await?;
        for kind in kinds {
            match kind {
                Kind::Result => swept.expired += 1,
                Kind::Claim => swept.abandoned += 1,
                Kind::Damaged => {}
            }
        }
        Ok(swept)
    }

    /// Removes what `decide` names, each exactly as it was seen, and returns what that was.
    async fn remove_where(
        &self,
        range: KeyRange,
        mut decide: impl FnMut(&StoredEntry) -> Option<Kind>,
    ) -> Result<Vec<Kind>> {
        let store = &self.inner.store;
        let mut removed = Vec::new();
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = store.scan(range, ScanOptions::new().max_entries(PAGE)).await?;
            rest = page.next;
            let chosen = |stored: StoredEntry| decide(&stored).map(|kind| (stored, kind));
            let chosen: Vec<_> = page.entries.into_iter().filter_map(chosen).collect();
            if chosen.is_empty() {
                continue;
            }
            let mut batch = Batch::new();
            for (stored, _) in &chosen {
                delete_exactly(&mut batch, stored);
            }
            match store.commit(batch, Durability::Buffered).await {
                Ok(_) => removed.extend(chosen.iter().map(|(_, kind)| *kind)),
                // One of them changed: one by one, each as it is now.
                Err(e) if e.kind() == ErrorKind::Conflict => {
                    for (stored, kind) in chosen {
                        removed.extend(self.remove_one(stored, kind, &mut decide).await?);
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        self.inner.observed.metrics.removed.increment(removed.len() as u64);
        Ok(removed)
    }

    async fn remove_one(
        &self,
        mut stored: StoredEntry,
        mut kind: Kind,
        decide: &mut impl FnMut(&StoredEntry) -> Option<Kind>,
    ) -> Result<Option<Kind>, StoreError> {
        let store = &self.inner.store;
        loop {
            let mut batch = Batch::new();
            delete_exactly(&mut batch, &stored);
            match store.commit(batch, Durability::Buffered).await {
                Ok(_) => return Ok(Some(kind)),
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
            let Some(value) = store.get(&stored.key).await? else { return Ok(None) };
            stored.value = value;
            let Some(again) = decide(&stored) else { return Ok(None) };
            kind = again;
        }
    }
}

fn delete_exactly(batch: &mut Batch, stored: &StoredEntry) {
    batch.guard(stored.key.clone(), Guard::Exact(stored.value.clone()));
    batch.delete(stored.key.clone());
}
