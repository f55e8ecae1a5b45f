//! Filling the index in memory.

use bytes::Bytes;
use resurge_store::{Key, MemoryMap, Result};

use super::base::{Base, LoadError};
use super::changes::decode;
use crate::error::while_opening;

/// Image, then log.
pub(super) fn load(mut base: Base<'_>) -> std::result::Result<MemoryMap, LoadError> {
    let map = MemoryMap::new();
    let from = base.replay_from();
    if let Some(image) = &mut base.image {
        while let Some(entries) = image.next_chunk().map_err(LoadError::Image)? {
            for (key, value) in entries {
                // Copied: one small value must not keep a whole chunk in memory.
                map.insert(detached(&key)?, Bytes::copy_from_slice(&value));
            }
        }
    }
    let mut replay = base.log.replay(from).map_err(while_opening)?;
    while let Some((seq, bytes)) = replay.next_entry().map_err(while_opening)? {
        map.apply([&decode(seq, bytes)?]);
        *base.replayed += 1;
    }
    Ok(map)
}

fn detached(key: &Key) -> Result<Key> {
    Key::from_raw(Bytes::copy_from_slice(key.raw()))
}
