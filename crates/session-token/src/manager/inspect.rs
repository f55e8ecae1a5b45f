//! Looking at sessions without taking them over, and keeping them alive.

use std::fmt;
use std::time::Duration;

use resurge_store::{Durability, Timestamp};
use serde::de::DeserializeOwned;

use super::SessionManager;
use super::recover::check_compact;
use super::verify::Verified;
use crate::error::{Result, SessionError};
use crate::indexed::{ATTEMPTS, Changed, Loaded, contended};
use crate::layout::subject_hash;
use crate::record_id::RecordId;
use crate::reseal::SealedSessions;
use crate::standing::Standing;
use crate::token::Token;

/// A session that was looked at.
#[non_exhaustive]
pub struct Peeked<T> {
    /// What was saved last.
    pub state: T,
    /// How often it was saved.
    pub version: u64,
    /// Whose session it is.
    pub subject: String,
    /// How long ago it was created.
    pub age: Duration,
}

/// Without state and subject.
impl<T> fmt::Debug for Peeked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peeked").field("version", &self.version).finish_non_exhaustive()
    }
}

/// One session of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Which.
    pub id: RecordId,
    /// Since when.
    pub created: Timestamp,
    /// Until when, unless it is used before.
    pub deadline: Timestamp,
    /// How often its state was saved; 0 for never.
    pub version: u64,
    /// How often it was taken over.
    pub epoch: u64,
}

impl SessionManager {
    /// Which session a token is for, from the token alone: shape, signature, purpose, binding, times. The store is
    /// not asked, so the session may be gone, revoked, or have another token by now. For turning away at the door
    /// what is no token of ours, before anything is done for it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resurge_session_token::{SessionError, SessionManager};
    /// # let key = [7, 1, 8, 2].repeat(8);
    /// # let sessions = SessionManager::builder(resurge_store::Store::memory()).key(1, &key).build()?;
    /// let token = sessions.create("socket-7").await?;
    /// assert_eq!(sessions.check(&token).await?, sessions.list("socket-7").await?[0].id);
    /// assert!(matches!(sessions.check(&"a stranger's".into()).await, Err(SessionError::Malformed)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What is wrong with the token itself, as with [`recover`](Self::recover); `Closed`.
    pub async fn check(&self, token: &Token) -> Result<RecordId> {
        let _open = self.core.open()?;
        Ok(self.verify(token).await?.id)
    }

    /// Reads a session without taking it over: no new owner, no new token, nothing written.
    ///
    /// # Errors
    /// As [`recover`](Self::recover), but a replay revokes nothing.
    pub async fn peek<T: DeserializeOwned>(&self, token: &Token) -> Result<Peeked<T>> {
        let core = &self.core;
        let _open = core.open()?;
        let verified = self.verify(token).await?;
        let loaded = self.load(&verified).await?;
        if self.standing(&loaded, &verified)? == Standing::Old {
            return Err(SessionError::Replayed);
        }
        let session = &loaded.session;
        let subject = core.subject(verified.id, session)?;
        check_compact(&verified, &subject)?;
        let opened = self.open_state(&verified, session)?;
        let state = core.decode(opened.schema, opened.codec, &opened.state)?;
        let age = Duration::from_millis(core.now().saturating_sub(session.created));
        Ok(Peeked { state, version: session.version, subject, age })
    }

    /// Prolongs the idle lifetime. Written only when a tenth of it is over, and then without waiting for the disk: a power loss
    /// may take back the last second's.
    ///
    /// # Errors
    /// What is wrong with the token; `Replayed` for an old one; `Closed`; the store's.
    pub async fn touch(&self, token: &Token) -> Result<()> {
        self.touch_if(token, |verified, loaded| match self.standing(loaded, verified)? {
            Standing::Old => Err(SessionError::Replayed),
            Standing::Current | Standing::Grace => Ok(()),
        })
        .await
    }

    /// The same for who may still save over this version, and nobody else: `Conflict` is what a save would get.
    #[cfg(feature = "live")]
    pub(crate) async fn touch_owned(&self, token: &Token, version: u64) -> Result<()> {
        self.touch_if(token, |verified, loaded| self.check_owner(verified, loaded, Some(version)))
            .await
    }

    async fn touch_if<F>(&self, token: &Token, may: F) -> Result<()>
    where
        F: Fn(&Verified, &Loaded) -> Result<()>,
    {
        let core = &self.core;
        let _open = core.open()?;
        let verified = self.verify(token).await?;
        for _ in 0..ATTEMPTS {
            let loaded = self.load(&verified).await?;
            may(&verified, &loaded)?;
            let lifetime = core.options.lifetime;
            let deadline = lifetime.deadline(core.now(), loaded.session.absolute);
            if !lifetime.worth(loaded.session.deadline, deadline) {
                return Ok(());
            }
            let mut new = loaded.session.clone();
            new.deadline = deadline;
            let id = verified.id;
            let changed = core.backend.replace(id, &loaded, &new, Durability::Buffered).await?;
            if changed == Changed::Done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Its sealed sessions, for a [rotation of keys](resurge_seal::Reencrypt).
    ///
    /// # Errors
    /// `Unsupported` with storage of your own.
    pub fn sealed_sessions(&self) -> Result<SealedSessions> {
        let layout = self.core.backend.indexed("be searched for sealed states")?.layout().clone();
        let purpose = self.core.options.purpose.clone();
        Ok(SealedSessions { name: layout.name(), layout, purpose })
    }

    /// The live sessions of a subject, oldest first. Those that cannot be read are left out.
    ///
    /// # Errors
    /// `Unsupported` with storage of your own; `Closed`; the store's.
    pub async fn list(&self, subject: impl AsRef<str>) -> Result<Vec<SessionInfo>> {
        let core = &self.core;
        let _open = core.open()?;
        let indexed = core.backend.indexed("list")?;
        let mut found = Vec::new();
        let now = core.now();
        for id in indexed.of_subject(&subject_hash(subject.as_ref())).await? {
            let loaded = match indexed.load(id).await {
                Ok(Some(loaded)) => loaded,
                Ok(None) | Err(SessionError::Corrupt(_)) => continue,
                Err(e) => return Err(e),
            };
            let session = loaded.session;
            if session.revoked || session.created < loaded.cutoff || session.deadline <= now {
                continue;
            }
            found.push(SessionInfo {
                id,
                created: Timestamp::from_millis(session.created),
                deadline: Timestamp::from_millis(session.deadline),
                version: session.version,
                epoch: session.epoch,
            });
        }
        Ok(found)
    }
}
