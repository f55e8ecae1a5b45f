//! The key ring: every key there is or was, and the one that seals.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use resurge_store::{Clock, Entropy, Key, Monotonic, Store};
use zeroize::Zeroizing;

mod builder;
mod change;
mod meta;
mod passphrase;
mod wrap;

pub use builder::RingBuilder;
pub(crate) use meta::{MAX_NAME_LEN, NAMESPACE};
pub use passphrase::{KdfParams, Passphrase};
pub use wrap::{KeyWrap, WrapContext, WrapError};

use crate::cipher::{self, SALT_LEN};
use crate::envelope::{self, Envelope, OVERHEAD};
use crate::material::{KEY_LEN, Material};
use crate::metrics::Metrics;
use crate::{Context, Result, SealError};
use meta::{Meta, MetaKey};
use wrap::Wrapping;

/// The number of a key, unique in its ring for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl From<u32> for KeyId {
    fn from(id: u32) -> Self {
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// Seals and opens. At most one key of a ring.
    Active,
    /// Opens. New keys, and those another one was promoted over.
    VerifyOnly,
    /// Does nothing until the revocation is taken back.
    Revoked,
    /// Gone for ever; only its id and the reason are kept.
    Destroyed,
}

/// What is known about a key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its number.
    pub id: KeyId,
    /// What it may do.
    pub state: KeyState,
    /// Whether its bytes are at hand.
    pub at_hand: bool,
    /// Why it was revoked or destroyed; otherwise empty.
    pub reason: Arc<str>,
}

/// The keys values are sealed and opened with. Cheap to clone; clones share keys and states, and a change
/// through one is seen by all at once.
///
/// Key bytes come from outside at every start and are never stored in clear; a ring that was
/// [opened](RingBuilder::open) on a store keeps their states, check values and passphrase parameters there.
///
/// ```
/// use resurge_seal::{Context, KeyRing};
/// let ring = KeyRing::from_bytes(1, &[0x5a, 0x17, 0x33, 0x90].repeat(8))?;
/// let context = Context::new("order-42", "ctx", "password");
/// let envelope = ring.seal(&context, b"hunter2")?;
/// assert_eq!(ring.open(&context, &envelope)?.as_slice(), b"hunter2");
///
/// let elsewhere = Context::new("order-43", "ctx", "password");
/// assert!(ring.open(&elsewhere, &envelope).is_err());
/// # Ok::<(), resurge_seal::SealError>(())
/// ```
#[derive(Clone)]
pub struct KeyRing {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    keys: RwLock<Keys>,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    /// Where the metadata are kept; `None` for a ring in memory.
    home: Option<(Store, Key)>,
    wrapping: Option<Wrapping>,
    /// One change at a time.
    change: tokio::sync::Mutex<()>,
    metrics: Metrics,
}

/// States, and the keys that are at hand.
struct Keys {
    meta: Meta,
    held: BTreeMap<KeyId, Held>,
}

struct Held {
    material: Arc<Material>,
    /// When it was unwrapped, for a key that must be unwrapped again.
    unwrapped: Option<Monotonic>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("name", &self.shared.name)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

impl KeyRing {
    /// A ring of one key, in memory: 32 bytes from a secret store, or more.
    ///
    /// # Errors
    /// `Invalid` for fewer than 32 bytes, more than 1,024, or one byte repeated.
    pub fn from_bytes(id: impl Into<KeyId>, key: &[u8]) -> Result<Self> {
        Self::builder().key(id, key)?.build()
    }

    /// The same from strict, padded base64.
    ///
    /// # Errors
    /// `Invalid`, without the text, when it is none or too short.
    pub fn from_base64(id: impl Into<KeyId>, key: &str) -> Result<Self> {
        Self::builder().base64(id, key)?.build()
    }

    /// The ring in memory that an environment variable holds: `id:base64`, several separated by commas,
    /// the first one active.
    ///
    /// # Errors
    /// `Invalid`, without its content, when it is missing or malformed.
    pub fn from_env(variable: &str) -> Result<Self> {
        Self::builder().env(variable)?.build()
    }

    /// The ring `name` of `store` with one key from a passphrase: made at the first call, checked
    /// against what is stored at every later one.
    ///
    /// # Errors
    /// `WrongKey` for another passphrase; what [`RingBuilder::open`] says.
    pub async fn from_passphrase(
        store: &Store,
        name: &str,
        id: impl Into<KeyId>,
        passphrase: Passphrase,
    ) -> Result<Self> {
        Self::builder().passphrase(id, passphrase).open(store, name).await
    }

    /// Several keys, passphrases, a key service.
    pub fn builder() -> RingBuilder {
        RingBuilder::new()
    }

    /// Its name; empty for a ring in memory.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The key that seals.
    pub fn active_id(&self) -> Option<KeyId> {
        self.shared.keys.read().meta.active()
    }

    /// What the key may do; `None` when the ring never had it.
    pub fn state(&self, id: impl Into<KeyId>) -> Option<KeyState> {
        self.shared.keys.read().meta.keys.get(&id.into()).map(|key| key.state)
    }

    /// Every key there is or was, by id.
    pub fn keys(&self) -> Vec<KeyInfo> {
        let keys = self.shared.keys.read();
        let info = |(id, key): (&KeyId, &MetaKey)| KeyInfo {
            id: *id,
            state: key.state,
            at_hand: keys.held.contains_key(id),
            reason: Arc::clone(&key.reason),
        };
        keys.meta.keys.iter().map(info).collect()
    }

    /// Seals a value with the active key: `plain` comes back only from [`open`](Self::open) with the same
    /// context. Sealing the same value twice gives different bytes.
    ///
    /// # Errors
    /// `NoKey` without an active key, `KeyUnavailable`, or no randomness.
    pub fn seal(&self, context: &Context<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.seal_into(context, plain, 0, &mut out)?;
        Ok(out)
    }

    /// The same, with the value first padded to the next multiple of `pad_to` bytes, so that the length
    /// of the result tells little; 0 for no padding. Appends to `out`, or leaves it as it was.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_into(
        &self,
        context: &Context<'_>,
        plain: &[u8],
        pad_to: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(id) = self.active_id() else {
            return Err(SealError::NoKey { at: context.place(), key: None });
        };
        let material = self.material(id, Some(context))?;
        let mut salt = [0; SALT_LEN];
        self.shared.entropy.fill(&mut salt)?;
        envelope::seal(id, material.field(), context, &salt, pad_to, plain, out).map_err(|_| {
            SealError::invalid(format!("{context} is too long to be sealed: {} bytes", plain.len()))
        })?;
        self.shared.metrics.sealed.increment(1);
        Ok(())
    }

    /// Opens an envelope. What it returns is wiped when dropped.
    ///
    /// # Errors
    /// `Malformed`; what [`derive`](Self::derive) says about the key; `NotAuthentic` when it does not open here.
    pub fn open(&self, context: &Context<'_>, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let envelope = Envelope::parse(envelope)
            .map_err(|what| SealError::Malformed { at: context.place(), what })?;
        let key = envelope.key();
        let material = self.material(key, Some(context))?;
        let opened = envelope
            .open(material.field(), context)
            .map_err(|_| SealError::NotAuthentic { at: context.place(), key })?;
        self.shared.metrics.opened.increment(1);
        Ok(opened)
    }

    /// Seals anew, with the active key, for another place: a copied run needs it for each value.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`seal`](Self::seal).
    pub fn reseal(&self, from: &Context<'_>, to: &Context<'_>, envelope: &[u8]) -> Result<Vec<u8>> {
        self.seal(to, &self.open(from, envelope)?)
    }

    /// Seals anew with the active key, for the same place, keeping what padding there is.
    pub(crate) fn reseal_same(&self, context: &Context<'_>, envelope: &[u8]) -> Result<Vec<u8>> {
        let padded = Envelope::parse(envelope).is_ok_and(|envelope| envelope.is_padded());
        let plain = self.open(context, envelope)?;
        // The bucket is not stored; the padded length is a multiple of it.
        let pad_to = if padded { envelope.len() - OVERHEAD } else { 0 };
        let mut out = Vec::new();
        self.seal_into(context, &plain, pad_to, &mut out)?;
        Ok(out)
    }

    /// The subkey of a label, `HKDF-Expand(key, label, 32)`, for whoever needs a key of their own from this
    /// ring. One label for one use.
    ///
    /// # Errors
    /// `UnknownKey`, `KeyRevoked`, `KeyDestroyed`, `KeyUnavailable`; `Invalid` for a label of this crate.
    ///
    /// ```
    /// # use resurge_seal::KeyRing;
    /// let ring = KeyRing::from_bytes(7, &[1, 2, 3, 4].repeat(8))?;
    /// assert_ne!(ring.derive(7, "app/mac")?, ring.derive(7, "app/bind")?);
    /// # Ok::<(), resurge_seal::SealError>(())
    /// ```
    pub fn derive(&self, id: impl Into<KeyId>, label: &str) -> Result<Zeroizing<[u8; KEY_LEN]>> {
        self.material(id.into(), None)?.subkey(label.as_bytes())
    }

    /// Something made of the subkey of a label, such as a MAC that is keyed already. Made once, then kept as long as
    /// the key is at hand; whether the key may be used is looked at each time. It should wipe itself when
    /// dropped, and not be kept by the caller.
    ///
    /// # Errors
    /// As [`derive`](Self::derive).
    ///
    /// ```
    /// # use resurge_seal::KeyRing;
    /// let ring = KeyRing::from_bytes(7, &[1, 2, 3, 4].repeat(8))?;
    /// let made = ring.prepared(7, "app/mac", |subkey| subkey.map(|byte| byte ^ 0x36))?;
    /// let again = ring.prepared(7, "app/mac", |_| [0_u8; 32])?; // not called
    /// assert_eq!(made, again);
    /// # Ok::<(), resurge_seal::SealError>(())
    /// ```
    pub fn prepared<T: Send + Sync + 'static>(
        &self,
        id: impl Into<KeyId>,
        label: &str,
        build: impl FnOnce(&[u8; KEY_LEN]) -> T,
    ) -> Result<Arc<T>> {
        self.material(id.into(), None)?.prepared(label.as_bytes(), build)
    }

    /// The subkey of a label, kept.
    fn subkey(&self, id: KeyId, label: &str) -> Result<Arc<Zeroizing<[u8; KEY_LEN]>>> {
        self.prepared(id, label, |subkey| Zeroizing::new(*subkey))
    }

    /// Seals a message of another layout under a subkey of its own: `salt 24 || commitment 32 ||
    /// ciphertext || tag 16`, the same construction as an envelope, with `label` for the subkey and as info.
    /// `aad` is authenticated and not in the result: put the key's id there, and everything the message is
    /// bound to, encoded without ambiguity.
    ///
    /// # Errors
    /// As [`derive`](Self::derive); no randomness.
    pub fn seal_body(
        &self,
        id: impl Into<KeyId>,
        label: &str,
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        let key = self.subkey(id.into(), label)?;
        let mut salt = [0; SALT_LEN];
        self.shared.entropy.fill(&mut salt)?;
        let mut out = Vec::new();
        let fill = |out: &mut Vec<u8>| out.extend_from_slice(plain);
        cipher::seal(&key, label.as_bytes(), aad, &salt, plain.len(), &mut out, fill)
            .map_err(|_| SealError::invalid("a message that is too long to be sealed"))?;
        self.shared.metrics.sealed.increment(1);
        Ok(out)
    }

    /// Opens what [`seal_body`](Self::seal_body) made.
    ///
    /// # Errors
    /// As [`derive`](Self::derive); `BodyNotAuthentic`.
    pub fn open_body(
        &self,
        id: impl Into<KeyId>,
        label: &str,
        aad: &[u8],
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let id = id.into();
        let key = self.subkey(id, label)?;
        let opened = cipher::open(&key, label.as_bytes(), aad, body)
            .map_err(|_| SealError::BodyNotAuthentic { key: id })?;
        self.shared.metrics.opened.increment(1);
        Ok(opened)
    }

    /// A key that may open now.
    fn material(&self, id: KeyId, at: Option<&Context<'_>>) -> Result<Arc<Material>> {
        let keys = self.shared.keys.read();
        let place = || at.map(Context::place);
        let Some(key) = keys.meta.keys.get(&id) else {
            return Err(self.unknown(&keys, id, at));
        };
        match key.state {
            KeyState::Active | KeyState::VerifyOnly => {}
            KeyState::Revoked => {
                let reason = Arc::clone(&key.reason);
                return Err(SealError::KeyRevoked { at: place(), key: id, reason });
            }
            KeyState::Destroyed => {
                let reason = Arc::clone(&key.reason);
                return Err(SealError::KeyDestroyed { at: place(), key: id, reason });
            }
        }
        match keys.held.get(&id) {
            Some(held) if !self.is_stale(held) => Ok(Arc::clone(&held.material)),
            Some(_) => {
                drop(keys);
                self.evict_stale();
                Err(Self::unavailable(id, at))
            }
            None if matches!(key.source, meta::Source::Wrapped(_)) => {
                Err(Self::unavailable(id, at))
            }
            None => Err(self.unknown(&keys, id, at)),
        }
    }

    fn unavailable(key: KeyId, at: Option<&Context<'_>>) -> SealError {
        let why = "it has to be unwrapped again".into();
        SealError::KeyUnavailable { at: at.map(Context::place), key, why }
    }

    fn unknown(&self, keys: &Keys, key: KeyId, at: Option<&Context<'_>>) -> SealError {
        let held: Vec<String> = keys.held.keys().map(KeyId::to_string).collect();
        let known = if held.is_empty() { "no key".into() } else { held.join(", ").into() };
        let (at, ring) = (at.map(Context::place), Arc::clone(&self.shared.name));
        SealError::UnknownKey { at, key, ring, known }
    }

    fn new(
        name: Arc<str>,
        keys: Keys,
        home: Option<(Store, Key)>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
        wrapping: Option<Wrapping>,
    ) -> Self {
        let shared = Shared {
            name,
            keys: RwLock::new(keys),
            entropy,
            clock,
            home,
            wrapping,
            change: tokio::sync::Mutex::new(()),
            metrics: Metrics::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn revision(&self) -> u64 {
        self.shared.keys.read().meta.revision
    }
}
