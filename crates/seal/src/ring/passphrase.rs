//! Keys from passphrases: Argon2id, with parameters and salt kept in the ring's metadata.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::material::{KEY_LEN, Material};
use crate::{Result, SealError};

pub(crate) const SALT_LEN: usize = 16;
/// The shortest passphrase that needs no explicit consent, in characters.
const MIN_CHARS: usize = 12;

/// What one guess at a passphrase costs.
///
/// The default is OWASP's first choice: 19,456 KiB, 2 passes, 1 lane. Stored with the ring, so it may be
/// changed for new keys at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfParams {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Default for KdfParams {
    fn default() -> Self {
        Self {
            memory_kib: Params::DEFAULT_M_COST,
            passes: Params::DEFAULT_T_COST,
            lanes: Params::DEFAULT_P_COST,
        }
    }
}

impl KdfParams {
    /// Memory in KiB (8 to 1,048,576), passes (1 to 64), lanes (1 to 16). These bounds hold for what is
    /// read from a store, too.
    ///
    /// # Errors
    /// `Invalid` outside the bounds.
    ///
    /// ```
    /// use resurge_seal::KdfParams;
    /// assert!(KdfParams::new(64 << 10, 3, 1).is_ok());
    /// assert!(KdfParams::new(u32::MAX, 1, 1).is_err()); // 4 TiB
    /// ```
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self> {
        let params = Self { memory_kib, passes, lanes };
        params.check().map_err(SealError::invalid)?;
        Ok(params)
    }

    /// As cheap as it gets. For tests only: a passphrase is guessed at millions a second.
    pub fn insecure_for_tests() -> Self {
        Self { memory_kib: Params::MIN_M_COST, passes: 1, lanes: 1 }
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let lanes = (1..=16).contains(&self.lanes);
        let passes = (1..=64).contains(&self.passes);
        let least = Params::MIN_M_COST.saturating_mul(self.lanes);
        if lanes && passes && (least..=1 << 20).contains(&self.memory_kib) {
            Ok(())
        } else {
            Err("passphrase parameters out of bounds")
        }
    }
}

/// A passphrase, on its way to becoming a key. Wiped when dropped.
pub struct Passphrase {
    text: Zeroizing<String>,
    params: KdfParams,
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(<redacted>)")
    }
}

impl Passphrase {
    /// Takes one of at least 12 characters.
    ///
    /// # Errors
    /// `Invalid` for a shorter one.
    ///
    /// ```
    /// use resurge_seal::Passphrase;
    /// assert!(Passphrase::new("secret").is_err());
    /// assert!(Passphrase::new("correct horse battery staple").is_ok());
    /// ```
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let passphrase = Self::allow_weak(text)?;
        if passphrase.text.chars().count() < MIN_CHARS {
            return Err(SealError::invalid(format!(
                "a passphrase needs {MIN_CHARS} characters; see `Passphrase::allow_weak`"
            )));
        }
        Ok(passphrase)
    }

    /// Takes any that is not empty. Whoever has the store can try all short ones.
    ///
    /// # Errors
    /// `Invalid` for an empty one.
    pub fn allow_weak(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        if text.is_empty() {
            return Err(SealError::invalid("an empty passphrase"));
        }
        Ok(Self { text, params: KdfParams::default() })
    }

    /// What deriving a *new* key from it costs; a key that the ring knows keeps what was stored.
    #[must_use]
    pub fn params(mut self, params: KdfParams) -> Self {
        self.params = params;
        self
    }

    pub(crate) fn new_params(&self) -> KdfParams {
        self.params
    }

    /// Derives the key on a thread that may block.
    pub(crate) async fn derive(&self, params: KdfParams, salt: [u8; SALT_LEN]) -> Result<Material> {
        let text = Zeroizing::new(self.text.as_bytes().to_vec());
        let derived = tokio::task::spawn_blocking(move || derive(&text, params, salt)).await;
        derived.map_err(|_| SealError::invalid("the derivation of a key did not finish"))?
    }
}

fn derive(text: &[u8], params: KdfParams, salt: [u8; SALT_LEN]) -> Result<Material> {
    let refused = |e: argon2::Error| SealError::invalid(format!("cannot derive a key: {e}"));
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(KEY_LEN))
        .map_err(refused)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text, &salt, key.as_mut())
        .map_err(refused)?;
    Material::new(key.as_ref())
}
