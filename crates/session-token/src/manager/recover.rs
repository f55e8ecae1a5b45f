//! Coming back: one compare-and-swap that makes the caller the owner, after everything was read and decoded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resurge_store::Durability;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::SessionManager;
use super::create::{Begin, Origin};
use super::verify::{Verified, split_sealed};
use crate::error::{Result, SessionError};
use crate::hooks::{self, RecoverEvent};
use crate::indexed::{ATTEMPTS, Changed, Loaded, contended};
use crate::policy::{OnDuplicate, ReusePolicy, TokenKind};
use crate::standing::{Standing, standing};
use crate::stored::StoredSession;
use crate::token::Token;

/// Nobody counts so far.
pub(super) const WORN: &str = "one of its counters is at its end";

/// A session that came back.
#[non_exhaustive]
pub struct Recovered<T> {
    /// What was saved last.
    pub state: T,
    /// The token from now on. The client must get it, whether or not it is another one.
    pub token: Token,
    /// How often the state was saved; for [`save_if`](SessionManager::save_if).
    pub version: u64,
    /// Whose session it is.
    pub subject: String,
    /// How long ago it was created.
    pub age: Duration,
    /// Whether `token` is another one than the one presented.
    pub rotated: bool,
}

/// Without state and subject.
impl<T> fmt::Debug for Recovered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovered")
            .field("token", &self.token)
            .field("version", &self.version)
            .field("rotated", &self.rotated)
            .finish_non_exhaustive()
    }
}

/// What a token leads to, still encoded.
pub(super) struct Opened {
    pub(super) schema: u32,
    pub(super) codec: u8,
    pub(super) state: Zeroizing<Vec<u8>>,
}

/// What is known when a recovery fails.
#[derive(Default)]
struct Trace {
    subject: Option<String>,
}

impl SessionManager {
    /// Takes a session over: checks the token, reads and decodes the state, and then, in one durable step, becomes its
    /// owner and, by the [policy](ReusePolicy), replaces the token. Whoever owned it before cannot
    /// [`save`](Self::save) any more. If anything fails, the session is as it was.
    ///
    /// Not cancel safe in one respect: when dropped, the token may be replaced already; within the grace time it
    /// still gives the same successor.
    ///
    /// # Errors
    /// Every class there is about tokens. `Replayed` under rotation also revokes the family. `NotFound` too
    /// for a session that was never saved; it stays.
    pub async fn recover<T: DeserializeOwned>(&self, token: &Token) -> Result<Recovered<T>> {
        let _open = self.core.open()?;
        let mut trace = Trace::default();
        let result = self.try_recover(token, &mut trace).await;
        let core = &self.core;
        match &result {
            Ok(recovered) if recovered.rotated => core.metrics.rotated.add(1),
            Ok(_) => core.metrics.recovered.add(1),
            Err(error) => {
                core.metrics.failure(error);
                tracing::debug!(class = error.class(), "a session was not recovered");
                if let Some(told) = &core.hooks {
                    hooks::call(|| told.on_recover_error(trace.subject.as_deref(), error));
                }
            }
        }
        result
    }

    async fn try_recover<T: DeserializeOwned>(
        &self,
        token: &Token,
        trace: &mut Trace,
    ) -> Result<Recovered<T>> {
        let core = &self.core;
        let verified = self.verify(token).await?;
        for _ in 0..ATTEMPTS {
            let loaded = self.load(&verified).await?;
            if !loaded.session.revoked {
                trace.subject = core.subject(verified.id, &loaded.session).ok();
            }
            let standing = self.standing(&loaded, &verified)?;
            if standing == Standing::Old {
                match self.replayed(&verified, &loaded).await? {
                    Changed::Done => return Err(SessionError::Replayed),
                    Changed::Raced => continue,
                }
            }
            let subject = core.subject(verified.id, &loaded.session)?;
            check_compact(&verified, &subject)?;
            let opened = self.open_state(&verified, &loaded.session)?;
            let state = core.decode(opened.schema, opened.codec, &opened.state)?;
            let Some((token, rotated, now)) =
                self.take_over(&verified, &loaded, standing, &subject, &opened).await?
            else {
                continue;
            };
            let age = Duration::from_millis(now.saturating_sub(loaded.session.created));
            let version = loaded.session.version;
            if let Some(told) = core.hooks.as_ref().map(Arc::clone) {
                let value = || core.decode_value(opened.schema, opened.codec, &opened.state);
                let event = RecoverEvent { subject: &subject, age, version, state: &value };
                hooks::call(|| told.on_recover(&event));
            }
            return Ok(Recovered { state, token, version, subject, age, rotated });
        }
        Err(contended())
    }

    /// Writes who owns it now. `None` when somebody was faster.
    async fn take_over(
        &self,
        verified: &Verified,
        loaded: &Loaded,
        standing: Standing,
        subject: &str,
        opened: &Opened,
    ) -> Result<Option<(Token, bool, u64)>> {
        let core = &self.core;
        let now = core.now();
        let reuse = core.options.reuse;
        if standing == Standing::Grace {
            match core.options.duplicate {
                OnDuplicate::Reject => return Err(SessionError::Replayed),
                OnDuplicate::Fork => {
                    let forked = self.fork(verified, loaded, subject, opened).await?;
                    return Ok(forked.map(|token| (token, true, now)));
                }
                OnDuplicate::Share => {}
            }
        }
        let old = &loaded.session;
        let mut new = old.clone();
        new.deadline = core.options.lifetime.deadline(now, old.absolute).max(old.deadline);
        // A duplicate shares the session with who was first; all others take it over.
        if standing == Standing::Current {
            new.epoch = old.epoch.checked_add(1).ok_or(SessionError::Corrupt(WORN))?;
        }
        let rotates = reuse != ReusePolicy::UntilExpiry && standing == Standing::Current;
        if rotates {
            new.generation = old.generation.checked_add(1).ok_or(SessionError::Revoked)?;
            new.generation_issued = now;
            new.generation_key = core.keys.active()?.0;
            new.grace_until = match reuse {
                ReusePolicy::RotateOnRecover { grace } => {
                    now.saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX))
                }
                _ => 0,
            };
        }
        // ORDER: the token before the write; a key that is gone must not cost the session.
        let token = self.successor(verified, &new, subject, opened)?;
        let id = verified.id;
        match core.backend.replace(id, loaded, &new, Durability::Durable).await? {
            Changed::Done => Ok(Some((token, reuse != ReusePolicy::UntilExpiry, now))),
            Changed::Raced => Ok(None),
        }
    }

    fn successor(
        &self,
        verified: &Verified,
        session: &StoredSession,
        subject: &str,
        opened: &Opened,
    ) -> Result<Token> {
        if verified.compact.is_some() {
            return self.first_token(subject, verified.id, session, None);
        }
        self.mint(verified.id, session, Some((opened.schema, opened.codec, &opened.state)))
    }

    /// A session of its own with the same state; `None` when the first one was changed meanwhile.
    async fn fork(
        &self,
        verified: &Verified,
        loaded: &Loaded,
        subject: &str,
        opened: &Opened,
    ) -> Result<Option<Token>> {
        let origin = Origin { id: verified.id, loaded, opened };
        self.insert_new(subject, &Begin::Copy(origin)).await
    }

    /// An old token was used: somebody else may have it. Under rotation nobody of the family gets in any more.
    async fn replayed(&self, verified: &Verified, loaded: &Loaded) -> Result<Changed> {
        let options = &self.core.options;
        let rotates = matches!(options.reuse, ReusePolicy::RotateOnRecover { .. });
        // Each save replaces a token that carries its state; one that did not arrive is no theft.
        if !rotates || options.kind == TokenKind::SealedState {
            return Ok(Changed::Done);
        }
        tracing::warn!(session = %verified.id, "a session token was replayed; its family is revoked");
        let tombstone = loaded.session.tombstone();
        self.core.backend.end(verified.id, loaded, Some(&tombstone)).await
    }

    pub(super) async fn load(&self, verified: &Verified) -> Result<Loaded> {
        self.core.backend.load(verified.id).await?.ok_or(SessionError::NotFound)
    }

    pub(super) fn standing(&self, loaded: &Loaded, verified: &Verified) -> Result<Standing> {
        let options = &self.core.options;
        standing(loaded, self.core.purpose_tag, verified.generation, self.core.now(), options.reuse)
    }

    /// The state a token leads to: in the store, or in the token itself.
    pub(super) fn open_state(
        &self,
        verified: &Verified,
        session: &StoredSession,
    ) -> Result<Opened> {
        let core = &self.core;
        if session.version == 0 {
            return Err(SessionError::NotFound);
        }
        let Some(sealed) = &verified.sealed else {
            let state = core.stored_state(verified.id, session)?;
            return Ok(Opened { schema: session.schema, codec: session.codec, state });
        };
        let (schema, codec, state) = split_sealed(sealed).ok_or(SessionError::NotFound)?;
        // INVARIANT: it is the newest state. A save makes every token before it old, without grace.
        Ok(Opened { schema, codec, state: Zeroizing::new(state.to_vec()) })
    }
}

/// The hash in a compact token is too short to be all there is.
pub(super) fn check_compact(verified: &Verified, subject: &str) -> Result<()> {
    match verified.compact {
        Some(token) if !token.is_of(subject) => Err(SessionError::NotFound),
        _ => Ok(()),
    }
}
