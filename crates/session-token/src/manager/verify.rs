//! From a text to what may be believed of it, in the order that gives nothing away: shape, key, MAC, and only
//! then purpose, binding and times.

use std::sync::Arc;
use std::time::Duration;

use resurge_seal::pae;
use zeroize::Zeroizing;

use super::{Core, SessionManager};
use crate::error::{Result, SessionError};
use crate::keys::{BIND, COMPACT, KeyedMac, MAC};
use crate::policy::TokenKind;
use crate::record_id::RecordId;
use crate::token::{CompactToken, Header, PREFIX, SealedToken, SignedToken, Token, binding_tag};

/// An authentic token whose time is not over.
pub(super) struct Verified {
    pub(super) id: RecordId,
    pub(super) generation: u32,
    pub(super) key_id: u32,
    pub(super) epoch: Option<u64>,
    /// The state in it, encoded, behind its schema and codec.
    pub(super) sealed: Option<Zeroizing<Vec<u8>>>,
    pub(super) compact: Option<CompactToken>,
}

impl SessionManager {
    pub(super) async fn verify(&self, token: &Token) -> Result<Verified> {
        let core = &self.core;
        let text = token.expose();
        let mut verified = match core.options.kind {
            TokenKind::Compact48 => self.verify_compact(text).await?,
            TokenKind::Reference => {
                let parsed = SignedToken::parse(text)?;
                let mac = core.find(parsed.key_id(), MAC).await?;
                self.admit(parsed.verify(&mac)?, None).await?
            }
            TokenKind::SealedState => {
                let max = core.options.max_token_len;
                let parsed = SealedToken::parse(text, max)?;
                let (header, body) = parsed.parts();
                let (aad, clock) = (self.seal_aad(header), core.backend.clock().as_ref());
                let state = core.keys.open_body(parsed.key_id(), &aad, body, clock).await?;
                self.admit(parsed.opened(), Some(state)).await?
            }
        };
        core.keys.refresh().await;
        verified.epoch = token.epoch;
        core.keys.count_use(verified.key_id, &core.metrics);
        Ok(verified)
    }

    /// What a sealed state is bound to.
    pub(super) fn seal_aad(&self, header: &[u8]) -> Vec<u8> {
        let binding = self.binding.as_deref().unwrap_or_default();
        pae(&[PREFIX.as_bytes(), header, self.core.options.purpose.as_bytes(), binding])
    }

    /// Purpose, binding, times.
    async fn admit(&self, header: Header, sealed: Option<Zeroizing<Vec<u8>>>) -> Result<Verified> {
        let core = &self.core;
        if header.purpose != core.purpose_tag {
            return Err(SessionError::WrongPurpose);
        }
        match (&header.binding, self.binding.as_deref()) {
            (None, None) if !core.options.require_binding => {}
            (Some(tag), Some(context)) => {
                use ctutils::CtEq;
                let mac = core.find(header.key_id, BIND).await?;
                if !binding_tag(&mac, context).ct_eq(tag).to_bool() {
                    return Err(SessionError::WrongBinding);
                }
            }
            _ => return Err(SessionError::WrongBinding),
        }
        core.check_times(header.issued_at, header.expires_at)?;
        Ok(Verified {
            id: header.id,
            generation: header.generation,
            key_id: header.key_id,
            epoch: None,
            sealed,
            compact: None,
        })
    }

    async fn verify_compact(&self, text: &str) -> Result<Verified> {
        let core = &self.core;
        let (token, tag) = CompactToken::parse(text)?;
        if self.binding.is_some() {
            return Err(SessionError::WrongBinding);
        }
        for key in core.keys.checking() {
            let mac = core.find(key.0, COMPACT).await?;
            if token.verify(&core.options.purpose, &mac, &tag).is_ok() {
                let issued = token.issued_at();
                let end = issued.saturating_add(core.options.lifetime.absolute);
                core.check_times(issued, end)?;
                return Ok(Verified {
                    id: token.id(),
                    generation: 0,
                    key_id: key.0,
                    epoch: None,
                    sealed: None,
                    compact: Some(token),
                });
            }
        }
        Err(SessionError::InvalidSignature)
    }
}

impl Core {
    async fn find(&self, key: u32, label: &str) -> Result<Arc<KeyedMac>> {
        self.keys.find(key, label, self.backend.clock().as_ref()).await
    }

    /// Valid from `issued_at` less the leeway, and before `expires_at`.
    fn check_times(&self, issued_at: u64, expires_at: u64) -> Result<()> {
        let now = self.now();
        let leeway = u64::try_from(self.options.leeway.as_millis()).unwrap_or(u64::MAX);
        if issued_at > now.saturating_add(leeway) {
            return Err(SessionError::NotYetValid);
        }
        ended(now, expires_at)
    }
}

/// `Expired` from `end` on.
pub(super) fn ended(now: u64, end: u64) -> Result<()> {
    match now.checked_sub(end) {
        Some(since) => Err(SessionError::Expired { since: Duration::from_millis(since) }),
        None => Ok(()),
    }
}

/// `schema u32 || codec u8 || state`, in a token; empty before the first save.
pub(super) fn split_sealed(plain: &[u8]) -> Option<(u32, u8, &[u8])> {
    let (schema, rest) = plain.split_first_chunk::<4>()?;
    let (codec, state) = rest.split_first()?;
    Some((u32::from_be_bytes(*schema), *codec, state))
}
