//! Removing what expired: in small commits, past what cannot be read, never what was renewed meanwhile.

use resurge_store::{Batch, Durability, Guard, Key, ScanOptions};

use super::{Changed, Indexed, Loaded, Proof, decode};
use crate::error::Result;
use crate::layout::id_of;
use crate::record_id::RecordId;

/// The most sessions one commit removes.
const PAGE: usize = 200;
/// And the most bytes of sessions it compares: a commit has its limit.
const PAGE_BYTES: usize = 8 << 20;

/// What a cleanup did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CleanupReport {
    /// Sessions removed, and revoked ones whose tokens are all over.
    pub removed: u64,
    /// Index entries removed that led nowhere.
    pub orphans: u64,
    /// Sessions left alone because they cannot be read.
    pub failed: u64,
    /// Sessions left alone because they were renewed meanwhile.
    pub renewed: u64,
    /// Whether the limit was reached with some left to look at.
    pub more: bool,
}

impl CleanupReport {
    fn looked_at(&self) -> u64 {
        self.removed + self.orphans + self.failed + self.renewed
    }
}

/// One index entry whose time has come.
enum Found {
    Expired(RecordId, Box<Loaded>),
    /// With what must still be so of the session it leads to.
    Orphan(Key, Key, Guard),
    Unreadable,
}

impl Found {
    fn bytes(&self) -> usize {
        match self {
            Self::Expired(_, loaded) => loaded.size(),
            Self::Orphan(_, _, Guard::Exact(raw)) => raw.len(),
            _ => 0,
        }
    }
}

impl Indexed {
    /// Looks at no more than `limit` expired sessions, and removes them.
    pub(crate) async fn cleanup(&self, limit: u64) -> Result<CleanupReport> {
        let mut report = CleanupReport::default();
        let (from, now) = (self.cleaned_to.lock().take(), self.store.now());
        let mut rest = Some(self.layout.expired_at(from.as_ref(), now));
        let mut last = from;
        while let Some(range) = rest {
            let left = limit.saturating_sub(report.looked_at());
            if left == 0 {
                // What could not be read stays; the next call goes on behind it.
                *self.cleaned_to.lock() = last;
                report.more = true;
                break;
            }
            let page = PAGE.min(usize::try_from(left).unwrap_or(PAGE));
            let options = ScanOptions::new().max_entries(page).keys_only();
            let page = self.store.scan(range, options).await?;
            rest = page.next;
            last = page.entries.last().map(|entry| entry.key.clone()).or(last);
            let (mut found, mut bytes) = (Vec::new(), 0);
            for entry in page.entries {
                match self.look(entry.key).await? {
                    Found::Unreadable => report.failed += 1,
                    dead => {
                        bytes += dead.bytes();
                        found.push(dead);
                    }
                }
                if bytes >= PAGE_BYTES {
                    self.remove(std::mem::take(&mut found), &mut report).await?;
                    bytes = 0;
                }
            }
            self.remove(found, &mut report).await?;
            // In memory nothing here waits by itself, least of all where nothing is removed.
            tokio::task::yield_now().await;
        }
        Ok(report)
    }

    async fn look(&self, index: Key) -> Result<Found> {
        let Some(id) = id_of(&index) else { return Ok(Found::Unreadable) };
        let key = self.layout.record(id)?;
        let Some(raw) = self.store.get(&key).await? else {
            return Ok(Found::Orphan(index, key, Guard::Absent));
        };
        let Ok(session) = decode(&key, &raw) else { return Ok(Found::Unreadable) };
        let at = session.removable_at();
        if self.layout.expiry(at, id)? != index {
            // Its own entry is elsewhere. This one went with the renewal, or leads nowhere.
            return Ok(Found::Orphan(index, key, Guard::Exact(raw)));
        }
        let proof = Proof::Indexed { record: raw, cutoff: Guard::Absent };
        Ok(Found::Expired(id, Box::new(Loaded { session, cutoff: 0, proof })))
    }

    /// All in one commit; one by one when somebody interferes.
    async fn remove(&self, found: Vec<Found>, report: &mut CleanupReport) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        if self.remove_all(&found).await? == Changed::Raced {
            for one in found {
                let one = [one];
                match self.remove_all(&one).await? {
                    Changed::Done => count(&one, report),
                    Changed::Raced => report.renewed += 1,
                }
            }
            return Ok(());
        }
        count(&found, report);
        Ok(())
    }

    async fn remove_all(&self, found: &[Found]) -> Result<Changed> {
        let _turn = self.population.turn().await;
        self.population.settled().await;
        let mut batch = Batch::new();
        let mut ended = (None, 0_i64);
        for one in found {
            match one {
                Found::Expired(id, loaded) => {
                    self.stage_end(&mut batch, *id, loaded, None)?;
                    if !loaded.session.revoked {
                        ended = (Some(*id), ended.1 + 1);
                    }
                }
                Found::Orphan(index, of, guard) => {
                    batch.guard(of.clone(), guard.clone());
                    batch.delete(index.clone());
                }
                Found::Unreadable => {}
            }
        }
        if let (Some(id), ended) = ended {
            self.stage_count(&mut batch, id, -ended).await?;
        }
        // A crash may bring them back; the next cleanup takes them again.
        self.commit(batch, Durability::Buffered).await
    }
}

fn count(found: &[Found], report: &mut CleanupReport) {
    for one in found {
        match one {
            Found::Expired(..) => report.removed += 1,
            Found::Orphan(_, _, Guard::Absent) => report.orphans += 1,
            Found::Orphan(..) => report.renewed += 1,
            Found::Unreadable => {}
        }
    }
}
