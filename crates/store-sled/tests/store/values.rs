//! Values of every size, in both kinds.

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, StateStore};
use resurge_store_sled::How;

use crate::fixture::{Dir, KINDS, close, dump, get, key, open, options, put, wait};

#[test]
fn large_values_survive_commit_image_reopen_and_rebuild() {
    for kind in KINDS {
        let dir = Dir::new();
        let (store, _) = open(&dir.path(), options(kind));
        for (n, len) in [0, 1, 4096, 4097, 100_000, 16 << 20].into_iter().enumerate() {
            put(&store, format!("k{n}"), vec![u8::try_from(n).unwrap(); len]).unwrap();
        }
        let mut batch = Batch::new();
        batch.put(key("too-large"), vec![0; (16 << 20) + 1]);
        let refused = wait(store.commit(batch, Durability::Durable)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        // Shrinks again: nothing of the old value may be left behind.
        put(&store, "k4", "small now").unwrap();
        let state = dump(&store);
        assert_eq!(state.len(), 6);
        wait(store.image_now()).unwrap();
        put(&store, "k4", vec![9; 200_000]).unwrap();
        let state =
            [&state[..4], &[(key("k4"), Bytes::from(vec![9; 200_000]))], &state[5..]].concat();
        close(&store);
        drop(store);
        for round in 0..2 {
            let (store, report) = open(&dir.path(), options(kind));
            assert!(dump(&store) == state, "{report}");
            assert_eq!(get(&store, "k5").unwrap().len(), 16 << 20);
            close(&store);
            drop(store);
            if round == 0 && dir.sub("index").exists() {
                std::fs::remove_dir_all(dir.sub("index")).unwrap();
            } else if round == 1 {
                assert!(matches!(report.how, How::Rebuilt { .. } | How::Loaded), "{report}");
                assert_eq!(report.from_image.unwrap().0, 7, "{report}");
            }
        }
    }
}
