//! Every promise, in memory and on disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use resurge_session_token::conformance::Harness;
use resurge_store::{BoxFuture, MemoryStore, StateStore, StoreError};
use resurge_store_sled::{SledOptions, SledStore};

mod memory {
    use super::{Arc, MemoryStore};

    resurge_session_token::session_conformance!(|| Arc::new(MemoryStore::in_memory()));
}

/// A directory that outlives the store in it.
struct OnDisk {
    dir: tempfile::TempDir,
}

impl OnDisk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn opened(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>, StoreError>> {
        let path = self.dir.path().join("state");
        Box::pin(async move {
            let (store, _) = SledStore::open(path, SledOptions::new()).await?;
            Ok(Arc::new(store) as Arc<dyn StateStore>)
        })
    }
}

impl Harness for OnDisk {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>, StoreError>> {
        self.opened()
    }

    fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>, StoreError>>> {
        Some(self.opened())
    }
}

mod on_disk {
    use super::OnDisk;

    resurge_session_token::session_conformance!(OnDisk::new());
}
