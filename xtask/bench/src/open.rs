//! Opening a store of many small records: trusted, verified, rebuilt, loaded.

use std::path::Path;

use resurge_store::{Batch, Durability, Namespace, StateStore};
use resurge_store_sled::{IndexKind, SledOptions, SledStore, Verify};

use crate::drive::{Stopwatch, runtime};
use crate::{Result, Scale, disk};

const VALUE: &[u8] =
    b"a value of about a hundred bytes, as a small record of a real service would \
    have it, padded to 100";
const PER_COMMIT: u64 = 500;

pub(crate) fn run(scale: Scale) -> Result<()> {
    let dir = disk::scratch()?;
    let path = dir.path().join("state");
    runtime()?.block_on(fill(&path, scale.records))?;
    let payload = scale.records * (8 + VALUE.len() as u64);
    let on_disk = disk::bytes_below(&path)?;
    println!("{} records of 8 + {} bytes", scale.records, VALUE.len());
    #[expect(clippy::cast_precision_loss, reason = "a ratio is a float")]
    let per_byte = on_disk as f64 / payload as f64;
    println!("on disk: {on_disk} bytes, {per_byte:.2} per payload byte");
    opened("trusted", &path, SledOptions::new().verify(Verify::Trust))?;
    opened("verified", &path, SledOptions::new())?;
    std::fs::remove_dir_all(path.join("index"))?;
    opened("rebuilt", &path, SledOptions::new())?;
    opened("in memory", &path, SledOptions::new().index(IndexKind::Memory))?;
    Ok(())
}

fn opened(what: &str, path: &Path, options: SledOptions) -> Result<()> {
    let watch = Stopwatch::start();
    let (store, report) = SledStore::open_blocking(path, options)?;
    println!("{what:>10}: {:>8.2?}  ({report})", watch.elapsed());
    runtime()?.block_on(store.close())?;
    Ok(())
}

async fn fill(path: &Path, records: u64) -> Result<()> {
    let (store, _) = SledStore::open(path.to_owned(), SledOptions::new()).await?;
    let ns = Namespace::new("bench")?;
    for first in (0..records).step_by(usize::try_from(PER_COMMIT)?) {
        let mut batch = Batch::new();
        for i in first..(first + PER_COMMIT).min(records) {
            // Scattered, as the keys of a real service are.
            batch.put(ns.key(i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())?, VALUE);
        }
        store.commit(batch, Durability::Durable).await?;
    }
    store.close().await?;
    Ok(())
}
