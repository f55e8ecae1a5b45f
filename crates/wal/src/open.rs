//! Opening a log: read the head, check the end, take it over.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{Batch, Durability, ErrorKind, MAX_VALUE_BYTES, ScanOptions, Store};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::chain::Chain;
use crate::head::{Head, Tip};
use crate::intake::Intake;
use crate::keys::Keys;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::page::{ENVELOPE, Page};
use crate::salvage::{self, Salvaged};
use crate::{Claim, Damage, DamageKind, Lsn, Policy, Result, WalError, WalOptions};

/// How often opening starts over because somebody else wrote meanwhile.
const MAX_RACES: usize = 32;

/// What [`Wal::open`](crate::Wal::open) found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalReport {
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// The number the next record gets.
    pub next_lsn: Lsn,
    /// The log did not exist.
    pub created: bool,
    /// The epoch this handle writes under; one more with every takeover.
    pub epoch: u64,
    /// Pages removed to finish a truncation or a salvage that a crash interrupted.
    pub finished_removal: u64,
    /// What was cut; only under [`Policy::Salvage`].
    pub salvaged: Option<Salvaged>,
}

/// The log as found, before anything was changed.
struct Found {
    tip: Tip,
    created: bool,
    salvaged: Option<Salvaged>,
}

pub(crate) async fn open(
    store: &Store,
    name: &str,
    options: WalOptions,
) -> Result<(Arc<Log>, WalReport)> {
    options.check()?;
    let keys = Keys::new(name)?;
    let runtime = runtime()?;
    let metrics = Metrics::new();

    let mut races = 0;
    let (mut found, claimed) = loop {
        let found = match find(store, &keys, options.policy).await {
            Ok(found) => found,
            Err(e) => {
                if let WalError::Corrupt(damage) = &e {
                    metrics.corrupt.increment(1);
                    tracing::error!(log = name, %damage, "a damaged log was not opened");
                }
                return Err(e);
            }
        };
        // What is left to remove may only be removed by who has fenced every other writer.
        let claim =
            options.claim == Claim::AtOpen || found.tip.head.cleaning || found.salvaged.is_some();
        match take_over(store, &keys, found, claim).await {
            Ok(found) => break (found, claim),
            Err(e) if e.kind() == ErrorKind::Conflict && races < MAX_RACES => races += 1,
            Err(e) => return Err(e),
        }
    };

    let mut finished_removal = 0;
    if found.tip.head.cleaning {
        let removed = clean(store, &keys, &found.tip.head).await?;
        match &mut found.salvaged {
            Some(salvaged) => salvaged.pages = removed,
            None => finished_removal = removed,
        }
    }
    if let Some(salvaged) = &found.salvaged {
        metrics.corrupt.increment(1);
        metrics.salvaged.increment(salvaged.records());
        let (damage, lost) = (&salvaged.damage, salvaged.records());
        tracing::warn!(log = name, %damage, lost, pages = salvaged.pages, "salvaged a log");
    }
    let head = &found.tip.head;
    let report = WalReport {
        first_lsn: Lsn(head.first_lsn),
        next_lsn: Lsn(head.next),
        created: found.created,
        epoch: head.epoch,
        finished_removal,
        salvaged: found.salvaged,
    };
    tracing::debug!(log = name, first = head.first_lsn, next = head.next, "opened a log");
    let durable_end = if claimed { head.end } else { head.first_page };
    let log = make(store, keys, options, runtime, metrics, durable_end, Chain::new(found.tip));
    Ok((Arc::new(log), report))
}

/// A log that is taken to be new; the first commit finds out whether it is.
pub(crate) fn create(store: &Store, name: &str, options: WalOptions) -> Result<Arc<Log>> {
    options.check()?;
    let keys = Keys::new(name)?;
    let head = Head { epoch: 1, owner: store.entropy().next_u64()?, ..Head::genesis(&keys) };
    let durable_end = head.end;
    let chain = Chain::new(Tip { head, stored: None });
    let log = make(store, keys, options, runtime()?, Metrics::new(), durable_end, chain);
    Ok(Arc::new(Log { blind: true, ..log }))
}

fn runtime() -> Result<Handle> {
    Handle::try_current()
        .map_err(|_| WalError::Invalid("a log is opened inside a tokio runtime".to_owned()))
}

fn make(
    store: &Store,
    keys: Keys,
    options: WalOptions,
    runtime: Handle,
    metrics: Metrics,
    durable_end: u64,
    chain: Chain,
) -> Log {
    let max_page = store.info().max_value_bytes.min(MAX_VALUE_BYTES).saturating_sub(ENVELOPE);
    let head = &chain.tip.head;
    Log {
        store: store.clone(),
        max_page,
        metrics,
        runtime,
        // What somebody else left may be buffered only, unless our own durable commit came after it.
        durable_end: AtomicU64::new(durable_end),
        first_lsn: AtomicU64::new(head.first_lsn),
        intake: Mutex::new(Intake::starting_at(head.next)),
        ticket: Arc::new(Semaphore::new(1)),
        changed: Notify::new(),
        closing: AtomicBool::new(false),
        blind: false,
        chain: Mutex::new(chain),
        keys,
        options,
    }
}

async fn find(store: &Store, keys: &Keys, policy: Policy) -> Result<Found> {
    loop {
        let stored = store.get(&keys.head).await?;
        let head = match &stored {
            Some(stored) => Head::decode(keys, stored),
            None if has_pages(store, keys).await? => {
                Err(keys.damage(DamageKind::HeadMissing, 1, keys.head.clone()))
            }
            None => {
                let tip = Tip { head: Head::genesis(keys), stored };
                return Ok(Found { tip, created: true, salvaged: None });
            }
        };
        let checked = match (policy, head) {
            (Policy::Strict, Err(damage)) => Err(WalError::Corrupt(damage)),
            (Policy::Strict, Ok(head)) => {
                check_last_page(store, keys, &head).await.map(|()| (head, None))
            }
            (Policy::Salvage, head) => salvage::survey(store, keys, head).await,
        };
        match checked {
            Ok((head, salvaged)) if salvaged.is_none() => {
                return Ok(Found { tip: Tip { head, stored }, created: false, salvaged });
            }
            Err(e) if e.damage().is_none() => return Err(e),
            // A live writer may have moved the log's bounds while it was read: that is no damage.
            _ if store.get(&keys.head).await? != stored => {}
            Ok((head, salvaged)) => {
                return Ok(Found { tip: Tip { head, stored }, created: false, salvaged });
            }
            Err(e) => return Err(e),
        }
    }
}

async fn has_pages(store: &Store, keys: &Keys) -> Result<bool> {
    let options = ScanOptions::new().max_entries(1).keys_only();
    Ok(!store.scan(keys.pages_from(0), options).await?.entries.is_empty())
}

/// Writing goes on behind the last page, so that one must be whole, and nothing may be behind it.
async fn check_last_page(store: &Store, keys: &Keys, head: &Head) -> Result<()> {
    // While something is left to be removed there may be more.
    let range = if head.cleaning { keys.pages(0, head.end) } else { keys.pages_from(0) };
    let newest = ScanOptions::new().reverse().max_entries(1);
    let found = store.scan(range, newest).await?.entries.into_iter().next();
    let first = found.as_ref().and_then(|entry| keys.first_of(&entry.key)).unwrap_or_default();
    match found {
        Some(entry) if first >= head.end || (first >= head.first_page && !head.has_pages()) => {
            Err(keys.damage(DamageKind::ChainBroken, first, entry.key).into())
        }
        _ if !head.has_pages() => Ok(()),
        Some(entry) if first == head.last_page => {
            let page = Page::decode(keys, &entry.key, &entry.value)?;
            if page.framing.end() == head.end && page.digest == head.digest {
                return Ok(());
            }
            Err(keys.damage(DamageKind::ChainBroken, first, entry.key).into())
        }
        // Between the last page's beginning and the log's end.
        Some(entry) if first > head.last_page => {
            Err(keys.damage(DamageKind::ChainBroken, first, entry.key).into())
        }
        _ => {
            let missing = DamageKind::PageMissing;
            Err(keys.damage(missing, head.last_page, keys.page(head.last_page)?).into())
        }
    }
}

/// A page where none may be; `None` while some are still to be removed.
pub(crate) async fn stray(store: &Store, keys: &Keys, head: &Head) -> Result<Option<Damage>> {
    if head.cleaning {
        return Ok(None);
    }
    let options = ScanOptions::new().max_entries(1).keys_only();
    for range in [keys.pages(0, head.first_page), keys.pages_from(head.beyond())] {
        let page = store.scan(range, options.clone()).await?;
        if let Some(entry) = page.entries.into_iter().next() {
            let first = keys.first_of(&entry.key).unwrap_or_default();
            return Ok(Some(keys.damage(DamageKind::ChainBroken, first, entry.key)));
        }
    }
    Ok(None)
}

/// Makes the head ours, in the store if `claim`, else in memory, to be stored with the first page.
async fn take_over(store: &Store, keys: &Keys, mut found: Found, claim: bool) -> Result<Found> {
    let head = &mut found.tip.head;
    head.epoch = head.epoch.saturating_add(1);
    head.owner = store.entropy().next_u64()?;
    if !claim {
        return Ok(found);
    }
    head.revision = head.revision.saturating_add(1);
    let stored = head.encode(keys);
    let mut batch = Batch::new();
    batch.guard(keys.head.clone(), found.tip.guard()).put(keys.head.clone(), stored.clone());
    let mut wait = Duration::from_millis(1);
    loop {
        match store.commit(batch.clone(), Durability::Durable).await {
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                store.clock().sleep(wait).await;
                wait = wait.saturating_mul(2).min(Duration::from_secs(1));
            }
            Err(e) => return Err(e.into()),
        }
    }
    found.tip.stored = Some(stored);
    Ok(found)
}

/// Removes every page outside of what the head describes, and returns how many there were.
pub(crate) async fn clean(store: &Store, keys: &Keys, head: &Head) -> Result<u64> {
    let before = store.remove_range(keys.pages(0, head.first_page)).await?;
    Ok(before + store.remove_range(keys.pages_from(head.beyond())).await?)
}

/// The head as it is stored now; `None` for a log that does not exist.
pub(crate) async fn read_head(store: &Store, keys: &Keys) -> Result<Option<Head>> {
    let stored: Option<Bytes> = store.get(&keys.head).await?;
    match stored {
        Some(stored) => Ok(Some(Head::decode(keys, &stored)?)),
        None if has_pages(store, keys).await? => {
            // The head may have come between the two reads, with the log's first page.
            match store.get(&keys.head).await? {
                Some(stored) => Ok(Some(Head::decode(keys, &stored)?)),
                None => Err(keys.damage(DamageKind::HeadMissing, 1, keys.head.clone()).into()),
            }
        }
        None => Ok(None),
    }
}

/// Numbers as the public types have them.
pub(crate) fn lsns(range: Range<u64>) -> Range<Lsn> {
    Lsn(range.start)..Lsn(range.end)
}
