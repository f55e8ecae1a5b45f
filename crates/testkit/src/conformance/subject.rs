//! What a case works on, and the few words all cases are written in.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{
    Batch, Durability, ErrorKind, Key, KeyRange, Namespace, Page, Result, ScanOptions, StateStore,
    StoreError,
};

use super::{CaseFailure, Harness};

/// The backend under test, as cases see it.
pub struct Subject {
    harness: Box<dyn Harness>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

impl Subject {
    pub(super) fn new(harness: impl Harness) -> Self {
        Self { harness: Box::new(harness) }
    }

    /// The empty store.
    pub(super) async fn open(&self) -> Result<Arc<dyn StateStore>, CaseFailure> {
        Ok(self.harness.open().await?)
    }

    /// What `store` left behind, after it was closed; `None` for a backend that keeps nothing.
    pub(super) async fn reopen(
        &self,
        store: Arc<dyn StateStore>,
    ) -> Result<Option<Arc<dyn StateStore>>, CaseFailure> {
        store.close().await?;
        self.reopen_unclosed(store).await
    }

    /// The same when nobody called `close`.
    pub(super) async fn reopen_unclosed(
        &self,
        store: Arc<dyn StateStore>,
    ) -> Result<Option<Arc<dyn StateStore>>, CaseFailure> {
        drop(store);
        match self.harness.reopen() {
            None => Ok(None),
            Some(opening) => Ok(Some(opening.await?)),
        }
    }
}

/// The namespace most cases use.
pub(super) fn ns() -> Result<Namespace> {
    Namespace::new("conformance")
}

/// A key in it.
pub(super) fn key(name: impl AsRef<[u8]>) -> Result<Key> {
    ns()?.key(name)
}

/// A batch that puts one key of it.
pub(super) fn put(name: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Batch> {
    let mut batch = Batch::new();
    batch.put(key(name)?, value);
    Ok(batch)
}

/// A batch that deletes one key of it.
pub(super) fn delete(name: impl AsRef<[u8]>) -> Result<Batch> {
    let mut batch = Batch::new();
    batch.delete(key(name)?);
    Ok(batch)
}

/// Commits `Durable`.
pub(super) async fn commit(store: &dyn StateStore, batch: Batch) -> Result<()> {
    store.commit(batch, Durability::Durable).await.map(|_| ())
}

/// The value of a key of it.
pub(super) async fn get(store: &dyn StateStore, name: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
    store.get(&key(name)?).await
}

/// A value to compare with.
#[expect(clippy::unnecessary_wraps, reason = "what `get` returns is an option")]
pub(super) fn some(value: impl Into<Bytes>) -> Option<Bytes> {
    Some(value.into())
}

/// Bytes that do not repeat at any power of two.
pub(super) fn patterned(len: usize) -> Bytes {
    (0..=250_u8).cycle().take(len).collect()
}

/// The names in a page.
pub(super) fn names(page: &Page) -> Vec<String> {
    page.entries.iter().map(|e| e.key.bytes().escape_ascii().to_string()).collect()
}

/// Names and values of a whole range, page by page. Bounded, so that a scan that does not get on fails.
pub(super) async fn pairs(
    store: &dyn StateStore,
    range: KeyRange,
    options: &ScanOptions,
) -> Result<Vec<(String, Bytes)>, CaseFailure> {
    let mut found = Vec::new();
    let mut rest = Some(range);
    let mut pages = 0;
    while let Some(range) = rest {
        let page = store.scan(range, options.clone()).await?;
        let names = names(&page);
        found.extend(names.into_iter().zip(page.entries.into_iter().map(|e| e.value)));
        rest = page.next;
        pages += 1;
        ensure!(pages < 100_000, "the scan does not come to an end");
    }
    Ok(found)
}

/// The error of a call that must fail, with the right kind.
#[track_caller]
pub(super) fn refused<T: fmt::Debug>(
    result: Result<T>,
    kind: ErrorKind,
    what: &str,
) -> Result<StoreError, CaseFailure> {
    match result {
        Err(e) if e.kind() == kind => Ok(e),
        Err(e) => Err(CaseFailure::new(format!("{what}: expected {kind}, found {e}"))),
        Ok(value) => Err(CaseFailure::new(format!("{what}: expected {kind}, found Ok({value:?})"))),
    }
}
