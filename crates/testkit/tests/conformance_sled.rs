//! The embedded store keeps the contract with each index, also when everything in it is cramped.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use resurge_store::{BoxFuture, Result, StateStore};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use resurge_testkit::conformance::Harness;

struct OnDisk {
    dir: tempfile::TempDir,
    options: SledOptions,
}

fn on_disk(options: SledOptions) -> OnDisk {
    // Small, so that a hundred stores in parallel leave the disk some room.
    let options = options.ballast(0);
    OnDisk { dir: tempfile::tempdir().unwrap(), options }
}

impl OnDisk {
    fn opened(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
        Box::pin(async {
            let opened = SledStore::open(self.dir.path(), self.options.clone()).await;
            let (store, _) = opened?;
            Ok(Arc::new(store) as Arc<dyn StateStore>)
        })
    }
}

impl Harness for OnDisk {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
        self.opened()
    }

    fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>>>> {
        Some(self.opened())
    }
}

mod sled_index {
    use super::{IndexKind, SledOptions, on_disk};
    resurge_testkit::conformance!(on_disk(SledOptions::new().index(IndexKind::Sled)));
}

mod memory_index {
    use super::{IndexKind, SledOptions, on_disk};
    resurge_testkit::conformance!(on_disk(SledOptions::new().index(IndexKind::Memory)));
}

/// Segments roll, images are taken and the overlay fills all the time.
mod cramped {
    use super::{Duration, SledOptions, on_disk};
    resurge_testkit::conformance!(on_disk(
        SledOptions::new()
            .segment_sizes(64 << 10, 64 << 10)
            .image_after(128 << 10)
            .overlay(64 << 10, Duration::from_secs(60))
            .cache_bytes(1 << 20)
    ));
}
