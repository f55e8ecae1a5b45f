//! Saving a state: only by the owner, only over what was expected, never over what ended.

use bytes::Bytes;
use resurge_store::Durability;
use serde::Serialize;

use super::SessionManager;
use super::recover::{WORN, check_compact};
use super::state::Encoded;
use super::verify::Verified;
use crate::error::{Result, SessionError};
use crate::indexed::{ATTEMPTS, Changed, Loaded, contended};
use crate::policy::TokenKind;
use crate::standing::Standing;
use crate::stored::StoredSession;
use crate::token::Token;

/// A state that is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// How often the session was saved.
    pub version: u64,
    /// The token from now on: the same one, or, where the state travels in it, another that the client must get.
    pub token: Token,
    /// Whether there was nothing to write, because the state was saved already.
    pub skipped: bool,
}

impl SessionManager {
    /// Saves the state, durably, over whatever version there is. Where the token is one that this process got from the
    /// manager, and somebody else recovered the session since, that is a `Conflict`. Prolongs the idle lifetime.
    /// The same state again is not written again.
    ///
    /// # Errors
    /// `TooLarge` (what was saved stays), `Conflict`, `Encode`; everything that is wrong with a token. What
    /// ended does not come back by saving.
    pub async fn save<T: Serialize + ?Sized>(&self, token: &Token, state: &T) -> Result<Saved> {
        self.save_with(token, None, state).await
    }

    /// The same, only if the version is still the one that was read: of two who save at once, one is told.
    ///
    /// # Errors
    /// As [`save`](Self::save); `Conflict` with the current version when it is another one.
    pub async fn save_if<T: Serialize + ?Sized>(
        &self,
        token: &Token,
        version: u64,
        state: &T,
    ) -> Result<Saved> {
        self.save_with(token, Some(version), state).await
    }

    async fn save_with<T: Serialize + ?Sized>(
        &self,
        token: &Token,
        expected: Option<u64>,
        state: &T,
    ) -> Result<Saved> {
        let core = &self.core;
        let _open = core.open()?;
        let verified = self.verify(token).await?;
        let encoded = core.encode(verified.id, state)?;
        for _ in 0..ATTEMPTS {
            let loaded = self.load(&verified).await?;
            self.check_owner(&verified, &loaded, expected)?;
            if verified.compact.is_some() {
                check_compact(&verified, &core.subject(verified.id, &loaded.session)?)?;
            }
            if let Some(saved) = self.unchanged(token, &loaded, &encoded) {
                core.metrics.save_skipped.add(1);
                return Ok(saved);
            }
            let new = self.saved(&verified, &loaded.session, &encoded)?;
            let token = self.token_after(token, &verified, &new, &encoded)?;
            let id = verified.id;
            match core.backend.replace(id, &loaded, &new, Durability::Durable).await? {
                Changed::Raced => {}
                Changed::Done => {
                    core.metrics.state_size(encoded.bytes.len());
                    return Ok(Saved { version: new.version, token, skipped: false });
                }
            }
        }
        Err(contended())
    }

    /// Whether the token may still write.
    pub(super) fn check_owner(
        &self,
        verified: &Verified,
        loaded: &Loaded,
        expected: Option<u64>,
    ) -> Result<()> {
        let standing = self.standing(loaded, verified)?;
        let session = &loaded.session;
        let fenced = verified.epoch.is_some_and(|epoch| epoch != session.epoch);
        let stale = expected.is_some_and(|version| version != session.version);
        if standing != Standing::Current || fenced || stale {
            self.core.metrics.conflicts.add(1);
            return Err(SessionError::Conflict { current: session.version });
        }
        Ok(())
    }

    /// The state is there already, and its time need not be moved yet.
    fn unchanged(&self, token: &Token, loaded: &Loaded, encoded: &Encoded) -> Option<Saved> {
        let (core, session) = (&self.core, &loaded.session);
        let options = &core.options;
        let same = session.version > 0
            && session.hash == encoded.hash
            && session.schema == options.schema
            && session.codec == options.format.id()
            && session.sealed == options.seal;
        let deadline = options.lifetime.deadline(core.now(), session.absolute);
        (same && !options.lifetime.worth(session.deadline, deadline)).then(|| Saved {
            version: session.version,
            token: token.clone(),
            skipped: true,
        })
    }

    fn saved(
        &self,
        verified: &Verified,
        old: &StoredSession,
        encoded: &Encoded,
    ) -> Result<StoredSession> {
        let core = &self.core;
        let options = &core.options;
        let mut new = old.clone();
        new.version = old.version.checked_add(1).ok_or(SessionError::Corrupt(WORN))?;
        new.schema = options.schema;
        new.codec = options.format.id();
        new.hash = encoded.hash;
        new.deadline = options.lifetime.deadline(core.now(), old.absolute).max(old.deadline);
        if old.sealed != options.seal {
            // Sealing was switched on or off: the subject follows.
            new.subject = core.protect_subject(verified.id, &core.subject(verified.id, old)?)?;
            new.sealed = options.seal;
        }
        if options.kind == TokenKind::SealedState {
            // An older state must not come back: each one is a generation.
            new.generation = old.generation.checked_add(1).ok_or(SessionError::Revoked)?;
            new.generation_issued = core.now();
            new.generation_key = core.keys.active()?.0;
            new.grace_until = 0;
            new.state = Bytes::new();
        } else {
            new.state = core.protect_state(verified.id, new.schema, new.codec, &encoded.bytes)?;
        }
        Ok(new)
    }

    fn token_after(
        &self,
        token: &Token,
        verified: &Verified,
        new: &StoredSession,
        encoded: &Encoded,
    ) -> Result<Token> {
        if self.core.options.kind != TokenKind::SealedState {
            return Ok(token.clone());
        }
        let state = (new.schema, new.codec, encoded.bytes.as_slice());
        let mut next = self.mint(verified.id, new, Some(state))?;
        next.epoch = verified.epoch.or(Some(new.epoch));
        Ok(next)
    }
}
