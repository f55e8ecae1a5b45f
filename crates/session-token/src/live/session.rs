//! The session of a connection: recovered or fresh, never half.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::write;
use crate::error::{PublicError, Result, SessionError};
use crate::manager::SessionManager;
use crate::token::Token;

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JoinStatus {
    /// With the state that was saved last.
    Recovered,
    /// With a new session.
    Fresh,
}

/// The session of a connection. Made by [`mount`].
#[non_exhaustive]
pub struct LiveSession<T> {
    /// The state: change it, and [`save`](Self::save).
    pub state: T,
    /// Whether it was there before.
    pub status: JoinStatus,
    /// Why it was not recovered, when a token was shown. For the log; the client is told `fresh`.
    pub refused: Option<SessionError>,
    token: Token,
    version: u64,
}

/// Recovers the session of a token, or begins a fresh one, with its first state saved: whatever is wrong with the token,
/// the client ends up in one of the two.
///
/// Not cancel safe as [`recover`](SessionManager::recover) is not: the same token leads to the same session again, within the grace time.
///
/// ```
/// use resurge_session_token::{SessionManager, live};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = [7, 1, 8, 2].repeat(8);
/// # let sessions = SessionManager::builder(resurge_store::Store::memory()).key(1, &key).build()?;
/// let mut first = live::mount(&sessions, "socket-1", None, || 0_u32).await?;
/// first.state += 1;
/// first.save(&sessions).await?;
///
/// let back = live::mount(&sessions, "socket-2", Some(first.token()), || 0_u32).await?;
/// assert_eq!((back.status, back.state), (live::JoinStatus::Recovered, 1));
///
/// let late = first.save(&sessions).await.unwrap_err();
/// assert_eq!(live::close_code(&late), live::close::SUPERSEDED);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Only what says nothing about the token: the store's, `Capacity`, `Closed`, a first state that cannot be saved. Close the
/// connection with [`close_code`](super::close_code): the client keeps its token and comes back.
pub async fn mount<T, F>(
    sessions: &SessionManager,
    subject: &str,
    shown: Option<&Token>,
    fresh: F,
) -> Result<LiveSession<T>>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce() -> T,
{
    let mut refused = None;
    if let Some(shown) = shown {
        match sessions.recover::<T>(shown).await {
            Ok(back) => {
                let (state, token, version) = (back.state, back.token, back.version);
                let status = JoinStatus::Recovered;
                return Ok(LiveSession { state, status, refused, token, version });
            }
            // INVARIANT: a failure of ours costs no client its token; a fresh one would replace it.
            Err(error) if error.public() != PublicError::RecoveryUnavailable => return Err(error),
            Err(error) => refused = Some(error),
        }
    }
    let state = fresh();
    // A session that was never saved could not be recovered, and one whose first state is refused would be in the way of others.
    let saved = sessions.create_with(subject, &state).await?;
    let (token, version) = (saved.token, saved.version);
    Ok(LiveSession { state, status: JoinStatus::Fresh, refused, token, version })
}

impl<T: Serialize> LiveSession<T> {
    /// What the client is to hold now.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The answer to the join, with what the client is shown of the state: all of it, or a view of yours.
    ///
    /// # Errors
    /// `Encode` when it refuses to be serialised.
    pub fn joined<V: Serialize + ?Sized>(&self, shown: &V) -> Result<String> {
        write::joined(&self.token, self.status, shown)
    }

    /// Saves the state, durably, before the client is told of it. Returns the frame to send first where the token is
    /// another one now ([`TokenKind::SealedState`](crate::TokenKind::SealedState)).
    ///
    /// Not cancel safe: when dropped, the state may be saved, and the next call is a `Conflict`.
    ///
    /// # Errors
    /// As [`SessionManager::save_if`]. Close the connection with [`close_code`](super::close_code): `Conflict` says that the client
    /// came back somewhere else.
    pub async fn save(&mut self, sessions: &SessionManager) -> Result<Option<String>> {
        let saved = sessions.save_if(&self.token, self.version, &self.state).await?;
        self.version = saved.version;
        let changed = saved.token != self.token;
        self.token = saved.token;
        changed.then(|| write::token(&self.token)).transpose()
    }

    /// The answer to a ping, and only for the owner: a connection that is idle learns here, and not when its old token is
    /// taken for stolen, that the client came back somewhere else. Keeps the session alive, as
    /// [`touch`](SessionManager::touch) does: written only now and then, and without waiting for the disk.
    ///
    /// A client pings after silence. Where the server sends by itself, call this every 25 s, and send the answer or leave it.
    ///
    /// # Errors
    /// As those of [`save`](Self::save) that are not about the state, and to be closed with in the same way.
    pub async fn ping(&self, sessions: &SessionManager) -> Result<String> {
        sessions.touch_owned(&self.token, self.version).await?;
        Ok(write::pong())
    }

    /// Ends the session, durably: the client left. Its tokens lead nowhere afterwards.
    ///
    /// # Errors
    /// As [`SessionManager::delete`].
    pub async fn end(self, sessions: &SessionManager) -> Result<()> {
        sessions.delete(&self.token).await
    }
}

/// Without the state.
impl<T> fmt::Debug for LiveSession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSession")
            .field("status", &self.status)
            .field("token", &self.token)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
