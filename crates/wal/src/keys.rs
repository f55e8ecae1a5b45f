//! Where a log lives: every key of it, from its name.
//!
//! All logs share one namespace. The keys of one log are neighbours: `name 00 'h'` is its head,
//! `name 00 'p' <first lsn, big-endian u64>` a page.

use std::sync::Arc;

use resurge_store::{Key, KeyRange, Namespace, Result as StoreResult};

use crate::{Damage, DamageKind, Lsn, Result, WalError};

pub(crate) const NAMESPACE: &str = "resurge/wal";
/// The longest name of a log, in bytes.
pub(crate) const MAX_NAME_LEN: usize = 512;
const SEPARATOR: u8 = 0;
const HEAD: u8 = b'h';
const PAGE: u8 = b'p';

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Namespace,
    pub(crate) head: Key,
}

impl Keys {
    pub(crate) fn new(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > MAX_NAME_LEN || name.contains('\0') {
            return Err(WalError::Invalid(format!(
                "`{}` is no name for a log: 1 to {MAX_NAME_LEN} bytes without NUL are",
                name.escape_debug()
            )));
        }
        let namespace = Namespace::new(NAMESPACE)?;
        let mut head = Vec::with_capacity(name.len() + 2);
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&[SEPARATOR, HEAD]);
        let head = namespace.key(head)?;
        Ok(Self { name: name.into(), namespace, head })
    }

    fn page_bytes(&self, first: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.name.len() + 10);
        key.extend_from_slice(self.name.as_bytes());
        key.extend_from_slice(&[SEPARATOR, PAGE]);
        key.extend_from_slice(&first.to_be_bytes());
        key
    }

    pub(crate) fn page(&self, first: u64) -> StoreResult<Key> {
        self.namespace.key(self.page_bytes(first))
    }

    /// Pages that begin in `from..until`.
    pub(crate) fn pages(&self, from: u64, until: u64) -> KeyRange {
        let (from, until) = (self.page_bytes(from), self.page_bytes(until));
        self.namespace.range(from.as_slice()..until.as_slice())
    }

    /// Pages that begin at `from` or later.
    pub(crate) fn pages_from(&self, from: u64) -> KeyRange {
        let (from, last) = (self.page_bytes(from), self.page_bytes(u64::MAX));
        self.namespace.range(from.as_slice()..=last.as_slice())
    }

    /// The first lsn that a page key of this log says; `None` for any other key.
    pub(crate) fn first_of(&self, key: &Key) -> Option<u64> {
        let rest = key.bytes().strip_prefix(self.name.as_bytes())?;
        let first = rest.strip_prefix(&[SEPARATOR, PAGE])?;
        Some(u64::from_be_bytes(first.try_into().ok()?))
    }

    pub(crate) fn damage(&self, kind: DamageKind, lsn: u64, key: Key) -> Damage {
        Damage { log: Arc::clone(&self.name), lsn: Lsn(lsn), key, kind }
    }
}

/// The name in a key of the namespace.
pub(crate) fn name_of(key: &Key) -> Option<&str> {
    let at = key.bytes().iter().position(|b| *b == SEPARATOR)?;
    std::str::from_utf8(key.bytes().get(..at)?).ok()
}

/// Everything after the last key of the log called `name`.
pub(crate) fn after(name: &str) -> Result<KeyRange> {
    let mut from = name.as_bytes().to_vec();
    from.push(SEPARATOR + 1);
    Ok(Namespace::new(NAMESPACE)?.range(from.as_slice()..))
}
