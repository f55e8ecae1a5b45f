//! One atomic step: some changes, what they do to the digest, and the meta entry that says so.

use bytes::Bytes;
use resurge_store::Key;
use sled::{Batch, Db, IVec};

use super::super::{Change, Digest, IndexMeta, IndexResult};
use super::format::{self, Encoded, Head, Stored};
use super::known_keys::KnownKeys;
use super::{STEP_BYTES, STEP_KEYS, fault};

pub(super) struct Step {
    pub(super) batch: Batch,
    /// Chunks of large values change: readers of large values must not see half of it.
    pub(super) touches_chunks: bool,
}

/// A step that is being put together.
pub(super) struct Filling<'a> {
    db: &'a Db,
    known: &'a KnownKeys,
    step: Step,
}

impl<'a> Filling<'a> {
    pub(super) fn new(db: &'a Db, known: &'a KnownKeys) -> Self {
        Self { db, known, step: Step { batch: Batch::default(), touches_chunks: false } }
    }

    /// Takes as many changes as one step holds; returns the rest.
    pub(super) fn fill<'c>(
        &mut self,
        changes: &'c [Change],
        digest: &mut Digest,
    ) -> IndexResult<&'c [Change]> {
        let (mut taken, mut bytes) = (0, 0);
        for change in changes {
            if taken == STEP_KEYS || bytes >= STEP_BYTES {
                break;
            }
            self.add(change, digest)?;
            taken += 1;
            bytes += change.key.raw().len() + change.value.as_ref().map_or(0, Bytes::len);
        }
        Ok(changes.get(taken..).unwrap_or_default())
    }

    fn add(&mut self, change: &Change, digest: &mut Digest) -> IndexResult<()> {
        let key = &change.key;
        let old = self.stored(key)?;
        let old_head = match &old {
            None => None,
            Some(stored) => match format::decode(key.raw(), stored)? {
                Stored::Inline(_) => None,
                Stored::Chunked(head) => Some(head),
            },
        };
        let new = change.value.as_ref().map(|value| format::encode(key.raw(), value));
        if old.as_ref().map(IVec::as_ref) == new.as_ref().map(|n| n.stored.as_slice()) {
            // The head holds a hash of the chunks: the same head means the same value.
            return Ok(());
        }
        if let Some(stored) = &old {
            format::count_out(digest, key, stored, old_head);
        }
        let chunks_before = old_head.map_or(0, |head: Head| head.chunks(key.raw()));
        let chunks_after = new.as_ref().map_or(0, |n| n.chunks.len());
        for number in chunks_after..chunks_before {
            self.step.batch.remove(format::chunk_key(key.raw(), number));
        }
        self.step.touches_chunks |= chunks_before > 0 || chunks_after > 0;
        match new {
            None => self.step.batch.remove(key.raw().as_ref()),
            Some(new) => {
                format::count_in(digest, key, &new.stored, new.head);
                put(&mut self.step.batch, key, new);
            }
        }
        Ok(())
    }

    /// What is stored under the key, asking sled only when it may be there.
    fn stored(&self, key: &Key) -> IndexResult<Option<IVec>> {
        // ORDER: known before it is there; readers ask in this order, too.
        if !self.known.insert(key.raw()) {
            return Ok(None);
        }
        self.db.get(key.raw()).map_err(|e| fault::of("apply", e))
    }

    /// The step, with what is true after it.
    pub(super) fn finish(mut self, meta: &IndexMeta) -> Step {
        self.step.batch.insert(format::META_KEY, format::encode_meta(meta));
        self.step
    }
}

/// Takes as many entries of a rebuild as one step holds; returns the rest.
pub(super) fn fill_new<'e>(
    batch: &mut Batch,
    entries: &'e [(Key, Bytes)],
    digest: &mut Digest,
    known: &KnownKeys,
) -> &'e [(Key, Bytes)] {
    let (mut taken, mut bytes) = (0, 0);
    for (key, value) in entries {
        if taken == STEP_KEYS || bytes >= STEP_BYTES {
            break;
        }
        let new = format::encode(key.raw(), value);
        format::count_in(digest, key, &new.stored, new.head);
        known.insert(key.raw());
        put(batch, key, new);
        taken += 1;
        bytes += key.raw().len() + value.len();
    }
    entries.get(taken..).unwrap_or_default()
}

fn put(batch: &mut Batch, key: &Key, new: Encoded<'_>) {
    for (number, bytes) in new.chunks.into_iter().enumerate() {
        batch.insert(format::chunk_key(key.raw(), number), bytes);
    }
    batch.insert(key.raw().as_ref(), new.stored);
}
