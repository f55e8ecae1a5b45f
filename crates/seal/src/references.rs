//! What is sealed with which key: counted, so that no key is destroyed that is still needed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::KeyId;

/// How many values are sealed with one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// In places that can be rewritten.
    pub rewritable: u64,
    /// In places that cannot, such as pages of a log: they go when the page goes.
    pub fixed: u64,
}

/// What a count found: made by [`Reencrypt::count`](crate::Reencrypt::count), asked for by
/// [`KeyRing::destroy`](crate::KeyRing::destroy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct References {
    pub(crate) ring: Arc<str>,
    /// The ring's revision when counting began.
    pub(crate) revision: u64,
    pub(crate) by_key: BTreeMap<KeyId, Tally>,
    pub(crate) unreadable: u64,
}

impl References {
    /// How many values are sealed with this key.
    pub fn of(&self, id: impl Into<KeyId>) -> u64 {
        let tally = self.by_key.get(&id.into()).copied().unwrap_or_default();
        tally.rewritable.saturating_add(tally.fixed)
    }

    /// All keys that anything is sealed with.
    pub fn by_key(&self) -> &BTreeMap<KeyId, Tally> {
        &self.by_key
    }

    /// Records that could not be read: what is in them is not known.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Counts records that cannot be read as holding nothing. What is in them is lost with the key.
    #[must_use]
    pub fn ignore_unreadable(mut self) -> Self {
        self.unreadable = 0;
        self
    }

    /// Why a key that stopped sealing at revision `retired` must not be destroyed.
    pub(crate) fn forbid(&self, ring: &str, id: KeyId, retired: u64) -> Option<String> {
        let found = self.of(id);
        if *self.ring != *ring {
            Some(format!("the count is of ring `{}`", self.ring))
        } else if self.revision < retired {
            Some("the count began before it stopped sealing".to_owned())
        } else if found > 0 {
            Some(format!("{found} values are sealed with it"))
        } else if self.unreadable > 0 {
            Some(format!("{} records could not be read", self.unreadable))
        } else {
            None
        }
    }
}

impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (id, tally) in &self.by_key {
            let comma = if std::mem::take(&mut first) { "" } else { ", " };
            write!(f, "{comma}key {id}: {} and {} fixed", tally.rewritable, tally.fixed)?;
        }
        if first {
            f.write_str("nothing is sealed")?;
        }
        match self.unreadable {
            0 => Ok(()),
            n => write!(f, ", {n} unreadable"),
        }
    }
}
