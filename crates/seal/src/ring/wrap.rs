//! Keys that a key service wraps: generated here, stored wrapped, unwrapped at open and again when old.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{BoxFuture, Monotonic};
use zeroize::Zeroizing;

use super::meta::{MAX_WRAPPED_LEN, Source};
use super::{Held, KeyId, KeyRing, KeyState};
use crate::material::{KEY_LEN, Material};
use crate::{Result, SealError};

/// Why a key service did not do it. Its text must not hold key material.
pub type WrapError = Box<dyn std::error::Error + Send + Sync>;

/// What a wrapped key is bound to; services call it encryption context or associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrapContext<'a> {
    /// The ring.
    pub ring: &'a str,
    /// The key.
    pub key: KeyId,
}

/// A key service: wraps the keys this ring generates, so that the store holds them and cannot use them.
///
/// Called when a key is added, when the ring is opened, and when an unwrapped key has reached its maximal
/// age; never for a single value. Put a circuit breaker in front of it in here.
pub trait KeyWrap: Debug + Send + Sync + 'static {
    /// Encrypts a key.
    fn wrap<'a>(
        &'a self,
        key: &'a [u8; KEY_LEN],
        context: WrapContext<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, WrapError>>;

    /// Decrypts what [`wrap`](Self::wrap) returned.
    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: WrapContext<'a>,
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, WrapError>>;
}

#[derive(Debug)]
pub(super) struct Wrapping {
    pub(super) service: Arc<dyn KeyWrap>,
    pub(super) max_age: Duration,
    /// When each key was last asked for in vain. Held while asking.
    failed: tokio::sync::Mutex<BTreeMap<KeyId, (Monotonic, SealError)>>,
}

impl Wrapping {
    pub(super) fn new(service: Arc<dyn KeyWrap>, max_age: Duration) -> Self {
        Self { service, max_age, failed: tokio::sync::Mutex::default() }
    }
}

/// How long a failing service is left alone.
const RETRY: Duration = Duration::from_secs(1);

impl KeyRing {
    /// Generates a key, has it wrapped, stores it, has what is stored unwrapped again, and adds it as
    /// [`add`](Self::add) does.
    ///
    /// # Errors
    /// `KeyUnavailable` when the service fails; `WrongKey` when it unwraps to something else; `Invalid`
    /// without a service; as [`add`](Self::add).
    pub async fn add_wrapped(&self, id: impl Into<KeyId>) -> Result<()> {
        let id = id.into();
        let wrapping = self.wrapping()?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        self.shared.entropy.fill(key.as_mut())?;
        let context = WrapContext { ring: &self.shared.name, key: id };
        let wrapped = wrapping.service.wrap(&key, context).await;
        let wrapped = wrapped.map_err(|e| self.failed(id, &e))?;
        if wrapped.len() > MAX_WRAPPED_LEN {
            let what =
                format!("a wrapped key of {} bytes; {MAX_WRAPPED_LEN} are allowed", wrapped.len());
            return Err(SealError::invalid(what));
        }
        let made = Material::new(key.as_ref())?;
        // ORDER: proven to come back before anything can be sealed with it.
        let material = self.unwrap_key(wrapping, id, &wrapped).await?;
        if !material.has_kcv(&made.kcv()?)? {
            return Err(SealError::WrongKey { ring: Arc::clone(&self.shared.name), key: id });
        }
        self.admit(id, material, Source::Wrapped(Bytes::from(wrapped))).await
    }

    /// Resolves when the key that seals is at hand, having wrapped keys unwrapped that are not, or that
    /// have reached half of their maximal age. Costs nothing without a key service. Await it before
    /// work that seals, and after `KeyUnavailable`.
    ///
    /// However many wait, the service is asked once, and not again within a second after it failed.
    ///
    /// # Errors
    /// `KeyUnavailable` when the service fails (retry later), `WrongKey` when it answers with another key;
    /// for keys that only open, the failure shows when they are needed.
    pub async fn ready(&self) -> Result<()> {
        let Some(wrapping) = &self.shared.wrapping else { return Ok(()) };
        if self.wanted().is_empty() {
            return Ok(());
        }
        let mut failed = wrapping.failed.lock().await;
        // Those who waited for the lock find it done.
        for id in self.wanted() {
            let now = self.shared.clock.monotonic();
            if failed.get(&id).is_some_and(|(at, _)| now.saturating_since(*at) < RETRY) {
                continue;
            }
            failed.remove(&id);
            if let Err(e) = self.refresh(id).await {
                tracing::warn!(ring = %self.shared.name, key = %id, error = %e, "not unwrapped");
                failed.insert(id, (now, e));
            }
        }
        match self.active_id() {
            Some(active) if self.material(active, None).is_err() => {
                failed.get(&active).map_or(Ok(()), |(_, e)| Err(e.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Has one key unwrapped now, whatever its age: to open what said `KeyUnavailable`.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn ready_for(&self, id: impl Into<KeyId>) -> Result<()> {
        self.refresh(id.into()).await
    }

    /// Wrapped keys that should be unwrapped now.
    fn wanted(&self) -> Vec<KeyId> {
        let keys = self.shared.keys.read();
        let useful = keys.meta.keys.iter().filter(|(id, key)| {
            let in_use = matches!(key.state, KeyState::Active | KeyState::VerifyOnly);
            let wrapped = matches!(key.source, Source::Wrapped(_));
            in_use && wrapped && keys.held.get(id).is_none_or(|held| self.is_older(held, 2))
        });
        useful.map(|(id, _)| *id).collect()
    }

    async fn refresh(&self, id: KeyId) -> Result<()> {
        let entry = self.shared.keys.read().meta.keys.get(&id).cloned();
        let Some(entry) = entry else {
            return Err(self.unknown(&self.shared.keys.read(), id, None));
        };
        let Source::Wrapped(wrapped) = &entry.source else { return Ok(()) };
        let material = self.unwrap_key(self.wrapping()?, id, wrapped).await?;
        if !material.has_kcv(&entry.kcv)? {
            return Err(SealError::WrongKey { ring: Arc::clone(&self.shared.name), key: id });
        }
        let mut keys = self.shared.keys.write();
        // Destroyed meanwhile: stays so.
        if keys.meta.keys.get(&id).is_some_and(|key| key.state != KeyState::Destroyed) {
            let unwrapped = Some(self.shared.clock.monotonic());
            keys.held.insert(id, Held { material: Arc::new(material), unwrapped });
        }
        Ok(())
    }

    async fn unwrap_key(&self, by: &Wrapping, id: KeyId, wrapped: &[u8]) -> Result<Material> {
        let context = WrapContext { ring: &self.shared.name, key: id };
        let key = by.service.unwrap(wrapped, context).await.map_err(|e| self.failed(id, &e))?;
        self.shared.metrics.unwrapped.increment(1);
        Material::new(&key)
    }

    fn wrapping(&self) -> Result<&Wrapping> {
        let none = || SealError::invalid("the ring has no key service");
        self.shared.wrapping.as_ref().ok_or_else(none)
    }

    fn failed(&self, key: KeyId, e: &WrapError) -> SealError {
        self.shared.metrics.unwrap_failures.increment(1);
        SealError::KeyUnavailable { at: None, key, why: e.to_string().into() }
    }

    pub(super) fn is_stale(&self, held: &Held) -> bool {
        self.is_older(held, 1)
    }

    /// Whether it was unwrapped longer than a part of the maximal age ago.
    fn is_older(&self, held: &Held, part: u32) -> bool {
        let (Some(since), Some(by)) = (held.unwrapped, &self.shared.wrapping) else { return false };
        self.shared.clock.monotonic().saturating_since(since) >= by.max_age / part
    }

    /// Forgets keys past their maximal age; what still uses one lets go of it soon.
    pub(super) fn evict_stale(&self) {
        self.shared.keys.write().held.retain(|_, held| !self.is_stale(held));
    }
}
