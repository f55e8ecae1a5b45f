//! Giving up in the middle.

use std::cell::Cell;
use std::sync::Arc;

use resurge_store::{ErrorKind, StateStore};

use super::{Copying, Source};
use crate::layout::Layout;
use crate::verify::check;
use crate::{IndexKind, SledOptions, SledStore};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closing_ends_the_copying_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (path, dest) = (dir.path().join("state"), dir.path().join("dest"));
    let options = SledOptions::new().index(IndexKind::Memory).ballast(0).free_space_reserve(0);
    let (store, _) = SledStore::open(&path, options.clone()).await.unwrap();
    let key = resurge_store::Namespace::new("app").unwrap().key("k").unwrap();
    let mut batch = resurge_store::Batch::new();
    batch.put(key, "v");
    store.commit(batch, resurge_store::Durability::Durable).await.unwrap();
    store.image_now().await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let (vfs, layout) = (Arc::clone(&options.vfs), Layout::new(&path));
    let asked = Cell::new(0);
    for stop in [true, false] {
        let checked = check(&vfs, &layout, None).unwrap();
        let source = Source {
            vfs: Arc::clone(&vfs),
            layout: &layout,
            store_id: checked.slot.unwrap().store_id,
            images: checked.images,
            log: checked.log,
            seq: 1,
        };
        let stopping = || {
            asked.set(asked.get() + 1);
            stop
        };
        let copying = Copying { source, options: &options, stopping: &stopping };
        let copied = copying.run(&dest);
        assert!(asked.get() > 0);
        if stop {
            assert_eq!(copied.unwrap_err().kind(), ErrorKind::Closed);
            assert!(vfs.list(&dest).unwrap().is_empty());
        } else {
            assert_eq!(copied.unwrap().seq.0, 1);
        }
    }
}
