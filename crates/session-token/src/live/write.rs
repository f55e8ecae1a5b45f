//! Frames to clients. Those with a token are as secret as it.

use serde::Serialize;

use super::RESERVED;
use super::error::FrameError;
use super::session::JoinStatus;
use crate::error::{Result, SessionError};
use crate::token::Token;

#[derive(Serialize)]
struct Frame<'a, T: Serialize> {
    event: &'a str,
    payload: T,
}

#[derive(Serialize)]
struct Joined<'a, T: Serialize> {
    #[serde(rename = "_recovery")]
    recovery: &'a str,
    status: JoinStatus,
    state: T,
}

#[derive(Serialize)]
struct Changed<'a> {
    #[serde(rename = "_recovery")]
    recovery: &'a str,
}

/// The answer to a join: the token from now on, whether the session is an old one, and what the client is shown of its state.
///
/// ```
/// use resurge_session_token::live::{self, JoinStatus};
/// let frame = live::joined(&"st1.AQEB".into(), JoinStatus::Recovered, &7)?;
/// assert_eq!(frame, r#"{"event":"joined","payload":{"_recovery":"st1.AQEB","status":"recovered","state":7}}"#);
/// # Ok::<(), resurge_session_token::SessionError>(())
/// ```
///
/// # Errors
/// `Encode` when the state refuses to be serialised.
pub fn joined<T: Serialize + ?Sized>(
    token: &Token,
    status: JoinStatus,
    state: &T,
) -> Result<String> {
    let payload = Joined { recovery: token.expose(), status, state };
    serde_json::to_string(&Frame { event: "joined", payload }).map_err(|_| SessionError::Encode)
}

/// Tells the client that its token is another one from now on.
///
/// ```
/// use resurge_session_token::live;
/// assert_eq!(live::token(&"st1.AQEB".into())?, r#"{"event":"token","payload":{"_recovery":"st1.AQEB"}}"#);
/// # Ok::<(), resurge_session_token::SessionError>(())
/// ```
///
/// # Errors
/// None that can happen; `Encode`.
pub fn token(token: &Token) -> Result<String> {
    let payload = Changed { recovery: token.expose() };
    serde_json::to_string(&Frame { event: "token", payload }).map_err(|_| SessionError::Encode)
}

/// The answer to a ping, for connections without a session. With one, [`LiveSession::ping`](super::LiveSession::ping) also
/// checks that it is still theirs.
///
/// ```
/// assert_eq!(resurge_session_token::live::pong(), r#"{"event":"pong"}"#);
/// ```
pub fn pong() -> String {
    r#"{"event":"pong"}"#.to_owned()
}

/// An event of the application.
///
/// ```
/// use resurge_session_token::live;
/// assert_eq!(live::event("count", &7).as_deref(), Ok(r#"{"event":"count","payload":7}"#));
/// assert_eq!(live::event("token", &7), Err(live::FrameError::Reserved));
/// ```
///
/// # Errors
/// `Reserved` for the names of the protocol, and for none; `Encode`.
pub fn event<T: Serialize + ?Sized>(name: &str, payload: &T) -> Result<String, FrameError> {
    if name.is_empty() || RESERVED.contains(&name) {
        return Err(FrameError::Reserved);
    }
    serde_json::to_string(&Frame { event: name, payload }).map_err(|_| FrameError::Encode)
}
