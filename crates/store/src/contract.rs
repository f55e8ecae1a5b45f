//! The contract every backend keeps. Bytes only, object safe, few methods.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::{Batch, CommitSeq, Durability, Key, KeyRange, Namespace, Result, Watch};

/// A boxed, sendable future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a service keeps what must survive a crash.
///
/// Use it through [`Store`](crate::Store), which adds the clock, the record envelope and what is
/// built on them. Implement it for a shared server; embedded engines implement
/// [`Engine`](crate::Engine) and get group commit for free. A backend may be claimed only when it
/// passes `resurge_testkit::conformance!`.
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The published value of `key`.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// One consistent page of `range`; a page never shows half of a batch.
    ///
    /// Go on with [`Page::next`]. At least one entry is returned when there is one, whatever its size.
    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>>;

    /// Applies `batch` whole or not at all.
    ///
    /// Submitted when *called*, not when polled; dropping the future undoes nothing. Calls from one
    /// task commit in call order. See [`Durability`] for what the `Ok` means.
    ///
    /// # Errors
    /// `Conflict` when a guard does not hold; `Invalid` for a batch over the limits; `Unavailable`
    /// above the bytes that may be pending (nothing written: retry); `Full`; `Indeterminate` when the
    /// outcome is unknown; `Closed`.
    fn commit(&self, batch: Batch, durability: Durability)
    -> BoxFuture<'static, Result<CommitSeq>>;

    /// Resolves when every commit submitted before the call is durable.
    fn sync(&self) -> BoxFuture<'static, Result<()>>;

    /// A signal that fires after each published change in `namespace`.
    fn watch(&self, namespace: &Namespace) -> Watch;

    /// What this backend is and promises.
    fn info(&self) -> StoreInfo;

    /// Makes everything submitted durable, then refuses further calls with `Closed`. Idempotent.
    fn close(&self) -> BoxFuture<'static, Result<()>>;
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    #[default]
    Forward,
    /// Largest key first.
    Reverse,
}

/// How much of a range one page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Direction; forward by default.
    pub order: Order,
    /// At most this many entries (at least 1 is used); 1,000 by default.
    pub max_entries: usize,
    /// Stop once keys and values exceed this many bytes; 1 MiB by default.
    pub max_bytes: usize,
    /// Leave values empty.
    pub keys_only: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { order: Order::Forward, max_entries: 1_000, max_bytes: 1 << 20, keys_only: false }
    }
}

impl ScanOptions {
    /// The defaults: forward, 1,000 entries, 1 MiB, with values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Largest key first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.order = Order::Reverse;
        self
    }

    /// At most `n` entries a page.
    #[must_use]
    pub fn max_entries(mut self, n: usize) -> Self {
        self.max_entries = n;
        self
    }

    /// About `n` bytes a page.
    #[must_use]
    pub fn max_bytes(mut self, n: usize) -> Self {
        self.max_bytes = n;
        self
    }

    /// Keys without values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }
}

/// One stored key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
}

/// What one scan call returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the asked order.
    pub entries: Vec<Entry>,
    /// The rest of the range; `None` when this was all of it.
    pub next: Option<KeyRange>,
}

impl Page {
    /// Collects a page from entries that arrive in the asked order. For engines.
    ///
    /// # Errors
    /// The first error of `entries`.
    pub fn collect(
        range: &KeyRange,
        options: &ScanOptions,
        entries: impl IntoIterator<Item = Result<Entry>>,
    ) -> Result<Self> {
        let mut page = Self::default();
        let mut bytes = 0_usize;
        for entry in entries {
            let full =
                page.entries.len() >= options.max_entries.max(1) || bytes > options.max_bytes;
            if let Some(last) = page.entries.last().filter(|_| full) {
                page.next = Some(match options.order {
                    Order::Forward => range.after(&last.key),
                    Order::Reverse => range.before(&last.key),
                });
                break;
            }
            let mut entry = entry?;
            if options.keys_only {
                entry.value = Bytes::new();
            }
            bytes += entry.key.raw().len() + entry.value.len();
            page.entries.push(entry);
        }
        Ok(page)
    }
}

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Its name, such as `memory`.
    pub backend: &'static str,
    /// What survives when `Durable` was acknowledged.
    pub durable: DurableMeans,
    /// Whether several processes may use it at once.
    pub shared_between_processes: bool,
    /// The largest value it takes, in bytes.
    pub max_value_bytes: usize,
    /// The largest batch it takes, in bytes.
    pub max_batch_bytes: usize,
}

impl StoreInfo {
    /// An unshared backend with the contract's own limits.
    pub fn new(backend: &'static str, durable: DurableMeans) -> Self {
        Self {
            backend,
            durable,
            shared_between_processes: false,
            max_value_bytes: crate::MAX_VALUE_BYTES,
            max_batch_bytes: crate::MAX_BATCH_BYTES,
        }
    }
}

/// What [`Durability::Durable`] means in a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurableMeans {
    /// As long as the process lives; for tests and caches.
    ProcessLifetime,
    /// Survives `kill -9`, OS crash and power loss.
    PowerLoss,
}
