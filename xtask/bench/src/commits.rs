//! Store commits of two small keys, sustained, with either index.

use std::io;

use resurge_store::{Batch, Durability, Namespace, Store};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};

use crate::drive::{in_flight_on_current, runtime};
use crate::{Result, Scale, disk, floor};

const VALUE: &[u8] = b"a value of twenty-eight bytes";

pub(crate) fn run(scale: Scale) -> Result<()> {
    println!(
        "durable commits of two small keys, {:?} each; (c) is one record a commit",
        scale.sustained
    );
    println!(
        "{:>28} {:>9} {:>12} {:>12} {:>8}",
        "index, keys", "in flight", "commits/s", "(c)", "of (c)"
    );
    for kind in [IndexKind::Memory, IndexKind::Sled] {
        for (what, both_new) in [("1 new + 1 of 64", false), ("2 new", true)] {
            for n in [1, 8, 64, 512] {
                let dir = disk::scratch()?;
                let c = floor::attainable(dir.path(), n, scale.figure)?;
                let time = if n == 64 { scale.sustained } else { scale.figure };
                let path = dir.path().join("state");
                let rate = runtime()?.block_on(async move {
                    let options = SledOptions::new().index(kind);
                    let (store, _) =
                        SledStore::open(path, options).await.map_err(io::Error::other)?;
                    let store = Store::new(store);
                    let ns = Namespace::new("bench").map_err(io::Error::other)?;
                    let commits = store.clone();
                    let rate = in_flight_on_current(n, time, move |i| {
                        let second = if both_new { u64::MAX - i } else { i % 64 };
                        let keys = [i, second].map(|k| ns.key(k.to_be_bytes()));
                        let mut batch = Batch::new();
                        for key in keys.into_iter().flatten() {
                            batch.put(key, VALUE);
                        }
                        let committed = commits.commit(batch, Durability::Durable);
                        async move { committed.await.map(|_| ()) }
                    })
                    .await?;
                    store.close().await.map_err(io::Error::other)?;
                    io::Result::Ok(rate)
                })?;
                println!(
                    "{:>28} {n:>9} {rate:>12} {c:>12} {:>8.2}",
                    format!("{kind:?}, {what}"),
                    rate.ratio(c)
                );
            }
        }
    }
    Ok(())
}
