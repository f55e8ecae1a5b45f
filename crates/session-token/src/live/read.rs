//! Frames of clients: untrusted text. Its length is checked before anything else, and only what is asked for is decoded.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::FrameError;
use super::{PROTOCOL, RESERVED};
use crate::token::Token;

type Result<T> = std::result::Result<T, FrameError>;

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default)]
    v: Option<u32>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow, default, rename = "_recovery")]
    recovery: Option<Cow<'a, str>>,
}

impl<'a> Raw<'a> {
    fn read(text: &'a str, limit: usize) -> Result<Self> {
        if text.len() > limit {
            return Err(FrameError::TooLarge { len: text.len(), limit });
        }
        // The parser would take an array for an object, field by field.
        if !is_object(text) {
            return Err(FrameError::Malformed);
        }
        // ORDER: the parser's error is not taken along; it repeats what it stumbled over.
        let raw: Self = serde_json::from_str(text).map_err(|_| FrameError::Malformed)?;
        if raw.event.is_empty() { Err(FrameError::Malformed) } else { Ok(raw) }
    }
}

pub(super) fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
}

/// The first frame of a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Join<'a> {
    /// What the client holds, if anything. Nothing about it is checked yet.
    pub token: Option<Token>,
    /// What else the client says: an object, the token among it.
    pub params: Payload<'a>,
}

impl<'a> Join<'a> {
    /// Reads it. A frame of more than `limit` bytes is not looked at.
    ///
    /// ```
    /// use resurge_session_token::live::{FrameError, Join, MAX_FRAME};
    /// let join = Join::read(r#"{"event":"join","v":1,"payload":{"_recovery":"st1.AQEB","view":7}}"#, MAX_FRAME)?;
    /// assert_eq!(join.token.unwrap().expose(), "st1.AQEB");
    /// # #[derive(serde::Deserialize)] struct Params { view: u32 }
    /// assert_eq!(join.params.read::<Params>()?.view, 7);
    /// # Ok::<(), FrameError>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfTurn`](FrameError::OutOfTurn) when it is another frame, [`Version`](FrameError::Version) for a version that is not
    /// [`PROTOCOL`], `TooLarge`, `Malformed`; `Payload` for one that is no object, or whose token is no text.
    pub fn read(text: &'a str, limit: usize) -> Result<Self> {
        let raw = Raw::read(text, limit)?;
        if raw.event != "join" {
            return Err(FrameError::OutOfTurn);
        }
        match raw.v {
            None | Some(PROTOCOL) => {}
            Some(found) => return Err(FrameError::Version { found }),
        }
        let params = Payload(raw.payload);
        if raw.payload.is_some_and(|payload| !is_object(payload.get())) {
            return Err(FrameError::Payload);
        }
        let shown = match raw.payload {
            Some(_) => params.read::<Shown<'_>>()?.recovery,
            None => None,
        };
        let token = shown.filter(|text| !text.is_empty()).map(|text| Token::from(&*text));
        Ok(Self { token, params })
    }
}

/// A frame after the join.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientFrame<'a> {
    /// Is anybody there? [`LiveSession::ping`](super::LiveSession::ping) makes the answer.
    Ping,
    /// The client is done with its session: [end](super::LiveSession::end) it, and close with [`NORMAL`](super::close::NORMAL).
    Leave,
    /// Anything of the application.
    Event {
        /// Its name; none of [`RESERVED`].
        name: Cow<'a, str>,
        /// What it comes with.
        payload: Payload<'a>,
    },
}

impl<'a> ClientFrame<'a> {
    /// Reads it. A frame of more than `limit` bytes is not looked at.
    ///
    /// ```
    /// use resurge_session_token::live::{ClientFrame, FrameError, MAX_FRAME};
    /// match ClientFrame::read(r#"{"event":"add","payload":[1,2]}"#, MAX_FRAME)? {
    ///     ClientFrame::Event { name, payload } => {
    ///         assert_eq!((&*name, payload.read::<(u8, u8)>()?), ("add", (1, 2)));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), FrameError>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfTurn`](FrameError::OutOfTurn) for a second join, `Malformed` for a name that only servers use, `TooLarge`.
    pub fn read(text: &'a str, limit: usize) -> Result<Self> {
        let raw = Raw::read(text, limit)?;
        match &*raw.event {
            "ping" => Ok(Self::Ping),
            "leave" => Ok(Self::Leave),
            "join" => Err(FrameError::OutOfTurn),
            name if RESERVED.contains(&name) => Err(FrameError::Malformed),
            _ => Ok(Self::Event { name: raw.event, payload: Payload(raw.payload) }),
        }
    }
}

/// What came with an event: JSON that is well formed, and not decoded yet. Its `Debug` shows the length only.
#[derive(Clone, Copy)]
pub struct Payload<'a>(Option<&'a RawValue>);

impl<'a> Payload<'a> {
    /// Decodes it; one that is missing is `null`. Fields that `T` does not know are left alone, nesting deeper than 128 is
    /// refused.
    ///
    /// # Errors
    /// [`Payload`](FrameError::Payload) when it is no `T`.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T> {
        serde_json::from_str(self.text()).map_err(|_| FrameError::Payload)
    }

    /// Its text.
    pub fn text(&self) -> &'a str {
        self.0.map_or("null", RawValue::get)
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.text().len())
    }
}
