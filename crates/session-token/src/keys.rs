//! The ring as tokens use it: one subkey for each use, found by the id in the token.

use std::sync::Arc;

use hmac::{Hmac, KeyInit};
use parking_lot::Mutex;
use resurge_seal::{Context, KeyId, KeyRing, KeyState, SealError};
use resurge_store::{Clock, ErrorKind, Monotonic, StoreError};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Result, SessionError};
use crate::metrics::Metrics;

pub(crate) const MAC: &str = "st1/mac";
pub(crate) const BIND: &str = "st1/bind";
pub(crate) const SEAL: &str = "st1/seal";
pub(crate) const HASH: &str = "st1/hash";
pub(crate) const COMPACT: &str = "st1/compact48";
/// A ring is read again for an unknown key at most so often.
const RELOAD_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// HMAC-SHA256 with its key taken in, to be cloned for each message.
pub(crate) type KeyedMac = Hmac<Sha256>;

#[derive(Debug)]
pub(crate) struct Keys {
    ring: KeyRing,
    reloaded: Mutex<Option<Monotonic>>,
}

impl Keys {
    pub(crate) fn new(ring: KeyRing) -> Result<Self> {
        let keys = Self { ring, reloaded: Mutex::new(None) };
        let usable = keys.active().and_then(|active| keys.mac(active, MAC));
        usable.map_err(|_| SessionError::config("the ring has no active key at hand"))?;
        Ok(keys)
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The key new tokens are made with. That there is none, because it was revoked, is our trouble: it says
    /// nothing about a client's token.
    pub(crate) fn active(&self) -> Result<KeyId> {
        let none = || StoreError::new(ErrorKind::Unavailable, "the key ring has no active key");
        self.ring.active_id().ok_or_else(|| SessionError::Store(none()))
    }

    /// Has what must be unwrapped again unwrapped; nothing to do for most rings. Who then lacks a key says so itself.
    pub(crate) async fn refresh(&self) {
        if let Err(error) = self.ring.ready().await {
            tracing::warn!(kind = %error.kind(), "a key is not at hand");
        }
    }

    /// A subkey's MAC, for making something.
    pub(crate) fn mac(&self, id: impl Into<KeyId>, label: &str) -> Result<Arc<KeyedMac>> {
        let id = id.into();
        self.ring.prepared(id, label, keyed).map_err(|error| self.unmade(id, error))
    }

    /// Why nothing can be made with a key. That the active one is not at hand here is our trouble as well.
    fn unmade(&self, id: KeyId, error: SealError) -> SessionError {
        let absent = matches!(error, SealError::UnknownKey { .. } | SealError::NoKey { .. });
        if absent && self.ring.active_id().is_none_or(|active| active == id) {
            let what = "the ring's active key is not at hand";
            return SessionError::Store(StoreError::new(ErrorKind::Unavailable, what));
        }
        SessionError::of_key(error)
    }

    /// The sealed body of a token.
    pub(crate) fn seal_body(&self, id: KeyId, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        self.ring.seal_body(id, SEAL, aad, plain).map_err(|error| self.unmade(id, error))
    }

    /// A subkey's MAC, for checking something that names this key.
    pub(crate) async fn find(
        &self,
        id: u32,
        label: &str,
        clock: &dyn Clock,
    ) -> Result<Arc<KeyedMac>> {
        self.at_hand(clock, || self.ring.prepared(id, label, keyed)).await
    }

    /// Opens the sealed body of a token that names this key.
    pub(crate) async fn open_body(
        &self,
        id: u32,
        aad: &[u8],
        body: &[u8],
        clock: &dyn Clock,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.at_hand(clock, || self.ring.open_body(id, SEAL, aad, body)).await
    }

    /// What the attempt gives, which is made again if a key was not at hand: a ring that others may have changed is
    /// read again before an unknown key is refused, and a key that must be unwrapped again is.
    async fn at_hand<T>(
        &self,
        clock: &dyn Clock,
        attempt: impl Fn() -> std::result::Result<T, SealError>,
    ) -> Result<T> {
        match attempt() {
            Err(SealError::UnknownKey { .. }) if self.may_reload(clock) => {
                // A ring in memory has nothing to read; the key stays unknown.
                if let Err(error) = self.ring.reload().await {
                    tracing::debug!(kind = %error.kind(), "the key ring was not read again");
                }
                self.refresh().await;
            }
            // ORDER: asked for through the ring, which leaves a service alone that just failed. Anybody can
            // name a key.
            Err(SealError::KeyUnavailable { .. }) => self.refresh().await,
            other => return other.map_err(SessionError::of_key),
        }
        attempt().map_err(SessionError::of_key)
    }

    /// Every key that may check, the active one first; for tokens that do not name theirs. Not those whose bytes
    /// nobody supplied.
    pub(crate) fn checking(&self) -> Vec<KeyId> {
        let mut keys = self.ring.keys();
        keys.retain(|key| matches!(key.state, KeyState::Active | KeyState::VerifyOnly));
        keys.retain(|key| {
            !matches!(self.ring.prepared(key.id, COMPACT, keyed), Err(SealError::UnknownKey { .. }))
        });
        keys.sort_by_key(|key| key.state != KeyState::Active);
        keys.into_iter().map(|key| key.id).collect()
    }

    pub(crate) fn count_use(&self, id: u32, metrics: &Metrics) {
        match self.ring.state(id) {
            Some(KeyState::Active) => metrics.key_active.add(1),
            _ => metrics.key_verify_only.add(1),
        }
    }

    pub(crate) fn seal(&self, context: &Context<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        let active = self.active()?;
        self.ring.seal(context, plain).map_err(|error| self.unmade(active, error))
    }

    /// Opens what the store holds.
    pub(crate) fn open(&self, context: &Context<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.ring.open(context, sealed).map_err(|error| match error {
            SealError::NotAuthentic { .. } | SealError::Malformed { .. } => {
                SessionError::Corrupt("its state does not open")
            }
            other => SessionError::of_key(other),
        })
    }

    fn may_reload(&self, clock: &dyn Clock) -> bool {
        let (now, mut last) = (clock.monotonic(), self.reloaded.lock());
        if last.is_some_and(|last| now.saturating_since(last) < RELOAD_EVERY) {
            return false;
        }
        *last = Some(now);
        true
    }
}

pub(crate) fn keyed(subkey: &[u8; 32]) -> KeyedMac {
    // HMAC takes a shorter key as if zeros followed.
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(subkey).for_each(|(to, from)| *to = *from);
    KeyedMac::new((&*block).into())
}
