//! Sessions on a `Store`: each change of a session and of its index entries is one commit.
//!
//! The number of live sessions is one record with a revision. Whoever adds or removes sessions guards it with
//! what they read, so limits are exact, across managers and processes. Saves and recoveries do not touch it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use resurge_store::{
    Batch, Durability, ErrorKind, Guard, Key, Record, ScanOptions, Store, StoreError, Timestamp,
};

use crate::error::{Result, SessionError};
use crate::layout::{Layout, id_of};
use crate::policy::Eviction;
use crate::record_id::RecordId;
use crate::stored::StoredSession;

mod cleanup;
mod evict;

pub use cleanup::CleanupReport;

/// How often a change starts again because others were faster.
pub(crate) const ATTEMPTS: usize = 256;
const LIVE: &[u8] = b"l";
const TOMBSTONE: &[u8] = b"t";

#[derive(Debug)]
pub(crate) struct Indexed {
    store: Store,
    layout: Layout,
    limits: Limits,
    /// One change of the number of sessions at a time; others would only conflict.
    structure: tokio::sync::Mutex<()>,
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

/// How many sessions are live, and how often that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counter {
    live: u64,
    revision: u64,
}

impl Counter {
    fn decode(mut payload: Bytes) -> Result<Self> {
        if payload.len() == 16 {
            Ok(Self { live: payload.get_u64(), revision: payload.get_u64() })
        } else {
            Err(SessionError::Corrupt("the count of sessions is malformed"))
        }
    }

    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u64(self.live);
        out.put_u64(self.revision);
        out.freeze()
    }
}

impl Indexed {
    pub(crate) fn new(store: Store, layout: Layout, limits: Limits) -> Self {
        Self {
            store,
            layout,
            limits,
            structure: tokio::sync::Mutex::new(()),
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
        let _one = self.structure.lock().await;
        let mut batch = Batch::new();
        self.stage_end(&mut batch, id, old, tombstone)?;
        if !old.session.revoked {
            self.stage_count(&mut batch, -1).await?;
        }
        self.commit(batch, Durability::Durable).await
    }

    /// Adds a session, making room as the limits say; `from`: only if that one is still as it was read.
    pub(crate) async fn insert(
        &self,
        id: RecordId,
        session: &StoredSession,
        from: Option<(RecordId, &Loaded)>,
    ) -> Result<Inserted> {
        let key = self.layout.record(id)?;
        let _one = self.structure.lock().await;
        for _ in 0..ATTEMPTS {
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
            let evicted = self.stage_room(&mut batch, &session.subject_hash).await?;
            batch.guard(key.clone(), Guard::Absent);
            batch.put(key.clone(), Record::new(session.encode()).encode(&key));
            self.stage_index(&mut batch, id, session)?;
            for index in [
                self.layout.creation(session.created, id)?,
                self.layout.of_subject(&session.subject_hash, session.created, id)?,
            ] {
                batch.put(index.clone(), Record::new(LIVE).encode(&index));
            }
            if self.commit(batch, Durability::Durable).await? == Changed::Done {
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

    pub(crate) async fn live(&self) -> Result<u64> {
        Ok(self.counter().await?.0.live)
    }

    async fn counter(&self) -> Result<(Counter, Guard)> {
        let key = self.layout.counter()?;
        let Some(raw) = self.store.get(&key).await? else {
            return Ok((Counter::default(), Guard::Absent));
        };
        let read = Record::decode(&key, &raw).map_err(corrupt);
        let counter = match read.and_then(|record| Counter::decode(record.into_payload())) {
            // Nothing could be revoked any more for a number that can be had again.
            Err(SessionError::Corrupt(_)) => self.recount().await?,
            other => other?,
        };
        Ok((counter, Guard::Exact(raw)))
    }

    /// The count, from the sessions themselves. Whoever changes their number meanwhile writes another one.
    async fn recount(&self) -> Result<Counter> {
        tracing::error!("the count of sessions is damaged; they are counted anew");
        let mut live = 0;
        let mut rest = Some(self.layout.creations());
        while let Some(range) = rest {
            let page = self.store.scan(range, ScanOptions::new().keys_only()).await?;
            live += page.entries.len() as u64;
            rest = page.next;
        }
        // INVARIANT: above every revision there was. Nobody changes the number 65,536 times in a millisecond.
        let revision = self.store.now().as_millis().saturating_mul(1 << 16);
        Ok(Counter { live, revision })
    }

    async fn stage_count(&self, batch: &mut Batch, by: i64) -> Result<()> {
        let (counter, guard) = self.counter().await?;
        self.stage_counter(batch, counter, guard, by)
    }

    fn stage_counter(&self, batch: &mut Batch, old: Counter, guard: Guard, by: i64) -> Result<()> {
        let key = self.layout.counter()?;
        // INVARIANT: a revision never returns, so nobody takes another population for the one they read.
        let revision = old
            .revision
            .checked_add(1)
            .ok_or_else(|| SessionError::Corrupt("the count of sessions is at its end"))?;
        let new = Counter { live: old.live.saturating_add_signed(by), revision };
        batch.guard(key.clone(), guard);
        batch.put(key.clone(), Record::new(new.encode()).encode(&key));
        Ok(())
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
        match self.store.commit(batch, durability).await {
            Ok(_) => Ok(Changed::Done),
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(Changed::Raced),
            Err(e) => Err(e.into()),
        }
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
