//! A store one of whose files is not as it was written.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resurge_store::{
    Batch, Durability, Entry, ErrorKind, KeyRange, MemoryMap, Namespace, ScanOptions,
    SeededEntropy, StateStore,
};
use resurge_store_sled::{IndexKind, Maintenance, Recovery, SledOptions, SledStore};
use resurge_testkit::{SimVfs, mangle};

use super::{log, number, seal};

const SLOT: usize = 512;
const SECOND_SLOT: usize = 4096;
const BLOCK: usize = 4096;

fn options(disk: &SimVfs) -> SledOptions {
    SledOptions::new()
        .vfs(Arc::new(disk.clone()))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .index(IndexKind::Memory)
        .maintenance(Maintenance::Inline)
        .segment_sizes(8192, 8192)
        .image_after(u64::MAX)
        .ballast(0)
}

async fn dump(store: &SledStore) -> Vec<Entry> {
    store.scan(KeyRange::everything(), ScanOptions::new()).await.unwrap().entries
}

/// A store with two images and a log behind them, and every state it went through.
async fn written() -> (SimVfs, Vec<Vec<Entry>>) {
    let disk = SimVfs::new();
    let (store, _) = SledStore::open(Path::new("/state"), options(&disk)).await.unwrap();
    let ns = Namespace::new("harmed").unwrap();
    let (model, mut states) = (MemoryMap::new(), vec![Vec::new()]);
    for n in 0..24_u8 {
        let mut batch = Batch::new();
        batch.put(ns.key([n % 7]).unwrap(), vec![n; usize::from(n) * 9]);
        batch.delete(ns.key([n % 5]).unwrap());
        model.apply([&batch]);
        states.push(model.scan(&KeyRange::everything(), &ScanOptions::new()).unwrap().entries);
        store.commit(batch, Durability::Durable).await.unwrap();
        if n == 8 || n == 16 {
            store.image_now().await.unwrap();
        }
    }
    assert_eq!(Some(&dump(&store).await), states.last());
    store.close().await.unwrap();
    drop(store);
    (disk.kill(), states)
}

fn reseal_super(file: &mut [u8]) {
    for slot in [0, SECOND_SLOT] {
        if file.len() >= slot + SLOT {
            let crc = crc32c::crc32c(&file[slot..slot + SLOT - 4]);
            seal(file, slot + SLOT - 4, crc);
        }
    }
}

fn reseal_image(file: &mut [u8]) {
    if file.len() < BLOCK {
        return;
    }
    // Store id and begin are where the chain starts.
    let mut chain = crc32c::crc32c(&file[8..32]);
    let mut at = BLOCK;
    while let Some(len) = number(file, at) {
        let end = at + 8 + len;
        if end + 4 > file.len() {
            break;
        }
        chain = crc32c::crc32c_append(chain, &file[at..end]);
        seal(file, end, chain);
        at = end + 4;
    }
    let body = (file.len() - BLOCK) as u64;
    file[56..64].copy_from_slice(&body.to_be_bytes());
    seal(file, 64, chain);
    let crc = crc32c::crc32c(&file[..BLOCK - 4]);
    seal(file, BLOCK - 4, crc);
}

fn reseal(path: &Path, file: &mut [u8]) {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("img") => reseal_image(file),
        Some("log") => log::reseal(file),
        _ => reseal_super(file),
    }
}

pub(super) fn run(cases: Range<u64>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(run_all(cases))
}

async fn run_all(cases: Range<u64>) -> String {
    let (disk, states) = written().await;
    let mut files: Vec<PathBuf> = disk.files();
    files.retain(|path| {
        path.ends_with("super") || path.extension().is_some_and(|e| e == "img" || e == "log")
    });
    let named = |name: &'static str| {
        files.iter().filter(|path| path.to_string_lossy().contains(name)).count()
    };
    assert!(named("super") == 1 && named(".img") == 2 && named(".log") > 0);
    // What was written, resealed, is what was written.
    for path in &files {
        let whole = disk.contents(path).unwrap();
        let mut again = whole.clone();
        reseal(path, &mut again);
        assert!(whole == again, "{} has another format", path.display());
    }
    let (mut refused, mut whole, mut shorter, mut forged) = (0, 0, 0, 0);
    let total = cases.end;
    for seed in cases {
        let path = &files[usize::try_from(seed / 6).unwrap() % files.len()];
        let disk = disk.fork();
        let mut harmed = mangle(&disk.contents(path).unwrap(), seed);
        let resealed = seed % 2 == 0;
        if resealed {
            reseal(path, &mut harmed);
        }
        disk.damage(path, &harmed).unwrap();
        let salvage = seed % 3 == 0;
        let recovery = if salvage { Recovery::Salvage } else { Recovery::Strict };
        let opened = SledStore::open_blocking("/state", options(&disk).recovery(recovery));
        let context = || format!("seed {seed}, {}", path.display());
        let store = match opened {
            Ok((store, _)) => store,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{}: {e}", context());
                refused += 1;
                continue;
            }
        };
        let found = dump(&store).await;
        if resealed {
            forged += 1;
        } else if Some(&found) == states.last() {
            whole += 1;
        } else {
            assert!(salvage, "{}: opened without what was acknowledged", context());
            assert!(states.contains(&found), "{}: a state that never was", context());
            shorter += 1;
        }
        // It also ends in order.
        store.close().await.unwrap_or_else(|e| panic!("{}: {e}", context()));
    }
    assert!(refused > total / 20 && whole > total / 20 && forged > total / 20);
    format!(
        "{total} mangled stores: {refused} refused, {whole} opened whole, {shorter} salvaged to an \
         earlier state, {forged} forged, 0 wrong states, 0 panics"
    )
}
