//! The plainest layout: a record whose payload is one stored value.

use std::fmt;

use bytes::Bytes;
use resurge_store::{Key, KeyRange, Record};

use super::{Resealable, Unread, Visitor};
use crate::Context;

/// Records of which each holds one value as [`Sealer::protect`](crate::Sealer::protect) made it.
pub struct SealedRecords<F> {
    name: String,
    range: KeyRange,
    context_of: F,
}

impl<F> fmt::Debug for SealedRecords<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedRecords").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F: Fn(&Key) -> Option<(String, String, String)>> SealedRecords<F> {
    /// The records of `range`. `context_of` says run, scope and name of a key's value; `None` for what is
    /// something else.
    pub fn new(name: impl Into<String>, range: KeyRange, context_of: F) -> Self {
        Self { name: name.into(), range, context_of }
    }
}

impl<F> Resealable for SealedRecords<F>
where
    F: Fn(&Key) -> Option<(String, String, String)> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn range(&self) -> KeyRange {
        self.range.clone()
    }

    fn rewrite(
        &self,
        key: &Key,
        value: &Bytes,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Bytes>, Unread> {
        let (run, scope, name) = (self.context_of)(key).ok_or(Unread::NotOurs)?;
        let record = Record::decode(key, value).map_err(|e| Unread::Corrupt(e.to_string()))?;
        let new = visitor.stored(&Context::new(&run, &scope, &name), record.payload())?;
        Ok(new.map(|payload| {
            let new = Record::new(payload);
            record.expiry().map_or_else(|| new.clone(), |at| new.clone().expires_at(at)).encode(key)
        }))
    }
}
