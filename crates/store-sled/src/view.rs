//! The published state: what readers and guards see.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    CommitSeq, ErrorKind, Group, Key, KeyRange, MemoryMap, Page, Result, ScanOptions, StoreError,
};

use crate::drain::{Drainer, drain_here};
use crate::image::ImageWriter;
use crate::overlay::{Overlay, OverlayStatus};

/// How long cutting the log waits for the index.
const CATCH_UP: Duration = Duration::from_secs(1);

/// About how much is copied out of the map in memory while nothing can be published to it.
const DUMP_BYTES: usize = 64 << 10;

/// Either all of it in memory, or the newest of it in memory over an index.
#[derive(Debug)]
pub(crate) enum View {
    Memory(MemoryMap),
    Indexed(Indexed),
}

#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) overlay: Arc<Overlay>,
    /// `None` when there is no thread: then whoever needs the index up to date brings it there.
    pub(crate) drainer: Mutex<Option<Drainer>>,
    pub(crate) inline: bool,
}

impl Indexed {
    fn drain_if_inline(&self) {
        if self.inline {
            drain_here(&self.overlay);
        }
    }
}

impl View {
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self {
            Self::Memory(map) => Ok(map.get(key)),
            Self::Indexed(indexed) => indexed.overlay.get(key),
        }
    }

    pub(crate) fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        match self {
            Self::Memory(map) => map.scan(range, options),
            Self::Indexed(indexed) => indexed.overlay.scan(range, options),
        }
    }

    /// Adds about `entries` entries from the front of `range` to an image; returns the rest of it.
    pub(crate) fn dump(
        &self,
        range: &KeyRange,
        entries: usize,
        image: &mut ImageWriter,
    ) -> Result<Option<KeyRange>> {
        match self {
            Self::Memory(map) => {
                let (mut count, mut bytes) = (0, 0);
                let rest = map.visit(range, |key, value| {
                    count += 1;
                    bytes += value.len();
                    let full = image.push(key, value);
                    // Commits are not published meanwhile.
                    !full && count < entries && bytes < DUMP_BYTES
                });
                image.flush()?;
                Ok(rest)
            }
            Self::Indexed(indexed) => {
                let options = ScanOptions::new().max_entries(entries);
                let page = indexed.overlay.scan(range, &options)?;
                for entry in &page.entries {
                    image.add(&entry.key, &entry.value)?;
                }
                Ok(page.next)
            }
        }
    }

    /// Takes room for a group that is about to be logged; returns what to give back by `cancel` if
    /// it is not. `sync` is called when nothing drains because nothing is durable.
    ///
    /// # Errors
    /// `Unavailable` when there was no room in time; `Closed` after a failure of the index.
    pub(crate) fn reserve(
        &self,
        group: &Group,
        wait: Duration,
        sync: impl FnOnce() -> Result<()>,
    ) -> Result<usize> {
        let Self::Indexed(indexed) = self else { return Ok(0) };
        let overlay = &indexed.overlay;
        let bytes = Overlay::size_of(group);
        match overlay.reserve(bytes, Duration::ZERO) {
            Ok(()) => return Ok(bytes),
            Err(e) if e.kind() == ErrorKind::Unavailable => {}
            Err(e) => return Err(e),
        }
        // The drainer never passes what is durable: it may wait for the sync that this caller's
        // next one would be.
        if overlay.waits_for_sync() {
            sync()?;
        }
        indexed.drain_if_inline();
        metrics::counter!("resurge_sled_overlay_waits_total").increment(1);
        overlay.reserve(bytes, wait)?;
        Ok(bytes)
    }

    pub(crate) fn cancel(&self, reserved: usize) {
        if let Self::Indexed(indexed) = self {
            indexed.overlay.cancel(reserved);
        }
    }

    pub(crate) fn made_durable(&self, seq: u64) {
        if let Self::Indexed(indexed) = self {
            indexed.overlay.made_durable(CommitSeq(seq));
        }
    }

    pub(crate) fn publish(&self, group: &Group) {
        match self {
            Self::Memory(map) => map.apply(&group.batches),
            Self::Indexed(indexed) => indexed.overlay.publish(group),
        }
    }

    /// Up to where the log is not needed for the index, after waiting a little for it to hold
    /// everything up to `wanted`. A map in memory needs images only.
    pub(crate) fn applied(&self, wanted: u64) -> Result<u64> {
        match self {
            Self::Memory(_) => Ok(u64::MAX),
            Self::Indexed(indexed) => {
                indexed.drain_if_inline();
                let caught_up = indexed.overlay.control().wait_applied(CommitSeq(wanted), CATCH_UP);
                if let Err(e) = caught_up
                    && e.kind() != ErrorKind::Unavailable
                {
                    return Err(e);
                }
                let applied = indexed.overlay.applied();
                // What was applied after the last flush may be gone after a kill.
                indexed.overlay.index().flush().map_err(StoreError::from)?;
                Ok(applied.0)
            }
        }
    }

    pub(crate) fn overlay_status(&self) -> Option<OverlayStatus> {
        match self {
            Self::Memory(_) => None,
            Self::Indexed(indexed) => Some(indexed.overlay.status()),
        }
    }

    /// What is wrong with the index although it works.
    pub(crate) fn alarms(&self) -> Vec<String> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Indexed(indexed) => indexed.overlay.index().alarms(),
        }
    }

    /// Brings everything into the index and releases it, each within `deadline`.
    ///
    /// # Errors
    /// Whatever kept it from that; the log has it all.
    pub(crate) fn close(&self, deadline: Duration) -> Result<()> {
        let Self::Indexed(indexed) = self else { return Ok(()) };
        let drainer = indexed.drainer.lock().take();
        indexed.drain_if_inline();
        let complete = match &drainer {
            Some(drainer) => drainer.drain_all(deadline).and_then(|()| drainer.stop(deadline)),
            None => indexed.overlay.failure().map_or(Ok(()), |e| Err(e.into())),
        };
        drop(drainer);
        let index = indexed.overlay.index();
        let flushed = index.flush().map_err(StoreError::from);
        let closed = index.close(deadline).map_err(StoreError::from);
        complete.and(flushed).and(closed)
    }

    /// Releases the index as it is.
    pub(crate) fn abandon(&self, deadline: Duration) {
        let Self::Indexed(indexed) = self else { return };
        if let Some(drainer) = indexed.drainer.lock().take()
            && let Err(e) = drainer.stop(deadline)
        {
            tracing::warn!(error = %e, "the drainer did not stop");
        }
        if let Err(e) = indexed.overlay.index().close(deadline) {
            tracing::warn!(error = %e, "the index was not released");
        }
    }
}
