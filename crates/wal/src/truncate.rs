//! Removing records that are no longer needed: first the bound, durably, then the pages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_store::{Batch, Durability, ErrorKind, Store, StoreError};
use tokio::sync::oneshot;

use crate::chain::Reply;
use crate::log::Log;
use crate::replay::page_of;
use crate::{Claim, Lsn, Result, WalError, WalOptions, open};

/// What [`Wal::truncate_before`](crate::Wal::truncate_before) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncated {
    /// The oldest record kept from now on.
    pub first_lsn: Lsn,
    /// Pages removed.
    pub pages: u64,
}

/// Removes the log called `name`, with everything in it; true when there was one. A handle that is
/// open is fenced. A crash in between leaves an emptied log, which another call removes.
///
/// A log made under the same name later begins at [`Lsn::FIRST`] again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resurge_store::Store;
/// use resurge_wal::{Wal, WalOptions, inspect};
/// let store = Store::memory();
/// let (wal, _) = Wal::<u8>::open(&store, "jobs", WalOptions::default()).await?;
/// wal.append(&7).await?;
/// assert!(resurge_wal::remove(&store, "jobs").await?);
/// assert!(inspect::names(&store, None, 10).await?.is_empty());
/// assert!(wal.append(&8).await.is_err());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Corrupt`](WalError::Corrupt) for a damaged head or last page, and nothing is removed;
/// [`Fenced`](WalError::Fenced), or [`Store`](WalError::Store) with a conflict, when somebody wrote to
/// it meanwhile; [`Store`](WalError::Store).
pub async fn remove(store: &Store, name: &str) -> Result<bool> {
    let options = WalOptions { claim: Claim::AtFirstWrite, ..WalOptions::default() };
    let (log, report) = open::open(store, name, options).await?;
    if report.created {
        return Ok(false);
    }
    let end = log.chain.lock().settled.head.end;
    log.truncate_before(Lsn(end)).await?;
    let _ticket = log.take_stage_ticket().await?;
    let guard = log.chain.lock().tip.guard();
    let mut batch = Batch::new();
    // ORDER: the pages are gone, so that no page is ever left without its head.
    batch.guard(log.keys.head.clone(), guard).delete(log.keys.head.clone());
    store.commit(batch, Durability::Durable).await?;
    Ok(true)
}

impl Log {
    pub(crate) async fn truncate_before(self: &Arc<Self>, lsn: Lsn) -> Result<Truncated> {
        let _ticket = self.take_stage_ticket().await?;
        let (settled, cleaning) = {
            let chain = self.chain.lock();
            (chain.settled.head.clone(), chain.cleaning)
        };
        // Only what is settled: a page on its way may still fail.
        let target = lsn.0.min(settled.end);
        if target <= settled.first_lsn && !cleaning {
            return Ok(Truncated { first_lsn: Lsn(settled.first_lsn), pages: 0 });
        }
        let mut first_page = settled.first_page;
        if target > settled.first_lsn {
            first_page = if target >= settled.end {
                settled.end
            } else {
                page_of(&self.store, &self.keys, first_page, target).await?.unwrap_or(first_page)
            };
            self.move_bound(target, first_page).await?;
        }
        let pages = self.store.remove_range(self.keys.pages(0, first_page)).await?;
        // ORDER: the removals were submitted before the next head, which no longer asks for them.
        self.chain.lock().cleaning = false;
        let first_lsn = Lsn(self.first_lsn.load(Ordering::Acquire));
        tracing::debug!(log = %self.keys.name, %first_lsn, pages, "truncated a log");
        Ok(Truncated { first_lsn, pages })
    }

    async fn move_bound(self: &Arc<Self>, first_lsn: u64, first_page: u64) -> Result<()> {
        let (sender, settled) = oneshot::channel();
        {
            let mut chain = self.chain.lock();
            if let Some(ended) = &self.intake.lock().ended {
                return Err(ended.clone());
            }
            if chain.stalled {
                let queued = self.intake.lock().queued_bytes;
                return Err(self.backlog(queued));
            }
            chain.cleaning = true;
            let guard = chain.tip.guard();
            let after = chain.tip_with(self, |head| {
                head.first_lsn = first_lsn;
                head.first_page = first_page;
            });
            let mut batch = Batch::new();
            batch.guard(self.keys.head.clone(), guard);
            if let Some(stored) = &after.stored {
                batch.put(self.keys.head.clone(), stored.clone());
            }
            chain.submit_batch(self, batch, after, Reply::Commit(sender), 0, 0);
        }
        self.ensure_driver();
        let outcome = settled.await.unwrap_or_else(|_| {
            let message = "the runtime stopped while this was in flight";
            Err(StoreError::new(ErrorKind::Indeterminate, message))
        });
        let Err(e) = outcome else { return Ok(()) };
        self.chain.lock().cleaning = false;
        Err(match &self.intake.lock().ended {
            Some(ended) => ended.clone(),
            None if e.kind() == ErrorKind::Conflict => WalError::Predecessor(e),
            None => WalError::Store(e),
        })
    }
}
