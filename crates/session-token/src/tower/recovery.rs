//! The session of one request, as its handler sees it.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_store::{ErrorKind, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{PublicError, Result, SessionError};
use crate::manager::SessionManager;
use crate::token::Token;

/// How a request began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryStatus {
    /// Without a token.
    Fresh,
    /// With a token that brought its state back.
    Recovered,
    /// With a token that did not; the class is in the log and the metrics. The client begins afresh.
    Failed,
}

/// The session of a request: in its extensions, or as an extractor of axum. Clones are the same.
///
/// What is [set](Self::set) is saved after the handler, unless it answers with a 5xx status. A handler that must know that it
/// was saved calls [`save`](Self::save) itself.
pub struct Recovery<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Recovery<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<T> {
    sessions: SessionManager,
    subject: String,
    slot: Mutex<Slot<T>>,
    /// One token is made, however many ask.
    making: tokio::sync::Mutex<()>,
    /// One is saving or ending, so that clones of one request do not conflict with each other.
    changing: tokio::sync::Mutex<()>,
}

struct Slot<T> {
    status: RecoveryStatus,
    state: Option<Arc<T>>,
    token: Option<Token>,
    /// Of what was recovered or saved.
    version: Option<u64>,
    dirty: bool,
    /// The client must be told of the token.
    news: bool,
    held: Held,
    /// What is to end and may not have: ending again ends these.
    ending: Vec<Token>,
    /// What the client came with was to end, and could not be looked at.
    unended: bool,
}

/// What is known of the token the client came with, beside what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Nothing that matters.
    Settled,
    /// It leads nowhere.
    Dead,
    /// It could not be looked at, and may be good: nothing takes its place.
    Unreached,
}

/// What the client is told after a request.
pub(super) enum Parting {
    Give(Token),
    Clear,
    Nothing,
}

impl<T: Serialize + DeserializeOwned> Recovery<T> {
    /// Never fails: whatever is wrong with the token, the request goes on, afresh.
    pub(super) async fn begin(
        sessions: SessionManager,
        subject: String,
        token: Option<&Token>,
    ) -> Self {
        let mut slot = Slot {
            status: RecoveryStatus::Fresh,
            state: None,
            token: None,
            version: None,
            dirty: false,
            news: false,
            held: Held::Settled,
            ending: Vec::new(),
            unended: false,
        };
        let mut afresh = false;
        if let Some(token) = token {
            match sessions.recover::<T>(token).await {
                Ok(back) => {
                    slot.status = RecoveryStatus::Recovered;
                    slot.state = Some(Arc::new(back.state));
                    slot.news = back.token != *token;
                    slot.token = Some(back.token);
                    slot.version = Some(back.version);
                }
                Err(error) => {
                    slot.status = RecoveryStatus::Failed;
                    // A replay may be a slow request beside one that has a newer cookie already, and a failure of ours says
                    // nothing about the token: both leave what the client holds.
                    slot.held = match error {
                        SessionError::Replayed => Held::Settled,
                        _ if error.public() == PublicError::TryAgainLater => Held::Unreached,
                        _ => Held::Dead,
                    };
                    afresh = slot.held == Held::Dead;
                }
            }
        }
        let (slot, [making, changing]) = (Mutex::new(slot), Default::default());
        let recovery =
            Self { shared: Arc::new(Shared { sessions, subject, slot, making, changing }) };
        if afresh && let Err(error) = recovery.token().await {
            tracing::warn!(
                class = error.class(),
                "no new session for a client whose token is dead"
            );
        }
        recovery
    }

    /// How the request began.
    pub fn status(&self) -> RecoveryStatus {
        self.shared.slot.lock().status
    }

    /// The state: what was recovered, or set since.
    pub fn state(&self) -> Option<Arc<T>> {
        self.shared.slot.lock().state.clone()
    }

    /// Replaces the state.
    pub fn set(&self, state: T) {
        let mut slot = self.shared.slot.lock();
        slot.state = Some(Arc::new(state));
        slot.dirty = true;
    }

    /// The token of this session; made now if there is none. For pages and messages that carry it.
    ///
    /// # Errors
    /// As [`SessionManager::create`]. `Store` when the client's own token could not be looked at: it may still be good.
    pub async fn token(&self) -> Result<Token> {
        let _one = self.shared.making.lock().await;
        {
            let slot = self.shared.slot.lock();
            if let Some(token) = &slot.token {
                return Ok(token.clone());
            }
            if slot.held == Held::Unreached {
                return Err(unreached_session());
            }
        }
        let token = self.shared.sessions.create(&self.shared.subject).await?;
        let mut slot = self.shared.slot.lock();
        slot.token = Some(token.clone());
        slot.version = None;
        slot.news = true;
        Ok(token)
    }

    /// Saves now what was set, durably; nothing to do otherwise.
    ///
    /// # Errors
    /// As [`SessionManager::save_if`]: `Conflict` when another request saved the session since it was recovered.
    pub async fn save(&self) -> Result<()> {
        let _one = self.shared.changing.lock().await;
        let (state, version) = {
            let slot = self.shared.slot.lock();
            match &slot.state {
                Some(state) if slot.dirty => (Arc::clone(state), slot.version),
                _ => return Ok(()),
            }
        };
        let token = self.token().await?;
        let sessions = &self.shared.sessions;
        let saved = sessions.save_if(&token, version.unwrap_or(0), &*state).await?;
        let mut slot = self.shared.slot.lock();
        // What was set meanwhile is still to be saved.
        slot.dirty = !slot.state.as_ref().is_some_and(|now| Arc::ptr_eq(now, &state));
        slot.version = Some(saved.version);
        slot.news |= saved.token != token;
        slot.token = Some(saved.token);
        Ok(())
    }

    /// Ends the session, durably: a logout. The client's cookie is taken away, even when it fails; what is set afterwards begins
    /// a new session. After an error or a cancellation the session may live on: calling it again ends it.
    ///
    /// # Errors
    /// As [`SessionManager::delete`]. `Store`, each time, when the client's token could not be looked at: only its cookie is gone
    /// then.
    pub async fn end(&self) -> Result<()> {
        let _one = self.shared.changing.lock().await;
        {
            let mut slot = self.shared.slot.lock();
            slot.state = None;
            slot.dirty = false;
            slot.version = None;
            slot.unended |= slot.held == Held::Unreached;
            slot.held = Held::Dead;
            let token = slot.token.take();
            slot.ending.extend(token);
        }
        loop {
            let next = self.shared.slot.lock().ending.last().cloned();
            let Some(token) = next else { break };
            self.shared.sessions.delete(&token).await?;
            // ORDER: forgotten when it is deleted, or who asks again is told that it ended.
            self.shared.slot.lock().ending.pop();
        }
        if self.shared.slot.lock().unended { Err(unreached_session()) } else { Ok(()) }
    }

    pub(super) fn parting(&self) -> Parting {
        let slot = self.shared.slot.lock();
        match &slot.token {
            Some(token) if slot.news => Parting::Give(token.clone()),
            None if slot.held == Held::Dead => Parting::Clear,
            _ => Parting::Nothing,
        }
    }
}

fn unreached_session() -> SessionError {
    let what = "the session of this request could not be looked at";
    StoreError::new(ErrorKind::Unavailable, what).into()
}

/// Without state and subject.
impl<T> fmt::Debug for Recovery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.shared.slot.lock();
        f.debug_struct("Recovery")
            .field("status", &slot.status)
            .field("token", &slot.token)
            .finish_non_exhaustive()
    }
}
