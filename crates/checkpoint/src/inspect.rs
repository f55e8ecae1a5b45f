//! Looking at what is stored, without running anything.

use resurge_store::{Entry as StoredEntry, Key, Record, ScanOptions, Store, Timestamp};

use crate::checkpoints::not_run;
use crate::entry::Entry;
use crate::owner::{self, Holder};
use crate::{CheckpointKey, Checkpoints, Filter, Result, layout};

/// How many entries one listing shows.
const PAGE: usize = 200;

/// One stored checkpoint, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// What it is stored under.
    pub key: CheckpointKey,
    /// Whose handle stored it; see [`Checkpoints::owner`].
    pub owner: u64,
    /// What it is.
    pub state: CheckpointState,
}

/// What is stored under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointState {
    /// A result.
    Done {
        /// Since when.
        at: Timestamp,
        /// Until when; `None` for ever.
        expires_at: Option<Timestamp>,
        /// Its time is over: it counts as absent.
        expired: bool,
        /// The size of the result.
        bytes: usize,
    },
    /// Somebody began the step.
    Claimed {
        /// When.
        since: Timestamp,
        /// Until when, if it is not renewed; counts only where processes share the store.
        deadline: Timestamp,
        /// Whoever it was is gone: the step is in doubt.
        in_doubt: bool,
        /// It was begun under [`InDoubt::Fail`](crate::InDoubt::Fail).
        never_again: bool,
    },
}

/// An entry that fails its check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Its key in the store.
    pub key: Key,
    /// What is wrong with it.
    pub what: String,
}

/// What [`Checkpoints::list`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The checkpoints meant, in the order of their keys.
    pub checkpoints: Vec<CheckpointInfo>,
    /// Entries in between that are damaged. Calls for their keys fail; a purge without
    /// [`older_than`](Filter::older_than) removes them.
    pub damaged: Vec<DamagedEntry>,
    /// There may be more: give this to [`Filter::after`].
    pub next: Option<Key>,
}

impl Checkpoints {
    /// What is stored under `key`: result, expired result or claim.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn inspect(&self, key: &CheckpointKey) -> Result<Option<CheckpointInfo>> {
        let store = &self.inner.store;
        let stored = store.get(key.stored()).await.map_err(|e| not_run(key, e))?;
        let Some(value) = stored else { return Ok(None) };
        let entry = StoredEntry { key: key.stored().clone(), value };
        let (entry, expires_at) = decode(&entry).map_err(|e| not_run(key, e))?;
        Ok(Some(info(store, key.clone(), &entry, expires_at)))
    }

    /// The checkpoints meant by `filter`, a page of the store at a time: at most 200, perhaps none
    /// although there are more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use resurge_checkpoint::{CheckpointKey, CheckpointOptions, Checkpoints};
    /// use resurge_checkpoint::Filter;
    /// # let store = resurge_store::Store::memory();
    /// # let checkpoints = Checkpoints::open(&store, CheckpointOptions::new()).await?;
    /// # let key = CheckpointKey::global("charge").input(&"order-42").build()?;
    /// # checkpoints.record(&key, Duration::ZERO, &1_u8).await?;
    /// let mut filter = Some(Filter::all());
    /// let mut found = Vec::new();
    /// while let Some(page) = filter {
    ///     let listing = checkpoints.list(&page).await?;
    ///     found.extend(listing.checkpoints);
    ///     filter = listing.next.map(|key| page.after(key));
    /// }
    /// assert_eq!(found.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, filter: &Filter) -> Result<Listing> {
        let store = &self.inner.store;
        let page = store.scan(filter.range()?, ScanOptions::new().max_entries(PAGE)).await?;
        let now = store.now();
        let mut listing = Listing::default();
        let last = page.entries.last().map(|entry| entry.key.clone());
        for stored in page.entries {
            let key = layout::parse(&stored.key);
            if !filter.is_about(key.as_ref()) {
                continue;
            }
            match (key, decode(&stored)) {
                (Some(key), Ok((entry, expires_at))) => {
                    if filter.is_of_age(Some(time_of(&entry)), now) {
                        listing.checkpoints.push(info(store, key, &entry, expires_at));
                    }
                }
                (None, _) => {
                    let what = "the key is none of a checkpoint".to_owned();
                    listing.damaged.push(DamagedEntry { key: stored.key, what });
                }
                (Some(_), Err(e)) => {
                    listing.damaged.push(DamagedEntry { key: stored.key, what: e.to_string() });
                }
            }
        }
        listing.next = page.next.and(last);
        Ok(listing)
    }
}

pub(crate) fn decode(
    stored: &StoredEntry,
) -> Result<(Entry, Option<Timestamp>), resurge_store::StoreError> {
    let record = Record::decode(&stored.key, &stored.value)?;
    Ok((Entry::decode(&stored.key, record.payload())?, record.expiry()))
}

/// When it was stored, or begun.
pub(crate) fn time_of(entry: &Entry) -> Timestamp {
    match entry {
        Entry::Claimed(claimed) => claimed.since,
        Entry::Done(done) => done.at,
    }
}

fn info(
    store: &Store,
    key: CheckpointKey,
    entry: &Entry,
    expires_at: Option<Timestamp>,
) -> CheckpointInfo {
    let (owner, state) = match entry {
        Entry::Done(done) => {
            let expired = expires_at.is_some_and(|at| at <= store.now());
            let bytes = done.value.bytes.len();
            (done.owner, CheckpointState::Done { at: done.at, expires_at, expired, bytes })
        }
        Entry::Claimed(claimed) => {
            let in_doubt = matches!(owner::holder(store, claimed), Holder::Gone);
            let state = CheckpointState::Claimed {
                since: claimed.since,
                deadline: claimed.deadline,
                in_doubt,
                never_again: claimed.never_again,
            };
            (claimed.owner, state)
        }
    };
    CheckpointInfo { key, owner, state }
}
