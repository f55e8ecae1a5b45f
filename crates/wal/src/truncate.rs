//! Removing records that are no longer needed: first the bound, durably, then the pages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resurge_store::{Batch, ErrorKind, StoreError};
use tokio::sync::oneshot;

use crate::chain::Reply;
use crate::log::Log;
use crate::replay::page_of;
use crate::{Lsn, Result, WalError};

/// What [`Wal::truncate_before`](crate::Wal::truncate_before) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncated {
    /// The oldest record kept from now on.
    pub first_lsn: Lsn,
    /// Pages removed.
    pub pages: u64,
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
