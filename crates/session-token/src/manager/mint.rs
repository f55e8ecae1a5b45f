//! Making the text of a token. A successor is made from what is stored, so asking again gives the same text.

use resurge_seal::KeyId;
use zeroize::Zeroizing;

use super::SessionManager;
use crate::error::{Result, SessionError};
use crate::keys::{BIND, MAC};
use crate::policy::TokenKind;
use crate::record_id::RecordId;
use crate::stored::StoredSession;
use crate::token::{Header, KIND_REFERENCE, KIND_SEALED, Token, binding_tag, sign, text};

impl SessionManager {
    /// The current token of a session. `state`: what goes into it, for those that carry it.
    pub(super) fn mint(
        &self,
        id: RecordId,
        session: &StoredSession,
        state: Option<(u32, u8, &[u8])>,
    ) -> Result<Token> {
        let core = &self.core;
        let key = KeyId(session.generation_key);
        let binding = match self.binding.as_deref() {
            None => None,
            Some(context) => Some(binding_tag(&*core.keys.mac(key, BIND)?, context)),
        };
        let sealed = core.options.kind == TokenKind::SealedState;
        let header = Header {
            kind: if sealed { KIND_SEALED } else { KIND_REFERENCE },
            key_id: key.0,
            id,
            purpose: core.purpose_tag,
            issued_at: session.generation_issued,
            expires_at: session.absolute,
            generation: session.generation,
            binding,
        };
        let text = if sealed {
            let plain = state.map_or_else(Zeroizing::default, |(schema, codec, state)| {
                let mut plain = Zeroizing::new(Vec::with_capacity(5 + state.len()));
                plain.extend_from_slice(&schema.to_be_bytes());
                plain.push(codec);
                plain.extend_from_slice(state);
                plain
            });
            let mut body = Vec::new();
            header.encode(&mut body);
            let aad = self.seal_aad(&body);
            body.extend_from_slice(&core.keys.seal_body(key, &aad, &plain)?);
            let (text, limit) = (text(&body)?, core.options.max_token_len);
            if text.len() > limit {
                return Err(SessionError::TooLarge { len: text.len(), limit });
            }
            text
        } else {
            sign(&header, &*core.keys.mac(key, MAC)?)?
        };
        Ok(Token::owned(text, session.epoch))
    }
}
