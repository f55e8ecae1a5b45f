//! Where a ring's keys come from, and how a ring is opened: everything checked before anything is used.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use resurge_store::{
    Batch, Durability, Entropy, ErrorKind, Guard, Key, OsEntropy, Record, Store, SystemClock,
};
use zeroize::Zeroizing;

use super::meta::{self, Meta, MetaKey, Source};
use super::passphrase::SALT_LEN;
use super::wrap::{KeyWrap, Wrapping};
use super::{Held, KeyId, KeyRing, KeyState, Keys, Passphrase};
use crate::material::Material;
use crate::{Result, SealError};

/// How often an open starts again because somebody else changed the ring meanwhile.
const ATTEMPTS: usize = 8;

enum Supplied {
    Key(Arc<Material>),
    Passphrase(Passphrase),
}

/// Collects keys, then makes or opens the ring. The first key given is active in a new ring.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_seal::SealError> {
/// use resurge_seal::{KeyRing, KeyState, Passphrase};
/// use resurge_store::Store;
/// let store = Store::memory();
/// let key = |n: u8| [n, 1, 2, 3].repeat(8);
/// let ring = KeyRing::builder().key(1, &key(1))?.open(&store, "main").await?;
/// assert_eq!(ring.active_id(), Some(1.into()));
///
/// // The next start brings a second key, then makes it the one that seals.
/// let ring = KeyRing::builder().key(2, &key(2))?.key(1, &key(1))?.open(&store, "main").await?;
/// assert_eq!(ring.state(2), Some(KeyState::VerifyOnly));
/// ring.promote(2).await?;
/// assert_eq!(ring.state(1), Some(KeyState::VerifyOnly));
/// # Ok(()) }
/// ```
#[must_use]
pub struct RingBuilder {
    supplied: Vec<(KeyId, Supplied)>,
    wrapping: Option<Wrapping>,
    entropy: Option<Arc<dyn Entropy>>,
}

impl fmt::Debug for RingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.supplied.iter().map(|(id, _)| id).collect();
        f.debug_struct("RingBuilder").field("keys", &ids).finish_non_exhaustive()
    }
}

impl RingBuilder {
    pub(super) fn new() -> Self {
        Self { supplied: Vec::new(), wrapping: None, entropy: None }
    }

    /// Adds a key: 32 bytes, or more (up to 1,024), from which 32 are derived.
    ///
    /// # Errors
    /// `Invalid` for another length, one byte repeated, or an id given twice.
    pub fn key(self, id: impl Into<KeyId>, key: &[u8]) -> Result<Self> {
        let material = Arc::new(Material::new(key)?);
        self.supply(id.into(), Supplied::Key(material))
    }

    /// Adds a key in strict, padded base64.
    ///
    /// # Errors
    /// `Invalid`, without the text, when it is none; as [`key`](Self::key).
    pub fn base64(self, id: impl Into<KeyId>, key: &str) -> Result<Self> {
        let id = id.into();
        let bytes = Base64::decode_vec(key).map(Zeroizing::new);
        let bytes =
            bytes.map_err(|_| SealError::invalid(format!("key {id} is not strict base64")))?;
        self.key(id, &bytes)
    }

    /// Adds the keys of a text like `2:base64,1:base64`.
    ///
    /// # Errors
    /// `Invalid`, without the text, when it is none; as [`key`](Self::key).
    pub fn keys(mut self, text: &str) -> Result<Self> {
        for (n, part) in text.split(',').enumerate() {
            let bad = || SealError::invalid(format!("key number {} is not `id:base64`", n + 1));
            let (id, key) = part.trim().split_once(':').ok_or_else(bad)?;
            let id = id.parse::<u32>().map_err(|_| bad())?;
            self = self.base64(id, key)?;
        }
        Ok(self)
    }

    /// Adds the keys of an environment variable, as [`keys`](Self::keys).
    ///
    /// # Errors
    /// `Invalid`, without its content, when it is missing or malformed.
    pub fn env(self, variable: &str) -> Result<Self> {
        let text = std::env::var(variable).map(Zeroizing::new);
        let text = text.map_err(|_| {
            SealError::invalid(format!("environment variable `{variable}` holds no keys"))
        })?;
        self.keys(&text).map_err(|e| SealError::invalid(format!("in `{variable}`: {e}")))
    }

    /// Adds a key from a passphrase. Needs [`open`](Self::open): its salt is kept in the store.
    pub fn passphrase(mut self, id: impl Into<KeyId>, passphrase: Passphrase) -> Self {
        self.supplied.push((id.into(), Supplied::Passphrase(passphrase)));
        self
    }

    /// Lets a key service unwrap the keys made by [`KeyRing::add_wrapped`], and unwrap them again when
    /// they are older than `max_age`. Needs [`open`](Self::open).
    pub fn key_wrap(mut self, service: impl KeyWrap, max_age: Duration) -> Self {
        self.wrapping = Some(Wrapping::new(Arc::new(service), max_age));
        self
    }

    /// Salts from here; by default from the store, or the system for a ring in memory.
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Some(Arc::new(entropy));
        self
    }

    /// A ring in memory: its changes end with the process.
    ///
    /// # Errors
    /// `Invalid` without a key, for an id given twice, or with what only a store can keep.
    pub fn build(self) -> Result<KeyRing> {
        self.check()?;
        let needs_store = || SealError::invalid("passphrases and key services need a store");
        if self.wrapping.is_some() {
            return Err(needs_store());
        }
        let mut keys = Keys { meta: Meta::default(), held: BTreeMap::new() };
        for (id, supplied) in self.supplied {
            let Supplied::Key(material) = supplied else { return Err(needs_store()) };
            keys.meta.keys.insert(id, new_key(&keys.meta, material.kcv()?, Source::Supplied));
            keys.held.insert(id, Held { material, unwrapped: None });
        }
        if keys.held.is_empty() {
            return Err(SealError::invalid("a ring in memory needs a key"));
        }
        let entropy = self.entropy.unwrap_or_else(|| Arc::new(OsEntropy));
        Ok(KeyRing::new("".into(), keys, None, entropy, Arc::new(SystemClock::new()), None))
    }

    /// Opens the ring `name` (1 to 200 bytes) that `store` keeps, or makes it. What is stored decides: the
    /// states of known keys, and that they *are* those keys. Unknown ones are added, durably, as
    /// [`VerifyOnly`](KeyState::VerifyOnly), or, first of all, [`Active`](KeyState::Active).
    ///
    /// # Errors
    /// `WrongKey` for a key or passphrase that is not the one of its id; `UnknownKey` when the active key was
    /// not given; `KeyUnavailable` when it cannot be unwrapped; `Invalid` without any key; `Ring` and the
    /// store's. Dropping the future leaves the ring whole, with or without the new keys.
    pub async fn open(self, store: &Store, name: &str) -> Result<KeyRing> {
        self.check()?;
        let home = meta::key_of(name)?;
        let ring: Arc<str> = name.into();
        for _ in 0..ATTEMPTS {
            let (old, guard) = load(store, &home, &ring).await?;
            let keys = self.admit(&ring, old.clone().unwrap_or_default(), store).await?;
            if old.as_ref() != Some(&keys.meta)
                && !save(store, &home, &keys.meta, guard, old.is_some()).await?
            {
                continue;
            }
            return self.finish(store, ring, home, keys).await;
        }
        Err(busy(&ring))
    }

    async fn finish(self, store: &Store, name: Arc<str>, home: Key, keys: Keys) -> Result<KeyRing> {
        let entropy = self.entropy.unwrap_or_else(|| Arc::clone(store.entropy()));
        let clock = Arc::clone(store.clock());
        let home = Some((store.clone(), home));
        let ring = KeyRing::new(name, keys, home, entropy, clock, self.wrapping);
        ring.ready().await?;
        if let Some(active) = ring.active_id() {
            ring.material(active, None)?;
        }
        Ok(ring)
    }

    /// Checks every supplied key against what is stored, and adds the new ones.
    async fn admit(&self, ring: &Arc<str>, stored: Meta, store: &Store) -> Result<Keys> {
        if stored.keys.is_empty() && self.supplied.is_empty() && self.wrapping.is_none() {
            return Err(SealError::invalid(format!("ring `{ring}` is new and got no key")));
        }
        let mut keys = Keys { meta: stored, held: BTreeMap::new() };
        let mut changed = false;
        for (id, supplied) in &self.supplied {
            let known = keys.meta.keys.get(id);
            if known.is_some_and(|key| key.state == KeyState::Destroyed) {
                tracing::warn!(ring = %ring, key = %id, "a destroyed key was given and is ignored");
                continue;
            }
            let (material, source) = match (supplied, known.map(|key| &key.source)) {
                (Supplied::Key(material), known) => {
                    (Arc::clone(material), known.cloned().unwrap_or(Source::Supplied))
                }
                (Supplied::Passphrase(text), Some(Source::Passphrase { params, salt })) => {
                    let source = Source::Passphrase { params: *params, salt: *salt };
                    (Arc::new(text.derive(*params, *salt).await?), source)
                }
                (Supplied::Passphrase(text), None) => {
                    let (params, mut salt) = (text.new_params(), [0; SALT_LEN]);
                    store.entropy().fill(&mut salt)?;
                    let material = text.derive(params, salt).await?;
                    (Arc::new(material), Source::Passphrase { params, salt })
                }
                (Supplied::Passphrase(_), Some(_)) => {
                    return Err(SealError::invalid(format!(
                        "key {id} of ring `{ring}` does not come from a passphrase"
                    )));
                }
            };
            match known {
                Some(key) if material.has_kcv(&key.kcv)? => {}
                Some(_) => {
                    return Err(SealError::WrongKey { ring: Arc::clone(ring), key: *id });
                }
                None => {
                    let key = new_key(&keys.meta, material.kcv()?, source);
                    keys.meta.keys.insert(*id, key);
                    changed = true;
                }
            }
            keys.held.insert(*id, Held { material, unwrapped: None });
        }
        keys.meta.revision += u64::from(changed);
        Ok(keys)
    }

    fn supply(mut self, id: KeyId, supplied: Supplied) -> Result<Self> {
        self.supplied.push((id, supplied));
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<()> {
        let mut ids: Vec<_> = self.supplied.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let next = ids.iter().skip(1);
        match ids.iter().zip(next).find(|(a, b)| a == b) {
            Some((id, _)) => Err(SealError::invalid(format!("key {id} was given twice"))),
            None => Ok(()),
        }
    }
}

/// The first key of a ring is active, every later one waits to be promoted.
pub(super) fn new_key(meta: &Meta, kcv: [u8; crate::material::KCV_LEN], source: Source) -> MetaKey {
    let state = if meta.keys.is_empty() { KeyState::Active } else { KeyState::VerifyOnly };
    MetaKey { state, retired: 0, kcv, reason: "".into(), source }
}

pub(super) async fn load(
    store: &Store,
    home: &Key,
    ring: &Arc<str>,
) -> Result<(Option<Meta>, Guard)> {
    let read = store.read(home).await?;
    let meta = read.payload().map(|payload| Meta::decode(ring, payload)).transpose()?;
    Ok((meta, read.guard()))
}

/// Writes the metadata under `guard`, durably, and reads them back; false when somebody was faster.
pub(super) async fn save(
    store: &Store,
    home: &Key,
    meta: &Meta,
    guard: Guard,
    existed: bool,
) -> Result<bool> {
    let record = Record::new(meta.encode()).encode(home);
    let mut batch = Batch::new();
    batch.guard(home.clone(), guard).put(home.clone(), record.clone());
    match store.commit(batch, Durability::Durable).await {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::Conflict => return Ok(false),
        Err(e) => return Err(e.into()),
    }
    if !existed {
        tracing::info!(key = %home, "a new key ring");
    }
    // ORDER: a key is used only after its record was seen to be there.
    Ok(store.get(home).await?.as_ref() == Some(&record))
}

pub(super) fn busy(ring: &Arc<str>) -> SealError {
    let message = format!("ring `{ring}` is being changed by others all the time");
    resurge_store::StoreError::new(ErrorKind::Unavailable, message).into()
}
