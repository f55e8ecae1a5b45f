//! Failures beside commits end the store, loudly; back-pressure does not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use resurge_store::{
    Batch, CommitSeq, Durability, ErrorKind, Key, KeyRange, Page, ScanOptions, SeededEntropy,
    StateStore,
};
use resurge_store_sled::{
    Change, Digest, Index, IndexError, IndexErrorKind, IndexFactory, IndexKind, IndexMeta,
    IndexResult, Maintenance, OpenedIndex, SledIndexFactory, SledIndexOptions,
};

use crate::faults::FaultVfs;
use crate::fixture::{Dir, close, copy, dump, get, key, open, options, put, wait};

/// Whether `apply` may go on, or what it fails with.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    failure: Mutex<Option<IndexErrorKind>>,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) -> IndexResult<()> {
        let mut closed = self.closed.lock();
        self.opened.wait_while(&mut closed, |closed| *closed);
        match *self.failure.lock() {
            Some(kind) => Err(IndexError::new(kind, "told to fail")),
            None => Ok(()),
        }
    }
}

/// A sled index that stops at the gate.
#[derive(Debug)]
struct GatedFactory(SledIndexFactory, Arc<Gate>);

#[derive(Debug)]
struct Gated(Arc<dyn Index>, Arc<Gate>);

impl IndexFactory for GatedFactory {
    fn kind(&self) -> &'static str {
        "gated"
    }

    fn open(&self) -> IndexResult<OpenedIndex> {
        let mut opened = self.0.open()?;
        opened.index = Arc::new(Gated(opened.index, Arc::clone(&self.1)));
        Ok(opened)
    }

    fn destroy(&self) -> IndexResult<()> {
        self.0.destroy()
    }
}

impl Index for Gated {
    fn meta(&self) -> IndexResult<Option<IndexMeta>> {
        self.0.meta()
    }

    fn get(&self, key: &Key) -> IndexResult<Option<Bytes>> {
        self.0.get(key)
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> IndexResult<Page> {
        self.0.scan(range, options)
    }

    fn apply(&self, changes: &[Change], applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        self.1.pass()?;
        self.0.apply(changes, applied_seq)
    }

    fn prove(&self) -> IndexResult<Digest> {
        self.0.prove()
    }

    fn begin(&self, store_id: [u8; 16]) -> IndexResult<()> {
        self.0.begin(store_id)
    }

    fn load(&self, entries: &[(Key, Bytes)]) -> IndexResult<()> {
        self.0.load(entries)
    }

    fn finish(&self, applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        self.0.finish(applied_seq)
    }

    fn flush(&self) -> IndexResult<()> {
        self.0.flush()
    }

    fn close(&self, deadline: Duration) -> IndexResult<()> {
        self.0.close(deadline)
    }
}

fn gated(dir: &Dir) -> (Arc<GatedFactory>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let factory = SledIndexFactory::new(dir.sub("index"), SledIndexOptions::default());
    (Arc::new(GatedFactory(factory, Arc::clone(&gate))), gate)
}

#[test]
fn a_full_overlay_makes_commits_wait_then_unavailable_then_go_on() {
    let dir = Dir::new();
    let (factory, gate) = gated(&dir);
    let small =
        options(IndexKind::Sled).index_factory(factory).overlay(100_000, Duration::from_millis(1));
    let (store, _) = open(&dir.path(), small);
    gate.set_closed(true);
    let mut written = 0;
    let refused = loop {
        match put(&store, format!("k{written}"), vec![3; 5_000]) {
            Ok(_) => written += 1,
            Err(e) => break e,
        }
        assert!(written < 200, "bounded");
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(written > 10 && get(&store, "k0").is_some());
    assert_eq!(store.status().overlay.unwrap().applied_seq, 0);
    gate.set_closed(false);
    while put(&store, "more", "x").is_err() {}
    assert_eq!(dump(&store).len(), written + 1);
    close(&store);
}

#[test]
fn buffered_commits_alone_cannot_fill_the_overlay_for_good() {
    // Nothing of them may be drained before a sync, and the next sync would come after the commit
    // that waits for room.
    let dir = Dir::new();
    let small = options(IndexKind::Sled).overlay(100_000, Duration::from_secs(60));
    let (store, _) = open(&dir.path(), small);
    for n in 0..100 {
        let mut batch = Batch::new();
        batch.put(key(format!("k{n}")), vec![1; 5_000]);
        wait(store.commit(batch, Durability::Buffered)).unwrap();
    }
    assert_eq!(dump(&store).len(), 100);
    close(&store);
}

#[test]
fn a_failing_index_closes_the_store_and_the_next_open_has_everything() {
    for kind in [IndexErrorKind::Io, IndexErrorKind::Corrupt, IndexErrorKind::Panicked] {
        let dir = Dir::new();
        let (factory, gate) = gated(&dir);
        let (store, _) = open(&dir.path(), options(IndexKind::Sled).index_factory(factory));
        *gate.failure.lock() = Some(kind);
        let mut written = 0;
        let refused = loop {
            match put(&store, format!("k{written}"), "v") {
                Ok(_) => written += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::Closed, "{refused}");
        let status = store.status();
        assert!(status.failure.is_some(), "{status:?}");
        drop(store);
        let (store, report) = open(&dir.path(), options(IndexKind::Sled));
        assert_eq!(dump(&store).len(), written, "{report}");
        close(&store);
    }
}

#[test]
fn a_failed_sync_is_indeterminate_and_never_retried() {
    for (op, part) in [("write", "/log/"), ("sync", "/log/"), ("write", "/super")] {
        let dir = Dir::new();
        let vfs = FaultVfs::default();
        let memory = options(IndexKind::Memory).vfs(Arc::new(vfs.clone()));
        let (store, _) = open(&dir.path(), memory);
        put(&store, "k", "v").unwrap();
        vfs.fail(op, part, io::ErrorKind::Other);
        let unknown = put(&store, "k", "w").unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Indeterminate, "{op} {part}: {unknown}");
        vfs.heal();
        let syncs = vfs.operations().len();
        assert_eq!(put(&store, "k", "x").unwrap_err().kind(), ErrorKind::Closed);
        drop(store);
        let again = vfs.operations().split_off(syncs);
        // The segment that failed is known by the name it was made under.
        assert!(!again.iter().any(|o| o == "sync segment-0.tmp"), "{op} {part}: {again:?}");
        let (store, _) = open(&dir.path(), options(IndexKind::Memory));
        let found = get(&store, "k").unwrap();
        assert!(found == "v" || found == "w", "{found:?}");
        close(&store);
    }
}

#[test]
fn the_high_water_is_there_after_a_kill_and_synced_at_close() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let inline =
        options(IndexKind::Memory).maintenance(Maintenance::Inline).vfs(Arc::new(vfs.clone()));
    let (store, _) = open(&dir.path(), inline);
    let before = vfs.operations().len();
    for n in 0..5 {
        put(&store, format!("k{n}"), "v").unwrap();
    }
    let operations = vfs.operations().split_off(before);
    let count = |op: &str| operations.iter().filter(|o| *o == op).count();
    // The file was opened under its first name.
    assert_eq!(count("write super.tmp"), 5, "{operations:?}");
    assert_eq!(count("sync super.tmp"), 0, "no sync of its own");
    // The last commit is destroyed, as a lost write would: that it was acknowledged is known.
    let killed = Dir::new();
    copy(&dir.path(), &killed.path());
    let segment = killed.sub("log").join("0000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end - 30..=end].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    let refused =
        resurge_store_sled::SledStore::open_blocking(killed.path(), options(IndexKind::Memory));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    close(&store);
    assert!(vfs.operations().iter().any(|o| o == "sync super.tmp"));
}

#[test]
fn the_super_file_is_synced_when_the_store_is_left_alone() {
    let dir = Dir::new();
    let vfs = FaultVfs::default();
    let (store, _) = open(&dir.path(), options(IndexKind::Memory).vfs(Arc::new(vfs.clone())));
    let before = vfs.operations().len();
    put(&store, "k", "v").unwrap();
    let synced = || vfs.operations().split_off(before).iter().any(|o| o == "sync super.tmp");
    // No commit follows: it must come by itself.
    while !synced() {
        std::thread::yield_now();
    }
    close(&store);
}

#[test]
fn a_store_made_with_the_same_entropy_has_the_same_id() {
    let super_of = |seed| {
        let dir = Dir::new();
        let seeded = options(IndexKind::Memory).entropy(Arc::new(SeededEntropy::new(seed)));
        let (store, _) = open(&dir.path(), seeded);
        close(&store);
        std::fs::read(dir.sub("super")).unwrap()[16..32].to_vec()
    };
    assert_eq!(super_of(1), super_of(1));
    assert_ne!(super_of(1), super_of(2));
}

#[test]
fn the_log_is_not_cut_past_what_the_index_holds() {
    let dir = Dir::new();
    let (factory, gate) = gated(&dir);
    let (store, _) = open(&dir.path(), options(IndexKind::Sled).index_factory(factory));
    let fill = |round: usize| {
        for n in 0..100 {
            put(&store, format!("r{round}-{n}"), vec![1; 2_000]).unwrap();
        }
        wait(store.image_now()).unwrap();
    };
    gate.set_closed(true);
    fill(0);
    fill(1);
    fill(2);
    assert_eq!(store.status().log_first_seq, 1, "two images, but nothing in the index");
    gate.set_closed(false);
    fill(3);
    assert!(store.status().log_first_seq > 1);
    close(&store);
}
