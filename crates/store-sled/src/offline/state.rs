//! The state of a store in memory, for looking at it.

use std::sync::Arc;

use bytes::Bytes;
use resurge_commit_log::Vfs;
use resurge_store::{
    CommitSeq, DurableMeans, Engine, ErrorKind, Group, GroupCommit, GroupOptions, Key, KeyRange,
    MemoryMap, Page, Result, ScanOptions, Store, StoreError, StoreInfo,
};

use crate::error::while_opening;
use crate::image::ImageReader;
use crate::layout::Layout;
use crate::open::changes::decode;
use crate::verify::Checked;

/// The newest image and the log after it. All of it was checked.
pub(super) fn load(vfs: &dyn Vfs, layout: &Layout, checked: &Checked) -> Result<Store> {
    let map = MemoryMap::new();
    let mut from = 1;
    if let (Some(image), Some(slot)) = (checked.images.first(), &checked.slot) {
        let mut reader = ImageReader::open(vfs, &layout.image(image.begin), &slot.store_id)?;
        while let Some(entries) = reader.next_chunk()? {
            for (key, value) in entries {
                map.insert(key, value);
            }
        }
        from = image.begin.saturating_add(1);
    }
    if let Some(log) = &checked.log {
        let mut replay = log.replay(from).map_err(while_opening)?;
        while let Some((seq, bytes)) = replay.next_entry().map_err(while_opening)? {
            map.apply([&decode(seq, bytes)?]);
        }
    }
    let engine = Still { map, last: checked.report.last_seq };
    Ok(Store::new(GroupCommit::new(engine, GroupOptions::default())?))
}

/// A state that does not change.
#[derive(Debug)]
struct Still {
    map: MemoryMap,
    last: u64,
}

impl Engine for Still {
    fn last_seq(&self) -> CommitSeq {
        CommitSeq(self.last)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.map.get(key))
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        self.map.scan(range, options)
    }

    fn log(&self, _group: &Group) -> Result<()> {
        let message = "this is a look at a store that is not open: nothing can be committed";
        Err(StoreError::new(ErrorKind::Invalid, message))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn publish(&self, _group: &Arc<Group>) -> Result<()> {
        Ok(())
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("offline", DurableMeans::ProcessLifetime)
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn scans_block(&self) -> bool {
        false
    }
}
