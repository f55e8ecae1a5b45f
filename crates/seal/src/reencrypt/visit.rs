//! How the job finds sealed values inside records it does not know.

use std::fmt::Debug;

use bytes::Bytes;
use resurge_store::{Key, KeyRange};

use crate::{Context, Stored};

/// A part of the store with sealed values in it, of whatever layout: implemented by whoever knows the layout.
pub trait Resealable: Debug + Send + Sync + 'static {
    /// A name that stays the same over restarts, 1 to 200 bytes: the job keeps its position under it.
    fn name(&self) -> &str;

    /// Where to look.
    fn range(&self) -> KeyRange;

    /// True for records that must not be replaced, such as pages of a log, each chained to the one before:
    /// what is sealed there is counted, and goes when the record goes. Until then its key is needed.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Shows every sealed value of one record to `visitor`; when that returned replacements, returns the
    /// record with them in it, everything else unchanged, such as its expiry.
    ///
    /// Called again for the same record whenever it changed meanwhile: no side effects.
    ///
    /// # Errors
    /// What keeps it from being read. Nothing is changed then.
    fn rewrite(
        &self,
        key: &Key,
        value: &Bytes,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Bytes>, Unread>;
}

/// Why a record was not looked into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is damaged.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// It is something else, without sealed values.
    #[error("not ours")]
    NotOurs,
}

/// What the job does with each sealed value it is shown.
pub struct Visitor<'v> {
    act: Act<'v>,
}

/// Takes an envelope and its place, returns what to put there.
type Act<'v> = &'v mut dyn FnMut(&Context<'_>, &[u8]) -> Option<Vec<u8>>;

impl Debug for Visitor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visitor")
    }
}

impl<'v> Visitor<'v> {
    pub(crate) fn new(act: Act<'v>) -> Self {
        Self { act }
    }

    /// Shows a value as [`Sealer::protect`](crate::Sealer::protect) made it; returns what to put in its
    /// place, if anything.
    ///
    /// # Errors
    /// `Corrupt` when it is neither in clear nor an envelope.
    pub fn stored(
        &mut self,
        context: &Context<'_>,
        stored: &Bytes,
    ) -> Result<Option<Bytes>, Unread> {
        let decoded = Stored::decode(stored);
        match decoded.map_err(|what| Unread::Corrupt(format!("{context}: {what}")))? {
            Stored::Plain(_) => Ok(None),
            Stored::Sealed(envelope) => {
                Ok(self.envelope(context, &envelope).map(|new| Stored::Sealed(new.into()).encode()))
            }
        }
    }

    /// The same for a bare envelope.
    pub fn envelope(&mut self, context: &Context<'_>, envelope: &[u8]) -> Option<Vec<u8>> {
        (self.act)(context, envelope)
    }
}
