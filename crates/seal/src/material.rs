//! Key material: the root of each key, and the subkeys derived from it. Never printed, never copied.

use std::fmt;

use ctutils::CtEq;
use hkdf::Hkdf;
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

/// One key, ready for use. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Material {
    root: [u8; KEY_LEN],
    field: [u8; KEY_LEN],
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
        Ok(Self { root: *root, field: *field })
    }

    /// The subkey of this label. Different labels, unrelated keys.
    pub(crate) fn subkey(&self, label: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>> {
        if label.is_empty() || label == FIELD || label == KCV {
            let label = label.escape_ascii();
            return Err(SealError::invalid(format!("`{label}` is no label for a subkey")));
        }
        expand(&self.root, label)
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
