//! Where sessions are kept: in a `Store` with its indexes, or in storage of the user's own.

use std::sync::Arc;
use std::time::Duration;

use resurge_store::{Clock, Durability, Entropy, ErrorKind, StoreError};

use crate::error::{Result, SessionError};
use crate::indexed::{Changed, Indexed, Inserted, Loaded, Proof};
use crate::own_store::TokenStore;
use crate::record_id::RecordId;
use crate::stored::StoredSession;

#[derive(Debug)]
pub(crate) enum Backend {
    Indexed(Box<Indexed>),
    Own { store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy> },
}

impl Backend {
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        match self {
            Self::Indexed(indexed) => indexed.store().clock(),
            Self::Own { clock, .. } => clock,
        }
    }

    pub(crate) fn entropy(&self) -> &Arc<dyn Entropy> {
        match self {
            Self::Indexed(indexed) => indexed.store().entropy(),
            Self::Own { entropy, .. } => entropy,
        }
    }

    /// For what only a `Store` can do.
    pub(crate) fn indexed(&self, what: &'static str) -> Result<&Indexed> {
        match self {
            Self::Indexed(indexed) => Ok(indexed),
            Self::Own { .. } => Err(SessionError::Unsupported(what)),
        }
    }

    pub(crate) async fn load(&self, id: RecordId) -> Result<Option<Loaded>> {
        match self {
            Self::Indexed(indexed) => indexed.load(id).await,
            Self::Own { store, .. } => {
                let Some(stored) = store.load(id.hex(&mut [0; 32])).await? else { return Ok(None) };
                let session = StoredSession::decode(stored.state)?;
                let proof = Proof::Own { version: stored.version };
                Ok(Some(Loaded { session, cutoff: 0, proof }))
            }
        }
    }

    /// Adds a session; `from`: the one it is a copy of, as it was read.
    pub(crate) async fn insert(
        &self,
        id: RecordId,
        session: &StoredSession,
        from: Option<(RecordId, &Loaded)>,
    ) -> Result<Inserted> {
        if let Self::Indexed(indexed) = self {
            return indexed.insert(id, session, from).await;
        }
        let Self::Own { store, .. } = self else { return Err(wrong_proof()) };
        // Storage that does not compare would write over another session.
        let taken = !store.compares_and_swaps() && self.load(id).await?.is_some();
        if taken || self.save(id, session, None).await? == Changed::Raced {
            return Ok(Inserted::Taken);
        }
        let Some((from, read)) = from else { return Ok(Inserted::Done { evicted: 0 }) };
        // Nobody has its token yet: if the other one ended meanwhile, so does this one.
        let now = self.load(from).await?;
        if now.is_some_and(|now| now.session == read.session) {
            return Ok(Inserted::Done { evicted: 0 });
        }
        store.delete(&id.to_string()).await?;
        Ok(Inserted::Raced)
    }

    pub(crate) async fn replace(
        &self,
        id: RecordId,
        old: &Loaded,
        new: &StoredSession,
        durability: Durability,
    ) -> Result<Changed> {
        match self {
            Self::Indexed(indexed) => indexed.replace(id, old, new, durability).await,
            Self::Own { .. } => self.save(id, new, Some(old)).await,
        }
    }

    /// Removes it, or leaves only that it is revoked.
    pub(crate) async fn end(
        &self,
        id: RecordId,
        old: &Loaded,
        tombstone: Option<&StoredSession>,
    ) -> Result<Changed> {
        match (self, tombstone) {
            (Self::Indexed(indexed), _) => indexed.end(id, old, tombstone).await,
            (Self::Own { .. }, Some(tombstone)) => self.save(id, tombstone, Some(old)).await,
            (Self::Own { store, .. }, None) => {
                store.delete(id.hex(&mut [0; 32])).await?;
                Ok(Changed::Done)
            }
        }
    }

    async fn save(
        &self,
        id: RecordId,
        session: &StoredSession,
        old: Option<&Loaded>,
    ) -> Result<Changed> {
        let Self::Own { store, clock, .. } = self else { return Err(wrong_proof()) };
        let expected = match old.map(|old| &old.proof) {
            None => None,
            Some(Proof::Own { version }) => Some(*version),
            Some(Proof::Indexed { .. }) => return Err(wrong_proof()),
        };
        let left = session.removable_at().saturating_sub(clock.now().as_millis());
        let ttl = Duration::from_millis(left);
        match store.save(id.hex(&mut [0; 32]), session.encode(), expected, ttl).await {
            Ok(()) => Ok(Changed::Done),
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(Changed::Raced),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) async fn sync(&self) -> Result<()> {
        match self {
            Self::Indexed(indexed) => Ok(indexed.store().sync().await?),
            Self::Own { .. } => Ok(()),
        }
    }
}

/// One manager has one backend, so this is not reached.
fn wrong_proof() -> SessionError {
    StoreError::invalid("a session of another store").into()
}
