//! The first message of a live connection.

use serde::Deserialize;

use super::read::is_object;
use crate::token::Token;

/// A longer message is no join; it would only be parsed to be refused. In bytes.
const MAX_MESSAGE: usize = 1 << 20;

#[derive(Deserialize)]
struct Join {
    #[serde(default, rename = "_recovery")]
    recovery: Option<String>,
    #[serde(default)]
    payload: Option<Payload>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default, rename = "_recovery")]
    recovery: Option<String>,
}

/// The token in the first message of a WebSocket: its field `_recovery`, or that of its `payload`. `None` when there is
/// none, or when the message is no JSON object of at most 1 MiB; everything else in it is left alone. For protocols of your own; that of
/// [`CLIENT_JS`](super::CLIENT_JS) is read by [`Join`](super::Join).
///
/// ```
/// use resurge_session_token::join_token;
/// let message = r#"{"event": "join", "payload": {"view": 7, "_recovery": "st1.AQEB"}}"#;
/// assert_eq!(join_token(message).unwrap().expose(), "st1.AQEB");
/// assert!(join_token(r#"{"event": "join"}"#).is_none());
/// ```
pub fn join_token(message: &str) -> Option<Token> {
    if message.len() > MAX_MESSAGE || !is_object(message) {
        return None;
    }
    let join: Join = serde_json::from_str(message).ok()?;
    let nested = join.payload.and_then(|payload| payload.recovery);
    join.recovery.or(nested).filter(|text| !text.is_empty()).map(Token::from)
}
