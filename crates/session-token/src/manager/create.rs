//! A new session, with its first state or without one yet.

use bytes::Bytes;
use serde::Serialize;

use super::recover::Opened;
use super::{Saved, SessionManager};
use crate::error::{Result, SessionError};
use crate::hooks;
use crate::indexed::{Inserted, Loaded, contended};
use crate::keys::COMPACT;
use crate::layout::subject_hash;
use crate::policy::TokenKind;
use crate::record_id::{self, RecordId};
use crate::stored::{HASH_LEN, StoredSession};
use crate::token::{CompactToken, Token};

/// The longest subject, in bytes.
const MAX_SUBJECT_LEN: usize = 1024;
/// A new id is taken with odds that are not worth a number; a few times more costs nothing.
const ATTEMPTS: usize = 16;

/// What a session is copied from.
pub(super) struct Origin<'a> {
    pub(super) id: RecordId,
    pub(super) loaded: &'a Loaded,
    pub(super) opened: &'a Opened,
}

/// What a session begins with.
pub(super) enum Begin<'a> {
    /// Nothing to recover.
    Unsaved,
    /// A state, encoded.
    With(&'a [u8]),
    /// What another one has.
    Copy(Origin<'a>),
}

impl SessionManager {
    /// A new session of this subject (a user, a socket; 1 to 1,024 bytes), and its token. Durable when it returns.
    /// There is nothing to recover before the first [`save`](Self::save).
    ///
    /// # Errors
    /// `Capacity` when a limit is reached and nobody is evicted; `Config` for a subject that is too long or empty;
    /// `WrongBinding` when tokens must be bound and this manager is not; `Closed`; the store's, and no randomness.
    pub async fn create(&self, subject: impl AsRef<str>) -> Result<Token> {
        let _open = self.core.open()?;
        self.core.keys.refresh().await;
        let subject = subject.as_ref();
        self.insert_new(subject, &Begin::Unsaved).await?.ok_or_else(contended)
    }

    /// A new session that has its first state already, in one commit: it is there, and can be recovered, or it is not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resurge_session_token::SessionManager;
    /// # let key = [7, 1, 8, 2].repeat(8);
    /// # let sessions = SessionManager::builder(resurge_store::Store::memory()).key(1, &key).build()?;
    /// let first = sessions.create_with("socket-7", &41).await?;
    /// assert_eq!((first.version, sessions.recover::<u32>(&first.token).await?.state), (1, 41));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`create`](Self::create); `Encode`, and `TooLarge` for the state, or for the token that is to carry it.
    pub async fn create_with<T: Serialize + ?Sized>(
        &self,
        subject: impl AsRef<str>,
        state: &T,
    ) -> Result<Saved> {
        let core = &self.core;
        let _open = core.open()?;
        core.keys.refresh().await;
        let state = core.encode_bytes(state)?;
        let begin = Begin::With(&state);
        let token = self.insert_new(subject.as_ref(), &begin).await?.ok_or_else(contended)?;
        core.metrics.state_size(state.len());
        Ok(Saved { version: 1, token, skipped: false })
    }

    /// The token of a session that is just made.
    pub(super) fn first_token(
        &self,
        subject: &str,
        id: RecordId,
        session: &StoredSession,
        state: Option<(u32, u8, &[u8])>,
    ) -> Result<Token> {
        let core = &self.core;
        if core.options.kind != TokenKind::Compact48 {
            return self.mint(id, session, state);
        }
        // The time is in the record, to the nanosecond.
        let compact = CompactToken::new(subject, session.grace_until);
        let mac = core.keys.mac(session.generation_key, COMPACT)?;
        let text = compact.sign(&core.options.purpose, &mac);
        Ok(Token::owned(text, session.epoch))
    }

    /// Stores a new session, and makes its token; `None` when the one it is copied from was changed meanwhile.
    pub(super) async fn insert_new(
        &self,
        subject: &str,
        begin: &Begin<'_>,
    ) -> Result<Option<Token>> {
        let core = &self.core;
        if subject.is_empty() || subject.len() > MAX_SUBJECT_LEN {
            return Err(SessionError::config("a subject has 1 to 1,024 bytes"));
        }
        let compact = core.options.kind == TokenKind::Compact48;
        if (core.options.require_binding && self.binding.is_none())
            || (compact && self.binding.is_some())
        {
            return Err(SessionError::WrongBinding);
        }
        for _ in 0..ATTEMPTS {
            let (id, unique) = self.new_id(subject)?;
            let mut session = self.new_session(id, subject)?;
            if compact {
                // Not used otherwise: these tokens have no successors.
                session.grace_until = unique;
            }
            let options = &core.options;
            let (state, from) = match begin {
                Begin::Unsaved => (None, None),
                Begin::With(state) => {
                    session.version = 1;
                    (Some((options.schema, options.format.id(), *state)), None)
                }
                Begin::Copy(of) => {
                    let opened = of.opened;
                    self.age_as(of, &mut session);
                    let state = (opened.schema, opened.codec, opened.state.as_slice());
                    (Some(state), Some((of.id, of.loaded)))
                }
            };
            if let Some(state) = state {
                self.put_state(id, state, &mut session)?;
            }
            // ORDER: the token before the write; one that cannot be made leaves no session that nobody can use.
            let token = self.first_token(subject, id, &session, state)?;
            let evicted = match core.backend.insert(id, &session, from).await? {
                Inserted::Done { evicted } => evicted,
                Inserted::Taken => continue,
                Inserted::Raced => return Ok(None),
            };
            core.metrics.created.add(1);
            core.metrics.evicted.add(evicted);
            if evicted > 0
                && let Some(told) = &core.hooks
            {
                hooks::call(|| told.on_evict(evicted));
            }
            return Ok(Some(token));
        }
        Err(contended())
    }

    /// A copy does not live longer than what it is of, and is revoked by what revokes by age.
    fn age_as(&self, of: &Origin<'_>, session: &mut StoredSession) {
        let (core, old) = (&self.core, &of.loaded.session);
        session.created = old.created;
        session.absolute = old.absolute;
        session.deadline = core.options.lifetime.deadline(core.now(), old.absolute);
        session.version = old.version;
    }

    fn put_state(
        &self,
        id: RecordId,
        (schema, codec, state): (u32, u8, &[u8]),
        session: &mut StoredSession,
    ) -> Result<()> {
        let core = &self.core;
        session.schema = schema;
        session.codec = codec;
        session.hash = core.rehash(id, state)?;
        if core.options.kind != TokenKind::SealedState {
            session.state = core.protect_state(id, schema, codec, state)?;
        }
        Ok(())
    }

    fn new_id(&self, subject: &str) -> Result<(RecordId, u64)> {
        const NANOS: u64 = 1_000_000;
        let core = &self.core;
        if core.options.kind == TokenKind::Compact48 {
            let random = core.backend.entropy().next_u64()?;
            let unique = core.now().saturating_mul(NANOS).saturating_add(random % NANOS);
            return Ok((CompactToken::new(subject, unique).id(), unique));
        }
        let mut id = [0; record_id::LEN];
        core.backend.entropy().fill(&mut id)?;
        Ok((RecordId(id), 0))
    }

    fn new_session(&self, id: RecordId, subject: &str) -> Result<StoredSession> {
        let core = &self.core;
        let options = &core.options;
        let now = core.now();
        let absolute = now.saturating_add(options.lifetime.absolute);
        Ok(StoredSession {
            revoked: false,
            sealed: options.seal,
            purpose: core.purpose_tag,
            created: now,
            absolute,
            deadline: options.lifetime.deadline(now, absolute),
            version: 0,
            epoch: 0,
            generation: 0,
            generation_issued: now,
            generation_key: core.keys.active()?.0,
            grace_until: 0,
            schema: options.schema,
            codec: options.format.id(),
            subject_hash: subject_hash(subject),
            hash: [0; HASH_LEN],
            subject: core.protect_subject(id, subject)?,
            state: Bytes::new(),
        })
    }
}
