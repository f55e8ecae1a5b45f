//! Reading a whole log to see whether it is intact.

use resurge_store::Store;

use crate::head::Head;
use crate::keys::Keys;
use crate::open::{read_head, stray};
use crate::walk::{Expected, Place, Walk};
use crate::{Damage, Lsn, Result, WalError};

/// What a log holds, and whether it is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// The number the next record gets.
    pub next_lsn: Lsn,
    /// Intact records kept, up to the first damage.
    pub records: u64,
    /// Intact pages, up to the first damage.
    pub pages: u64,
    /// What those pages take as stored values, in bytes.
    pub bytes: u64,
    /// Numbers between `first_lsn` and the end that no record has: given up, or cut by a salvage.
    pub skipped: u64,
    /// The first damage; `None` for an intact log.
    pub damage: Option<Damage>,
}

impl VerifyReport {
    /// True when no damage was found.
    pub fn is_intact(&self) -> bool {
        self.damage.is_none()
    }
}

/// Damage is in the report; an error is the store's.
pub(crate) async fn verify(store: &Store, keys: &Keys) -> Result<VerifyReport> {
    let mut report = VerifyReport {
        first_lsn: Lsn::FIRST,
        next_lsn: Lsn::FIRST,
        records: 0,
        pages: 0,
        bytes: 0,
        skipped: 0,
        damage: None,
    };
    let mut head = match read_head(store, keys).await {
        Ok(head) => head.unwrap_or_else(|| Head::genesis(keys)),
        Err(e) => return blame(report, e),
    };
    report.first_lsn = Lsn(head.first_lsn);
    report.next_lsn = Lsn(head.next);
    let start = Place::before_page(head.first_page);
    let mut walk = Walk::new(store, keys, start, Some(Expected::of(&head)));
    loop {
        let before = walk.place.end;
        match walk.next().await {
            Ok(Some(page)) => {
                let kept = page.framing.first.max(head.first_lsn);
                report.records += page.framing.end().saturating_sub(kept);
                report.pages += 1;
                report.bytes += page.stored_bytes as u64;
                report.skipped += page.framing.first.saturating_sub(before.max(head.first_lsn));
            }
            Ok(None) => break,
            Err(e) => return blame(report, e),
        }
    }
    // Of a log that is being written, pages behind the head read above are no strays: look again.
    while let Some(damage) = stray(store, keys, &head).await? {
        let now = read_head(store, keys).await?.unwrap_or_else(|| Head::genesis(keys));
        if now == head {
            report.damage = Some(damage);
            break;
        }
        head = now;
    }
    Ok(report)
}

fn blame(mut report: VerifyReport, error: WalError) -> Result<VerifyReport> {
    match error {
        WalError::Corrupt(damage) => report.damage = Some(damage),
        other => return Err(other),
    }
    Ok(report)
}
