//! Changes of a ring: stored first, then seen by everybody who has it; a revocation the other way round.

use std::sync::Arc;

use super::builder::{busy, load, new_key, save};
use super::meta::{MAX_REASON_LEN, Meta, Source};
use super::passphrase::SALT_LEN;
use super::{Held, KeyId, KeyRing, KeyState, Passphrase};
use crate::material::Material;
use crate::references::References;
use crate::{Result, SealError};

const ATTEMPTS: usize = 8;

impl KeyRing {
    /// Adds a key, as [`VerifyOnly`](KeyState::VerifyOnly). Durable, and read back, before it returns.
    ///
    /// # Errors
    /// `Invalid` for a bad key, or an id that the ring has or had; the store's. After any error, and after
    /// a dropped future, [`reload`](Self::reload) tells what is true.
    pub async fn add(&self, id: impl Into<KeyId>, key: &[u8]) -> Result<()> {
        self.admit(id.into(), Material::new(key)?, Source::Supplied).await
    }

    /// Adds a key from a passphrase, as [`add`](Self::add). The same passphrase must be given at every
    /// later open.
    ///
    /// # Errors
    /// As [`add`](Self::add); `Invalid` for a ring in memory.
    pub async fn add_passphrase(&self, id: impl Into<KeyId>, passphrase: Passphrase) -> Result<()> {
        if self.shared.home.is_none() {
            return Err(SealError::invalid("a ring in memory cannot keep a passphrase's salt"));
        }
        let mut salt = [0; SALT_LEN];
        self.shared.entropy.fill(&mut salt)?;
        let params = passphrase.new_params();
        let material = passphrase.derive(params, salt).await?;
        self.admit(id.into(), material, Source::Passphrase { params, salt }).await
    }

    /// Makes a key the one that seals; the one before goes on to open. Promoting the active key changes
    /// nothing.
    ///
    /// # Errors
    /// `UnknownKey` when its bytes are not at hand; `KeyRevoked`, `KeyDestroyed`; the store's. As with
    /// [`add`](Self::add), [`reload`](Self::reload) tells what is true after an error.
    pub async fn promote(&self, id: impl Into<KeyId>) -> Result<()> {
        let id = id.into();
        self.material(id, None)?;
        self.change(|meta| {
            if self.key_mut(meta, id)?.state == KeyState::Active {
                return Ok(false);
            }
            meta.retire_active();
            self.open_to_use(meta, id)?.state = KeyState::Active;
            Ok(true)
        })
        .await
    }

    /// Lets a key open but not seal: takes back a revocation.
    ///
    /// # Errors
    /// `Invalid` for the active key (promote another one); `UnknownKey`, `KeyDestroyed`; the store's.
    pub async fn verify_only(&self, id: impl Into<KeyId>) -> Result<()> {
        let id = id.into();
        self.change(|meta| {
            let key = self.key_mut(meta, id)?;
            match key.state {
                KeyState::VerifyOnly => return Ok(false),
                KeyState::Active => {
                    let what = format!("key {id} is active: promote another one instead");
                    return Err(SealError::invalid(what));
                }
                KeyState::Destroyed => return Err(destroyed(id, &key.reason)),
                KeyState::Revoked => {}
            }
            key.state = KeyState::VerifyOnly;
            key.reason = "".into();
            Ok(true)
        })
        .await
    }

    /// Stops a key from sealing and opening, the active one too; the reason is kept.
    ///
    /// In this process it takes effect when called, whatever becomes of the future.
    ///
    /// # Errors
    /// `UnknownKey`, `KeyDestroyed`; `Invalid` for a reason over 1,024 bytes; the store's, and then it is
    /// revoked until the next [`reload`](Self::reload) or open: call it again.
    pub async fn revoke(&self, id: impl Into<KeyId>, reason: &str) -> Result<()> {
        let id = id.into();
        let reason = checked(reason)?;
        let revoke = |meta: &mut Meta| {
            let now = meta.revision.saturating_add(1);
            let key = self.key_mut(meta, id)?;
            match key.state {
                KeyState::Revoked => return Ok(false),
                KeyState::Destroyed => return Err(destroyed(id, &key.reason)),
                KeyState::Active => key.retired = now,
                KeyState::VerifyOnly => {}
            }
            key.state = KeyState::Revoked;
            key.reason = Arc::clone(&reason);
            Ok(true)
        };
        // ORDER: memory first, so that a store that fails does not keep a leaked key in use.
        if self.shared.home.is_some() {
            let mut here = self.shared.keys.read().meta.clone();
            if revoke(&mut here)? {
                self.shared.keys.write().meta = here;
            }
        }
        self.change(revoke).await
    }

    /// Forgets a key for ever; its id and the reason are kept, so that what is still sealed with it says
    /// so. Refused unless `references`, counted after it stopped sealing, found nothing sealed with it.
    ///
    /// What was sealed before it stopped and is committed after the count is not seen. So revoke it first,
    /// and leave it so for a while: a revocation can be taken back.
    ///
    /// # Errors
    /// `InUse` when something is sealed with it or may be; `Invalid` for the active key; the store's.
    pub async fn destroy(
        &self,
        id: impl Into<KeyId>,
        reason: &str,
        references: &References,
    ) -> Result<()> {
        let id = id.into();
        let reason = checked(reason)?;
        self.change(|meta| {
            let key = self.key_mut(meta, id)?;
            match key.state {
                KeyState::Destroyed => return Ok(false),
                KeyState::Active => {
                    let what = format!("key {id} is active: promote another one first");
                    return Err(SealError::invalid(what));
                }
                KeyState::VerifyOnly | KeyState::Revoked => {}
            }
            if let Some(why) = references.forbid(&self.shared.name, id, key.retired) {
                return Err(SealError::InUse { key: id, why: why.into() });
            }
            key.state = KeyState::Destroyed;
            key.reason = Arc::clone(&reason);
            key.source = Source::Supplied;
            Ok(true)
        })
        .await
    }

    /// Takes over what the store says, for example after another process changed the ring.
    ///
    /// # Errors
    /// `Ring` and the store's; what was known stays.
    pub async fn reload(&self) -> Result<()> {
        self.change(|_| Ok(false)).await
    }

    pub(super) async fn admit(&self, id: KeyId, material: Material, source: Source) -> Result<()> {
        let kcv = material.kcv()?;
        let unwrapped = matches!(source, Source::Wrapped(_)).then(|| self.shared.clock.monotonic());
        self.change(|meta| {
            if meta.keys.contains_key(&id) {
                let what = format!("ring `{}` has or had a key {id}", self.shared.name);
                return Err(SealError::invalid(what));
            }
            meta.keys.insert(id, new_key(meta, kcv, source.clone()));
            Ok(true)
        })
        .await?;
        let held = Held { material: Arc::new(material), unwrapped };
        self.shared.keys.write().held.insert(id, held);
        Ok(())
    }

    /// Applies `edit` to what is stored (again, when somebody else was faster), stores it, then takes it
    /// over. `edit` says whether it changed anything.
    async fn change(&self, edit: impl Fn(&mut Meta) -> Result<bool>) -> Result<()> {
        let _one = self.shared.change.lock().await;
        for _ in 0..ATTEMPTS {
            let Some((store, home)) = &self.shared.home else {
                let mut meta = self.shared.keys.read().meta.clone();
                meta.revision += u64::from(edit(&mut meta)?);
                self.adopt(meta);
                return Ok(());
            };
            let (stored, guard) = load(store, home, &self.shared.name).await?;
            let Some(mut meta) = stored else {
                let ring = Arc::clone(&self.shared.name);
                return Err(SealError::Ring { ring, what: "they are gone" });
            };
            let changed = edit(&mut meta)?;
            meta.revision += u64::from(changed);
            if !changed || save(store, home, &meta, guard, true).await? {
                self.adopt(meta);
                return Ok(());
            }
        }
        Err(busy(&self.shared.name))
    }

    fn adopt(&self, meta: Meta) {
        let mut keys = self.shared.keys.write();
        let lives =
            |id: &KeyId| meta.keys.get(id).is_some_and(|key| key.state != KeyState::Destroyed);
        keys.held.retain(|id, _| lives(id));
        keys.meta = meta;
    }

    fn key_mut<'m>(&self, meta: &'m mut Meta, id: KeyId) -> Result<&'m mut super::MetaKey> {
        let unknown = || self.unknown(&self.shared.keys.read(), id, None);
        meta.keys.get_mut(&id).ok_or_else(unknown)
    }

    fn open_to_use<'m>(&self, meta: &'m mut Meta, id: KeyId) -> Result<&'m mut super::MetaKey> {
        let key = self.key_mut(meta, id)?;
        let reason = Arc::clone(&key.reason);
        match key.state {
            KeyState::Active | KeyState::VerifyOnly => Ok(key),
            KeyState::Revoked => Err(SealError::KeyRevoked { at: None, key: id, reason }),
            KeyState::Destroyed => Err(SealError::KeyDestroyed { at: None, key: id, reason }),
        }
    }
}

fn destroyed(key: KeyId, reason: &Arc<str>) -> SealError {
    SealError::KeyDestroyed { at: None, key, reason: Arc::clone(reason) }
}

fn checked(reason: &str) -> Result<Arc<str>> {
    if reason.is_empty() || reason.len() > MAX_REASON_LEN {
        let what = format!("a reason has 1 to {MAX_REASON_LEN} bytes");
        return Err(SealError::invalid(what));
    }
    Ok(reason.into())
}
