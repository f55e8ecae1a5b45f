//! The audit trail on disk, and what it says about earlier attempts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use resurge_store::{Store, Timestamp};
use resurge_wal::{Append, Lsn, Replay, Wal, WalError, WalOptions};

use crate::audit::{AuditEvent, AuditRecord};
use crate::machine::History;
use crate::meters;

/// Resources in one record of a summary. One takes up to some 200 KiB, a record 16 MiB.
const SUMMARISED: usize = 50;

pub(crate) type Histories = BTreeMap<Arc<str>, History>;

#[derive(Debug)]
pub(crate) struct Journal {
    wal: Wal<AuditRecord>,
    keep: u64,
    trimming: AtomicBool,
}

impl Journal {
    pub(crate) async fn open(
        store: &Store,
        name: &str,
        keep: u64,
    ) -> Result<(Self, Histories), WalError> {
        let (wal, _) = Wal::<AuditRecord>::open(store, name, WalOptions::default()).await?;
        let mut histories = Histories::new();
        let mut replay = wal.replay(Lsn::START).await?;
        while let Some((_, record)) = replay.next().await? {
            if let AuditEvent::Summary(summary) = record.event {
                // Who is not in it has nothing in the older records either.
                histories.extend(summary);
            } else {
                histories.entry(record.resource).or_default().apply(record.at, &record.event);
            }
        }
        Ok((Self { wal, keep, trimming: AtomicBool::new(false) }, histories))
    }

    pub(crate) fn append(&self, record: &AuditRecord) -> Append {
        self.wal.append(record)
    }

    pub(crate) async fn read(&self) -> Result<Replay<AuditRecord>, WalError> {
        self.wal.replay(Lsn::START).await
    }

    /// Whether a quarter more is kept than should be; true for one caller at a time, who then calls
    /// [`trim`](Self::trim).
    pub(crate) fn wants_trimming(&self) -> bool {
        let kept = self.wal.next_lsn().0.saturating_sub(self.wal.first_lsn().0);
        kept > self.keep.saturating_add(self.keep / 4)
            && !self.trimming.swap(true, Ordering::AcqRel)
    }

    /// Not now.
    pub(crate) fn do_not_trim(&self) {
        self.trimming.store(false, Ordering::Release);
    }

    /// Removes what is too old.
    pub(crate) async fn trim(&self, summaries: Vec<Append>) {
        if let Err(error) = self.trim_before(summaries).await {
            meters::journal_error();
            tracing::warn!(%error, "the audit trail could not be trimmed");
        }
        self.do_not_trim();
    }

    async fn trim_before(&self, summaries: Vec<Append>) -> Result<(), WalError> {
        let (mut first, mut last) = (None, Lsn::START);
        for summary in summaries {
            // ORDER: what the old records say is durable before they go.
            last = summary.await?;
            first.get_or_insert(last);
        }
        let kept = Lsn(last.0.saturating_sub(self.keep.saturating_sub(1)));
        self.wal.truncate_before(first.map_or(kept, |first| first.min(kept))).await?;
        Ok(())
    }

    /// Writes down what the trail says about every resource, in records of bounded size.
    pub(crate) fn summaries(&self, at: Timestamp, histories: Histories) -> Vec<Append> {
        let mut rest = histories.into_iter();
        let mut written = Vec::new();
        loop {
            let some: Histories = rest.by_ref().take(SUMMARISED).collect();
            if some.is_empty() && !written.is_empty() {
                return written;
            }
            let event = AuditEvent::Summary(some);
            written.push(self.append(&AuditRecord { at, resource: Arc::from(""), event }));
        }
    }
}
