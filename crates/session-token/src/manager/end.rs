//! Ends of sessions: deleted, revoked one by one, by subject, or all at once.

use resurge_store::Timestamp;

use super::SessionManager;
use crate::error::{Result, SessionError};
use crate::indexed::{ATTEMPTS, Changed, contended};
use crate::layout::subject_hash;
use crate::record_id::RecordId;
use crate::token::Token;

/// How often a subject's sessions are looked for; more only when others are made all the time.
const PASSES: usize = 16;

impl SessionManager {
    /// Removes a session, durably. Its tokens lead nowhere afterwards. Idempotent: an authentic token of a session that is
    /// gone is fine, and so is an old one of the family.
    ///
    /// # Errors
    /// What is wrong with the token itself; `Closed`; the store's.
    pub async fn delete(&self, token: &Token) -> Result<()> {
        let _open = self.core.open()?;
        let verified = self.verify(token).await?;
        self.finish(verified.id, false).await.map(drop)
    }

    /// Revokes a session, durably: every token of it, older and newer ones, is `Revoked` from now on. Idempotent.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub async fn revoke(&self, token: &Token) -> Result<()> {
        let _open = self.core.open()?;
        let verified = self.verify(token).await?;
        self.finish(verified.id, true).await.map(drop)
    }

    /// Revokes every session a subject has now, and says how many. One commit each: when it fails, those before stay
    /// revoked; call it again. A session that cannot be read is left: it is `Corrupt` for its clients too.
    ///
    /// # Errors
    /// `Unsupported` with storage of your own; `Closed`; the store's.
    pub async fn revoke_subject(&self, subject: impl AsRef<str>) -> Result<u64> {
        let _open = self.core.open()?;
        let indexed = self.core.backend.indexed("find the sessions of a subject")?;
        let (hash, mut revoked) = (subject_hash(subject.as_ref()), 0);
        // Again, for copies that were made of those not reached yet.
        for _ in 0..PASSES {
            let before = revoked;
            for id in indexed.of_subject(&hash).await? {
                match self.finish(id, true).await {
                    Ok(ended) => revoked += u64::from(ended),
                    // One that nobody can recover must not keep the others alive.
                    Err(SessionError::Corrupt(_)) => {
                        tracing::warn!(session = %id, "a session that cannot be read is not revoked");
                    }
                    Err(e) => return Err(e),
                }
            }
            if revoked == before {
                break;
            }
        }
        Ok(revoked)
    }

    /// Revokes every session created before a time, in one durable commit, for ever: after a key leaked, or everybody must log in
    /// again. An earlier time than last time changes nothing.
    ///
    /// # Errors
    /// `Unsupported` with storage of your own; `Closed`; the store's.
    pub async fn revoke_all_before(&self, before: Timestamp) -> Result<()> {
        let _open = self.core.open()?;
        let indexed = self.core.backend.indexed("revoke everything before a time")?;
        indexed.raise_cutoff(before).await
    }

    /// Whether there was something to end.
    async fn finish(&self, id: RecordId, revoke: bool) -> Result<bool> {
        let backend = &self.core.backend;
        for _ in 0..ATTEMPTS {
            let Some(loaded) = backend.load(id).await? else { return Ok(false) };
            if loaded.session.revoked {
                return Ok(false);
            }
            let tombstone = revoke.then(|| loaded.session.tombstone());
            if backend.end(id, &loaded, tombstone.as_ref()).await? == Changed::Done {
                return Ok(true);
            }
        }
        Err(contended())
    }
}
