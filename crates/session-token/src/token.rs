//! The token: what a client holds.

use std::fmt;

use zeroize::Zeroizing;

mod base64url;
mod compact;
mod wire;

pub(crate) use compact::CompactToken;
pub(crate) use wire::{
    Header, KIND_REFERENCE, KIND_SEALED, PREFIX, SealedToken, SignedToken, binding_tag,
    purpose_tag, sign, text,
};

/// A token: hand [`expose`](Self::expose) to the client. Printing it shows no more than whose log line it is.
///
/// One that [`create`](crate::SessionManager::create), [`save`](crate::SessionManager::save) or
/// [`recover`](crate::SessionManager::recover) returned also remembers who owned the session then: saving with
/// it fails when somebody else recovered the session meanwhile. One made from text does not.
///
/// ```
/// use resurge_session_token::Token;
/// let token = Token::from("st1.AQEBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAA");
/// assert_eq!(format!("{token:?}"), "st1.a0a1a2a3\u{2026}");
/// ```
#[derive(Clone)]
pub struct Token {
    text: Zeroizing<String>,
    pub(crate) epoch: Option<u64>,
}

impl Token {
    pub(crate) fn owned(text: String, epoch: u64) -> Self {
        Self { text: Zeroizing::new(text), epoch: Some(epoch) }
    }

    /// Its text, which is all that is needed to get in.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        // What is too long for any token is not even copied; nothing at all is refused just the same.
        let text = if text.len() > MAX_TEXT { "" } else { text };
        Self { text: Zeroizing::new(text.to_owned()), epoch: None }
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self { text: Zeroizing::new(text), epoch: None }
    }
}

/// The longest text of any kind of token, whatever a manager allows, in bytes.
pub(crate) const MAX_TEXT: usize = 64 << 10;

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match wire::shown(&self.text) {
            Some(id) => write!(f, "st1.{:08x}\u{2026}", u32::from_be_bytes(id)),
            None => f.write_str("Token(\u{2026})"),
        }
    }
}

/// As `Debug`: a token is not printed by accident.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether both are the same text; for tests, and for clients.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        use ctutils::CtEq;
        self.text.as_bytes().ct_eq(other.text.as_bytes()).to_bool()
    }
}

impl Eq for Token {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_not_copied() {
        let longest = "A".repeat(MAX_TEXT);
        assert_eq!(Token::from(longest.as_str()).expose(), longest);
        assert_eq!(Token::from(format!("{longest}A").as_str()).expose(), "");
    }
}
