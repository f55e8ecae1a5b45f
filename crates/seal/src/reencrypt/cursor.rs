//! Where the job got to, stored with each batch.

use bytes::{Buf, BufMut, Bytes};
use resurge_store::{Batch, Durability, Key, KeyRange, Namespace, Record, Store};

use crate::ring::{MAX_NAME_LEN, NAMESPACE};
use crate::{KeyId, Result, SealError};

const CURSOR: u8 = b'c';
const VERSION: u8 = 1;
const AFTER: u8 = 1;
const DONE: u8 = 2;

/// The position in one place.
pub(super) struct Cursor {
    key: Key,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Start,
    /// Everything up to and with this key is done.
    After(Key),
    Done,
}

impl Position {
    /// What is still to do; `None` for nothing.
    pub(super) fn rest_of(&self, range: &KeyRange) -> Option<KeyRange> {
        match self {
            Self::Start => Some(range.clone()),
            Self::After(key) => Some(range.after(key)),
            Self::Done => None,
        }
    }
}

impl Cursor {
    pub(super) fn new(ring: &str, place: &str) -> Result<Self> {
        if place.is_empty() || place.len() > MAX_NAME_LEN {
            return Err(SealError::invalid(format!(
                "`{}` is no name for a place: 1 to {MAX_NAME_LEN} bytes are",
                place.escape_debug()
            )));
        }
        let mut key = vec![CURSOR];
        key.extend_from_slice(ring.as_bytes());
        key.push(0);
        key.extend_from_slice(place.as_bytes());
        Ok(Self { key: Namespace::new(NAMESPACE)?.key(key)? })
    }

    /// Where a run towards `target` stopped; the start when there was none, or it cannot be read: then the
    /// work is done again, which changes nothing.
    pub(super) async fn load(&self, store: &Store, target: KeyId) -> Result<Position> {
        let payload = store.read(&self.key).await?.into_payload();
        let read = payload.and_then(decode).filter(|(towards, _)| *towards == target);
        Ok(read.map_or(Position::Start, |(_, position)| position))
    }

    pub(super) fn put(&self, batch: &mut Batch, target: KeyId, position: &Position) {
        let record = Record::new(encode(target, position));
        batch.put(self.key.clone(), record.encode(&self.key));
    }

    pub(super) async fn save(
        &self,
        store: &Store,
        target: KeyId,
        position: &Position,
    ) -> Result<()> {
        let mut batch = Batch::new();
        self.put(&mut batch, target, position);
        store.commit(batch, Durability::Durable).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, store: &Store) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(self.key.clone());
        store.commit(batch, Durability::Durable).await?;
        Ok(())
    }
}

fn encode(target: KeyId, position: &Position) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.put_u32(target.0);
    match position {
        Position::Start => {}
        Position::After(key) => {
            out.put_u8(AFTER);
            out.put_slice(key.raw());
        }
        Position::Done => out.put_u8(DONE),
    }
    out
}

fn decode(mut from: Bytes) -> Option<(KeyId, Position)> {
    if from.try_get_u8().ok()? != VERSION {
        return None;
    }
    let target = KeyId(from.try_get_u32().ok()?);
    let position = match from.try_get_u8() {
        Err(_) => Position::Start,
        Ok(AFTER) => Position::After(Key::from_raw(from).ok()?),
        Ok(DONE) if from.is_empty() => Position::Done,
        Ok(_) => return None,
    };
    Some((target, position))
}
