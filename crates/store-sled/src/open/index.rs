//! The index on disk: it proves itself, or it is built again.

use std::collections::btree_map;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_commit_log::Log;
use resurge_store::{CommitSeq, ErrorKind, Key, Result, StoreError};

use super::Opening;
use super::base::{Base, LoadError};
use super::changes::Changes;
use crate::drain::Drainer;
use crate::error::while_opening;
use crate::index::{
    Index, IndexError, IndexErrorKind, IndexFactory, OpenedIndex, SledIndexFactory,
    SledIndexOptions,
};
use crate::overlay::{Overlay, OverlayOptions};
use crate::super_file::Slot;
use crate::view::{Indexed, View};
use crate::{How, Maintenance, Verify};

/// Log that is sorted in memory before it is merged with the image.
const MERGE_BYTES: usize = 128 << 20;
/// Log that is sorted in memory before it is applied to an index.
const APPLY_BYTES: usize = 16 << 20;
/// Entries given to the index at once.
const LOAD_ENTRIES: usize = 4096;
/// Or as soon as they have this many bytes.
const LOAD_BYTES: usize = 4 << 20;

/// Why an index is not used as it is.
enum Unusable {
    /// It failed, or does not prove what it should: built again.
    Because(String),
    /// Something else failed.
    Failed(StoreError),
}

impl From<StoreError> for Unusable {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<IndexError> for Unusable {
    fn from(error: IndexError) -> Self {
        Self::Because(error.to_string())
    }
}

impl Opening {
    /// The index, up to the last commit of the log, behind its overlay.
    pub(super) fn open_indexed(&mut self, log: &Log, before: &Slot) -> Result<View> {
        let factory = self.factory();
        let index = match self.prove(&*factory, log, before) {
            Ok(index) => index,
            Err(Unusable::Failed(e)) => return Err(e),
            Err(Unusable::Because(why)) => {
                tracing::warn!(why, "building the index again");
                let index = self.rebuild(&*factory, log)?;
                self.report.how = How::Rebuilt { why };
                index
            }
        };
        let options =
            OverlayOptions { max_bytes: self.options.overlay_bytes, ..OverlayOptions::default() };
        let failure = Arc::clone(&self.failure);
        let on_failure = Box::new(move |error: &IndexError| {
            metrics::counter!("resurge_sled_index_failures_total").increment(1);
            failure.set("the index", &StoreError::from(error.clone()));
        });
        let overlay = Arc::new(Overlay::new(index, CommitSeq(log.last_seq()), options, on_failure));
        let inline = self.options.maintenance == Maintenance::Inline;
        let drainer = if inline { None } else { Some(Drainer::start(Arc::clone(&overlay))?) };
        Ok(View::Indexed(Indexed { overlay, drainer: Mutex::new(drainer), inline }))
    }

    fn factory(&self) -> Arc<dyn IndexFactory> {
        self.options.factory.clone().unwrap_or_else(|| {
            let options = SledIndexOptions { cache_bytes: self.options.cache_bytes };
            Arc::new(SledIndexFactory::new(&self.layout.index, options))
        })
    }

    /// Opens what is there, lets it prove itself, and brings it to the end of the log.
    fn prove(
        &mut self,
        factory: &dyn IndexFactory,
        log: &Log,
        before: &Slot,
    ) -> std::result::Result<Arc<dyn Index>, Unusable> {
        let OpenedIndex { index, swept } = factory.open()?;
        self.report.swept.extend(swept);
        let proved = self.prove_opened(&*index, log, before);
        if proved.is_err()
            && let Err(e) = index.close(self.options.close_within)
        {
            return Err(Unusable::Failed(opening(e)));
        }
        proved.map(|()| index)
    }

    fn prove_opened(
        &mut self,
        index: &dyn Index,
        log: &Log,
        before: &Slot,
    ) -> std::result::Result<(), Unusable> {
        let because = |why: String| Err(Unusable::Because(why));
        let Some(meta) = index.meta()? else {
            return because("there is none, or it is empty".to_owned());
        };
        let (applied, first, last) = (meta.applied_seq.0, log.first_seq(), log.last_seq());
        if meta.store_id != self.store_id {
            return because("it belongs to another store".to_owned());
        }
        if !meta.ready {
            return because("it was never finished".to_owned());
        }
        if applied.saturating_add(1) < first {
            return because(format!("it is at commit {applied}, the log begins at {first}"));
        }
        if applied > last {
            return because(format!("it is at commit {applied}, the log ends at {last}"));
        }
        if self.may_trust(before) {
            self.report.how = How::Trusted;
        } else {
            let found = index.prove()?;
            if found != meta.digest {
                return because(format!("it holds {found:?} and says {:?}", meta.digest));
            }
            self.report.how = How::Verified;
        }
        let mut replay = log.replay(applied.saturating_add(1)).map_err(while_opening)?;
        self.report.replayed = 0;
        while let Some(changes) = Changes::read(&mut replay, APPLY_BYTES)? {
            self.report.replayed += changes.commits;
            let last = CommitSeq(changes.last);
            index.apply(&changes.into_sorted(), last)?;
        }
        Ok(())
    }

    fn may_trust(&self, before: &Slot) -> bool {
        self.options.verify == Verify::Trust
            && before.clean
            && self.options.boot_id.is_some_and(|boot| boot == before.boot_id)
    }

    /// Deletes what is there and builds it from image and log.
    fn rebuild(&mut self, factory: &dyn IndexFactory, log: &Log) -> Result<Arc<dyn Index>> {
        let store_id = self.store_id;
        let within = self.options.close_within;
        self.build_from_newest(log, |base| {
            factory.destroy().map_err(opening)?;
            let OpenedIndex { index, .. } = factory.open().map_err(opening)?;
            match build(&*index, store_id, base) {
                Ok(()) => Ok(index),
                Err(e) => {
                    index.close(within).map_err(opening)?;
                    Err(e)
                }
            }
        })
    }
}

/// Loads the image merged with the log after it, then applies what is left of the log.
fn build(
    index: &dyn Index,
    store_id: [u8; 16],
    mut base: Base<'_>,
) -> std::result::Result<(), LoadError> {
    let from = base.replay_from();
    let begin = from - 1;
    let mut replay = base.log.replay(from).map_err(while_opening)?;
    let changes = Changes::read(&mut replay, MERGE_BYTES)?.unwrap_or_default();
    let upto = if changes.commits > 0 { changes.last } else { begin };
    *base.replayed += changes.commits;

    index.begin(store_id).map_err(opening)?;
    let mut changes = changes.by_key.into_iter().peekable();
    let mut loader = Loader { index, entries: Vec::new(), bytes: 0 };
    if let Some(image) = &mut base.image {
        while let Some(chunk) = image.next_chunk().map_err(LoadError::Image)? {
            for (key, value) in chunk {
                loader.changes_before(&mut changes, Some(&key))?;
                match changes.next_if(|(changed, _)| *changed == key) {
                    Some((key, newer)) => loader.put(key, newer)?,
                    None => loader.put(key, Some(value))?,
                }
            }
        }
    }
    loader.changes_before(&mut changes, None)?;
    loader.load()?;
    // `ready` comes last; what follows is as any other change.
    index.finish(CommitSeq(upto)).map_err(opening)?;
    while let Some(changes) = Changes::read(&mut replay, APPLY_BYTES)? {
        *base.replayed += changes.commits;
        let last = CommitSeq(changes.last);
        index.apply(&changes.into_sorted(), last).map_err(opening)?;
    }
    Ok(())
}

type SortedChanges = Peekable<btree_map::IntoIter<Key, Option<Bytes>>>;

/// Gives the index its entries in portions.
struct Loader<'a> {
    index: &'a dyn Index,
    entries: Vec<(Key, Bytes)>,
    bytes: usize,
}

impl Loader<'_> {
    /// The changes to keys before `key`, or all that are left.
    fn changes_before(&mut self, changes: &mut SortedChanges, key: Option<&Key>) -> Result<()> {
        while let Some((changed, value)) = changes.next_if(|(k, _)| key.is_none_or(|key| k < key)) {
            self.put(changed, value)?;
        }
        Ok(())
    }

    fn put(&mut self, key: Key, value: Option<Bytes>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        self.bytes += key.raw().len() + value.len();
        self.entries.push((key, value));
        if self.entries.len() >= LOAD_ENTRIES || self.bytes >= LOAD_BYTES {
            self.load()?;
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        self.index.load(&self.entries).map_err(opening)?;
        self.entries.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// An index error for which a rebuild is no cure: it came from one.
pub(super) fn opening(error: IndexError) -> StoreError {
    let kind = match error.kind() {
        IndexErrorKind::Full => ErrorKind::Full,
        IndexErrorKind::Corrupt => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    };
    StoreError::with_source(kind, error.to_string(), error)
}
