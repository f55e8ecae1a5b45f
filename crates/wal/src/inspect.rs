//! Looking at logs without their types and without taking them over: for tools and tests.
//!
//! To repair a log, open it as `Wal::<()>` with [`Policy::Salvage`](crate::Policy::Salvage); to
//! shorten it, use [`Wal::truncate_before`](crate::Wal::truncate_before).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use resurge_store::Store;
//! use resurge_wal::{Lsn, Wal, WalOptions, inspect};
//! let store = Store::memory();
//! let (wal, _) = Wal::<u8>::open(&store, "jobs", WalOptions::default()).await?;
//! wal.append_all(&[7, 8]).await?;
//!
//! assert_eq!(inspect::names(&store, None, 10).await?, ["jobs"]);
//! let jobs = inspect::Inspector::new(&store, "jobs")?;
//! assert_eq!(jobs.verify().await?.records, 2);
//! assert_eq!(jobs.last().await?.unwrap().payload.as_ref(), [8]);
//! let mut dump = jobs.dump(Lsn::START).await?;
//! assert_eq!(dump.next().await?.unwrap().page, Lsn(1));
//! # Ok(()) }
//! ```

use bytes::Bytes;
use resurge_store::{Key, KeyRange, Namespace, ScanOptions, Store};

use crate::head::Head;
use crate::keys::{self, Keys};
use crate::open::read_head;
use crate::page::Page;
use crate::replay::Reader;
use crate::verify::{self, VerifyReport};
use crate::{DamageKind, Lsn, Result, WalError};

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawRecord {
    /// Its number.
    pub lsn: Lsn,
    /// The first record of its page, which is also what the page's key says.
    pub page: Lsn,
    /// What the codec wrote.
    pub payload: Bytes,
}

/// What the head of a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// How many times it was taken over.
    pub epoch: u64,
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// One after the newest record.
    pub end: Lsn,
    /// The number the next record gets.
    pub next_lsn: Lsn,
}

/// The names of the logs in a store, in order, after `after`, at most `limit`. One small read each.
///
/// # Errors
/// Those of the store; [`Invalid`](crate::WalError::Invalid) never.
pub async fn names(store: &Store, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let options = ScanOptions::new().max_entries(1).keys_only();
    let mut range = match after {
        Some(name) => keys::after(name)?,
        None => Namespace::new(keys::NAMESPACE)?.all(),
    };
    while found.len() < limit {
        let page = store.scan(range, options.clone()).await?;
        let Some(name) = page.entries.first().and_then(|entry| keys::name_of(&entry.key)) else {
            break;
        };
        range = keys::after(name)?;
        found.push(name.to_owned());
    }
    Ok(found)
}

/// What the codec wrote, of every record in a page given as key and stored value; nothing for the head
/// of a log. For whoever scans the keys of logs.
///
/// # Errors
/// [`Corrupt`](crate::WalError::Corrupt) for a damaged page; [`Invalid`](crate::WalError::Invalid) for
/// a key that is none of a log.
pub fn payloads(key: &Key, stored: &Bytes) -> Result<Vec<Bytes>> {
    let name = keys::name_of(key);
    let name = name.ok_or_else(|| WalError::Invalid(format!("{key} is no key of a log")))?;
    let keys = Keys::new(name)?;
    if keys.first_of(key).is_none() {
        return Ok(Vec::new());
    }
    let page = Page::decode(&keys, key, stored).map_err(WalError::Corrupt)?;
    Ok(page.into_records().map(|(_, payload)| payload).collect())
}

/// The keys of all logs whose name begins with `prefix`.
///
/// # Errors
/// [`Invalid`](crate::WalError::Invalid) never.
pub fn keys_of(prefix: &str) -> Result<KeyRange> {
    Ok(Namespace::new(keys::NAMESPACE)?.prefix(prefix.as_bytes()))
}

/// Reads one log. Writers are not disturbed.
#[derive(Clone, Debug)]
pub struct Inspector {
    store: Store,
    keys: Keys,
}

impl Inspector {
    /// Of the log called `name`, which need not exist.
    ///
    /// # Errors
    /// [`Invalid`](crate::WalError::Invalid) for what cannot be a name.
    pub fn new(store: &Store, name: &str) -> Result<Self> {
        Ok(Self { store: store.clone(), keys: Keys::new(name)? })
    }

    /// Its bounds, from one read; `None` when there is no such log.
    ///
    /// # Errors
    /// [`Corrupt`](crate::WalError::Corrupt) when the head is damaged or missing.
    pub async fn bounds(&self) -> Result<Option<Bounds>> {
        let head = read_head(&self.store, &self.keys).await?;
        Ok(head.map(|head| Bounds {
            epoch: head.epoch,
            first_lsn: Lsn(head.first_lsn),
            end: Lsn(head.end),
            next_lsn: Lsn(head.next),
        }))
    }

    /// The newest record, from two reads; `None` when there is none.
    ///
    /// # Errors
    /// [`Corrupt`](crate::WalError::Corrupt) when the head or the last page is damaged or missing.
    pub async fn last(&self) -> Result<Option<RawRecord>> {
        let head = read_head(&self.store, &self.keys).await?;
        let Some(head) = head.filter(Head::has_pages) else { return Ok(None) };
        let key = self.keys.page(head.last_page)?;
        let Some(stored) = self.store.get(&key).await? else {
            return Err(self.keys.damage(DamageKind::PageMissing, head.last_page, key).into());
        };
        let page = Page::decode(&self.keys, &key, &stored)?;
        let first = Lsn(page.framing.first);
        let last = page.into_records().filter(|(lsn, _)| *lsn >= head.first_lsn).last();
        Ok(last.map(|(lsn, payload)| RawRecord { lsn: Lsn(lsn), page: first, payload }))
    }

    /// Reads and checks all of it, and counts. Damage is in the report.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn verify(&self) -> Result<VerifyReport> {
        verify::verify(&self.store, &self.keys).await
    }

    /// Its records from `from` on as stored, up to where it ends now.
    ///
    /// # Errors
    /// As [`Wal::replay`](crate::Wal::replay).
    pub async fn dump(&self, from: Lsn) -> Result<Dump> {
        let head = read_head(&self.store, &self.keys).await?;
        let head = head.unwrap_or_else(|| Head::genesis(&self.keys));
        Ok(Dump { reader: Reader::new(&self.store, &self.keys, &head, from).await? })
    }
}

/// Records as stored, page by page. Made by [`Inspector::dump`].
#[derive(Debug)]
pub struct Dump {
    reader: Reader,
}

impl Dump {
    /// The next record; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// As [`Replay::next`](crate::Replay::next).
    pub async fn next(&mut self) -> Result<Option<RawRecord>> {
        let next = self.reader.next().await?;
        let page = Lsn(self.reader.page());
        Ok(next.map(|(lsn, payload)| RawRecord { lsn: Lsn(lsn), page, payload }))
    }
}
