//! On a real directory, with both kinds of index.

use resurge_journal::{JournalOptions, Journaled, Lsn, PlainMachine};
use resurge_store::{Store, StoreError};
use resurge_store_sled::{IndexKind, SledOptions, SledStore};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Names(Vec<String>);

impl PlainMachine for Names {
    type Event = String;

    fn apply(&mut self, event: &String) {
        self.0.push(event.clone());
    }
}

fn options() -> JournalOptions {
    JournalOptions { snapshot_events: Some(40), retain: 2, ..JournalOptions::default() }
}

async fn store(path: &std::path::Path, index: IndexKind) -> Result<Store, StoreError> {
    let (store, _) = SledStore::open(path, SledOptions::new().index(index)).await?;
    Ok(Store::new(store))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_reopening_the_directory() {
    for index in [IndexKind::Memory, IndexKind::Sled] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut expected = Vec::new();
        for round in 0..3 {
            let store = store(&path, index).await.unwrap();
            let (journal, report) =
                Journaled::<Names>::open(&store, "names", options()).await.unwrap();
            assert_eq!(report.last_lsn.0, expected.len() as u64);
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let journal = journal.clone();
                    tokio::spawn(async move {
                        let mut told: Vec<(Lsn, String)> = Vec::new();
                        for n in 0..25 {
                            let name = format!("{round}/{writer}/{n}");
                            told.push((journal.record(name.clone()).await.unwrap(), name));
                        }
                        told
                    })
                })
                .collect();
            for writer in writers {
                expected.extend(writer.await.unwrap());
            }
            expected.sort();
            let names: Vec<_> = expected.iter().map(|(_, name)| name.clone()).collect();
            assert_eq!(journal.read(|state| state.0.clone()).await.unwrap(), names);
            if round == 1 {
                journal.close().await.unwrap();
            }
            drop(journal);
            store.close().await.unwrap();
        }
        let store = store(&path, index).await.unwrap();
        let (journal, report) = Journaled::<Names>::open(&store, "names", options()).await.unwrap();
        assert!(report.snapshot.is_some() && report.fell_back.is_empty(), "{report:?}");
        assert_eq!(journal.read(|state| state.0.len()).await.unwrap(), 300);
        drop(journal);
        store.close().await.unwrap();
    }
}
