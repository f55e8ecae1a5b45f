//! Every manifest and chunk of two snapshots cut at every length, with every bit flipped, with every
//! sector lost, stale or doubled, removed and exchanged: named, and the other snapshot is used.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use resurge_snapshot::{SnapshotError, SnapshotId, SnapshotOptions, Snapshots};
use resurge_store::{Entry, ErrorKind, Store};
use resurge_testkit::evidence;

use super::{State, entries, put, remove, state};

const SECTOR: usize = 512;
const MANIFEST: u8 = 2;

fn options() -> SnapshotOptions<State> {
    SnapshotOptions::new().chunk_bytes(640)
}

/// The kind of an entry and the snapshot it belongs to; `None` for the head.
fn place(entry: &Entry) -> Option<(u8, u64)> {
    let (kind, rest) = entry.key.bytes().strip_prefix(b"\x04test")?.split_first()?;
    let id = u64::from_be_bytes(*rest.first_chunk()?);
    Some((*kind, id))
}

/// Snapshots 1 and 2, of 80 and 130 items, each in two chunks.
struct Sweep {
    store: Store,
    entries: Vec<Entry>,
    cases: BTreeMap<&'static str, u32>,
}

impl Sweep {
    async fn replaced(&mut self, kind: &'static str, at: usize, entry: &Entry, value: Bytes) {
        if value == entry.value {
            return;
        }
        put(&self.store, &Entry { key: entry.key.clone(), value }).await;
        self.check(kind, &[entry], &format!("{kind} {at}: {}", entry.key)).await;
        put(&self.store, entry).await;
    }

    /// The snapshots that were hit are named, and no state but one of the others is loaded.
    async fn check(&mut self, kind: &'static str, hit: &[&Entry], context: &str) {
        *self.cases.entry(kind).or_default() += 1;
        let hit: BTreeSet<u64> = hit.iter().map(|entry| place(entry).unwrap().1).collect();
        let gone = kind == "manifests removed";
        let snapshots = Snapshots::open(&self.store, "test", options()).await.unwrap();
        let latest = snapshots.load_latest().await.unwrap();
        let loaded = latest.loaded.map(|loaded| loaded.state);
        let expected = [(2, 130), (1, 80)].into_iter().find(|(id, _)| !hit.contains(id));
        assert_eq!(loaded, expected.map(|(_, items)| state(items)), "{context}");
        let skipped: BTreeSet<u64> = latest.skipped.iter().map(|damaged| damaged.id.0).collect();
        assert!(skipped.is_subset(&hit), "{context}: {skipped:?}");
        // Of what is older than the one that is used, only the manifest was looked at.
        let used = expected.map_or(0, |(id, _)| id);
        let newer = hit.iter().filter(|id| **id > used && !gone);
        assert!(newer.into_iter().all(|id| skipped.contains(id)), "{context}: {skipped:?}");
        for id in [1, 2] {
            let verified = snapshots.verify(SnapshotId(id)).await;
            match verified {
                Ok(()) => assert!(!hit.contains(&id), "{context}: not detected"),
                Err(SnapshotError::NotFound { id: named }) => {
                    assert!(gone && hit.contains(&id) && named.0 == id, "{context}");
                }
                Err(error) => {
                    assert!(hit.contains(&id) && !gone, "{context}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{context}");
                    assert!(error.to_string().contains(&format!("snapshot {id}")), "{error}");
                }
            }
        }
    }

    async fn sectors(&mut self, entry: &Entry) {
        let sources = self.entries.clone();
        let len = entry.value.len();
        for from in (0..len).step_by(SECTOR) {
            let to = len.min(from + SECTOR);
            let sector = from / SECTOR;
            let mut zeroed = entry.value.to_vec();
            zeroed[from..to].fill(0);
            self.replaced("sectors zeroed", sector, entry, zeroed.into()).await;
            for source in &sources {
                let stale = patched(&entry.value, from, &source.value, from, to);
                self.replaced("sectors stale", sector, entry, stale).await;
            }
            for again in (0..len).step_by(SECTOR) {
                let doubled = patched(&entry.value, again, &entry.value, from, to);
                self.replaced("sectors doubled", sector, entry, doubled).await;
            }
            let mut inserted = entry.value[..to].to_vec();
            inserted.extend_from_slice(&entry.value[from..]);
            self.replaced("sectors doubled", sector, entry, inserted.into()).await;
        }
    }
}

/// `value` with what `source` has in `from..to` written at `at`, as far as both go.
fn patched(value: &Bytes, at: usize, source: &Bytes, from: usize, to: usize) -> Bytes {
    let mut patched = value.to_vec();
    let bytes = &source[from.min(source.len())..to.min(source.len())];
    for (to, byte) in patched.iter_mut().skip(at).zip(bytes) {
        *to = *byte;
    }
    patched.into()
}

#[tokio::test]
async fn every_damage_of_every_value_is_named_and_the_other_snapshot_used() {
    let store = Store::memory();
    let snapshots = Snapshots::open(&store, "test", options()).await.unwrap();
    snapshots.take(state(80), 10).await.unwrap();
    snapshots.take(state(130), 20).await.unwrap();
    let mut written = entries(&store).await;
    written.retain(|entry| place(entry).is_some());
    let mut sweep = Sweep { store, entries: written.clone(), cases: BTreeMap::new() };
    for entry in &written {
        for len in 0..entry.value.len() {
            sweep.replaced("cuts", len, entry, entry.value.slice(..len)).await;
        }
        for bit in 0..entry.value.len() * 8 {
            let mut bytes = entry.value.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            sweep.replaced("bits flipped", bit, entry, bytes.into()).await;
        }
        sweep.sectors(entry).await;
        if place(entry).unwrap().0 != MANIFEST {
            remove(&sweep.store, entry).await;
            sweep.check("chunks removed", &[entry], &format!("{} removed", entry.key)).await;
            put(&sweep.store, entry).await;
        }
    }
    for (i, a) in written.iter().enumerate() {
        for b in written.iter().skip(i + 1) {
            put(&sweep.store, &Entry { key: a.key.clone(), value: b.value.clone() }).await;
            put(&sweep.store, &Entry { key: b.key.clone(), value: a.value.clone() }).await;
            sweep.check("pairs swapped", &[a, b], &format!("{} and {}", a.key, b.key)).await;
            put(&sweep.store, a).await;
            put(&sweep.store, b).await;
        }
    }
    // Last: what has no manifest is no snapshot, and its chunks are cleaned away.
    for entry in written.iter().filter(|entry| place(entry).unwrap().0 == MANIFEST) {
        remove(&sweep.store, entry).await;
        sweep.check("manifests removed", &[entry], &format!("{} removed", entry.key)).await;
        for entry in &written {
            put(&sweep.store, entry).await;
        }
    }
    let total: u32 = sweep.cases.values().sum();
    let kinds: Vec<_> = sweep.cases.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    assert!(sweep.cases.len() == 8 && total > 10_000, "{:?}", sweep.cases);
    let (values, bytes) = (written.len(), written.iter().map(|e| e.value.len()).sum::<usize>());
    evidence(
        "snapshot-damage-sweep",
        &format!(
            "{total} cases in {values} values of {bytes} bytes ({}): all named, the other snapshot \
             used, 0 wrong states, 0 panics",
            kinds.join(", ")
        ),
    );
}
