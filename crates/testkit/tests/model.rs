//! Random histories on every store, against a map that is obviously right.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use resurge_store::{Batch, Durability, ErrorKind, Guard, Key, Namespace, ScanOptions, StateStore};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use resurge_testkit::SimStore;
use resurge_testkit::sim::Ending;

type Model = BTreeMap<Key, Bytes>;

#[derive(Clone, Debug)]
enum Step {
    Commit {
        puts: Vec<(u8, Option<u16>)>,
        guard: Option<(u8, u8)>,
        durable: bool,
    },
    Scan {
        prefix: Option<u8>,
        entries: usize,
        reverse: bool,
    },
    Sync,
    Reopen,
    /// Of what may be lost, so much is kept: 0 nothing, 255 all.
    Crash {
        keep: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let puts = prop::collection::vec((0..12_u8, prop::option::weighted(0.7, any::<u16>())), 0..6);
    let guard = prop::option::weighted(0.4, (0..12_u8, 0..3_u8));
    let commit = (puts, guard, any::<bool>()).prop_map(|(puts, guard, durable)| Step::Commit {
        puts,
        guard,
        durable,
    });
    let scan = (prop::option::of(0..3_u8), 1..5_usize, any::<bool>())
        .prop_map(|(prefix, entries, reverse)| Step::Scan { prefix, entries, reverse });
    prop_oneof![
        10 => commit,
        4 => scan,
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => any::<u8>().prop_map(|keep| Step::Crash { keep }),
    ]
}

/// Twelve keys in three namespaces that are prefixes of each other.
fn key(n: u8) -> Key {
    let name = ["m", "m/", "m/n"][usize::from(n % 3)];
    Namespace::new(name).unwrap().key([n / 3]).unwrap()
}

/// Some values are long enough to be stored in pieces.
fn value(n: u16) -> Bytes {
    Bytes::from(vec![n.to_be_bytes()[1]; usize::from(n) % 9_000])
}

/// A store that can be opened again.
trait Subject {
    fn store(&self) -> &dyn StateStore;
    fn reopen(&mut self);
    /// Dies, and comes back with some of the commits that were accepted; how many of them are gone.
    fn crash(&mut self, keep: u8) -> usize;
}

async fn commit(store: &dyn StateStore, model: &mut Model, step: &Step) -> bool {
    let Step::Commit { puts, guard, durable } = step else { return false };
    let mut batch = Batch::new();
    let mut after = model.clone();
    for (n, put) in puts {
        if let Some(v) = put {
            batch.put(key(*n), value(*v));
            after.insert(key(*n), value(*v));
        } else {
            batch.delete(key(*n));
            after.remove(&key(*n));
        }
    }
    let mut holds = true;
    if let Some((n, kind)) = guard {
        let stored = model.get(&key(*n));
        let guard = match kind {
            0 => Guard::Absent,
            1 => Guard::Present,
            _ => Guard::Exact(stored.cloned().unwrap_or_else(|| "not there".into())),
        };
        holds = guard.holds(stored);
        batch.guard(key(*n), guard);
    }
    let durability = if *durable { Durability::Durable } else { Durability::Buffered };
    match store.commit(batch, durability).await {
        Ok(_) => assert!(holds, "a false guard was accepted"),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Conflict);
            assert!(!holds, "a true guard was refused: {e}");
            return false;
        }
    }
    *model = after;
    true
}

async fn scan(store: &dyn StateStore, model: &Model, step: &Step) {
    let Step::Scan { prefix, entries, reverse } = step else { return };
    let range = match prefix {
        None => resurge_store::KeyRange::everything(),
        Some(n) => key(*n).namespace().all(),
    };
    let mut options = ScanOptions::new().max_entries(*entries);
    if *reverse {
        options = options.reverse();
    }
    let mut expected: Vec<_> = model.iter().filter(|(key, _)| range.contains(key)).collect();
    if *reverse {
        expected.reverse();
    }
    let mut found = Vec::new();
    let mut rest = Some(range.clone());
    while let Some(range) = rest {
        let page = store.scan(range, options.clone()).await.unwrap();
        assert!(page.entries.len() <= *entries);
        found.extend(page.entries);
        rest = page.next;
    }
    let found: Vec<_> = found.iter().map(|e| (&e.key, &e.value)).collect();
    assert_eq!(found, expected);
}

/// The states after each commit, the newest last, from the last reopening on.
async fn run(subject: &mut impl Subject, steps: &[Step]) {
    let mut history = vec![Model::new()];
    for step in steps {
        let mut model = history.last().cloned().unwrap();
        match step {
            Step::Commit { .. } => {
                if commit(subject.store(), &mut model, step).await {
                    history.push(model);
                }
            }
            Step::Scan { .. } => scan(subject.store(), &model, step).await,
            Step::Sync => subject.store().sync().await.unwrap(),
            Step::Reopen => {
                subject.store().close().await.unwrap();
                subject.reopen();
                history = vec![model];
            }
            Step::Crash { keep } => {
                let gone = subject.crash(*keep);
                history = vec![history[history.len() - 1 - gone].clone()];
            }
        }
        let model = history.last().unwrap();
        for n in 0..12 {
            let found = subject.store().get(&key(n)).await.unwrap();
            assert_eq!(found.as_ref(), model.get(&key(n)), "{} after {step:?}", key(n));
        }
    }
}

struct OnSim(SimStore);

impl Subject for OnSim {
    fn store(&self) -> &dyn StateStore {
        &self.0
    }

    fn reopen(&mut self) {
        self.0 = self.0.reopen();
    }

    fn crash(&mut self, keep: u8) -> usize {
        self.0.crash(Ending::Kill);
        let (least, all) = (*self.0.cuts().start(), self.0.commits());
        let kept = least + (all - least) * usize::from(keep) / 255;
        self.0 = self.0.reopen_with(kept);
        all - kept
    }
}

struct OnDisk {
    dir: tempfile::TempDir,
    kind: IndexKind,
    store: Option<Arc<SledStore>>,
}

impl OnDisk {
    fn new(kind: IndexKind) -> Self {
        let mut new = Self { dir: tempfile::tempdir().unwrap(), kind, store: None };
        new.reopen();
        new
    }
}

impl Subject for OnDisk {
    fn store(&self) -> &dyn StateStore {
        &**self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.store = None;
        let options = SledOptions::new()
            .index(self.kind)
            .segment_sizes(16 << 10, 64 << 10)
            .image_after(32 << 10)
            .cache_bytes(1 << 20)
            .ballast(0);
        let (store, _) = SledStore::open_blocking(self.dir.path(), options).unwrap();
        self.store = Some(Arc::new(store));
    }

    /// Dropped without closing: all of it is kept. The next life has the other index.
    fn crash(&mut self, keep: u8) -> usize {
        if keep.is_multiple_of(2) {
            self.kind = match self.kind {
                IndexKind::Sled => IndexKind::Memory,
                IndexKind::Memory => IndexKind::Sled,
            };
        }
        self.reopen();
        0
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_simulated_store_is_a_map(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        block_on(run(&mut OnSim(SimStore::new(seed)), &steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn the_embedded_store_is_a_map(
        memory in any::<bool>(),
        steps in prop::collection::vec(step(), 20..60),
    ) {
        let kind = if memory { IndexKind::Memory } else { IndexKind::Sled };
        block_on(run(&mut OnDisk::new(kind), &steps));
    }
}
