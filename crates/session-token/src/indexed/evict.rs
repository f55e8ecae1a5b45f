//! Making room: who goes when a limit is reached.

use bytes::Bytes;
use resurge_store::{Batch, Guard, Key, KeyRange, Record, ScanOptions};

use super::population::Counted;
use super::{Indexed, LIVE, Loaded, Proof, decode};
use crate::error::{Result, SessionError};
use crate::layout::id_of;
use crate::policy::Eviction;
use crate::record_id::RecordId;

/// One new session evicts at most so many; more only when limits were lowered.
const MOST: usize = 64;
/// And so many bytes of them: a commit has its limit.
const MOST_BYTES: usize = 16 << 20;

/// A session that may go.
struct Candidate {
    id: RecordId,
    raw: Bytes,
    /// `None` when it does not decode; it may go all the same.
    loaded: Option<Loaded>,
    index: Key,
}

impl Candidate {
    fn deadline(&self) -> u64 {
        self.loaded.as_ref().map_or(0, |loaded| loaded.session.deadline)
    }

    fn created(&self) -> u64 {
        self.loaded.as_ref().map_or(0, |loaded| loaded.session.created)
    }
}

impl Indexed {
    /// Puts into `batch` who must go for a new session of this subject, and the new count.
    pub(super) async fn stage_room(
        &self,
        batch: &mut Batch,
        id: RecordId,
        subject: &[u8; 16],
    ) -> Result<(u64, Counted)> {
        let (counter, guard) = self.next_counter().await?;
        let mut victims: Vec<Candidate> = Vec::new();
        if let Some(limit) = self.limits.per_subject {
            let listed = self.of_subject(subject).await?.len() as u64;
            if listed >= limit {
                let range = self.layout.all_of_subject(subject);
                victims = self.choose_among(batch, range, limit).await?;
            }
        }
        if let Some(limit) = self.limits.entries {
            let after = (counter.live + 1).saturating_sub(victims.len() as u64);
            if let Some(over) = after.checked_sub(limit).filter(|over| *over > 0) {
                let gone: Vec<RecordId> = victims.iter().map(|victim| victim.id).collect();
                victims.extend(self.choose(batch, limit, over, &gone).await?);
            }
        }
        let evicted = victims.len() as u64;
        for victim in victims {
            if let Some(loaded) = victim.loaded {
                self.stage_end(batch, victim.id, &loaded, None)?;
            } else {
                let key = self.layout.record(victim.id)?;
                batch.guard(key.clone(), Guard::Exact(victim.raw)).delete(key);
                batch.delete(victim.index);
            }
        }
        let more = 1_i64.saturating_sub_unsigned(evicted);
        Ok((evicted, self.stage_counter(batch, (counter, guard), id, more)?))
    }

    /// Of the few in `range`, as many as are too many.
    async fn choose_among(
        &self,
        batch: &mut Batch,
        range: KeyRange,
        limit: u64,
    ) -> Result<Vec<Candidate>> {
        let mut found = self.candidates(batch, range, usize::MAX, &[]).await?;
        // Counted anew: not every entry led to a session.
        let over = (found.len() as u64 + 1).saturating_sub(limit);
        match self.limits.eviction {
            Eviction::SoonestExpiry => found.sort_by_key(Candidate::deadline),
            Eviction::Oldest => found.sort_by_key(Candidate::created),
            Eviction::Reject => {
                let now = self.store.now().as_millis();
                found.retain(|candidate| candidate.deadline() <= now);
                if (found.len() as u64) < over {
                    return Err(SessionError::Capacity { limit });
                }
            }
        }
        found.truncate(at_most(over));
        truncate_to_fit(&mut found);
        Ok(found)
    }

    /// Of all.
    async fn choose(
        &self,
        batch: &mut Batch,
        limit: u64,
        over: u64,
        gone: &[RecordId],
    ) -> Result<Vec<Candidate>> {
        let range = match self.limits.eviction {
            Eviction::SoonestExpiry => self.layout.expiries(),
            Eviction::Oldest => self.layout.creations(),
            // Nobody but who is dead already.
            Eviction::Reject => self.layout.expired_at(None, self.store.now()),
        };
        let found = self.candidates(batch, range, at_most(over), gone).await?;
        if self.limits.eviction == Eviction::Reject && (found.len() as u64) < over {
            return Err(SessionError::Capacity { limit });
        }
        Ok(found)
    }

    /// The first live sessions that the index entries of `range` lead to. Entries that lead to none are removed.
    async fn candidates(
        &self,
        batch: &mut Batch,
        range: KeyRange,
        most: usize,
        gone: &[RecordId],
    ) -> Result<Vec<Candidate>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        // All of them can only be a subject's, to choose among.
        let most_bytes = if most == usize::MAX { usize::MAX } else { MOST_BYTES };
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = self.store.scan(range, ScanOptions::new()).await?;
            rest = page.next;
            for entry in page.entries {
                if found.len() >= most || bytes >= most_bytes {
                    return Ok(found);
                }
                let live = Record::decode(&entry.key, &entry.value)
                    .is_ok_and(|record| record.payload().as_ref() == LIVE);
                let Some(id) = id_of(&entry.key).filter(|id| live && !gone.contains(id)) else {
                    continue;
                };
                let key = self.layout.record(id)?;
                let Some(raw) = self.store.get(&key).await? else {
                    if batch.ops().len() < MOST {
                        batch.guard(key, Guard::Absent).delete(entry.key);
                    }
                    continue;
                };
                let loaded = decode(&key, &raw).ok().map(|session| {
                    // A victim goes whatever the cutoff says.
                    let cutoff = Guard::Absent;
                    let proof = Proof::Indexed { record: raw.clone(), cutoff };
                    Loaded { session, cutoff: 0, proof }
                });
                bytes += raw.len();
                found.push(Candidate { id, raw, loaded, index: entry.key });
            }
        }
        Ok(found)
    }
}

/// To what goes into one commit; the first one always does.
fn truncate_to_fit(found: &mut Vec<Candidate>) {
    let mut bytes = 0;
    let fits = found.iter().take_while(|candidate| {
        let before = bytes;
        bytes += candidate.raw.len();
        before < MOST_BYTES
    });
    let fits = fits.count();
    found.truncate(fits);
}

fn at_most(over: u64) -> usize {
    usize::try_from(over).unwrap_or(MOST).min(MOST)
}
