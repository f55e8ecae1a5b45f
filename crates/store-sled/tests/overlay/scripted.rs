//! An index in memory whose calls a test can interrupt, hold and fail.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use resurge_store::{
    Batch, CommitSeq, Group, Key, KeyRange, MemoryMap, Namespace, Page, ScanOptions,
};
use resurge_store_sled::{
    Change, Digest, Drainer, Index, IndexError, IndexErrorKind, IndexMeta, IndexResult, Overlay,
    OverlayOptions,
};

/// Long enough to never pass in a test that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);

type Hook = Box<dyn FnMut(usize) + Send>;

#[derive(Default)]
pub(crate) struct ScriptedIndex {
    map: MemoryMap,
    applied: Mutex<CommitSeq>,
    /// Called in the middle of every page, with its number from 0.
    in_page: Mutex<Option<Hook>>,
    pub(crate) pages: AtomicUsize,
    hold: Mutex<Hold>,
    changed: Condvar,
    fail: Mutex<Option<Failure>>,
    /// The number of changes of every apply, and where it got to.
    pub(crate) applies: Mutex<Vec<(usize, CommitSeq)>>,
}

#[derive(Default, PartialEq, Clone, Copy)]
enum Hold {
    #[default]
    Free,
    /// The next apply stops at its start.
    Asked,
    /// It has.
    Held,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Error,
    Panic,
    /// Says that it is elsewhere than it was asked to be.
    WrongSeq,
}

impl ScriptedIndex {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn in_page(&self, hook: impl FnMut(usize) + Send + 'static) {
        *self.in_page.lock() = Some(Box::new(hook));
    }

    /// The next apply waits, having changed nothing, until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        *self.hold.lock() = Hold::Asked;
    }

    pub(crate) fn wait_held(&self) {
        let mut hold = self.hold.lock();
        self.changed.wait_while_for(&mut hold, |h| *h != Hold::Held, LONG);
        assert!(*hold == Hold::Held, "nothing is applied");
    }

    pub(crate) fn release(&self) {
        *self.hold.lock() = Hold::Free;
        self.changed.notify_all();
    }

    pub(crate) fn fail_next(&self, failure: Failure) {
        *self.fail.lock() = Some(failure);
    }
}

impl Index for ScriptedIndex {
    fn meta(&self) -> IndexResult<Option<IndexMeta>> {
        Ok(None)
    }

    fn get(&self, key: &Key) -> IndexResult<Option<Bytes>> {
        if let Some(Failure::Error) = *self.fail.lock() {
            return Err(IndexError::new(IndexErrorKind::Io, "planted in get"));
        }
        Ok(self.map.get(key))
    }

    /// Reads the page in two halves, with the hook between them.
    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> IndexResult<Page> {
        let number = self.pages.fetch_add(1, Ordering::SeqCst);
        let half = options.clone().max_entries(options.max_entries.div_ceil(2));
        let mut page = self.map.scan(range, &half).expect("a map");
        let hook = self.in_page.lock().take();
        if let Some(mut hook) = hook {
            hook(number);
            *self.in_page.lock() = Some(hook);
        }
        if let Some(rest) = page.next.take() {
            let left = options.max_entries - page.entries.len();
            if left == 0 {
                page.next = Some(rest);
            } else {
                let second = self.map.scan(&rest, &options.clone().max_entries(left));
                let second = second.expect("a map");
                page.entries.extend(second.entries);
                page.next = second.next;
            }
        }
        Ok(page)
    }

    /// Changes key by key, as a tree does that others read meanwhile.
    fn apply(&self, changes: &[Change], applied_seq: CommitSeq) -> IndexResult<IndexMeta> {
        {
            let mut hold = self.hold.lock();
            if *hold == Hold::Asked {
                *hold = Hold::Held;
                self.changed.notify_all();
                self.changed.wait_while(&mut hold, |h| *h == Hold::Held);
            }
        }
        let failure = self.fail.lock().take();
        let mut said = applied_seq;
        match failure {
            None => {}
            Some(Failure::Error) => {
                *self.fail.lock() = failure;
                return Err(IndexError::new(IndexErrorKind::Io, "planted in apply"));
            }
            Some(Failure::Panic) => panic!("planted in apply"),
            Some(Failure::WrongSeq) => said = CommitSeq(applied_seq.0 + 1),
        }
        assert!(changes.is_sorted_by(|a, b| a.key < b.key), "not strictly ascending");
        for change in changes {
            let mut batch = Batch::new();
            match &change.value {
                Some(value) => batch.put(change.key.clone(), value.clone()),
                None => batch.delete(change.key.clone()),
            };
            self.map.apply([&batch]);
        }
        let mut applied = self.applied.lock();
        assert!(*applied <= applied_seq, "goes back");
        *applied = applied_seq;
        self.applies.lock().push((changes.len(), applied_seq));
        let digest = Digest::default();
        Ok(IndexMeta { store_id: [0; 16], ready: true, applied_seq: said, digest })
    }

    fn prove(&self) -> IndexResult<Digest> {
        Ok(Digest::default())
    }

    fn begin(&self, _: [u8; 16]) -> IndexResult<()> {
        Ok(())
    }

    fn load(&self, _: &[(Key, Bytes)]) -> IndexResult<()> {
        Ok(())
    }

    fn finish(&self, _: CommitSeq) -> IndexResult<IndexMeta> {
        Err(IndexError::new(IndexErrorKind::Misuse, "never loaded"))
    }

    fn flush(&self) -> IndexResult<()> {
        Ok(())
    }

    fn close(&self, _: Duration) -> IndexResult<()> {
        Ok(())
    }
}

impl fmt::Debug for ScriptedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedIndex")
    }
}

/// An overlay over a scripted index, that drains each group unless told otherwise.
pub(crate) struct Bench {
    pub(crate) index: Arc<ScriptedIndex>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) drainer: Drainer,
    pub(crate) failures: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    pub(crate) fn new(options: OverlayOptions) -> Self {
        let index = ScriptedIndex::new();
        let failures = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&failures);
        let on_failure = Box::new(move |e: &IndexError| told.lock().push(e.to_string()));
        let below: Arc<dyn Index> = Arc::clone(&index) as _;
        let overlay = Arc::new(Overlay::new(below, CommitSeq(0), options, on_failure));
        let drainer = Drainer::start(Arc::clone(&overlay)).expect("starts");
        Self { index, overlay, drainer, failures }
    }

    /// Publishes one batch as a durable group of its own.
    pub(crate) fn commit(&self, batch: Batch) -> CommitSeq {
        let group = self.next_group(batch);
        self.overlay.made_durable(group.last());
        self.overlay.publish(&group);
        group.last()
    }

    /// Publishes one batch as a group that is not durable yet.
    pub(crate) fn buffered(&self, batch: Batch) -> CommitSeq {
        let group = self.next_group(batch);
        self.overlay.publish(&group);
        group.last()
    }

    pub(crate) fn next_group(&self, batch: Batch) -> Group {
        Group { first: CommitSeq(self.overlay.published().0 + 1), batches: vec![batch] }
    }

    pub(crate) fn drain(&self) {
        self.drainer.drain_all(LONG).expect("drains");
    }
}

/// Drains every group as soon as it can.
pub(crate) fn eager() -> OverlayOptions {
    OverlayOptions { drain_keys: 1, ..OverlayOptions::default() }
}

/// Drains only when made to.
pub(crate) fn lazy() -> OverlayOptions {
    OverlayOptions { drain_after: Duration::from_secs(3_600), ..OverlayOptions::default() }
}

pub(crate) fn namespace() -> Namespace {
    Namespace::new("t").expect("a name")
}

pub(crate) fn key(name: &str) -> Key {
    namespace().key(name).expect("short")
}

pub(crate) fn put(keys: &[&str], value: &str) -> Batch {
    let mut batch = Batch::new();
    for name in keys {
        batch.put(key(name), value.to_owned());
    }
    batch
}

pub(crate) fn delete(keys: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for name in keys {
        batch.delete(key(name));
    }
    batch
}

/// A page as text: `a=1 b=2`, with `+` at the end when there is more.
pub(crate) fn show(page: &Page) -> String {
    let entry = |e: &resurge_store::Entry| {
        format!("{}={}", e.key.bytes().escape_ascii(), e.value.escape_ascii())
    };
    let mut text: Vec<String> = page.entries.iter().map(entry).collect();
    text.extend(page.next.as_ref().map(|_| "+".to_owned()));
    text.join(" ")
}
