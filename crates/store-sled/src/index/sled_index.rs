//! The index in sled 0.34: one tree, raw keys, small entries, nothing trusted.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use resurge_store::{CommitSeq, Key, KeyRange, Page, ScanOptions};
use sled::{Batch, Db};

use super::{Change, Digest, Index, IndexError, IndexErrorKind, IndexMeta, IndexResult};

mod directory;
mod fault;
mod format;
mod known_keys;
mod open;
mod read;
mod step;

use known_keys::KnownKeys;
pub use open::{SledIndexFactory, SledIndexOptions};
use step::{Filling, Step};

/// Changes per sled batch. A batch shuts every sled reader of the process out until it is done, and
/// beyond about a thousand keys sled gets slower and hungrier: measured on 400,000 random keys of 100
/// bytes, 5.6 us a key at 64 to 512, 7.5 us at 2,048, 13 us and 1.3 GB of memory at 16,384.
const STEP_KEYS: usize = 256;
/// Bytes per sled batch, about; one change may hold more.
const STEP_BYTES: usize = 1 << 20;

/// The state in a sled tree under `index/`.
///
/// sled's `flush` is no fsync and a power cut can take everything it has, which is why nothing
/// depends on it: the log is the truth, and this proves itself by [`Index::prove`] or is rebuilt.
/// A panic inside sled is returned as an error and ends the index, as any other failure does.
pub struct SledIndex {
    path: PathBuf,
    /// `None` once closed.
    db: RwLock<Option<Db>>,
    writer: Mutex<Writer>,
    /// Unknown until the index was created or proved.
    known: KnownKeys,
    /// Held exclusively while chunks change, shared by readers whose chunks did not fit together.
    chunks: RwLock<()>,
    failure: OnceLock<IndexError>,
}

/// What the one thread that changes the index knows.
#[derive(Debug)]
struct Writer {
    meta: Option<IndexMeta>,
    /// The last key of a rebuild so far.
    loaded: Option<Key>,
    /// This handle began a rebuild and has not finished it.
    loading: bool,
}

impl SledIndex {
    fn new(path: PathBuf, db: Db) -> IndexResult<Self> {
        let meta = read::meta(&db)?;
        let writer = Writer { meta, loaded: None, loading: false };
        Ok(Self {
            path,
            db: RwLock::new(Some(db)),
            writer: Mutex::new(writer),
            known: KnownKeys::unknown(),
            chunks: RwLock::new(()),
            failure: OnceLock::new(),
        })
    }

    /// Runs `body` on the open database. Its failure, or a panic, ends the index.
    fn with_db<T>(&self, call: &str, body: impl FnOnce(&Db) -> IndexResult<T>) -> IndexResult<T> {
        if let Some(failure) = self.failure.get() {
            let closed = IndexErrorKind::Closed;
            return Err(IndexError::with_source(closed, "it has ended", failure.clone()));
        }
        let open = self.db.read();
        let Some(db) = open.as_ref() else {
            return Err(closed_error());
        };
        let result = catch_unwind(AssertUnwindSafe(|| body(db)))
            .unwrap_or_else(|panic| Err(IndexError::panicked(call, &*panic)));
        if let Err(error) = &result
            && error.kind() != IndexErrorKind::Misuse
        {
            // The first one counts.
            let _ = self.failure.set(error.clone());
        }
        result
    }

    /// Applies one step. The digest moves with it.
    fn apply_step(&self, db: &Db, step: Step) -> IndexResult<()> {
        let _alone = step.touches_chunks.then(|| self.chunks.write());
        db.apply_batch(step.batch).map_err(|e| fault::of("apply", e))
    }
}

impl Index for SledIndex {
    fn meta(&self) -> IndexResult<Option<IndexMeta>> {
        Ok(self.writer.lock().meta)
    }

    fn get(&self, key: &Key) -> IndexResult<Option<Bytes>> {
        self.with_db("get", |db| {
            if !self.known.may_contain(key.raw()) {
                return Ok(None);
            }
            read::get(db, &self.chunks, key)
        })
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> IndexResult<Page> {
        self.with_db("scan", |db| read::page(db, &self.chunks, range, options))
    }

    fn apply(&self, changes: &[Change], applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        let mut writer = self.writer.lock();
        let meta = &mut writer.meta;
        let Some(current) = meta.filter(|m| m.ready) else {
            return Err(misuse("apply before finish"));
        };
        if applied_seq < current.applied_seq {
            let from = current.applied_seq;
            return Err(misuse(format!("applied_seq goes back from {from} to {applied_seq}")));
        }
        if !changes.is_sorted_by(|a, b| a.key < b.key) {
            return Err(misuse("changes are not strictly ascending"));
        }
        self.with_db("apply", |db| {
            let mut next = current;
            let mut rest = changes;
            loop {
                let mut step = Filling::new(db, &self.known);
                rest = step.fill(rest, &mut next.digest)?;
                if rest.is_empty() {
                    next.applied_seq = applied_seq;
                }
                let step = step.finish(&next);
                self.apply_step(db, step)?;
                *meta = Some(next);
                if rest.is_empty() {
                    return Ok(next);
                }
            }
        })
    }

    fn prove(&self) -> IndexResult<Digest> {
        // Nothing is applied meanwhile.
        let writer = self.writer.lock();
        let expected = writer.meta.map_or(0, |m| m.digest.keys);
        let known = KnownKeys::for_keys(expected);
        let digest = self.with_db("prove", |db| {
            let mut digest = Digest::default();
            for entry in db.range(format::FIRST_KEY..) {
                let (key, value) = entry.map_err(|e| fault::of("prove", e))?;
                if format::is_chunk(&key) {
                    format::count_chunk(&mut digest, &key, &value);
                } else {
                    digest.add(&key, &value);
                    known.insert(&key);
                }
            }
            Ok(digest)
        })?;
        self.known.replace(known);
        Ok(digest)
    }

    fn begin(&self, store_id: [u8; 16]) -> IndexResult<()> {
        let mut writer = self.writer.lock();
        if writer.meta.is_some() {
            return Err(misuse("begin on an index that holds something"));
        }
        let applied_seq = CommitSeq(0);
        let meta = IndexMeta { store_id, ready: false, applied_seq, digest: Digest::default() };
        self.with_db("begin", |db| write_meta(db, &meta))?;
        self.known.replace(KnownKeys::for_keys(0));
        *writer = Writer { meta: Some(meta), loaded: None, loading: true };
        Ok(())
    }

    fn load(&self, entries: &[(Key, Bytes)]) -> IndexResult<()> {
        let mut writer = self.writer.lock();
        let Writer { meta: Some(meta), loaded, loading: true } = &mut *writer else {
            return Err(misuse("load outside begin and finish"));
        };
        let Some(((first, _), (last, _))) = entries.first().zip(entries.last()) else {
            return Ok(());
        };
        let follows = loaded.as_ref().is_none_or(|loaded| loaded < first);
        if !follows || !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(misuse("entries are not strictly ascending"));
        }
        *loaded = Some(last.clone());
        self.with_db("load", |db| {
            let mut rest = entries;
            while !rest.is_empty() {
                let mut batch = Batch::default();
                rest = step::fill_new(&mut batch, rest, &mut meta.digest, &self.known);
                db.apply_batch(batch).map_err(|e| fault::of("load", e))?;
            }
            Ok(())
        })
    }

    fn finish(&self, applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        let mut writer = self.writer.lock();
        let Some(loading) = writer.meta.filter(|_| writer.loading) else {
            return Err(misuse("finish without begin"));
        };
        let meta = IndexMeta { ready: true, applied_seq, ..loading };
        // ORDER: after every entry; sled recovers a prefix of its log.
        self.with_db("finish", |db| write_meta(db, &meta))?;
        *writer = Writer { meta: Some(meta), loaded: None, loading: false };
        Ok(meta)
    }

    fn flush(&self) -> IndexResult<()> {
        self.with_db("flush", |db| db.flush().map(drop).map_err(|e| fault::of("flush", e)))
    }

    fn close(&self, deadline: Duration) -> IndexResult<()> {
        let timed_out = || {
            let message = format!("sled did not release {} in time", self.path.display());
            IndexError::new(IndexErrorKind::TimedOut, message)
        };
        // What runs may finish, nothing new starts.
        let _ = self.failure.set(closed_error());
        let half = deadline / 2;
        let Some(db) = self.db.try_write_for(half).ok_or_else(timed_out)?.take() else {
            return Ok(());
        };
        let (sender, released) = sync_channel(1);
        let path = self.path.clone();
        let release = move || {
            let flushed = db.flush().map(drop).map_err(|e| fault::of("flush at close", e));
            // Can panic when the last fsync fails, and hang.
            drop(db);
            // Nobody listens any more after the deadline.
            let _ = sender.send(flushed.and(directory::wait_released(&path)));
        };
        let thread = thread::Builder::new().name("resurge-sled-close".to_owned()).spawn(release);
        thread.map_err(|e| fault::io("cannot start a thread to close on".to_owned(), e))?;
        match released.recv_timeout(half) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(timed_out()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(IndexError::new(IndexErrorKind::Panicked, "sled panicked while closing"))
            }
        }
    }

    fn alarms(&self) -> Vec<String> {
        directory::blobs(&self.path)
    }
}

impl fmt::Debug for SledIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledIndex").field("path", &self.path).finish_non_exhaustive()
    }
}

fn write_meta(db: &Db, meta: &IndexMeta) -> IndexResult<()> {
    let encoded = format::encode_meta(meta);
    db.insert(format::META_KEY, &encoded[..]).map(drop).map_err(|e| fault::of("write meta", e))
}

fn closed_error() -> IndexError {
    IndexError::new(IndexErrorKind::Closed, "it was closed")
}

fn misuse(message: impl Into<String>) -> IndexError {
    IndexError::new(IndexErrorKind::Misuse, message)
}

#[cfg(test)]
mod tests;
