//! The ring as tokens use it: one subkey for each use, found by the id in the token.

use parking_lot::Mutex;
use resurge_seal::{Context, KeyId, KeyRing, KeyState, SealError};
use resurge_store::{Clock, Monotonic};
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

type Subkey = Zeroizing<[u8; 32]>;

#[derive(Debug)]
pub(crate) struct Keys {
    ring: KeyRing,
    reloaded: Mutex<Option<Monotonic>>,
}

impl Keys {
    pub(crate) fn new(ring: KeyRing) -> Result<Self> {
        let keys = Self { ring, reloaded: Mutex::new(None) };
        let unusable = |_| SessionError::config("the ring has no active key at hand");
        let active = keys.active().map_err(unusable)?;
        keys.ring.derive(active, MAC).map_err(|e| unusable(SessionError::of_key(e)))?;
        Ok(keys)
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The key new tokens are made with.
    pub(crate) fn active(&self) -> Result<KeyId> {
        self.ring.active_id().ok_or(SessionError::UnknownKey)
    }

    /// A subkey, for making something.
    pub(crate) fn derive(&self, id: impl Into<KeyId>, label: &str) -> Result<Subkey> {
        self.ring.derive(id, label).map_err(SessionError::of_key)
    }

    /// A subkey, for checking something that names this key. A ring that others may have changed is read again
    /// before an unknown key is refused.
    pub(crate) async fn find(&self, id: u32, label: &str, clock: &dyn Clock) -> Result<Subkey> {
        match self.ring.derive(id, label) {
            Err(SealError::UnknownKey { .. }) if self.may_reload(clock) => {
                // A ring in memory has nothing to read; the key stays unknown.
                let reloaded = self.ring.reload().await;
                if let Err(error) = reloaded {
                    tracing::debug!(kind = %error.kind(), "the key ring was not read again");
                } else if let Err(error) = self.ring.ready_for(id).await {
                    return Err(SessionError::of_key(error));
                }
                self.derive(id, label)
            }
            Err(SealError::KeyUnavailable { .. }) => {
                self.ring.ready_for(id).await.map_err(SessionError::of_key)?;
                self.derive(id, label)
            }
            other => other.map_err(SessionError::of_key),
        }
    }

    /// Every key that may check, the active one first; for tokens that do not name theirs.
    pub(crate) fn checking(&self) -> Vec<KeyId> {
        let mut keys = self.ring.keys();
        keys.retain(|key| matches!(key.state, KeyState::Active | KeyState::VerifyOnly));
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
        self.ring.seal(context, plain).map_err(SessionError::of_key)
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
