//! Key material: the root of each key, and the subkeys derived from it. Never printed, never copied.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use ctutils::CtEq;
use hkdf::Hkdf;
use parking_lot::RwLock;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Result, SealError};

pub(crate) const KEY_LEN: usize = 32;
/// The longest key taken, in bytes.
const MAX_KEY_LEN: usize = 1024;
/// What a key's check value is long, in bytes.
pub(crate) const KCV_LEN: usize = 16;

const FIELD: &[u8] = b"fe1/field";
const KCV: &[u8] = b"kcv";
const LONG_KEY_SALT: &[u8] = b"resurge/long-key";

/// Labels are few and fixed; what is made for more of them is not kept.
const MAX_PREPARED: usize = 32;

/// One key, ready for use. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Material {
    root: [u8; KEY_LEN],
    field: [u8; KEY_LEN],
    /// What was made of subkeys. Each wipes itself.
    #[zeroize(skip)]
    prepared: RwLock<Vec<Prepared>>,
}

struct Prepared {
    label: Box<[u8]>,
    made: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(<redacted>)")
    }
}

impl Material {
    /// From what a user supplies: 32 bytes as they are, more are condensed.
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        if key.len() < KEY_LEN || key.len() > MAX_KEY_LEN {
            return Err(SealError::invalid(format!(
                "a key has {} bytes; {KEY_LEN} to {MAX_KEY_LEN} are allowed",
                key.len()
            )));
        }
        if key.iter().all(|b| Some(b) == key.first()) {
            return Err(SealError::invalid("a key of one byte repeated is no key"));
        }
        let mut root = Zeroizing::new([0; KEY_LEN]);
        if let Ok(exact) = <&[u8; KEY_LEN]>::try_from(key) {
            root.copy_from_slice(exact);
        } else {
            Hkdf::<Sha256>::new(Some(LONG_KEY_SALT), key)
                .expand(b"root", root.as_mut())
                .map_err(|_| length())?;
        }
        let field = expand(&root, FIELD)?;
        Ok(Self { root: *root, field: *field, prepared: RwLock::default() })
    }

    /// The subkey of this label. Different labels, unrelated keys.
    pub(crate) fn subkey(&self, label: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>> {
        if label.is_empty() || label == FIELD || label == KCV {
            let label = label.escape_ascii();
            return Err(SealError::invalid(format!("`{label}` is no label for a subkey")));
        }
        expand(&self.root, label)
    }

    /// What `build` makes of the subkey of this label, once.
    pub(crate) fn prepared<T: Send + Sync + 'static>(
        &self,
        label: &[u8],
        build: impl FnOnce(&[u8; KEY_LEN]) -> T,
    ) -> Result<Arc<T>> {
        let find = |kept: &[Prepared]| {
            let mut of_label = kept.iter().filter(|prepared| *prepared.label == *label);
            of_label.find_map(|prepared| Arc::clone(&prepared.made).downcast::<T>().ok())
        };
        if let Some(made) = find(&self.prepared.read()) {
            return Ok(made);
        }
        let made = Arc::new(build(&*self.subkey(label)?));
        let mut kept = self.prepared.write();
        if kept.len() < MAX_PREPARED && find(&kept).is_none() {
            let (label, made) = (label.into(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
            kept.push(Prepared { label, made });
        }
        Ok(made)
    }

    /// The subkey values are sealed with.
    pub(crate) fn field(&self) -> &[u8; KEY_LEN] {
        &self.field
    }

    /// What tells this key from another without revealing it.
    pub(crate) fn kcv(&self) -> Result<[u8; KCV_LEN]> {
        let mut kcv = [0; KCV_LEN];
        kcv.copy_from_slice(expand(&self.root, KCV)?.get(..KCV_LEN).unwrap_or_default());
        Ok(kcv)
    }

    pub(crate) fn has_kcv(&self, kcv: &[u8; KCV_LEN]) -> Result<bool> {
        Ok(self.kcv()?.ct_eq(kcv).to_bool())
    }
}

fn expand(root: &[u8; KEY_LEN], label: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>> {
    let mut out = Zeroizing::new([0; KEY_LEN]);
    Hkdf::<Sha256>::from_prk(root)
        .map_err(|_| length())?
        .expand(label, out.as_mut())
        .map_err(|_| length())?;
    Ok(out)
}

fn length() -> SealError {
    SealError::invalid("a length that HKDF does not take")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_a_subkey_is_made_once_for_each_label_and_type() {
        let material = Material::new(&(0..32).collect::<Vec<u8>>()).unwrap();
        let first = material.prepared(b"a", |key| Zeroizing::new(*key)).unwrap();
        assert_eq!(**first, *material.subkey(b"a").unwrap());
        let again = material.prepared(b"a", |_| Zeroizing::new([0; KEY_LEN])).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = material.prepared(b"b", |key| Zeroizing::new(*key)).unwrap();
        assert_ne!(**first, **other);
        assert_eq!(*material.prepared(b"a", |key| key.len()).unwrap(), KEY_LEN);
        assert!(material.prepared(FIELD, |_| ()).is_err());

        // With the key it goes, and no list of labels grows for ever.
        for n in 0..2 * MAX_PREPARED {
            let label = n.to_string();
            let made = material.prepared(label.as_bytes(), |_| n).unwrap();
            assert_eq!((*made, material.prepared.read().len() <= MAX_PREPARED), (n, true));
        }
        drop((again, material));
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
