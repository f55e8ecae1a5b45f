//! Reading records: from a number to the end, and following the end.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{ScanOptions, Store, Watch};
use serde::de::DeserializeOwned;

use crate::head::Head;
use crate::keys::Keys;
use crate::log::Log;
use crate::open::read_head;
use crate::page::Records;
use crate::walk::{Expected, Place, Walk};
use crate::{Lsn, Result, WalError};

/// Reads payloads in order, holding a bounded number of pages.
#[derive(Debug)]
pub(crate) struct Reader {
    store: Store,
    keys: Keys,
    walk: Walk,
    records: Option<Records>,
    from: u64,
    failed: Option<WalError>,
}

impl Reader {
    /// From `from` up to where `head` ends.
    pub(crate) async fn new(store: &Store, keys: &Keys, head: &Head, from: Lsn) -> Result<Self> {
        let from = if from == Lsn::START { head.first_lsn } else { from.0 };
        if from < head.first_lsn {
            return Err(WalError::Truncated {
                log: Arc::clone(&keys.name),
                asked: Lsn(from),
                first: Lsn(head.first_lsn),
            });
        }
        let until = Expected::of(head);
        let place = if from >= head.end {
            let last = head.has_pages().then_some((head.last_page, head.digest));
            Place { end: head.end, last }
        } else {
            let page = page_of(store, keys, head.first_page, from).await?;
            Place::before_page(page.unwrap_or(head.first_page))
        };
        Ok(Self {
            walk: Walk::new(store, keys, place, Some(until)),
            store: store.clone(),
            keys: keys.clone(),
            records: None,
            from,
            failed: None,
        })
    }

    /// One after the last record read, at a page's end.
    pub(crate) fn end(&self) -> u64 {
        self.walk.place.end
    }

    /// Where the page of the last record returned begins.
    pub(crate) fn page(&self) -> u64 {
        self.walk.place.last.map_or(0, |(first, _)| first)
    }

    pub(crate) fn extend(&mut self, head: &Head) {
        self.walk.extend(Expected::of(head));
    }

    /// The next record that is already in memory.
    fn at_hand(&mut self) -> Option<(u64, Bytes)> {
        let from = self.from;
        let found = self.records.as_mut()?.find(|(lsn, _)| *lsn >= from);
        if found.is_none() {
            self.records = None;
        }
        found
    }

    /// Cancel safe: a record is taken only when it is returned.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Bytes)>> {
        loop {
            if let Some(record) = self.at_hand() {
                return Ok(Some(record));
            }
            if let Some(failed) = &self.failed {
                return Err(failed.clone());
            }
            match self.walk.next().await {
                Ok(Some(page)) => self.records = Some(page.into_records()),
                Ok(None) => return Ok(None),
                Err(e) => {
                    let e = self.explain(e).await;
                    if e.damage().is_some() {
                        self.failed = Some(e.clone());
                    }
                    return Err(e);
                }
            }
        }
    }

    /// A page that is gone because the log was truncated meanwhile is no damage.
    async fn explain(&self, error: WalError) -> WalError {
        if error.damage().is_none() {
            return error;
        }
        match read_head(&self.store, &self.keys).await {
            Ok(Some(head)) if head.first_page > self.end() => WalError::Truncated {
                log: Arc::clone(&self.keys.name),
                asked: Lsn(self.end().max(self.from)),
                first: Lsn(head.first_lsn),
            },
            _ => error,
        }
    }
}

/// Where the page that holds `lsn` begins, if there is one at or before it.
pub(crate) async fn page_of(
    store: &Store,
    keys: &Keys,
    first_page: u64,
    lsn: u64,
) -> Result<Option<u64>> {
    let options = ScanOptions::new().reverse().max_entries(1).keys_only();
    let page = store.scan(keys.pages(first_page, lsn.saturating_add(1)), options).await?;
    Ok(page.entries.first().and_then(|entry| keys.first_of(&entry.key)))
}

/// Records in order, up to where the log ended when it was made. Made by [`Wal::replay`](crate::Wal::replay).
///
/// Page by page: memory does not grow with the log. Of every page the checksums, the place and the
/// predecessor's digest are verified before its first record is returned.
pub struct Replay<T> {
    log: Arc<Log>,
    reader: Reader,
    records: PhantomData<fn() -> T>,
}

impl<T> Replay<T> {
    pub(crate) async fn new(log: &Arc<Log>, from: Lsn) -> Result<Self> {
        let head = log.read_head().await?;
        let reader = Reader::new(&log.store, &log.keys, &head, from).await?;
        Ok(Self { log: Arc::clone(log), reader, records: PhantomData })
    }
}

impl<T: DeserializeOwned> Replay<T> {
    /// The next record; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// [`Corrupt`](WalError::Corrupt) with the place, again on every further call;
    /// [`Decode`](WalError::Decode), after which the next call goes on behind that record;
    /// [`Truncated`](WalError::Truncated) when what comes next was removed meanwhile;
    /// [`Store`](WalError::Store).
    pub async fn next(&mut self) -> Result<Option<(Lsn, T)>> {
        match self.reader.next().await {
            Ok(Some((lsn, payload))) => self.log.decode(lsn, &payload).map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(self.log.note(e)),
        }
    }
}

impl<T> fmt::Debug for Replay<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("reader", &self.reader).finish_non_exhaustive()
    }
}

/// Records in order, then new ones as they become durable, whoever writes them. Made by
/// [`Wal::tail`](crate::Wal::tail).
pub struct Tail<T> {
    log: Arc<Log>,
    reader: Reader,
    /// Made before the first read, so no change goes unnoticed.
    watch: Watch,
    records: PhantomData<fn() -> T>,
}

impl<T> Tail<T> {
    pub(crate) async fn new(log: &Arc<Log>, from: Lsn) -> Result<Self> {
        let watch = log.store.watch(&log.keys.namespace);
        let head = log.durable_head().await?;
        let reader = Reader::new(&log.store, &log.keys, &head, from).await?;
        Ok(Self { log: Arc::clone(log), reader, watch, records: PhantomData })
    }
}

impl<T: DeserializeOwned> Tail<T> {
    /// The next record, waiting for it. Cancel safe: a record is taken only when it is returned.
    ///
    /// # Errors
    /// As [`Replay::next`]; [`Store`](WalError::Store) with `Closed` when the store closed.
    pub async fn next(&mut self) -> Result<(Lsn, T)> {
        loop {
            match self.reader.next().await {
                Ok(Some((lsn, payload))) => return self.log.decode(lsn, &payload),
                Ok(None) => {}
                Err(e) => return Err(self.log.note(e)),
            }
            let head = self.log.durable_head().await?;
            let end = self.reader.end();
            if head.first_page > end {
                return Err(WalError::Truncated {
                    log: Arc::clone(&self.log.keys.name),
                    asked: Lsn(end),
                    first: Lsn(head.first_lsn),
                });
            }
            if head.end > end {
                self.reader.extend(&head);
            } else {
                self.watch.changed().await?;
            }
        }
    }
}

impl<T> fmt::Debug for Tail<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Log {
    /// The head as stored now; that of an empty log when nothing is.
    pub(crate) async fn read_head(&self) -> Result<Head> {
        let head = read_head(&self.store, &self.keys).await.map_err(|e| self.note(e))?;
        Ok(head.unwrap_or_else(|| Head::genesis(&self.keys)))
    }

    /// The head as stored now, made durable if it may not be.
    async fn durable_head(&self) -> Result<Head> {
        let head = self.read_head().await?;
        if head.end > self.durable_end() {
            self.store.sync().await?;
            self.set_durable(head.end);
        }
        Ok(head)
    }

    fn decode<T: DeserializeOwned>(&self, lsn: u64, payload: &[u8]) -> Result<(Lsn, T)> {
        let lsn = Lsn(lsn);
        let value = self.options.codec.decode(payload).map_err(|source| WalError::Decode {
            log: Arc::clone(&self.keys.name),
            lsn,
            source,
        })?;
        self.metrics.replayed.increment(1);
        Ok((lsn, value))
    }

    /// Counts and traces damage on its way to the caller.
    fn note(&self, error: WalError) -> WalError {
        match error {
            WalError::Corrupt(damage) => self.corrupt(damage),
            other => other,
        }
    }
}
