//! Bugs that an index can play.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{CommitSeq, Key, KeyRange, Page, ScanOptions};
use resurge_store_sled::{
    Change, Digest, Index, IndexFactory, IndexMeta, IndexResult, OpenedIndex,
};
use resurge_testkit::SimIndex;

use super::Bug;
use crate::life::ID;

/// Makes indexes that do what a bug in an index, or in the store's use of it, would do.
#[derive(Debug)]
struct Planted {
    place: SimIndex,
    bug: Bug,
}

#[derive(Debug)]
struct PlantedIndex {
    index: Arc<dyn Index>,
    bug: Bug,
}

pub(super) fn plant(bug: Bug, place: &SimIndex) -> Arc<dyn IndexFactory> {
    Arc::new(Planted { place: place.clone(), bug })
}

impl IndexFactory for Planted {
    fn kind(&self) -> &'static str {
        "planted"
    }

    fn open(&self) -> IndexResult<OpenedIndex> {
        let OpenedIndex { index, swept } = self.place.open()?;
        Ok(OpenedIndex { index: Arc::new(PlantedIndex { index, bug: self.bug }), swept })
    }

    fn destroy(&self) -> IndexResult<()> {
        self.place.destroy()
    }
}

impl Index for PlantedIndex {
    fn meta(&self) -> IndexResult<Option<IndexMeta>> {
        let mut meta = self.index.meta()?;
        if let Some(meta) = &mut meta {
            match self.bug {
                Bug::ReadyIgnored => meta.ready = true,
                Bug::StoreIdIgnored => meta.store_id = ID,
                _ => {}
            }
        }
        Ok(meta)
    }

    fn get(&self, key: &Key) -> IndexResult<Option<Bytes>> {
        self.index.get(key)
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> IndexResult<Page> {
        self.index.scan(range, options)
    }

    fn apply(&self, changes: &[Change], applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        match self.bug {
            Bug::ChangeLeftOut => {
                let most = changes.split_last().map_or(changes, |(_, most)| most);
                self.index.apply(most, applied_seq)
            }
            Bug::AppliedAhead => {
                let meta = self.index.apply(changes, CommitSeq(applied_seq.0 + 1))?;
                Ok(IndexMeta { applied_seq, ..meta })
            }
            _ => self.index.apply(changes, applied_seq),
        }
    }

    fn prove(&self) -> IndexResult<Digest> {
        if self.bug == Bug::ProofSkipped {
            return Ok(self.index.meta()?.map(|meta| meta.digest).unwrap_or_default());
        }
        self.index.prove()
    }

    fn begin(&self, store_id: [u8; 16]) -> IndexResult<()> {
        self.index.begin(store_id)
    }

    fn load(&self, entries: &[(Key, Bytes)]) -> IndexResult<()> {
        self.index.load(entries)
    }

    fn finish(&self, applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        self.index.finish(applied_seq)
    }

    fn flush(&self) -> IndexResult<()> {
        self.index.flush()
    }

    fn close(&self, deadline: Duration) -> IndexResult<()> {
        self.index.close(deadline)
    }
}
