//! What the store holds about a ring: states, check values, passphrase parameters, wrapped keys. Never
//! a key in clear.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use resurge_store::{Key, Namespace};

use super::passphrase::{KdfParams, SALT_LEN};
use super::{KeyId, KeyState};
use crate::material::KCV_LEN;
use crate::{Result, SealError};

pub(crate) const NAMESPACE: &str = "resurge/seal";
const RING: u8 = b'r';
const VERSION: u8 = 1;
const ARGON2ID_V19: u8 = 1;
pub(crate) const MAX_NAME_LEN: usize = 200;
const MAX_KEYS: usize = 4096;
pub(crate) const MAX_REASON_LEN: usize = 1024;
pub(crate) const MAX_WRAPPED_LEN: usize = 64 << 10;

/// Everything the store holds about a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// One more with every change.
    pub(crate) revision: u64,
    pub(crate) keys: BTreeMap<KeyId, MetaKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaKey {
    pub(crate) state: KeyState,
    /// The revision at which it stopped being the one that seals; 0 when it never was.
    pub(crate) retired: u64,
    pub(crate) kcv: [u8; KCV_LEN],
    pub(crate) reason: Arc<str>,
    pub(crate) source: Source,
}

/// Where a key's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Supplied at every open.
    Supplied,
    /// From a passphrase, supplied at every open.
    Passphrase { params: KdfParams, salt: [u8; SALT_LEN] },
    /// Generated here, and stored wrapped by a key service.
    Wrapped(Bytes),
}

/// Where the ring called `name` is stored.
pub(crate) fn key_of(name: &str) -> Result<Key> {
    if name.is_empty() || name.len() > MAX_NAME_LEN || name.contains('\0') {
        return Err(SealError::invalid(format!(
            "`{}` is no name for a ring: 1 to {MAX_NAME_LEN} bytes without NUL are",
            name.escape_debug()
        )));
    }
    let mut key = vec![RING];
    key.extend_from_slice(name.as_bytes());
    Ok(Namespace::new(NAMESPACE)?.key(key)?)
}

impl Meta {
    pub(crate) fn active(&self) -> Option<KeyId> {
        self.keys.iter().find(|(_, key)| key.state == KeyState::Active).map(|(id, _)| *id)
    }

    /// Stops the active key from sealing.
    pub(crate) fn retire_active(&mut self) {
        let now = self.revision.saturating_add(1);
        for key in self.keys.values_mut().filter(|key| key.state == KeyState::Active) {
            key.state = KeyState::VerifyOnly;
            key.retired = now;
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u64(self.revision);
        put_len(&mut out, self.keys.len());
        for (id, key) in &self.keys {
            out.put_u32(id.0);
            out.put_u8(match key.state {
                KeyState::Active => 1,
                KeyState::VerifyOnly => 2,
                KeyState::Revoked => 3,
                KeyState::Destroyed => 4,
            });
            out.put_u64(key.retired);
            out.put_slice(&key.kcv);
            put_len(&mut out, key.reason.len());
            out.put_slice(key.reason.as_bytes());
            match &key.source {
                Source::Supplied => out.put_u8(1),
                Source::Passphrase { params, salt } => {
                    out.put_u8(2);
                    out.put_u8(ARGON2ID_V19);
                    out.put_u32(params.memory_kib);
                    out.put_u32(params.passes);
                    out.put_u32(params.lanes);
                    out.put_slice(salt);
                }
                Source::Wrapped(blob) => {
                    out.put_u8(3);
                    put_len(&mut out, blob.len());
                    out.put_slice(blob);
                }
            }
        }
        out
    }

    pub(crate) fn decode(ring: &Arc<str>, bytes: &Bytes) -> Result<Self> {
        Self::read(bytes.clone()).map_err(|what| SealError::Ring { ring: Arc::clone(ring), what })
    }

    fn read(mut from: Bytes) -> Result<Self, &'static str> {
        if number(from.try_get_u8())? != VERSION {
            return Err("they are of a newer version");
        }
        let revision = number(from.try_get_u64())?;
        let count = length(&mut from, MAX_KEYS)?;
        let mut meta = Self { revision, keys: BTreeMap::new() };
        for _ in 0..count {
            let id = KeyId(number(from.try_get_u32())?);
            let key = MetaKey::read(&mut from)?;
            if meta.keys.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err("key ids do not ascend");
            }
            if key.state == KeyState::Active && meta.active().is_some() {
                return Err("two active keys");
            }
            meta.keys.insert(id, key);
        }
        if from.is_empty() { Ok(meta) } else { Err("bytes left over") }
    }
}

impl MetaKey {
    fn read(from: &mut Bytes) -> Result<Self, &'static str> {
        let state = match number(from.try_get_u8())? {
            1 => KeyState::Active,
            2 => KeyState::VerifyOnly,
            3 => KeyState::Revoked,
            4 => KeyState::Destroyed,
            _ => return Err("a state that is none"),
        };
        let retired = number(from.try_get_u64())?;
        let mut kcv = [0; KCV_LEN];
        from.try_copy_to_slice(&mut kcv).map_err(|_| CUT)?;
        let reason = blob(from, MAX_REASON_LEN)?;
        let reason = std::str::from_utf8(&reason).map_err(|_| "a reason that is no text")?.into();
        let source = match number(from.try_get_u8())? {
            1 => Source::Supplied,
            2 => {
                if number(from.try_get_u8())? != ARGON2ID_V19 {
                    return Err("a key derivation that this build does not know");
                }
                let [memory_kib, passes, lanes] = [
                    number(from.try_get_u32())?,
                    number(from.try_get_u32())?,
                    number(from.try_get_u32())?,
                ];
                let params = KdfParams { memory_kib, passes, lanes };
                // A forged record must not make us allocate terabytes.
                params.check()?;
                let mut salt = [0; SALT_LEN];
                from.try_copy_to_slice(&mut salt).map_err(|_| CUT)?;
                Source::Passphrase { params, salt }
            }
            3 => Source::Wrapped(blob(from, MAX_WRAPPED_LEN)?),
            _ => return Err("a source of keys that this build does not know"),
        };
        Ok(Self { state, retired, kcv, reason, source })
    }
}

const CUT: &str = "they are cut short";

fn number<T, E>(read: Result<T, E>) -> Result<T, &'static str> {
    read.map_err(|_| CUT)
}

fn length(from: &mut Bytes, max: usize) -> Result<usize, &'static str> {
    let len = usize::try_from(number(from.try_get_u32())?).unwrap_or(usize::MAX);
    if len <= max { Ok(len) } else { Err("a length over its limit") }
}

fn blob(from: &mut Bytes, max: usize) -> Result<Bytes, &'static str> {
    let len = length(from, max)?;
    if len <= from.len() { Ok(from.split_to(len)) } else { Err(CUT) }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // INVARIANT: everything counted here was checked against a limit far below 2^32.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests;
