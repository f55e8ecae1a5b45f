//! Sessions on a `Store`: each change of a session and of its index entries is one commit.
//!
//! The number of live sessions is one record with a revision. Whoever adds or removes sessions guards it with
//! what they read, so limits are exact, across managers and processes. Saves and recoveries do not touch it.

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, CommitSeq, Durability, ErrorKind, Guard, Key, Record, ScanOptions, Store, StoreError,
    Timestamp,
};

use crate::error::{Result, SessionError};
use crate::layout::{Layout, id_of};
use crate::policy::Eviction;
use crate::record_id::RecordId;
use crate::stored::StoredSession;

mod cleanup;
mod evict;
mod population;

pub use cleanup::CleanupReport;
use population::{Population, Whose};

/// How often a change starts again because others were faster.
pub(crate) const ATTEMPTS: usize = 256;
const LIVE: &[u8] = b"l";
const TOMBSTONE: &[u8] = b"t";

#[derive(Debug)]
pub(crate) struct Indexed {
    store: Store,
    layout: Layout,
    limits: Limits,
    population: Population,
    /// The index entry the last cleanup stopped behind, if it did not get to the end.
    cleaned_to: Mutex<Option<Key>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) entries: Option<u64>,
    pub(crate) per_subject: Option<u64>,
    pub(crate) eviction: Eviction,
}

/// A session as it was read, with what must still hold when it is written.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) session: StoredSession,
    /// Sessions created before this time are revoked; 0 for none.
    pub(crate) cutoff: u64,
    pub(crate) proof: Proof,
}

impl Loaded {
    /// Of the record as it is stored, in bytes.
    pub(crate) fn size(&self) -> usize {
        match &self.proof {
            Proof::Indexed { record, .. } => record.len(),
            Proof::Own { .. } => 0,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Proof {
    Indexed { record: Bytes, cutoff: Guard },
    Own { version: u64 },
}

/// How a conditional change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done,
    /// Somebody was faster; read again.
    Raced,
}

/// How the insertion of a new session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    Done {
        /// How many others went for it.
        evicted: u64,
    },
    /// Its id is.
    Taken,
    /// The session it was copied from is not what was read any more.
    Raced,
}

impl Indexed {
    pub(crate) fn new(store: Store, layout: Layout, limits: Limits) -> Self {
        Self {
            store,
            layout,
            limits,
            population: Population::default(),
            cleaned_to: Mutex::default(),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) async fn load(&self, id: RecordId) -> Result<Option<Loaded>> {
        // ORDER: the cutoff first; one that is set in between fails its guard.
        let (cutoff, guard) = self.cutoff().await?;
        let key = self.layout.record(id)?;
        let Some(raw) = self.store.get(&key).await? else { return Ok(None) };
        let session = decode(&key, &raw)?;
        let proof = Proof::Indexed { record: raw, cutoff: guard };
        Ok(Some(Loaded { session, cutoff, proof }))
    }

    async fn cutoff(&self) -> Result<(u64, Guard)> {
        // Damage here is the store's, not of a session: it must not look like a dead token.
        let read = self.store.read(&self.layout.cutoff()?).await?;
        let malformed =
            |_| StoreError::new(ErrorKind::Corrupt, "the time before which sessions are revoked");
        let at = match read.payload() {
            None => 0,
            Some(payload) => {
                payload.as_ref().try_into().map(u64::from_be_bytes).map_err(malformed)?
            }
        };
        Ok((at, read.guard()))
    }

    /// Revokes every session created before `before`, for ever; an earlier time changes nothing.
    pub(crate) async fn raise_cutoff(&self, before: Timestamp) -> Result<()> {
        let key = self.layout.cutoff()?;
        for _ in 0..ATTEMPTS {
            let (at, guard) = self.cutoff().await?;
            if before.as_millis() <= at {
                return Ok(());
            }
            let mut batch = Batch::new();
            let payload = before.as_millis().to_be_bytes().to_vec();
            batch.guard(key.clone(), guard);
            batch.put(key.clone(), Record::new(payload).encode(&key));
            if self.commit(batch, Durability::Durable).await? == Changed::Done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Writes a session over what was read. The number of sessions stays.
    pub(crate) async fn replace(
        &self,
        id: RecordId,
        old: &Loaded,
        new: &StoredSession,
        durability: Durability,
    ) -> Result<Changed> {
        let mut batch = Batch::new();
        self.stage_replace(&mut batch, id, old, new)?;
        self.commit(batch, durability).await
    }

    /// Removes a session, or leaves only that it is revoked.
    pub(crate) async fn end(
        &self,
        id: RecordId,
        old: &Loaded,
        tombstone: Option<&StoredSession>,
    ) -> Result<Changed> {
        let mut batch = Batch::new();
        self.stage_end(&mut batch, id, old, tombstone)?;
        if old.session.revoked {
            return self.commit(batch, Durability::Durable).await;
        }
        let turn = self.population.turn().await;
        let count = self.stage_count(&mut batch, id, -1).await?;
        self.hand_over(turn, batch, Whose::One(old.session.subject_hash), count).await
    }

    /// Adds a session, making room as the limits say; `from`: only if that one is still as it was read.
    pub(crate) async fn insert(
        &self,
        id: RecordId,
        session: &StoredSession,
        from: Option<(RecordId, &Loaded)>,
    ) -> Result<Inserted> {
        let key = self.layout.record(id)?;
        for _ in 0..ATTEMPTS {
            let turn = self.population.turn().await;
            if !self.population.has_room(&self.limits, &session.subject_hash) {
                // Who must go is chosen among those that can be seen.
                self.population.settled().await;
            }
            if self.store.get(&key).await?.is_some() {
                return Ok(Inserted::Taken);
            }
            let mut batch = Batch::new();
            if let Some((from, read)) = from {
                let Proof::Indexed { record, cutoff } = &read.proof else {
                    return Err(contended());
                };
                let from = self.layout.record(from)?;
                let same = self.store.get(&from).await?.as_ref() == Some(record);
                if !same || self.cutoff().await?.1 != *cutoff {
                    return Ok(Inserted::Raced);
                }
                // ORDER: in the same commit. What is revoked in between must not live on as a copy.
                batch.guard(from, Guard::Exact(record.clone()));
                batch.guard(self.layout.cutoff()?, cutoff.clone());
            }
            let (evicted, count) = self.stage_room(&mut batch, id, &session.subject_hash).await?;
            batch.guard(key.clone(), Guard::Absent);
            batch.put(key.clone(), Record::new(session.encode()).encode(&key));
            self.stage_index(&mut batch, id, session)?;
            for index in [
                self.layout.creation(session.created, id)?,
                self.layout.of_subject(&session.subject_hash, session.created, id)?,
            ] {
                batch.put(index.clone(), Record::new(LIVE).encode(&index));
            }
            let whose =
                if evicted == 0 { Whose::One(session.subject_hash) } else { Whose::Anybody };
            if self.hand_over(turn, batch, whose, count).await? == Changed::Done {
                return Ok(Inserted::Done { evicted });
            }
        }
        Err(contended())
    }

    /// The live sessions of a subject, oldest first, as far as they can be read.
    pub(crate) async fn of_subject(&self, hash: &[u8; 16]) -> Result<Vec<RecordId>> {
        let mut found = Vec::new();
        let mut rest = Some(self.layout.all_of_subject(hash));
        while let Some(range) = rest {
            let page = self.store.scan(range, ScanOptions::new().keys_only()).await?;
            found.extend(page.entries.iter().filter_map(|entry| id_of(&entry.key)));
            rest = page.next;
        }
        Ok(found)
    }

    fn stage_replace(
        &self,
        batch: &mut Batch,
        id: RecordId,
        old: &Loaded,
        new: &StoredSession,
    ) -> Result<()> {
        let key = self.layout.record(id)?;
        let Proof::Indexed { record, cutoff } = &old.proof else { return Err(contended()) };
        batch.guard(key.clone(), Guard::Exact(record.clone()));
        batch.guard(self.layout.cutoff()?, cutoff.clone());
        batch.put(key.clone(), Record::new(new.encode()).encode(&key));
        if old.session.removable_at() != new.removable_at() {
            batch.delete(self.layout.expiry(old.session.removable_at(), id)?);
            self.stage_index(batch, id, new)?;
        }
        Ok(())
    }

    fn stage_index(&self, batch: &mut Batch, id: RecordId, session: &StoredSession) -> Result<()> {
        let key = self.layout.expiry(session.removable_at(), id)?;
        let mark = if session.revoked { TOMBSTONE } else { LIVE };
        batch.put(key.clone(), Record::new(mark).encode(&key));
        Ok(())
    }

    fn stage_end(
        &self,
        batch: &mut Batch,
        id: RecordId,
        old: &Loaded,
        tombstone: Option<&StoredSession>,
    ) -> Result<()> {
        let key = self.layout.record(id)?;
        let Proof::Indexed { record, .. } = &old.proof else { return Err(contended()) };
        batch.guard(key.clone(), Guard::Exact(record.clone()));
        batch.delete(self.layout.expiry(old.session.removable_at(), id)?);
        if !old.session.revoked {
            let (subject, created) = (&old.session.subject_hash, old.session.created);
            batch.delete(self.layout.creation(created, id)?);
            batch.delete(self.layout.of_subject(subject, created, id)?);
        }
        if let Some(tombstone) = tombstone {
            batch.put(key.clone(), Record::new(tombstone.encode()).encode(&key));
            return self.stage_index(batch, id, tombstone);
        }
        batch.delete(key);
        Ok(())
    }

    async fn commit(&self, batch: Batch, durability: Durability) -> Result<Changed> {
        changed(self.store.commit(batch, durability).await)
    }
}

fn changed(answer: std::result::Result<CommitSeq, StoreError>) -> Result<Changed> {
    match answer {
        Ok(_) => Ok(Changed::Done),
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(Changed::Raced),
        Err(e) => Err(e.into()),
    }
}

fn decode(key: &Key, raw: &Bytes) -> Result<StoredSession> {
    StoredSession::decode(Record::decode(key, raw).map_err(corrupt)?.into_payload())
}

/// A record that fails its check is a damaged session; the rest is the store's.
fn corrupt(error: StoreError) -> SessionError {
    match error.kind() {
        ErrorKind::Corrupt => SessionError::Corrupt("a record fails its check"),
        _ => error.into(),
    }
}

pub(crate) fn contended() -> SessionError {
    let what = "a session is being changed by others all the time";
    StoreError::new(ErrorKind::Unavailable, what).into()
}
