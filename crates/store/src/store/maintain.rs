//! Removing what is no longer wanted: whole ranges, and records past their expiry.

use super::Store;
use crate::{Batch, Durability, Entry, ErrorKind, Guard, KeyRange, Record, Result, ScanOptions};

/// The most deletes one commit of these carries.
const REMOVE_PAGE: usize = 1_000;
const SWEEP_PAGE: usize = 200;

/// What [`Store::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: u64,
    /// Expired records deleted.
    pub deleted: u64,
    /// Entries left alone because they are no intact record.
    pub corrupt: u64,
}

impl Store {
    /// Deletes every key of `range`, in commits of at most 1,000 deletes, and returns how many.
    ///
    /// Not atomic as a whole: first durably move whatever tells readers where the live range begins,
    /// then call this, and call it again at open to finish what a crash interrupted. The deletes are
    /// `Buffered`: a power loss may bring some back, which that second call removes again.
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan) and [`commit`](Self::commit); what is left stays for the next call.
    pub async fn remove_range(&self, range: KeyRange) -> Result<u64> {
        let options = ScanOptions::new().max_entries(REMOVE_PAGE).keys_only();
        let mut removed = 0;
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = self.scan(range, options.clone()).await?;
            if page.entries.is_empty() {
                break;
            }
            removed += page.entries.len() as u64;
            let mut batch = Batch::new();
            for entry in page.entries {
                batch.delete(entry.key);
            }
            self.commit(batch, Durability::Buffered).await?;
            rest = page.next;
        }
        Ok(removed)
    }

    /// Deletes the expired records of `range`, in bounded commits.
    ///
    /// Each delete is guarded with the exact bytes that were found expired, so a record renewed
    /// meanwhile stays. Entries that are no intact record are counted and left alone.
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan) and [`commit`](Self::commit); what is left stays for the next call.
    pub async fn sweep(&self, range: KeyRange) -> Result<Swept> {
        let options = ScanOptions::new().max_entries(SWEEP_PAGE);
        let mut swept = Swept::default();
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = self.scan(range, options.clone()).await?;
            rest = page.next;
            let now = self.now();
            let mut expired = Vec::new();
            for entry in page.entries {
                swept.scanned += 1;
                match Record::decode(&entry.key, &entry.value) {
                    Ok(record) if record.is_expired(now) => expired.push(entry),
                    Ok(_) => {}
                    Err(_) => swept.corrupt += 1,
                }
            }
            swept.deleted += self.delete_exactly(expired).await?;
        }
        Ok(swept)
    }

    async fn delete_exactly(&self, entries: Vec<Entry>) -> Result<u64> {
        if entries.is_empty() {
            return Ok(0);
        }
        let mut batch = Batch::new();
        for entry in &entries {
            batch.guard(entry.key.clone(), Guard::Exact(entry.value.clone()));
            batch.delete(entry.key.clone());
        }
        match self.commit(batch, Durability::Buffered).await {
            Ok(_) => return Ok(entries.len() as u64),
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            Err(e) => return Err(e),
        }
        // One of them was renewed: the others go one by one.
        let mut deleted = 0;
        for entry in entries {
            let mut batch = Batch::new();
            batch.guard(entry.key.clone(), Guard::Exact(entry.value));
            batch.delete(entry.key);
            match self.commit(batch, Durability::Buffered).await {
                Ok(_) => deleted += 1,
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Ok(deleted)
    }
}
